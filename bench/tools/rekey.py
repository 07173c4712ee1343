"""Bring stored results from schema 1 to schema 2, once: python -m bench.tools.rekey FOLDER

In schema 1 a result's name held digests of code, so that moving a file orphaned it. In schema 2 the name rests on the
request and on declared versions, and digests are compared and shown. No number changes: each file is written anew under
its new name, with the suite version of its commit. A digest of code is translated where git still has that code at the
commit that the result names; else it stays, and tables will say that the code has changed since.
"""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.catalog import identity, plan, registry
from bench.catalog.registry import ROOT
from bench.core import SCHEMA, Cell, Result, UserError
from bench.execution import store

FOLDERS = {"method": "methods", "benchmark": "datasets"}


def old_digest(code: str) -> str:
    """The digest of code in schema 1, imports included."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            rest = node.body[1:] if ast.get_docstring(node) is not None else node.body
            node.body = [inner for inner in rest if not _of_search(inner, node)] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


def _of_search(node: ast.stmt, parent: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "bench.space"
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return getattr(parent, "name", "") == "Config" and [getattr(t, "id", None) for t in targets] == ["space"]


def translated(kind: str, name: str, digest: str, commit: str) -> str:
    """The digest of schema 2 for the code that has `digest` in schema 1, if that commit has it."""
    code = file_at(commit, f"{FOLDERS[kind]}/{name.partition('+')[0]}.py")
    return registry.digest_of(code) if code and old_digest(code) == digest else digest


def file_at(commit: str, path: str) -> str:
    """The content of a file at a commit; empty where there is none, no commit or no git."""
    if not commit:
        return ""
    words = ["git", "show", f"{commit}:{path}"]
    try:
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def recipe_then(cell: Cell) -> str:
    """The digest of today's recipe, if it gives the settings that the cell was run with."""
    settings: dict[str, dict[str, Any]] = {cell.method: {}, cell.benchmark: {}}
    for name, (_, value) in cell.overrides.items():
        of, dot, option = name.partition(".")
        settings[of if dot else cell.method][option if dot else name] = value
    request = plan.Request([cell.method], [cell.benchmark], [cell.seed], None, settings, [cell.protocol])
    try:
        [twin], _ = plan.expand(request)
    except (UserError, ValueError):
        return "unknown"
    same = json.dumps([twin.training, twin.config, twin.options], sort_keys=True) == json.dumps(
        [cell.training, cell.config, cell.options], sort_keys=True
    )
    return identity.recipe_digest(registry.recipe(cell.benchmark), cell.method, cell.protocol) if same else "unknown"


def rekeyed(raw: dict[str, Any]) -> Result:
    """A result of schema 1 as one of schema 2."""
    commit = raw["environment"].get("commit", "")
    suite = 2 if file_at(commit, "bench/layers.py") else 1  # where the masks of dropout are made otherwise
    cell = Cell(**raw["cell"], versions={"suite": suite, "method": 1, "benchmark": 1})
    if cell.traits.get("imported"):
        cell = Cell(**{**vars(cell), "config": cell.source, "source": {}, "versions": {}})
    else:
        names = {"method": cell.method, "benchmark": cell.benchmark}
        source = {kind: translated(kind, name, cell.source[kind], commit) for kind, name in names.items()}
        cell = Cell(**{**vars(cell), "source": {**source, "recipe": recipe_then(cell)}})
    return Result(**{**raw, "cell": cell, "schema": SCHEMA})


def main(folder: Path) -> None:
    """Write every result of schema 1 under `folder` anew, and remove the old file."""
    for path in sorted(folder.glob("*/*/seed*-*.json")):
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != 1:
            continue
        new = store.save(rekeyed(raw), folder)
        path.unlink()
        print(f"{path} -> {new.name}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(str(__doc__))
    main(Path(sys.argv[1]))
