"""What is built and installed has all it needs, from any folder."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in a folder of its own, its dependencies being those of the tests."""
    target = tmp_path_factory.mktemp("installed")
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel]
    subprocess.run(words, check=True, capture_output=True)
    return target


def ness_bench(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    script = [sys.executable, str(installed / "bin" / "ness-bench"), *words]
    return subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_wheel_carries_every_file_that_is_no_test(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    library = {p.relative_to(ROOT).as_posix() for p in (ROOT / "bench").rglob("*") if p.is_file()}
    extensions = {
        f"bench/{folder}/{path.name}"
        for folder in ("methods", "datasets")
        for path in (ROOT / folder).iterdir()
        if path.is_file()
    }
    wanted = {name for name in library | extensions if "__pycache__" not in name}
    assert len(extensions) > 15 and wanted - names == set()


@pytest.mark.slow
def test_an_installation_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    listed = ness_bench(installed, tmp_path, "list")
    assert listed.returncode == 0 and "ness" in listed.stdout and "split_cifar100" in listed.stdout, listed.stderr
    words = ("--methods", "ness,gpm", "--bench", "digits", "--seeds", "0", "--epochs", "1")
    done = ness_bench(installed, tmp_path, *words)
    assert done.returncode == 0 and "| ness" in done.stdout and "| gpm" in done.stdout, done.stderr
    assert len(list((tmp_path / "results" / "digits").glob("*/seed0-*.json"))) == 2
    again = ness_bench(installed, tmp_path, *words)
    assert "2 cells: 2 done, 0 to run" in again.stdout
    wrong = ness_bench(installed, tmp_path, "--methods", "nes")
    assert wrong.returncode == 2 and wrong.stderr.startswith("ness-bench: unknown method 'nes': did you mean 'ness'?")


KINDS = {  # of what an installation may lack, a file of each
    "a recipe": "catalog/recipes/digits.toml",
    "settings that a method brings": "methods/er.toml",
    "a method": "methods/gpm.py",
    "a benchmark": "datasets/digits.py",
    "a template of the report": "analysis/templates/report.html.j2",
    "the look of the report": "analysis/templates/page.css",
    "printed numbers": "analysis/papers/printed/results.csv",
    "their names": "analysis/papers/printed/names.toml",
    "a template of `new`": "tools/templates/method.py",
    "bundled weights": "nn/architectures/tiny_vit.safetensors",
    "a command": "cli/commands/table.py",
}
DAMAGE = """
import sys
from pathlib import Path
import bench
from bench.cli.main import main
from bench.core import UserError

package = Path(bench.__file__).parent
for name in sys.argv[1:]:
    aside = (package / name).rename(package / "aside")
    print(main(["list"]), "from the command line")
    try:
        bench.run
    except UserError as error:
        print(error)
    aside.rename(package / name)
for path in list(package.rglob("*.pyc")):
    path.unlink()
print(main(["list"]), "when whole")
"""


@pytest.mark.slow
def test_an_installation_without_a_file_says_so(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", DAMAGE, *KINDS.values()]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    lines = [
        f"this installation is damaged, it has no bench/{name}: install ness-bench again" for name in KINDS.values()
    ]
    assert done.stderr.splitlines() == [f"ness-bench: {line}" for line in lines], done.stderr
    said = [line for line in done.stdout.splitlines() if "damaged" in line or "command line" in line]
    assert said == [text for line in lines for text in ("2 from the command line", line)]
    assert done.stdout.endswith("0 when whole\n"), "what is compiled may go"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("bench/methods", "it has no bench/methods/[a-z]+.py and [0-9]+ other files"),
        ("bench/text.py", "No module named 'bench.text'"),  # which is imported before anything can be looked for
        ("bench/cli/main.py", "No module named 'bench.cli.main'"),
        ("ness_bench-*.dist-info", "it has no metadata"),
        ("ness_bench-*.dist-info/METADATA", "it has no ness_bench-[^/]+/METADATA"),
    ],
)
def test_a_damaged_installation_says_so(installed: Path, tmp_path: Path, place: str, said: str) -> None:
    [whole] = installed.glob(place)
    whole.rename(tmp_path / "aside")
    done = ness_bench(installed, tmp_path, "list")
    (tmp_path / "aside").rename(whole)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"ness-bench: this installation is damaged, {said}: install ness-bench again\n", done.stderr)
