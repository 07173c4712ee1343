"""Methods and benchmarks by name. The folders `methods/` and `datasets/` are the registry; plugins take the same road.

A plugin is a file, a folder or an importable `package.module`; an installed package offers its own by entry points.
All end as paths of files, which are loaded only when used: names and one-line summaries are read without running them.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import re
import sys
import tomllib
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from bench.catalog.declarations import declared
from bench.catalog.signature import demand_fit
from bench.config import build, nearest
from bench.core import PROTOCOLS, Benchmark, UserError
from bench.training.method import Method

ROOT = Path(__file__).resolve().parents[2]
RECIPES = Path(__file__).resolve().parent / "recipes"
FOLDERS = {"Method": ROOT / "methods", "Benchmark": ROOT / "datasets"}
GROUPS = {"Method": "ness_bench.methods", "Benchmark": "ness_bench.benchmarks"}  # of entry points
RESERVED = ("all", "default", "training", "benchmark", *PROTOCOLS)  # words of the command line and of recipes
Kind = Literal["Method", "Benchmark"]


def available(kind: Kind, plugins: Sequence[Path] = ()) -> dict[str, Path]:
    """The files that define a method or a benchmark, by name, sorted. For `plugins` see `locate`."""
    found: dict[str, Path] = {}
    offers = [offered(kind, FOLDERS[kind]), _installed(kind), *(offered(kind, plugin) for plugin in plugins)]
    for name, path in (offer for place in offers for offer in place):
        if found.setdefault(name, path) != path:
            raise UserError(f"{path}: the name '{name}' is taken by {found[name]}; rename the file")
        if name in RESERVED or not re.fullmatch(r"[\w-]+", name):
            words = ", ".join(RESERVED)
            raise UserError(f"{path}: '{name}' cannot be a name: use letters, numbers and _, and none of {words}")
    return dict(sorted(found.items()))


def offered(kind: Kind, plugin: Path) -> list[tuple[str, Path]]:
    """What a plugin holds of a kind: names and files."""
    place = locate(plugin)
    files = sorted(place.glob("*.py")) if place.is_dir() else [place]
    if not any(_class_in(path, k) for path in files for k in FOLDERS):
        raise UserError(f"{place} has no class that derives from Method or Benchmark")
    return [
        (path.parent.name if path.stem == "__init__" else path.stem, path) for path in files if _class_in(path, kind)
    ]


def locate(plugin: Path) -> Path:
    """The file or folder that a plugin means: it is a path, or the dotted name of a module or package."""
    found = plugin.resolve() if plugin.exists() else _place_of(str(plugin))
    if found is None:
        raise UserError(f"no plugin at {plugin}: name a Python file, a folder of them or an importable package.module")
    return found


def summary(path: Path) -> str:
    """The first line of a file's docstring."""
    return (ast.get_docstring(_parse(path)) or "").split("\n")[0]


def get_method(name: str, plugins: Sequence[Path] = ()) -> Any:
    """The method's class; of a variant, `method+word`, that of the method."""
    return _load(_find("Method", name, plugins), "Method")


def get_declaration(name: str, plugins: Sequence[Path] = ()) -> Any:
    """The method's class, for planning alone: without torch, where torch is not imported yet, if that can be."""
    path = _find("Method", name, plugins)
    outlined = None if "torch" in sys.modules else _outlined(path)
    return outlined or _load(path, "Method")


def import_methods(names: Sequence[str], plugins: Sequence[Path] = ()) -> None:
    """Import the whole files of methods that are about to run, and torch with them: plans are then made with them.

    Raises `UserError` where one does not import.
    """
    for name in names:
        get_method(name, plugins)


def get_benchmark(name: str, plugins: Sequence[Path] = (), options: Mapping[str, Any] | None = None) -> Benchmark:
    """The benchmark, with `options` of its data; by default those of its `Config`."""
    benchmark: Benchmark = _load(_find("Benchmark", name, plugins), "Benchmark")()
    benchmark.name = name
    benchmark.config = build(benchmark.Config, options or {}, name)
    return benchmark


