"""An accuracy matrix computed elsewhere: checked to the cell, then a result like any other, but marked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import files
from bench.config import nearest, require
from bench.core import Benchmark, Cell, Result, UserError
from bench.execution import store
from bench.execution.matrix_file import Grid, number_or_missing, read_grid

Matrix = list[list[float | None]]
ZEROS = ("measured", "unmeasured")  # what zeros above the diagonal are


@dataclass(frozen=True)
class Reading:
    """What a file does not tell of itself."""

    percent: bool = False
    zeros: str = ""  # one of ZEROS; where it is empty, nothing but zeros above the diagonal is refused
    transpose: bool = False  # column j of the file is after task j

    def __post_init__(self) -> None:
        if self.zeros and self.zeros not in ZEROS:
            raise nearest("--zeros", self.zeros, ZEROS)


@dataclass(frozen=True)
class Conditions:
    """What a matrix was computed under, as far as it is told."""

    protocol: str = "published"  # in whose column it stands
    epochs: int | None = None  # of a task, at most

    def __post_init__(self) -> None:
        require(self.epochs is None or 1 <= self.epochs < 2**31, f"--epochs must be at least 1, not {self.epochs}")


def read_matrix(path: Path, reading: Reading = Reading()) -> Matrix:
    """Return R from a text file: line i, column j is the accuracy on task j after task i, in [0, 1], or in percent.

    What lies above the diagonal, tasks not yet learned, may be missing, and so may all lines but the last. Raises
    `UserError` naming file and line.
    """
    grid = read_grid(path)
    if reading.transpose:
        grid.words = [list(column) for column in zip(*grid.words, strict=True)]
        grid.places = [list(column) for column in zip(*grid.places, strict=True)]
    matrix: Matrix = []
    for words, places in zip(grid.words, grid.places, strict=True):
        matrix.append([number_or_missing(word, place) for word, place in zip(words, places, strict=True)])
    if reading.zeros == "unmeasured":
        _forget_zeros(matrix)
    _demand_direction(matrix, reading, path)
    _demand_one_unit(matrix, grid)
    top = 100.0 if reading.percent else 1.0
    _demand_accuracies(matrix, grid, top)
    known = [value for row in matrix for value in row if value is not None]
    highest = max(known)
    fits = not reading.percent or highest == 0 or highest > 1
    require(fits, f"{path}: no value is above 1: leave --percent out")
    _demand_meaning_of_zeros(matrix, reading, path)
    return [_in_units_of(top, row) for row in matrix]


def _in_units_of(top: float, row: Sequence[float | None]) -> list[float | None]:
    """Return a row over the highest accuracy, 1 or 100 percent."""
    return [None if value is None else value / top for value in row]


def _forget_zeros(matrix: Matrix) -> None:
    """Take zeros above the diagonal, and lines of zeros before the last, as not measured."""
    for i, row in enumerate(matrix):
        empty = i < len(matrix) - 1 and not any(row)
        for j, value in enumerate(row):
            if value == 0 and (empty or j > i):
                row[j] = None


def _triangles(matrix: Matrix) -> tuple[list[float | None], list[float | None]]:
    """Return what lies below the diagonal, and what lies above it."""
    below = [value for i, row in enumerate(matrix) for value in row[:i]]
    above = [value for i, row in enumerate(matrix) for value in row[i + 1 :]]
    return below, above


def _demand_direction(matrix: Matrix, reading: Reading, path: Path) -> None:
    """Refuse a matrix whose lines and columns are exchanged: earlier tasks lost, later ones known."""
    below, above = _triangles(matrix)
    known = bool(above) and None not in above
    lost = all(value is None for value in below) or (not any(below) and reading.zeros != "measured")
    if known and any(above) and lost:
        other = (
            "leave --transpose out"
            if reading.transpose
            else "if line i is task i, and column j after task j, add --transpose"
        )
        raise UserError(
            f"{path}: all is above the diagonal and nothing below it, as if the matrix were transposed: {other}"
        )


def _demand_one_unit(matrix: Matrix, grid: Grid) -> None:
    """Refuse percent and fractions in one file. What lies above the diagonal may be as small as chance has it."""
    learnt = [(value, grid.places[i][j]) for i, j, value in _learnt(matrix) if value is not None]
    percent = [(value, place) for value, place in learnt if 1 < value <= 100]
    fractions = [(value, place) for value, place in learnt if 0 < value <= 1]
    if percent and fractions:
        value, place = fractions[0]
        small = f"{place}: {value:g} looks like a fraction"
        value, place = percent[0]
        large = f"{value:g} in {place.removeprefix(f'{grid.path}, ')} like percent"
        raise UserError(f"{small}, but {large}: write all as fractions, or all in percent above 1")


def _learnt(matrix: Matrix) -> Iterator[tuple[int, int, float | None]]:
    """Yield line, column and value on and below the diagonal."""
    for i, row in enumerate(matrix):
        for j, value in enumerate(row[: i + 1]):
            yield i, j, value


def _demand_accuracies(matrix: Matrix, grid: Grid, top: float) -> None:
    """Refuse gaps in what was learned, and what is no accuracy."""
    last = len(matrix) - 1
    for i, row in enumerate(matrix):
        skipped = i < last and not any(value is not None for value in row)
        for j, value in enumerate(row):
            if value is None and j <= i and not skipped:
                word = grid.words[i][j]
                what = f"{word} is no accuracy" if word else "an empty cell on or below the diagonal"
                raise UserError(f"{grid.places[i][j]}: {what}")
            if value is not None and not 0 <= value <= top:
                hint = "; --percent reads percent" if top < value <= 100 else ""
                raise UserError(f"{grid.places[i][j]}: {value:g} is no accuracy between 0 and {top:g}{hint}")


def _demand_meaning_of_zeros(matrix: Matrix, reading: Reading, path: Path) -> None:
    """Refuse a matrix with nothing but zeros above the diagonal, unless it is told what they are."""
    _, above = _triangles(matrix)
    if above and not reading.zeros and all(value == 0 for value in above):
        raise UserError(
            f"{path}: all zeros above the diagonal: say --zeros unmeasured, or --zeros measured if they were"
        )


def as_result(
    matrix: Matrix, method: str, benchmark: Benchmark, seed: int, origin: str, conditions: Conditions = Conditions()
) -> Result:
    """Return the result of an imported matrix, in the scenario and under the options of the benchmark; its key is that
    of the content. `origin` is the file's name."""
    require(
        len(matrix) == benchmark.num_tasks,
        f"{origin}: {len(matrix)} x {len(matrix)}, but {benchmark.name} has {benchmark.num_tasks} tasks",
    )
    digest = hashlib.sha256(json.dumps(matrix).encode()).hexdigest()[:12]
    usual, own = asdict(benchmark.Config()), asdict(benchmark.config)
    options = {name: value for name, value in own.items() if value != usual[name]}
    overrides = {f"{benchmark.name}.{name}": [usual[name], value] for name, value in options.items()}
    how: dict[str, Any] = {"options": options, "overrides": overrides, "scenario": benchmark.scenario}
    how |= {"traits": {"imported": True}, "protocol": conditions.protocol}
    training = {} if conditions.epochs is None else {"epochs": conditions.epochs}
    cell = Cell(benchmark.name, method, seed, training, {"matrix": digest}, **how)
    return Result(cell, matrix, environment={"imported_from": origin})


