"""An accuracy matrix computed elsewhere, from CSV: checked to the cell, then a result like any other, but marked."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

from bench import files
from bench.config import require
from bench.core import Benchmark, Cell, Result, UserError
from bench.execution import store

Matrix = list[list[float | None]]


def read_matrix(path: Path, percent: bool = False) -> Matrix:
    """R from CSV: line i, column j is the accuracy on task j after task i, in [0, 1], or in percent.

    What lies above the diagonal, tasks not yet learnt, may be empty. Raises `UserError` naming file and line.
    """
    try:
        lines = [(n, row) for n, row in enumerate(csv.reader(path.read_text("utf-8-sig").splitlines()), 1) if row]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV: {error}") from error
    require(bool(lines), f"{path} is empty")
    for n, row in lines:
        if len(row) != len(lines):
            raise UserError(f"{path}, line {n}: {len(row)} columns for {len(lines)} rows: R is square, comma-separated")
    top = 100.0 if percent else 1.0
    matrix = [
        [_accuracy(word.strip(), top, j > i, f"{path}, line {n}, column {j + 1}") for j, word in enumerate(row)]
        for i, (n, row) in enumerate(lines)
    ]
    largest = max(a for row in matrix for a in row if a is not None)
    require(not percent or largest == 0 or largest > 0.01, f"{path}: no value is above 1: leave --percent out")
    return matrix


def _accuracy(word: str, top: float, optional: bool, where: str) -> float | None:
    if optional and word.lower() in ("", "nan"):
        return None
    try:
        value = float(word)
    except ValueError as error:
        what = "an empty cell on or below the diagonal" if not word else f"'{word}' is no number"
        raise UserError(f"{where}: {what}") from error
    if not 0 <= value <= top:  # nor NaN
        hint = "; --percent reads percent" if top < value <= 100 else ""
        raise UserError(f"{where}: {value:g} is no accuracy between 0 and {top:g}{hint}")
    return value / top


def as_result(matrix: Matrix, method: str, benchmark: Benchmark, seed: int, origin: str) -> Result:
    """The result of an imported matrix; its key is that of the content. `origin` is the file's name."""
    require(
        len(matrix) == benchmark.num_tasks,
        f"{origin}: {len(matrix)} x {len(matrix)}, but {benchmark.name} has {benchmark.num_tasks} tasks",
    )
    digest = hashlib.sha256(json.dumps(matrix).encode()).hexdigest()[:12]
    cell = Cell(benchmark.name, method, seed, {}, {"matrix": digest}, traits={"imported": True})
    return Result(cell, matrix, environment={"imported_from": origin})


def import_matrix(
    path: Path, method: str, benchmark: Benchmark, seed: int, out: Path, percent: bool, taken: Iterable[str]
) -> Path:
    """Read, check and store under a name that is not `taken`. Returns the result's file.

    Another matrix of the same method, benchmark and seed is never replaced.
    """
    legal = re.fullmatch(r"[A-Za-z0-9][\w.+-]*", method)
    require(legal is not None, f"--method '{method}': a name has letters, numbers and _ . + - and no space")
    require(len(method) <= 100, f"--method '{method}': a name has at most 100 letters")
    base = method.partition("+")[0]
    wrong = f"--method {method}: {base} runs here or is a word of the command line; choose a name such as "
    require(base not in taken, f"{wrong}{base}-imported")
    result = as_result(read_matrix(path, percent), method, benchmark, seed, path.name)
    place = out / result.cell.path
    for other in sorted(place.parent.glob(f"seed{seed}-*.json")):
        require(other == place, f"{method} on {benchmark.name}, seed {seed}, is there already: remove {other} first")
    files.check_writable(out)
    return store.save(result, out)
