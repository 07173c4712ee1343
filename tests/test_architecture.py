"""The rooms of the house, read from the source: a package imports only packages below it."""

import ast
import graphlib
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("ground", "data", "nn", "training", "catalog", "execution", "analysis", "tools", "cli")  # upwards
LIBRARY = [path for path in sorted((ROOT / "bench").rglob("*.py")) if "templates" not in path.parts]
METHODS = sorted((ROOT / "methods").glob("*.py"))
DATASETS = sorted((ROOT / "datasets").glob("*.py"))


def room_of(module: str) -> str:
    """The package of a module such as `bench.nn.grams`; what lies in `bench` itself is the ground."""
    first = module.split(".")[1] if "." in module else ""
    return first if first in ROOMS else "ground"


def name_of(path: Path) -> str:
    """The dotted name of a file of the library."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path) for path in LIBRARY}


FAMILIES = {"add_arguments", "main"}  # the two functions of every command


@cache
def imports(path: Path) -> tuple[str, ...]:
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it; of `from package import module`, the module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                yield longer if longer in MODULES else str(node.module)


def of_library(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] == "bench"}


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_a_package_imports_only_packages_below_it(path: Path) -> None:
    if path == ROOT / "bench" / "__init__.py":
        return  # the public face, which imports nothing until it is asked
    floor = ROOMS.index(room_of(name_of(path)))
    above = {name for name in of_library(path) if ROOMS.index(room_of(name)) > floor}
    assert not above, f"{name_of(path)} imports {above}"


def test_no_module_imports_itself_in_a_circle() -> None:
    """The ground too; its public face imports nothing until it is asked, and then what is on any floor."""
    face = ROOT / "bench" / "__init__.py"
    graph = {name_of(path): of_library(path) - {name_of(path)} for path in LIBRARY if path != face}
    assert {"bench.core", "bench.config"} <= set(graph)
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize(
    ("folder", "allowed"), [("methods", {"ground", "nn", "training"}), ("datasets", {"ground", "data"})]
)
def test_extensions_stand_on_the_lower_floors(folder: str, allowed: set[str]) -> None:
    others = {"methods", "datasets", "run_bench", *(path.stem for path in (*METHODS, *DATASETS))}
    files = sorted((ROOT / folder).glob("*.py"))
    assert files
    for path in files:
        assert {room_of(name) for name in of_library(path)} <= allowed, path
        assert not {name.split(".")[0] for name in imports(path)} & others, path
        assert folder == "methods" or "torch" not in set(imports(path)), path


@pytest.mark.parametrize(
    ("package", "users"),
    [
        ("ray", {"bench.execution.executors.ray", "bench.tools.tuning_search"}),
        ("matplotlib", {"bench.analysis"}),
        ("pandas", {"bench.analysis"}),
        ("jinja2", {"bench.analysis.page"}),
        ("argparse", {"bench.cli", "bench.tools"}),
    ],
)
def test_heavy_packages_have_few_users(package: str, users: set[str]) -> None:
    found = {name_of(path) for path in LIBRARY if package in {name.split(".")[0] for name in imports(path)}}
    assert found
    strangers = {name for name in found if not name.startswith(tuple(users))}
    assert not strangers


def parameters(path: Path) -> set[str]:
    return {node.arg for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.arg)}


def test_plugins_are_in_a_catalog_above_the_catalog() -> None:
    """What knows of methods and benchmarks is handed a catalog, which was made of the plugins once."""
    takers = {name_of(path) for path in (*LIBRARY, *METHODS, *DATASETS) if "plugins" in parameters(path)}
    assert takers
    assert {name for name in takers if room_of(name) not in ("catalog", "cli")} == set()


def test_a_folder_is_looked_through_at_a_glance() -> None:
    """At most twelve Python files of its own; `__init__.py`, which every package has, is not counted."""
    files = Counter(path.parent.relative_to(ROOT).as_posix() for path in LIBRARY if path.name != "__init__.py")
    assert max(files.values()) <= 12, files


def test_the_name_of_a_public_function_means_one_thing_in_the_house() -> None:
    places: dict[str, list[str]] = {}
    for path in LIBRARY:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name_of(path))
    assert len(places) > 300
    assert {name: where for name, where in places.items() if len(where) > 1 and name not in FAMILIES} == {}
    assert min(len(places[name]) for name in FAMILIES) > 10, "a family has members"


def prints(path: Path) -> bool:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    return any(isinstance(n, ast.Name) and n.id == "print" for n in nodes) or any(
        isinstance(n, ast.Attribute) and ast.unparse(n).startswith(("sys.stdout.w", "sys.stderr.w")) for n in nodes
    )


def test_only_the_command_line_and_scripts_print() -> None:
    scripts = {"bench.tools.front_page", "bench.tools.pretrain", "bench.tools.rekey"}
    printing = {name_of(path) for path in (*LIBRARY, *METHODS, *DATASETS) if prints(path)}
    assert {name for name in printing if room_of(name) != "cli"} == scripts


def words(path: Path) -> set[str]:
    """Identifiers, and the words of all texts but docstrings."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docstrings:
            found.update(re.findall(r"[\w-]+", node.value))
    return found


def test_the_library_names_no_method_and_no_dataset() -> None:
    names = {path.stem for path in (*METHODS, *DATASETS)} - {"joint"}  # also the name of a trait
    classes = {
        node.name
        for path in (*METHODS, *DATASETS)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    assert len(names) > 10 and len(classes) > 10 and len(LIBRARY) > 50
    for path in LIBRARY:
        if path.name in ("method_checks.py", "trial.py", "profile.py"):
            continue  # two run on the toy stream, the other measures on the paper's network: that is their task
        assert not words(path) & (names | classes), path
