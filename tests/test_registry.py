"""The folder is the registry, plugins take the same road, and the arrows of the design hold."""

import ast
import graphlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import registry
from bench.core import UserError

ROOT = registry.ROOT
LIBRARY = sorted((ROOT / "bench").glob("*.py"))
METHODS = sorted((ROOT / "methods").glob("*.py"))
DATASETS = sorted((ROOT / "datasets").glob("*.py"))
VERBS = sorted((ROOT / "bench" / "verbs").glob("*.py"))
EVERYTHING = [*LIBRARY, *VERBS, *METHODS, *DATASETS, ROOT / "run_bench.py"]


def test_the_folders_are_the_registry() -> None:
    assert set(registry.available("Method")) == {path.stem for path in METHODS}
    assert set(registry.available("Benchmark")) == {path.stem for path in DATASETS}


def test_every_file_has_a_summary_and_the_name_of_its_stem() -> None:
    for path in (*METHODS, *DATASETS):
        assert registry.summary(path)
    for name in registry.available("Benchmark"):
        assert registry.get_benchmark(name).name == name


def test_a_plugin_file(plugin: Callable[..., Path]) -> None:
    path = plugin("mine", "answer = 42")
    assert registry.available("Method", [path])["mine"] == path
    assert registry.get_method("mine", [path]).answer == 42
    assert registry.summary(path) == "The method mine."
    assert "mine" not in registry.available("Method")
    assert "mine" not in registry.available("Benchmark", [path])


def test_a_plugin_folder_with_a_benchmark_and_its_recipe(plugin: Callable[..., Path]) -> None:
    folder = plugin("one").parent
    plugin("two")
    (folder / "helper.py").write_text("x = 1\n")
    body = "    num_tasks, num_classes, input_shape = 4, 2, (1,)\n\n    def stream(self, seed, data): ...\n"
    (folder / "field.py").write_text(f"from bench.core import Benchmark\n\nclass Field(Benchmark):\n{body}")
    (folder / "field.toml").write_text("[training]\nepochs = 7\n")
    assert set(registry.available("Method", [folder])) - set(registry.available("Method")) == {"one", "two"}
    assert registry.get_benchmark("field", [folder]).num_tasks == 4
    assert registry.recipe("field", [folder]) == {"training": {"epochs": 7}}


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown method 'gpn': did you mean 'gpm'"):
        registry.get_method("gpn")
    with pytest.raises(UserError, match="unknown benchmark 'digit': did you mean 'digits'"):
        registry.get_benchmark("digit")


def test_a_name_taken_twice_names_both_files(plugin: Callable[..., Path]) -> None:
    path = plugin("gpm")
    with pytest.raises(UserError, match="taken") as caught:
        registry.available("Method", [path])
    assert str(path) in str(caught.value)
    assert str(ROOT / "methods" / "gpm.py") in str(caught.value)


def test_the_same_plugin_twice_is_one(plugin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = plugin("mine")
    assert "mine" in registry.available("Method", [path, path.parent])
    monkeypatch.chdir(path.parent)
    assert "mine" in registry.available("Method", [path, Path("mine.py")])


def test_a_plugin_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "no.py"))):
        registry.available("Method", [tmp_path / "no.py"])


@pytest.mark.parametrize("text", ["def broken(:\n", "x = '\0'\n", "# caf\xe9\n"])
def test_a_plugin_that_is_no_python_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.py"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=re.escape(str(path))):
        registry.available("Method", [path])


def test_a_syntax_error_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("x = 1\ny = (\n")
    with pytest.raises(UserError, match="line 2"):
        registry.available("Method", [path])


def test_a_plugin_that_fails_on_import_is_named(plugin: Callable[..., Path]) -> None:
    path = plugin("raises", "1 / 0")
    assert "raises" in registry.available("Method", [path])  # found without being run
    with pytest.raises(UserError, match=r"raises\.py does not import: ZeroDivisionError"):
        registry.get_method("raises", [path])


def test_a_broken_recipe_is_named(plugin: Callable[..., Path]) -> None:
    folder = plugin("one").parent
    (folder / "field.py").write_text("from bench.core import Benchmark\n\nclass Field(Benchmark): ...\n")
    (folder / "field.toml").write_text("[training\n")
    with pytest.raises(UserError, match=r"field\.toml"):
        registry.recipe("field", [folder])


CODE = "from bench.method import Method\nclass M(Method):\n    def f(self):\n        return 1\n"


def digest_of(tmp_path: Path, code: str) -> str:
    path = tmp_path / f"v{len(list(tmp_path.iterdir()))}" / "m.py"
    path.parent.mkdir()
    path.write_text(code)
    return registry.digest("Method", "m", [path])


