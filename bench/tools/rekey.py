"""Bring stored results of older versions over, once: python -m bench.tools.rekey FOLDER

In schema 1 a result's name held digests of code, so that moving a file orphaned it. In schema 2 the name rests on the
request and on declared versions, and digests are compared and shown. No number changes: each file is written anew under
its new name, with the suite version of its commit. A digest of code is translated where git still has that code at the
commit that the result names; else it stays, and tables will say that the code has changed since.

Schema 2 began with digests that covered the settings and what a class declares of itself, which every cell records
anyway. Those are translated in the same way: the same code, by today's digest. Nor had files a checksum; they get it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.catalog import identity
from bench.catalog.catalog import Catalog
from bench.catalog.discovery import assigned
from bench.catalog.plan import Request
from bench.core import SCHEMA, Cell, Result, UserError
from bench.execution import decoding, store
from bench.installation import ROOT

FOLDERS = {"method": "methods", "benchmark": "datasets"}


def digest_of_schema_1(code: str) -> str:
    """Return the digest of code in schema 1, imports included."""
    return _digest(code, _of_search)


def first_digest_of_schema_2(code: str) -> str:
    """Return the digest of code in schema 2 until settings were declared: imports, versions and `space` left out."""

    def left_out(node: ast.stmt, parent: ast.AST) -> bool:
        imports = isinstance(node, ast.Import | ast.ImportFrom)
        return imports or _of_search(node, parent) or assigned(node) == ["version"]

    return _digest(code, left_out)


def _digest(code: str, left_out: Callable[[ast.stmt, ast.AST], bool]) -> str:
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            rest = node.body[1:] if ast.get_docstring(node) is not None else node.body
            node.body = [inner for inner in rest if not left_out(inner, node)] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


def _of_search(node: ast.stmt, parent: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "bench.space"
    return getattr(parent, "name", "") == "Config" and assigned(node) == ["space"]


def translated(kind: str, name: str, digest: str, commit: str) -> str:
    """Return today's digest of the code that has `digest` in an older form, if that commit has it."""
    code = file_at(commit, f"{FOLDERS[kind]}/{name.partition('+')[0]}.py")
    if not code:
        return digest
    older = (digest_of_schema_1(code), first_digest_of_schema_2(code))
    return identity.digest_of(code) if digest in older else digest


def file_at(commit: str, path: str) -> str:
    """Return the content of a file at a commit; empty where there is none, no commit or no git."""
    if not commit:
        return ""
    words = ["git", "show", f"{commit}:{path}"]
    try:
        return subprocess.run(words, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def recipe_then(cell: Cell) -> str:
    """Return the digest of today's recipe, if it gives the settings that the cell was run with, else "unknown"."""
    settings: dict[str, dict[str, Any]] = {cell.method: {}, cell.benchmark: {}}
    for name, (_, value) in cell.overrides.items():
        of, dot, option = name.partition(".")
        if dot:
            settings[of][option] = value
        else:
            settings[cell.method][name] = value
    how = [cell.protocol], cell.precision, cell.scenario
    request = Request([cell.method], [cell.benchmark], [cell.seed], None, settings, *how)
    try:
        [twin] = Catalog().plan(request).cells
    except (UserError, ValueError):
        return "unknown"
    if _settings_of(twin) != _settings_of(cell):
        return "unknown"
    recipe = Catalog().recipe(cell.benchmark)
    return identity.recipe_digest(recipe, cell.method, cell.protocol, cell.scenario)


def _settings_of(cell: Cell) -> str:
    return json.dumps([cell.training, cell.config, cell.options], sort_keys=True)


def rekeyed(raw: dict[str, Any]) -> Result:
    """Return a result of schema 1 as one of schema 2."""
    commit = raw["environment"].get("commit", "")
    suite = 2 if file_at(commit, "bench/layers.py") else 1  # where the masks of dropout are made otherwise
    cell = Cell(**raw["cell"], versions={"suite": suite, "method": 1, "benchmark": 1})
    if cell.traits.get("imported"):
        cell = replace(cell, config=cell.source, source={}, versions={})
    else:
        names = {"method": cell.method, "benchmark": cell.benchmark}
        source = {kind: translated(kind, name, cell.source[kind], commit) for kind, name in names.items()}
        cell = replace(cell, source={**source, "recipe": recipe_then(cell)})
    return Result(**{**raw, "cell": cell, "schema": SCHEMA})


def retold(result: Result) -> Result:
    """Return a result of schema 2 with today's digests of the code that it was run by."""
    cell = result.cell
    if cell.traits.get("imported"):
        return result
    commit = result.environment.get("commit", "")
    names = {"method": cell.method, "benchmark": cell.benchmark}
    source = {kind: translated(kind, name, cell.source[kind], commit) for kind, name in names.items()}
    return replace(result, cell=replace(cell, source={**cell.source, **source}))


def main(folder: Path) -> None:
    """Write every result under `folder` that is in an older form anew, and remove the old file."""
    for path in sorted(folder.glob("*/*/seed*-*.json")):
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] == 1:
            new = store.save_result(rekeyed(raw), folder)
            path.unlink()
            print(f"{path} -> {new.name}")
            continue
        before = store.load_result(path)
        after = retold(before)
        if after != before or decoding.CHECKSUM not in raw:
            store.save_result(after, folder)
            print(f"{path}: written anew")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(str(__doc__))
    main(Path(sys.argv[1]))
