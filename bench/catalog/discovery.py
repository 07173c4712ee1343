"""Where methods and benchmarks are: the folders `methods/` and `datasets/`, and plugins, which take the same road.

A plugin is a file, a folder or an importable `package.module`; an installed package offers its own by entry points.
All end as paths of files: names, summaries and versions are read without running them.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Literal

from bench import files
from bench.catalog.helpers import Import, files_of
from bench.core import UserError

FOLDERS = {"Method": "methods", "Benchmark": "datasets"}  # of this installation
GROUPS = {"Method": "ness_bench.methods", "Benchmark": "ness_bench.benchmarks"}  # of entry points
NAME = re.compile(r"[\w-]+")  # of a method or a benchmark
Kind = Literal["Method", "Benchmark"]


def offered(kind: Kind, plugin: Path) -> list[tuple[str, Path]]:
    """Return what a plugin holds of a kind: names and files."""
    place = locate(plugin)
    paths = [path for path in _called_python(place) if _is_own(path)] if place.is_dir() else [place]
    if not any(class_in(path, k) for path in paths for k in FOLDERS):
        raise UserError(f"{place} has no class that derives from Method or Benchmark")
    return [
        (path.parent.name if path.stem == "__init__" else path.stem, path) for path in paths if class_in(path, kind)
    ]


def left_aside(plugin: Path) -> list[Path]:
    """Return the files of a plugin's folder that are none of its own: what editors, mergers and systems leave there,
    such as `.#ewc.py`, `._ewc.py` and `ewc (1).py`."""
    return [path for path in _called_python(plugin) if not _is_own(path)] if plugin.is_dir() else []


def _called_python(folder: Path) -> list[Path]:
    """Return what is called like a Python file in a folder."""
    return sorted(folder.glob("*.py"))


def _is_own(path: Path) -> bool:
    """Return whether what is called like a Python file of a plugin is one."""
    return NAME.fullmatch(path.stem) is not None and path.is_file()


def locate(plugin: Path) -> Path:
    """Return the file or folder that a plugin means: it is a path, or the dotted name of a module or package."""
    found = plugin.resolve() if files.path_of(str(plugin)).exists() else place_of(str(plugin))
    if found is None:
        raise UserError(f"no plugin at {plugin}: name a Python file, a folder of them or an importable package.module")
    return found


def summary(path: Path) -> str:
    """Return the first line of a file's docstring."""
    return (ast.get_docstring(_parse(path)) or "").split("\n")[0]


def version(path: Path, kind: Kind) -> int:
    """Return what the class in a file, or the one in another file that it derives from, declares as its `version`, read
    without running it; 1 where none does."""
    node = class_in(path, kind)
    assert node is not None
    for inner in node.body:
        if assigned(inner) == ["version"]:
            return int(ast.literal_eval(inner.value))  # type: ignore[attr-defined]
    parents = (_parent(base, path, kind) for base in node.bases)
    return next((version(parent, kind) for parent in parents if parent), 1)


def assigned(node: ast.stmt) -> list[str | None]:
    """Return the names that a statement assigns to, None for what is no name."""
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return [getattr(target, "id", None) for target in targets]


@cache
def installed(kind: Kind) -> list[tuple[str, Path]]:
    """Return what installed packages offer: an entry point is a name and the module that holds the class."""
    found = []
    for point in metadata.entry_points(group=GROUPS[kind]):
        place = place_of(point.module)
        path = place / "__init__.py" if place and place.is_dir() else place
        if path is None or not class_in(path, kind):
            raise UserError(
                f"the entry point {point.name} = {point.value} of {point.dist.name if point.dist else 'a package'} "
                f"({point.group}) is no module with a class that derives from {kind}"
            )
        found.append((point.name, path))
    return found


def place_of(dotted: str) -> Path | None:
    """Return the file of a module or the folder of a package, or None. Imports nothing."""
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


def stamp_of(path: Path) -> tuple[int, int]:
    """Return what tells an edited file from what it was. Caches hold to it: an edit counts while a process lives."""
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size


def _parse(path: Path) -> ast.Module:
    return _parse_at(path, stamp_of(path))


@cache
def _parse_at(path: Path, stamp: tuple[int, int]) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())  # as Python reads it, whatever the locale
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from error
    except ValueError as error:
        raise UserError(f"{path} is no Python: {error}") from error
    except (MemoryError, RecursionError) as error:
        raise UserError(f"{path} is nested too deep to be read") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def class_in(path: Path, kind: str) -> ast.ClassDef | None:
    """Return the class in a file that derives from `kind`, if there is one."""
    return _class_at(path, kind, stamp_of(path))


@cache
def _class_at(path: Path, kind: str, stamp: tuple[int, int]) -> ast.ClassDef | None:
    found: dict[str, ast.ClassDef] = {}
    for node in _parse(path).body:
        if isinstance(node, ast.ClassDef) and any(_is_of_kind(base, path, kind, found) for base in node.bases):
            found[node.name] = node
    if len(found) > 1:
        first, second = list(found.values())[:2]
        raise UserError(
            f"{path}, line {second.lineno}: {second.name} is a second class that derives from {kind}, after "
            f"{first.name} in line {first.lineno}; a file holds one"
        )
    return next(iter(found.values()), None)


def _is_of_kind(base: ast.expr, path: Path, kind: str, found: Iterable[str]) -> bool:
    """Return whether a base of a class is `kind`, by whatever name, one of the classes `found` above it in its file, or
    the method or benchmark of another file."""
    if ast.unparse(base).split(".")[-1] in {kind, *found}:
        return True
    origin = _origin(base, path)
    return origin is not None and (origin.names == (kind,) or _parent(base, path, kind) is not None)


def _parent(base: ast.expr, path: Path, kind: str) -> Path | None:
    """Return the file of the plugin, or of this installation, whose class of a kind is this base; None for others."""
    origin = _origin(base, path)
    for file in files_of(path, origin) if origin else ():
        node = class_in(file, kind) if file != path else None
        if node and origin and (node.name,) == origin.names:
            return file
    return None


def _origin(base: ast.expr, path: Path) -> Import | None:
    """Return the import that a base of a class comes by, as if it were `from module import name`; None where it is made
    in the file itself."""
    bound, _, inside = ast.unparse(base).partition(".")
    for node in _parse(path).body:
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            if bound != (alias.asname or alias.name.partition(".")[0]):
                continue
            level, start = (node.level, node.module or "") if isinstance(node, ast.ImportFrom) else (0, "")
            renamed = alias.asname or isinstance(node, ast.ImportFrom)
            way = [start, alias.name if renamed else bound, inside]
            module, _, name = ".".join(filter(None, way)).rpartition(".")
            return Import(level, module, (name,))
    return None
