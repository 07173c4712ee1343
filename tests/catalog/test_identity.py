"""A result keeps its name whatever moves; what has changed since is told; nothing different is averaged."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bench import installation
from bench.catalog import discovery, identity, plan
from bench.catalog.catalog import Catalog
from bench.catalog.changes import Today, tell_apart
from bench.catalog.helpers import helpers
from bench.core import SCHEMA, SUITE_VERSION, Cell, Result, UserError
from bench.execution import runner, store
from bench.tools import rekey


def cell_of(method: str = "ness", plugins: tuple[Path, ...] = (), seed: int = 0, **settings: Any) -> Cell:
    request = plan.Request([method], ["toy"], [seed], epochs=1, settings={method: settings} if settings else {})
    [cell] = Catalog.of(plugins).plan(request)[0]
    return cell


def test_a_cell_of_today_has_not_changed() -> None:
    cell = cell_of(eps=0.5)
    assert cell.versions == {"suite": SUITE_VERSION, "method": 1, "benchmark": 1}
    assert set(cell.source) == {"method", "benchmark", "recipe"}
    assert Today(Catalog()).changes(cell) == ()


@pytest.mark.parametrize(
    ("part", "name", "said"),
    [
        ("source", "method", "the method's code"),
        ("source", "benchmark", "the benchmark's code"),
        ("source", "recipe", "the recipe"),
        ("versions", "suite", "the suite's version"),
        ("versions", "method", "the method's version"),
        ("versions", "benchmark", "the benchmark's version"),
    ],
)
def test_what_has_changed_is_told_in_words(part: str, name: str, said: str) -> None:
    cell = cell_of()
    other = replace(cell, **{part: {**getattr(cell, part), name: 0}})
    assert Today(Catalog()).changes(other) == (said,)
    assert (other.key == cell.key) == (part == "source")


def test_code_is_not_in_the_key_and_a_declared_version_is(plugin: Callable[..., Path]) -> None:
    first, edited, raised = (
        cell_of("mine", (plugin("mine", body, folder),))
        for folder, body in (("a", "x = 1"), ("b", "x = 2"), ("c", "x = 1\nversion = 2"))
    )
    assert first.key == edited.key != raised.key
    assert first.source["method"] != edited.source["method"]
    assert first.source["method"] == raised.source["method"]
    assert raised.versions["method"] == 2


def test_the_version_is_read_without_running_the_file(plugin: Callable[..., Path]) -> None:
    path = plugin("mine", "version = 7\n1 / 0")
    assert discovery.version(Catalog.of([path]).path("Method", "mine"), "Method") == 7
    assert discovery.version(Catalog().path("Method", "ness"), "Method") == 1


def test_a_version_that_is_no_number_is_refused(plugin: Callable[..., Path]) -> None:
    path = plugin("mine", "version = 'two'")
    with pytest.raises(UserError, match="version is 'two', not a whole number"):
        Catalog.of([path]).method("mine")


def test_an_imported_matrix_rests_on_no_code() -> None:
    cell = Cell("toy", "theirs", 0, {}, {"matrix": "0"}, traits={"imported": True})
    assert Today(Catalog()).knows(cell) and Today(Catalog()).changes(cell) == ()


def test_an_unknown_method_is_not_known() -> None:
    assert not Today(Catalog()).knows(replace(cell_of(), method="gone"))
    assert Today(Catalog()).knows(cell_of())


def test_results_under_one_label_are_told_apart_by_what_they_were_run_with() -> None:
    new, old = cell_of(), replace(cell_of(), versions={"suite": 1, "method": 1, "benchmark": 1})
    results = [Result(replace(cell, seed=seed)) for cell, seed in ((old, 0), (old, 1), (new, 1))]
    kept = tell_apart(results, lambda cell: cell.method, Today(Catalog()))
    assert [result.cell.traits.get("other") for result in kept] == [old.group[:4], old.group[:4], None]
    alone = tell_apart(results[:2], lambda cell: cell.method, Today(Catalog()))
    assert not any("other" in result.cell.traits for result in alone)  # nothing to be confused with
    apart = tell_apart(results, lambda cell: cell.versions["suite"], Today(Catalog()))
    assert not any("other" in result.cell.traits for result in apart)


def test_the_words_of_a_request_do_not_change_what_was_run(tmp_path: Path) -> None:
    cell = cell_of()
    store.save_result(Result(replace(cell, source={**cell.source, "method": "0" * 12}), [[0.5]]), tmp_path)
    found = store.stored_result(cell, tmp_path)
    assert isinstance(found, Result)
    assert Today(Catalog()).changes(found.cell) == ("the method's code",)


def test_an_edited_file_is_loaded_anew_in_one_process(plugin: Callable[..., Path]) -> None:
    path = plugin("mine", "answer = 1")
    assert Catalog.of([path]).method("mine").answer == 1
    before = identity.digest_of(Catalog.of([path]).path("Method", "mine").read_text())
    path.write_text(path.read_text().replace("answer = 1", "answer = 1000"))
    assert Catalog.of([path]).method("mine").answer == 1000
    assert identity.digest_of(Catalog.of([path]).path("Method", "mine").read_text()) != before


@pytest.mark.slow
def test_an_edited_method_does_not_go_on_from_an_old_checkpoint(plugin: Callable[..., Path], tmp_path: Path) -> None:
    body = "def end_task(self, task, data):\n    if task == 1 and {stop}:\n        raise KeyboardInterrupt"
    path = plugin("mine", body.format(stop=True))
    resources = runner.Resources(catalog=Catalog.of((path,)), checkpoints=store.checkpoints(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        runner.run_cell(cell_of("mine", (path,)), resources)
    assert list(store.checkpoints(tmp_path).glob("*.npz"))
    plugin("mine", body.format(stop=False))
    result = runner.run_cell(cell_of("mine", (path,)), resources)
    assert result.error is None and "resumed_after" not in result.environment


def test_the_librarys_digest_covers_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    shutil.copytree(installation.ROOT / "bench", tmp_path / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from bench.execution.machine import versions; print(versions.library())"

    def digest() -> str:
        words = [sys.executable, "-c", code]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    seen = {digest()}
    files = [path for path in sorted((tmp_path / "bench").rglob("*")) if path.suffix in (".toml", ".csv", ".txt")]
    chosen = [files[0], files[-1], tmp_path / "bench" / "cli" / "commands" / "run.py"]
    for path in chosen:
        path.write_text(path.read_text() + "\n")
        seen.add(digest())
    assert len(seen) == len(chosen) + 1


# What a plugin is made of


@pytest.fixture
def made_of_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A method in a package, with a helper that has a helper, a module that it does not import, and a neighbour."""
    folder = tmp_path / "lab" / "ideas"
    (folder / "deep").mkdir(parents=True)
    for place in (folder.parent, folder, folder / "deep"):
        (place / "__init__.py").touch()
    (folder / "_tool.py").write_text("from lab.far import SHARE\nSTRENGTH = 3.0 * SHARE\n")
    (folder / "deep" / "more.py").write_text("STEPS = 5\n")
    (folder / "unused.py").write_text("x = 1\n")
    (folder.parent / "far.py").write_text("SHARE = 1.0\n")
    head = "from bench.training.method import Method\nfrom . import _tool\nfrom .deep.more import STEPS\n"
    (folder / "pull.py").write_text(f"{head}\n\nclass Own(Method):\n    strength = _tool.STRENGTH * STEPS\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # it is known by its second alone
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "lab"]:
        del sys.modules[name]