def digest(kind: Kind, name: str, plugins: Sequence[Path] = ()) -> str:
    """Of the code behind a name, 12 hex digits; comments, docstrings, layout and imports do not count."""
    return digest_of(_find(kind, name, plugins).read_text(encoding="utf-8"))


def version(kind: Kind, name: str, plugins: Sequence[Path] = ()) -> int:
    """What the class behind a name declares as its `version`, read without running it; 1 where it declares none."""
    node = _class_in(_find(kind, name, plugins), kind)
    assert node is not None
    for inner in node.body:
        targets = getattr(inner, "targets", [getattr(inner, "target", None)])
        if [getattr(target, "id", None) for target in targets] == ["version"]:
            return int(ast.literal_eval(inner.value))  # type: ignore[attr-defined]
    return 1


def recipe(benchmark: str, plugins: Sequence[Path] = ()) -> dict[str, dict[str, Any]]:
    """Return the settings of a benchmark: tables `training` for all methods, `benchmark` for the data, and one for each
    method and each variant of a method, `method+word`; the same under the name of a protocol, for that protocol alone.

    A method may bring its own in a file beside it, a table for each benchmark; the benchmark's recipe stands above it.
    """
    path = recipe_path(benchmark, plugins)
    found = _read_toml(path) if path else {}
    for method, file in method_recipes(plugins).items():
        brought = _read_toml(file)
        _put_below(found, method, brought.get(benchmark))
        for protocol in PROTOCOLS:
            own = brought.get(protocol, {}).get(benchmark)
            if own is not None:
                _put_below(found.setdefault(protocol, {}), method, own)
    return found


def _put_below(recipe: dict[str, Any], method: str, table: dict[str, Any] | None) -> None:
    """Add what a method brings to its table in a recipe, where the recipe says nothing else."""
    if table is not None:
        recipe[method] = {**table, **recipe.get(method, {})}


