"""The modules that a plugin is made of: those of its own folder or package, and the methods and benchmarks of this
installation, found by its imports; nothing is run for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from bench import installation

EXTENSIONS = ("methods", "datasets")  # folders of this installation


class Import(NamedTuple):
    """What stands in an import statement: `from {'.' * level}module import names`."""

    level: int
    module: str
    names: tuple[str, ...]


def helpers(path: Path) -> list[Path]:
    """Return the files of a plugin's own folder or package, and of the methods and benchmarks of this installation,
    that it imports, and those that these import, sorted.

    What cannot be read or is no Python is among them, but for what it imports.
    """
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        for file in _imported(waiting.pop()):
            if file != path and file not in found:
                found.add(file)
                waiting.append(file)
    return sorted(found)


def _imported(path: Path) -> Iterator[Path]:
    """Yield the files, of those that make up a plugin, that a file imports."""
    try:
        statements = _imports(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for statement in statements:
        yield from files_of(path, statement)


def files_of(path: Path, statement: Import) -> Iterator[Path]:
    """Yield the files, of those that make up a plugin, that an import in the file at `path` runs."""
    for place in _places(path, statement):
        for file in _along(place, statement):
            if file.parent != installation.PACKAGE:  # which is on the way to its methods in a wheel
                yield file


def _places(path: Path, statement: Import) -> list[Path]:
    """Return the folders in which the module of an import may lie: for an absolute one that of the file, that of the
    package it belongs to, and this installation's. The suite's own modules are no part of a plugin."""
    if statement.level:
        return [path.parents[statement.level - 1]] if statement.level <= len(path.parents) else []
    first, _, rest = statement.module.partition(".")
    if first == installation.PACKAGE.name:
        return [installation.ROOT] if rest.partition(".")[0] in EXTENSIONS else []
    top = path.parent
    while (top / "__init__.py").is_file() and top != top.parent:
        top = top.parent
    ours = [installation.ROOT] if first in EXTENSIONS and installation.is_checkout() else []
    return list(dict.fromkeys((path.parent, top, *ours)))


def _along(place: Path, statement: Import) -> Iterator[Path]:
    """Yield the files that an import runs in a folder: of the packages on the way, of the module, of what is in it."""
    for part in filter(None, statement.module.split(".")):
        yield from _file(place / part)
        place = place / part
    if statement.level and not statement.module:
        yield from filter(Path.is_file, [place / "__init__.py"])
    for name in statement.names:
        yield from _file(place / name)


def _file(stem: Path) -> Iterator[Path]:
    """Yield the file of a module or of a package, if there is one."""
    for file in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
        if file.is_file():
            yield file


@cache
def import_all_of(path: Path) -> None:
    """Import the packages that a file imports anywhere, its functions included, so that the first call of one takes no
    longer than the next. What cannot be imported is left to whoever needs it."""
    for statement in _imports(path.read_bytes()):
        if not statement.level and not any(files_of(path, statement)):
            with suppress(Exception):
                import_module(statement.module)


@cache
def _imports(code: bytes) -> tuple[Import, ...]:
    """Return the imports of a file, wherever they stand in it. Raises SyntaxError and ValueError."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [Import(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names if alias.name != "*")
            found.append(Import(node.level, node.module or "", names))
    return tuple(found)