def digest_now(folder: Path) -> str:
    return identity.digest_of_file(folder / "pull.py")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("_tool.py", "from lab.far import SHARE\nSTRENGTH = 30.0 * SHARE\n"),
        ("../far.py", "SHARE = 2.0\n"),
        ("deep/more.py", "STEPS = 6\n"),
        ("deep/__init__.py", "VALUE = 3\n"),
    ],
)
def test_an_edited_helper_is_a_change_of_the_method(made_of_parts: Path, file: str, text: str) -> None:
    """Its results are shown as changed, and what runs in the same process is the edited one."""
    plugins = (made_of_parts / "pull.py",)
    before, strength = cell_of("pull", plugins), Catalog.of(plugins).method("pull").strength
    assert Today(Catalog.of(plugins)).changes(before) == ()
    (made_of_parts / file).write_text(text)
    assert Today(Catalog.of(plugins)).changes(before) == ("the method's code",)
    after = cell_of("pull", plugins)
    assert after.key == before.key and after.source != before.source
    wanted = {"_tool.py": 10, "../far.py": 2, "deep/more.py": 6 / 5, "deep/__init__.py": 1}[file]
    assert Catalog.of(plugins).method("pull").strength == pytest.approx(strength * wanted)


@pytest.mark.parametrize("kind", ["method", "benchmark"])
def test_a_grid_after_a_helper_was_edited_says_so(made_of_parts: Path, command: Any, tmp_path: Path, kind: str) -> None:
    """It was "1 done, 0 to run", and the old number."""
    if kind == "benchmark":
        toy = (installation.ROOT / "datasets" / "toy.py").read_text(encoding="utf-8")
        (made_of_parts / "toys.py").write_text(f"{toy}\nfrom . import _tool\n")
    plugin, method, benchmark = {"method": ("pull", "pull", "toy"), "benchmark": ("toys", "finetune", "toys")}[kind]
    words = ("--plugin", made_of_parts / f"{plugin}.py", "--methods", method, "--bench", benchmark, "--seeds", "0")
    words += ("--epochs", 1, "--out", tmp_path / "out", "--executor", "serial")
    assert "°" not in command(*words).out
    (made_of_parts / "_tool.py").write_text("STRENGTH = 7.0\n")
    again = command(*words)
    assert again.out.startswith("1 cell: 1 done, 0 to run")
    assert "changed since 1 of the results: --rerun changed" in again.err
    assert f"° changed since it was run: the {kind}'s code." in again.out
    assert command(*words, "--rerun", "changed").out.startswith("1 cell: 0 done, 1 to run")
    assert "°" not in command(*words).out


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("unused.py", "x = 2\n"),
        ("_tool.py", '"""A docstring."""\n\nfrom lab.far import SHARE  # a comment\n\nSTRENGTH = (3.0 * SHARE)\n'),
        ("__init__.py", '"""Only a docstring."""\n'),
    ],
)
def test_what_decides_nothing_is_no_change(made_of_parts: Path, file: str, text: str) -> None:
    before = digest_now(made_of_parts)
    (made_of_parts / file).write_text(text)
    assert digest_now(made_of_parts) == before


