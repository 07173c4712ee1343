"""Digests of code and recipes: what a stored result was made of. Files are read and not run."""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from bench.catalog.discovery import assigned


def digests(
    method_file: Path, benchmark_file: Path, recipe: dict[str, Any], method: str, protocol: str
) -> dict[str, str]:
    """Return the digests, 12 hex digits each, of a method's and a benchmark's code and of the recipe's tables for both.

    Comments, docstrings, layout and imports do not count.
    """
    return {
        "method": digest_of(method_file.read_text(encoding="utf-8")),
        "benchmark": digest_of(benchmark_file.read_text(encoding="utf-8")),
        "recipe": recipe_digest(recipe, method, protocol),
    }


def recipe_digest(recipe: dict[str, dict[str, Any]], method: str, protocol: str) -> str:
    """Digest of those tables of a recipe that a method under a protocol is run with."""
    own = ("training", "benchmark", method.partition("+")[0], method)
    tables = [part.get(name) for part in (recipe, recipe.get(protocol, {})) for name in dict.fromkeys(own)]
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()[:12]


@cache
def digest_of(code: str) -> str:
    """Return the digest of code, 12 hex digits, of what decides a number in it."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            rest = node.body[1:] if ast.get_docstring(node) is not None else node.body
            node.body = [inner for inner in rest if not _decides_nothing(inner, node)] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


DECLARED = (
    "version",
    "by_default",
    "protocols",
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
