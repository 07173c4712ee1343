"""Methods and benchmarks by name. The folders `methods/` and `datasets/` are the registry; plugins take the same road.

Files are loaded by path and only when used; names and one-line summaries are read from the source without running it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from bench.config import nearest
from bench.core import Benchmark, UserError

ROOT = Path(__file__).resolve().parent.parent
RECIPES = Path(__file__).resolve().parent / "recipes"
FOLDERS = {"Method": ROOT / "methods", "Benchmark": ROOT / "datasets"}
Kind = Literal["Method", "Benchmark"]


def available(kind: Kind, plugins: Sequence[Path] = ()) -> dict[str, Path]:
    """The files that define a method or a benchmark, by name, sorted; `plugins` are files or folders."""
    found: dict[str, Path] = {}
    for place in (FOLDERS[kind], *(p.resolve() for p in plugins)):
        if not place.exists():
            raise UserError(f"no plugin at {place}: name a Python file or a folder of them")
        if place.is_file() and not any(_class_in(place, k) for k in FOLDERS):
            raise UserError(f"{place} has no class that derives from Method or Benchmark")
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            if _class_in(path, kind):
                if path.stem in found and found[path.stem] != path:
                    raise UserError(f"{path}: the name '{path.stem}' is taken by {found[path.stem]}; rename the file")
                found[path.stem] = path
    return dict(sorted(found.items()))


def summary(path: Path) -> str:
    """The first line of a file's docstring."""
    return (ast.get_docstring(_parse(path)) or "").split("\n")[0]


def get_method(name: str, plugins: Sequence[Path] = ()) -> Any:
    """The method's class."""
    return _load(*_find("Method", name, plugins))


def get_benchmark(name: str, plugins: Sequence[Path] = ()) -> Benchmark:
    """The benchmark."""
    benchmark: Benchmark = _load(*_find("Benchmark", name, plugins))()
    benchmark.name = name
    return benchmark


def digest(kind: Kind, name: str, plugins: Sequence[Path] = ()) -> str:
    """Of the code behind a name, 12 hex digits; comments, docstrings and layout do not count."""
    return _digest(_find(kind, name, plugins)[0])


def recipe(benchmark: str, plugins: Sequence[Path] = ()) -> dict[str, dict[str, Any]]:
    """The training settings of a benchmark: table `training` for all methods, and one table per method."""
    own = RECIPES / f"{benchmark}.toml"
    path = own if own.exists() else _find("Benchmark", benchmark, plugins)[0].with_suffix(".toml")
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}") from error


def _find(kind: Kind, name: str, plugins: Sequence[Path]) -> tuple[Path, str]:
    known = available(kind, plugins)
    if name not in known:
        raise nearest(kind.lower(), name, known)
    return known[name], str(_class_in(known[name], kind))


@cache
def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text())
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from error
    except ValueError as error:
        raise UserError(f"{path} is no Python: {error}") from error


@cache
def _class_in(path: Path, kind: str) -> str | None:
    """The name of the class in a file that derives from `kind` directly."""
    for node in _parse(path).body:
        if isinstance(node, ast.ClassDef) and any(ast.unparse(b).split(".")[-1] == kind for b in node.bases):
            return node.name
    return None


@cache
def _load(path: Path, class_name: str) -> Any:
    module_name = f"ness_bench_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up here
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path} does not import: {type(error).__name__}: {error}") from error
    return getattr(module, class_name)


@cache
def _digest(path: Path) -> str:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]