@pytest.mark.parametrize(
    "same",
    [
        "# why\n" + CODE,
        '"""What."""\n' + CODE,
        CODE.replace("    def", '    """What."""\n\n    def'),
        CODE.replace("return 1", '"""What."""\n        return (1)  # why'),
        CODE.replace("\n", "\n\n"),
        CODE.replace("from bench.method import", "from somewhere.moved import"),
        CODE.replace("    def f", "    version = 3\n\n    def f"),
    ],
)
def test_the_digest_ignores_words_and_layout(tmp_path: Path, same: str) -> None:
    """Whether or not there were any before."""
    assert digest_of(tmp_path, same) == digest_of(tmp_path, CODE)


def test_the_digest_ignores_changed_words(tmp_path: Path) -> None:
    def worded(text: str) -> str:
        return f'"""{text}"""\n' + CODE.replace("return", f'"""{text}"""\n        return')

    assert digest_of(tmp_path, worded("Old.")) == digest_of(tmp_path, worded("New."))


@pytest.mark.parametrize(("old", "new"), [("return 1", "return 2"), ("def f", "def g"), ("return 1", "return '1'")])
def test_the_digest_sees_code(tmp_path: Path, old: str, new: str) -> None:
    assert digest_of(tmp_path, CODE) != digest_of(tmp_path, CODE.replace(old, new))


# The arrows of the design, read from the source

SOURCES = {"bench.cifar", "bench.mnist"}  # data sets that several benchmarks are made of


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, anywhere in it; `from bench import x` counts as bench.x."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = str(node.module)
            yield from (f"bench.{alias.name}" for alias in node.names) if module == "bench" else (module,)


def words(path: Path) -> set[str]:
    """Identifiers, and the words of all texts but docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
        if isinstance(node.body[0], ast.Expr)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found |= set(re.findall(r"\w+", node.value))
        elif isinstance(node, ast.Name):
            found.add(node.id)
    return found


def test_imports_within_the_library_only_point_downwards() -> None:
    graph = {
        f"bench.{path.stem}": {name for name in imports(path) if name.startswith("bench.")}
        for path in LIBRARY
        if path.stem != "__init__"
    }
    assert set().union(*graph.values()) <= set(graph)
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
    assert not graph["bench.core"] | graph["bench.metrics"] | graph["bench.seeding"]


def test_the_library_names_no_method_and_no_dataset() -> None:
    names = {path.stem for path in (*METHODS, *DATASETS)} - {"joint"}  # also the name of a trait
    classes = {
        n.name for p in (*METHODS, *DATASETS) for n in ast.parse(p.read_text()).body if isinstance(n, ast.ClassDef)
    }
    for path in LIBRARY:
        if path.name in ("checks.py", "perf.py"):
            continue  # one runs on the toy stream, the other measures on the paper's network: that is their task
        assert not words(path) & (names | classes), path
        assert not {name.split(".")[0] for name in imports(path)} & {"methods", "datasets", "run_bench", *names}, path


def test_methods_import_the_library_and_never_another_method() -> None:
    others = {"methods", "datasets", "run_bench", *(path.stem for path in METHODS), *(path.stem for path in DATASETS)}
    upper = {"bench.grid", "bench.registry", "bench.store", "bench.tables", "bench.trainer", "bench.data", *SOURCES}
    for path in METHODS:
        found = set(imports(path))
        assert "bench.method" in found
        assert not {name.split(".")[0] for name in found} & others, path
        assert not found & upper, path


def test_datasets_import_core_and_data_and_sources_only() -> None:
    below = {"bench.core", "bench.data", "bench.formats"}
    for path in DATASETS:
        assert {n for n in imports(path) if n.split(".")[0] == "bench"} <= below | SOURCES, path
        assert "torch" not in set(imports(path)), path
    for path in LIBRARY:
        if f"bench.{path.stem}" in SOURCES:
            assert {n for n in imports(path) if n.split(".")[0] == "bench"} <= below, path


def test_only_the_grid_and_the_search_import_ray() -> None:
    users = {path.name for path in EVERYTHING if any(name.split(".")[0] == "ray" for name in imports(path))}
    assert users == {"cluster.py", "tune.py"}


def test_only_the_verbs_and_their_display_print() -> None:
    def prints(path: Path) -> bool:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        return any(isinstance(n, ast.Name) and n.id == "print" for n in nodes) or any(
            isinstance(n, ast.Attribute) and ast.unparse(n).startswith(("sys.stdout.w", "sys.stderr.w")) for n in nodes
        )

    printing = {path.name for path in EVERYTHING if prints(path) and path not in VERBS}
    assert printing == {"run_bench.py", "display.py", "perf.py", "rekey.py"}


def test_the_library_does_not_know_the_verbs() -> None:
    for path in [*LIBRARY, *METHODS, *DATASETS]:
        assert not {name for name in imports(path) if name.startswith("bench.verbs")}, path
