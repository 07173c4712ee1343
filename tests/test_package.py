"""What is built and installed has all it needs, from any folder."""

import os
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


@pytest.mark.slow
def test_a_damaged_installation_says_so(installed: Path, tmp_path: Path) -> None:
    for folder in ("methods", "datasets"):
        place, aside = installed / "bench" / folder, tmp_path / folder
        place.rename(aside)
        done = ness_bench(installed, tmp_path, "list")
        aside.rename(place)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert f"it has no folder {folder}: install ness-bench again" in done.stderr