def import_matrix(
    path: Path,
    method: str,
    benchmark: Benchmark,
    seed: int,
    out: Path,
    reading: Reading,
    taken: Iterable[str],
    conditions: Conditions = Conditions(),
) -> Path:
    """Read, check and store under a name that is not `taken`. Returns the result's file.

    Another matrix of the same method, benchmark, options, scenario, protocol and seed is never replaced.
    """
    legal = re.fullmatch(r"[A-Za-z0-9][\w.+-]*", method)
    require(legal is not None, f"--method '{method}': a name has letters, numbers and _ . + - and no space")
    require(len(method) <= 100, f"--method '{method}': a name has at most 100 letters")
    base = method.partition("+")[0]
    wrong = f"--method {method}: {base} runs here or is a word of the command line; choose a name such as "
    require(base not in taken, f"{wrong}{base}-imported")
    result = as_result(read_matrix(path, reading), method, benchmark, seed, path.name, conditions)
    place = out / result.cell.path
    for other in sorted(place.parent.glob(f"seed{seed}-*.json")):
        alike = _stands_at(_cell_in(other)) == _stands_at(result.cell)
        require(other == place or not alike, f"{result.cell} is there already: remove {other} first")
    files.check_writable(out)
    return store.save_result(result, out)


def _cell_in(path: Path) -> Cell:
    """Return the cell of a stored result. One that cannot be read is a `UserError`."""
    try:
        return store.load_result(path).cell
    except ValueError as error:
        raise UserError(f"{error}: remove it first") from error


def _stands_at(cell: Cell) -> tuple[object, ...]:
    """Return what tells apart, of one method, benchmark and seed, the places in a table."""
    return cell.scenario, cell.protocol, cell.options