def method_recipes(plugins: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the files of settings that methods bring with them, `NAME.toml` beside `NAME.py`, by method."""
    beside = {name: path.with_suffix(".toml") for name, path in available("Method", plugins).items()}
    return {name: path for name, path in beside.items() if path.exists()}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from error


def recipe_path(benchmark: str, plugins: Sequence[Path] = ()) -> Path | None:
    """The file with a benchmark's settings, if it has one."""
    own = RECIPES / f"{benchmark}.toml"
    path = own if own.exists() else _find("Benchmark", benchmark, plugins).with_suffix(".toml")
    return path if path.exists() else None


def reason(error: BaseException, path: Path) -> str:
    """An error on one line, with the line of `path` it came from."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    text = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return text.rstrip(": ") + (f" (line {lines[-1]})" if lines else "")


def variants(plugins: Sequence[Path] = ()) -> list[str]:
    """The variants of methods that recipes define, `method+word`: the same code with settings of their own."""
    methods = available("Method", plugins)
    tables = [name for benchmark in available("Benchmark", plugins) for name in recipe(benchmark, plugins)]
    return sorted({name for name in tables if "+" in name and name.partition("+")[0] in methods})


def _find(kind: Kind, name: str, plugins: Sequence[Path]) -> Path:
    known = available(kind, plugins)
    if kind == "Method":
        name = name.partition("+")[0]
    if name not in known:
        raise nearest(kind.lower(), name, known)
    return known[name]


@cache
def _installed(kind: Kind) -> list[tuple[str, Path]]:
    """What installed packages offer: an entry point is a name and the module that holds the class."""
    found = []
    for point in metadata.entry_points(group=GROUPS[kind]):
        place = _place_of(point.module)
        path = place / "__init__.py" if place and place.is_dir() else place
        if path is None or not _class_in(path, kind):
            raise UserError(
                f"the entry point {point.name} = {point.value} of {point.dist.name if point.dist else 'a package'} "
                f"({point.group}) is no module with a class that derives from {kind}"
            )
        found.append((point.name, path))
    return found


def _place_of(dotted: str) -> Path | None:
    """The file of a module or the folder of a package, or None. Looks it up as an import would, and imports nothing."""
    first, *rest = dotted.split(".")
    if not all(part.isidentifier() for part in (first, *rest)):
        return None
    try:
        spec = importlib.util.find_spec(first)
    except ValueError:  # such as __main__
        return None
    for i in range(len(rest)):
        inside = spec and spec.submodule_search_locations
        spec = PathFinder.find_spec(".".join([first, *rest[: i + 1]]), inside) if inside else None
    place = next(iter(spec.submodule_search_locations or [spec.origin or ""]), "") if spec else ""
    return Path(place).resolve() if place and Path(place).exists() else None


def _stamp(path: Path) -> tuple[int, int]:
    """What tells an edited file from what it was: caches hold to it, so that an edit counts while a process lives."""
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size


def _parse(path: Path) -> ast.Module:
    return _parse_at(path, _stamp(path))


@cache
def _parse_at(path: Path, stamp: tuple[int, int]) -> ast.Module:
    try:
        return ast.parse(path.read_text())
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from error
    except ValueError as error:
        raise UserError(f"{path} is no Python: {error}") from error


def _class_in(path: Path, kind: str) -> ast.ClassDef | None:
    """The class in a file that derives from `kind`."""
    return _class_at(path, kind, _stamp(path))


@cache
def _class_at(path: Path, kind: str, stamp: tuple[int, int]) -> ast.ClassDef | None:
    found: dict[str, ast.ClassDef] = {}
    for node in _parse(path).body:
        if isinstance(node, ast.ClassDef) and {ast.unparse(b).split(".")[-1] for b in node.bases} & {kind, *found}:
            found[node.name] = node
    if len(found) > 1:
        first, second = list(found.values())[:2]
        raise UserError(
            f"{path}, line {second.lineno}: {second.name} is a second class that derives from {kind}, after "
            f"{first.name} in line {first.lineno}; a file holds one"
        )
    return next(iter(found.values()), None)


def _load(path: Path, kind: Kind) -> Any:
    """The class in a file, known to fit."""
    return _load_at(path, kind, _stamp(path))


@cache
def _load_at(path: Path, kind: Kind, stamp: tuple[int, int]) -> Any:
    try:
        module = _import(path)
    except (Exception, SystemExit) as error:
        raise UserError(f"{path} does not import: {reason(error, path)}") from error
    node = _class_in(path, kind)
    assert node is not None
    cls = getattr(module, node.name)
    demand_fit(cls, Method if kind == "Method" else Benchmark, path, node)
    return cls


@cache
def _outlined(path: Path) -> Any:
    """The class in a method's file with what it declares, known to fit; None where the whole file is needed."""
    node = _class_in(path, "Method")
    assert node is not None
    cls = declared(path, node.name)
    if cls is not None:
        demand_fit(cls, Method, path, node)
    return cls


def _import(path: Path) -> ModuleType:
    """Run a file as the module it is of an importable package, else by its path alone."""
    parts, folder = [] if path.stem == "__init__" else [path.stem], path.parent
    while (folder / "__init__.py").exists():
        parts, folder = [folder.name, *parts], folder.parent
    name = ".".join(parts)
    if path.parent != folder and _place_of(name) in (path, path.parent):
        loaded = sys.modules.get(name)
        return importlib.reload(loaded) if loaded else importlib.import_module(name)
    name = f"ness_bench_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up here
    spec.loader.exec_module(module)
    return module


@cache
def digest_of(code: str) -> str:
    """Return the digest of code, 12 hex digits, of what decides a number in it."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            rest = node.body[1:] if ast.get_docstring(node) is not None else node.body
            node.body = [inner for inner in rest if not _decides_nothing(inner, node)] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


def _decides_nothing(node: ast.stmt, parent: ast.AST) -> bool:
    """Whether a statement decides no number: where a name is imported from, what version the code has, and where to
    search, the `space` of a Config."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    names = [getattr(target, "id", None) for target in targets]
    return names == ["version"] or (getattr(parent, "name", "") == "Config" and names == ["space"])