def test_a_helper_beside_a_file_that_is_in_no_package(plugin: Callable[..., Path]) -> None:
    path = plugin("mine")
    alone = identity.digest_of_file(path)
    assert alone == identity.digest_of(path.read_text())
    path.write_text(path.read_text() + "import tool\n")
    assert identity.digest_of_file(path) == alone, "there is no such file: it is installed"
    (path.parent / "tool.py").write_text("import mine, tool\nx = 1\n")  # in a circle
    first = identity.digest_of_file(path)
    (path.parent / "tool.py").write_text("import mine, tool\nx = 2\n")
    assert len({alone, first, identity.digest_of_file(path)}) == 3


def test_a_package_that_moves_does_not_change(made_of_parts: Path, tmp_path: Path) -> None:
    before = digest_now(made_of_parts)
    (tmp_path / "elsewhere").mkdir()
    made_of_parts.parent.rename(tmp_path / "elsewhere" / "lab")
    assert digest_now(tmp_path / "elsewhere" / "lab" / "ideas") == before


def test_the_suite_is_no_helper_of_a_plugin_beside_it(tmp_path: Path) -> None:
    (tmp_path / "bench").symlink_to(installation.PACKAGE)
    path = tmp_path / "mine.py"
    path.write_text("import bench.core\nfrom bench.training.method import Method\nclass Own(Method): ...\n")
    assert helpers(path) == []


