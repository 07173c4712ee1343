"""From a file to the class in it, run as late as can be, and known to fit."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.catalog.declarations import declared_class
from bench.catalog.discovery import Kind, class_in, place_of, stamp_of
from bench.catalog.helpers import helpers
from bench.catalog.signature import demand_fit
from bench.core import Benchmark, UserError
from bench.training.method import Method


def load_class(path: Path, kind: Kind) -> Any:
    """Return the class in a file, known to fit. Raises `UserError`, with file and line."""
    return _load_at(path, kind, tuple(map(stamp_of, (path, *helpers(path)))))


@cache
def _load_at(path: Path, kind: Kind, stamps: tuple[tuple[int, int], ...]) -> Any:
    try:
        module = _import(path)
    except (Exception, SystemExit) as error:
        raise UserError(f"{path} does not import: {error_with_line(error, path)}") from error
    node = class_in(path, kind)
    assert node is not None
    cls = getattr(module, node.name)
    demand_fit(cls, Method if kind == "Method" else Benchmark, path, node)
    return cls


@cache
def outlined(path: Path) -> Any:
    """Return the class in a method's file with what it declares, known to fit; None where the whole file is needed."""
    node = class_in(path, "Method")
    assert node is not None
    cls = declared_class(path, node.name)
    if cls is not None:
        demand_fit(cls, Method, path, node)
    return cls


def error_with_line(error: BaseException, path: Path) -> str:
    """Return an error on one line, with the line of `path` it came from."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    text = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return text.rstrip(": ") + (f" (line {lines[-1]})" if lines else "")


def _import(path: Path) -> ModuleType:
    """Run a file as the module it is of an importable package, else by its path alone."""
    parts, folder = [] if path.stem == "__init__" else [path.stem], path.parent
    while (folder / "__init__.py").exists():
        parts, folder = [folder.name, *parts], folder.parent
    name = ".".join(parts)
    if path.parent != folder and place_of(name) in (path, path.parent):
        if name in sys.modules:
            _forget([path, *helpers(path)])
        return importlib.import_module(name)
    name = f"ness_bench_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if name in sys.modules:
        _forget(helpers(path))
    sys.modules[name] = module  # dataclasses look their module up here
    spec.loader.exec_module(module)
    return module


def _forget(files: list[Path]) -> None:
    """Have the modules of these files run again by the next import of them: they may have been edited."""
    places = {str(file) for file in files}
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) in places:
            del sys.modules[name]
            package, _, own = name.rpartition(".")
            vars(sys.modules.get(package, module)).pop(own, None)
