"""Results on disk: one JSON file per cell, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench import files
from bench.core import Cell, Result
from bench.execution import decoding


def save_result(result: Result, folder: Path) -> Path:
    """Write a result into its place under `folder`."""
    path = folder / result.cell.path
    files.write_text(path, decoding.encode(result))
    return path


def checkpoints(folder: Path) -> Path:
    """Return where the checkpoints of a results folder are."""
    return folder / ".checkpoints"


def checkpoint(folder: Path, cell: Cell) -> Path:
    """Return the place of a cell's checkpoint in a folder of them."""
    return folder / f"{cell.key}.npz"


def load_result(path: Path) -> Result:
    """Read a result, and make sure that it is what its name says. Raises ValueError, in words, where it is not."""
    try:
        files.demand_file(path)
        result = decoding.decode(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except decoding.OtherSchemaError as error:
        older = f"; python -m bench.tools.rekey {path.parents[2]} may bring it over"
        raise ValueError(f"{path} {error}{older}") from error
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is damaged: {reason}") from error
    if path.parts[-3:] != result.cell.path.parts:
        raise ValueError(f"{path} is damaged, or a copy under another name: it holds {result.cell.path}")
    return result


def load_all(folder: Path, benchmark: str = "*") -> Iterator[Result | str]:
    """Yield every result under `folder`, or those of one benchmark, in order of path; in the place of one that cannot
    be read, a warning."""
    for path in sorted(folder.glob(f"{benchmark}/*/seed*-*.json")):
        try:
            yield load_result(path)
        except ValueError as error:
            yield str(error)


def stored_result(cell: Cell, folder: Path) -> Result | str | None:
    """Return the result of a cell if there is one; a warning if its file cannot be read."""
    path = folder / cell.path
    if not os.path.lexists(path):
        return None
    try:
        result = load_result(path)
    except ValueError as error:
        return f"{error}; the cell runs again"
    result.cell = replace(cell, source=result.cell.source)  # the same request, perhaps in other words; the code it ran
    return result