def test_bundled_methods_and_benchmarks_have_no_helpers() -> None:
    catalog = Catalog()
    paths = [path for kind in discovery.FOLDERS for path in catalog.available(kind).values()]
    assert len(paths) > 20
    for path in paths:
        assert helpers(path) == []
        assert identity.digest_of_file(path) == identity.digest_of(path.read_text(encoding="utf-8"))


def test_digests_do_not_depend_on_the_locale(plugin: Callable[..., Path]) -> None:
    """A method with letters beyond ASCII, its helper, and one in another coding that says so."""
    path = plugin("mine", "label = 'ε ≤ 1'")
    path.write_text(path.read_text(encoding="utf-8") + "import tool\n", encoding="utf-8")
    (path.parent / "tool.py").write_bytes("# coding: latin-1\nname = 'é'\n".encode("latin-1"))
    code = (
        "import sys; from pathlib import Path; from bench.catalog import discovery, identity\n"
        "path = Path(sys.argv[1])\n"
        "print(identity.digest_of_file(path), discovery.version(path, 'Method'))"
    )
    found = set()
    for locale in ({"PYTHONUTF8": "1"}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}):
        words = [sys.executable, "-c", code, str(path)]
        environment = {**os.environ, **locale}
        done = subprocess.run(words, cwd=installation.ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert found == {f"{identity.digest_of_file(path)} 1\n"}


@pytest.mark.parametrize("content", [b"x = (\n", b"x = '\xff'\n", b"\0"])
def test_a_helper_that_is_no_python_is_one_line(plugin: Callable[..., Path], content: bytes) -> None:
    path = plugin("mine")
    path.write_text(path.read_text() + "import tool\n")
    (path.parent / "tool.py").write_bytes(content)
    with pytest.raises(UserError, match=r"mine\.py, or a module of its own") as caught:
        identity.digest_of_file(path)
    assert "\n" not in str(caught.value)


# From schema 1


def as_schema_1(cell: Cell, matrix: list[list[float]], digests: dict[str, str]) -> dict[str, Any]:
    raw = {**asdict(Result(cell, matrix)), "schema": 1}  # type: ignore[arg-type]
    raw["cell"] = {k: v for k, v in raw["cell"].items() if k not in ("versions", "precision")} | {"source": digests}
    return raw


def test_a_result_of_schema_1_is_brought_over(tmp_path: Path) -> None:
    cell = cell_of()
    code = {
        "method": (installation.ROOT / "methods" / "ness.py").read_text(),
        "benchmark": (installation.ROOT / "datasets" / "toy.py").read_text(),
    }
    digests = {kind: rekey.digest_of_schema_1(text) for kind, text in code.items()}
    path = tmp_path / "toy" / "ness" / "seed0-000000000000.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(as_schema_1(cell, [[0.5, None], [0.5, 0.25]], digests)))
    [warning] = store.load_all(tmp_path)
    assert isinstance(warning, str) and f"python -m bench.tools.rekey {tmp_path}" in warning
    rekey.main(tmp_path)
    [result] = store.load_all(tmp_path)
    assert isinstance(result, Result) and not path.exists()
    assert (result.schema, result.matrix) == (SCHEMA, [[0.5, None], [0.5, 0.25]])
    assert result.cell.versions == {"suite": 1, "method": 1, "benchmark": 1}
    assert result.cell.source["recipe"] == cell.source["recipe"]
    assert result.cell.source["method"] == digests["method"]  # no commit tells which code it was: it counts as changed
    rekey.main(tmp_path)  # again: nothing to do
    assert list(store.load_all(tmp_path)) == [result]


def test_an_imported_matrix_of_schema_1_is_brought_over(tmp_path: Path) -> None:
    cell = Cell("toy", "theirs", 3, {}, {}, traits={"imported": True})
    raw = as_schema_1(cell, [[1.0]], {"matrix": "abc"})
    result = rekey.rekeyed(raw)
    assert result.cell.config == {"matrix": "abc"} and result.cell.source == {}
