"""Results on disk: one JSON file per cell, written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from bench.core import SCHEMA, Cell, Result, UserError


def check_writable(folder: Path, option: str = "--out") -> None:
    """Raise `UserError` unless files can be written to `folder`, which `option` names."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another {option}") from error


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: a reader, or a crash, meets the old content or the new, never half of it."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_text`. Raises OSError, and leaves nothing behind, where the disk is full or not writable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        os.unlink(temporary)  # noqa: PTH108
        raise


def save(result: Result, folder: Path) -> Path:
    """Write a result into its place under `folder`."""
    path = folder / result.cell.path
    write_text(path, json.dumps(asdict(result), indent=1) + "\n")
    return path


def checkpoints(folder: Path) -> Path:
    """Where the checkpoints of a results folder are."""
    return folder / ".checkpoints"


def checkpoint(folder: Path, cell: Cell) -> Path:
    """Of a cell, in a folder of checkpoints."""
    return folder / f"{cell.key}.npz"


def load(path: Path) -> Result:
    """Read a result. Raises ValueError, in words, where the file is damaged or of another schema."""
    try:
        raw = json.loads(path.read_text())
        if raw["schema"] != SCHEMA:
            older = f": python -m bench.tools.rekey {path.parents[2]} brings it over" if raw["schema"] == 1 else ""
            raise ValueError(f"{path} has schema {raw['schema']}, this version reads {SCHEMA}{older}")
        return Result(**{**raw, "cell": Cell(**raw["cell"])})
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error})") from error


def load_all(folder: Path) -> Iterator[Result | str]:
    """Every result under `folder`, in order of path; for a file that cannot be read, a warning."""
    for path in sorted(folder.glob("*/*/seed*-*.json")):
        try:
            yield load(path)
        except ValueError as error:
            yield str(error)


def stored(cell: Cell, folder: Path) -> Result | str | None:
    """The result of a cell if there is one; a warning if its file cannot be read."""
    path = folder / cell.path
    if not path.exists():
        return None
    try:
        result = load(path)
    except ValueError as error:
        return f"{error}; the cell runs again"
    result.cell = replace(cell, source=result.cell.source)  # the same request, perhaps in other words; the code it ran
    return result
