"""The modules of its own folder or package that a plugin is made of, found by its imports; nothing is run for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bench import installation


class Import(NamedTuple):
    """What stands in an import statement: `from {'.' * level}module import names`."""

    level: int
    module: str
    names: tuple[str, ...]


def helpers(path: Path) -> list[Path]:
    """Return the files of a plugin's own folder or package that it imports, and those that these import, sorted.

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
    """Yield the files of its own folder or package that a file imports."""
    try:
        statements = _imports(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for statement in statements:
        for place in _places(path, statement):
            yield from _along(place, statement)


def _places(path: Path, statement: Import) -> list[Path]:
    """Return the folders in which the module of an import may lie: for an absolute one that of the file, and that of
    the package it belongs to. The suite itself is no part of a plugin."""
    if statement.level:
        return [path.parents[statement.level - 1]] if statement.level <= len(path.parents) else []
    if statement.module.partition(".")[0] == installation.PACKAGE.name:
        return []
    top = path.parent
    while (top / "__init__.py").is_file() and top != top.parent:
        top = top.parent
    return list(dict.fromkeys((path.parent, top)))


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
