"""Digests of code and recipes: what a stored result was made of. Files are read and not run."""

from __future__ import annotations

import ast
import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from bench import installation
from bench.catalog.discovery import assigned
from bench.catalog.helpers import EXTENSIONS, helpers
from bench.core import UserError


def digests(
    method_file: Path, benchmark_file: Path, recipe: dict[str, Any], method: str, protocol: str, scenario: str
) -> dict[str, str]:
    """Return the digests, 12 hex digits each, of a method's and a benchmark's code and of the recipe's tables for both.

    Comments, docstrings, layout and imports do not count. Raises `UserError` where a file is no Python.
    """
    return {
        "method": digest_of_file(method_file),
        "benchmark": digest_of_file(benchmark_file),
        "recipe": recipe_digest(recipe, method, protocol, scenario),
    }


def recipe_digest(recipe: dict[str, dict[str, Any]], method: str, protocol: str, scenario: str) -> str:
    """Digest of those tables of a recipe that a method under a protocol in a scenario is run with."""
    own = dict.fromkeys(("training", "benchmark", method.partition("+")[0], method))
    parts = [recipe, recipe.get(protocol, {})]
    parts += [recipe[scenario]] if scenario in recipe else []  # of most there are none, nor were there always
    tables = [part.get(name) for part in parts for name in own]
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()[:12]


def digest_of_file(path: Path) -> str:
    """Return the digest of a file, and of the modules of its own folder or package that it is made of."""
    try:
        own = digest_of(path.read_bytes())
        parts = {_name_of(file, path): _digest_of_helper(file.read_bytes()) for file in helpers(path)}
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path}, or a module of its own that it imports, is no Python: {error}") from error
    parts = {name: digest for name, digest in parts.items() if digest != EMPTY}  # such as most __init__.py
    if not parts:
        return own
    return _short(json.dumps([own, parts], sort_keys=True))


def _name_of(file: Path, user: Path) -> str:
    """Return what a module is called in the digest of the file that uses it: nothing that depends on the machine."""
    folder = file.parent
    if folder.name in EXTENSIONS and folder == installation.extensions(folder.name) != user.parent:
        return f"{folder.name}/{file.name}"
    return os.path.relpath(file, user.parent)


@cache
def digest_of(code: str | bytes) -> str:
    """Return the digest of code, 12 hex digits, of what decides a number in it. Bytes are read as Python reads them,
    whatever the locale."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            rest = node.body[1:] if ast.get_docstring(node) is not None else node.body
            node.body = [inner for inner in rest if not _decides_nothing(inner, node)] or [ast.Pass()]
    return _short(ast.unparse(tree))


@cache
def _digest_of_helper(code: bytes) -> str:
    """Return the digest of a module that others import: all of it but comments, docstrings and layout, for what it
    declares may be another thing than what a method declares."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
        if documented:
            node.body = node.body[1:]  # type: ignore[attr-defined]
    return _short(ast.unparse(tree))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


EMPTY = _digest_of_helper(b"")
DECLARED = (
    "version",
    "by_default",
    "capturable",
    "protocols",
    "scenarios",
    "stage",
    "needs",
    "old_data",
    "unsupported",
    "joint",
    "reads_old_data",
)


def _decides_nothing(node: ast.stmt, parent: ast.AST) -> bool:
    """Return whether a statement decides no number that is not recorded otherwise.

    Where a name is imported from decides nothing; what a class declares of itself, and its settings, stand resolved in
    the cell of every result.
    """
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    if not isinstance(parent, ast.ClassDef):
        return False
    name = getattr(node, "name", "")
    return name == "Config" or name in DECLARED or assigned(node)[0] in DECLARED
