"""The words of a square matrix in a text file, as people write it.

Read are commas, semicolons, tabs and blanks between numbers, decimal commas, brackets as NumPy and Python print them, a
header, columns of labels, lower triangles, and a last line alone, as of joint training.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.config import require
from bench.core import UserError

BLANK = ("", "nan", "-", "--", "na", "n/a", "none")  # in the place of what was not measured


@dataclass
class Grid:
    """The words of a file by line and column, without its labels, and where they stand in it."""

    path: Path
    numbers: list[int]  # of the lines
    words: list[list[str]]
    skipped: int = 0  # columns of labels
    places: list[list[str]] = field(default_factory=list)  # of the words, once they are a square

    def where(self, i: int) -> str:
        return f"{self.path}, line {self.numbers[i]}"


def read_grid(path: Path) -> Grid:
    """Return the words of a file as a square, '' where there is none. Raises `UserError` naming file and line."""
    return _square(_without_labels(_split(path)))


def _split(path: Path) -> Grid:
    """Return the words of a file. Lines that are empty, or begin with #, count for nothing."""
    try:
        text = path.read_text(encoding="utf-8-sig").replace("[", "").replace("]", "")
        lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip(" ")]
        lines = [(n, line) for n, line in lines if not line.lstrip().startswith("#")]
        separator, decimal = _signs("\n".join(line for _, line in lines))
        words = [_words(line, separator) for _, line in lines]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no table of numbers: {error}") from error
    require(bool(lines), f"{path} is empty")
    clean = [_clean(row, decimal) for row in words]
    return Grid(path, [n for n, _ in lines], clean)


def _clean(words: Sequence[str], decimal: str) -> list[str]:
    """Return words without blanks around them, and with a point in the place of the sign before decimals."""
    return [word.strip().replace(decimal, ".") for word in words]


def _words(line: str, separator: str | None) -> list[str]:
    """Return the words of a line; without a separator, what stands between blanks."""
    if separator is None:
        return line.split()
    return next(csv.reader([line], delimiter=separator))


def _signs(text: str) -> tuple[str | None, str]:
    """Return what stands between numbers, None for blanks, and between a number's whole and its fraction."""
    for separator in (";", "\t"):
        if separator in text:
            return separator, ","
    pairs = all(re.fullmatch(r"\d+,\d+", word) for word in text.split())
    if "," not in text or (pairs and re.search(r"\d +\d", text)):
        return None, ","
    return ",", "."


def _without_labels(grid: Grid) -> Grid:
    """Drop a header, and columns that name or count the tasks; the words that stay are the matrix."""
    first, rest = grid.words[0], grid.words[1:]
    label = not first[0] or _is_text(first[0])
    header = [word for word in first if word]
    named = bool(header) and all(map(_is_text, header))
    counted = _count_tasks(first) and len(rest) == len(first)
    if rest and (named or counted or (label and _count_tasks(first[1:]))):
        grid.words = rest
        del grid.numbers[0]
    while all(len(words) > 1 and _is_text(words[0]) for words in grid.words):
        _drop_first_column(grid)
    wide = all(len(words) > i + 1 for i, words in enumerate(grid.words))
    if wide and _count_tasks([words[0] for words in grid.words]):
        _drop_first_column(grid)
    return grid


def _drop_first_column(grid: Grid) -> None:
    grid.words = [words[1:] for words in grid.words]
    grid.skipped += 1


def _is_text(word: str) -> bool:
    """Return whether a word is no number, and does not stand for a missing one."""
    try:
        float(word)
    except ValueError:
        return word.lower() not in BLANK
    return False


def _count_tasks(words: Sequence[str]) -> bool:
    """Return whether at least two words count 0, 1, 2 ... or 1, 2, 3 ..."""
    n = len(words)
    from_zero = list(map(str, range(n)))
    from_one = list(map(str, range(1, n + 1)))
    return n > 1 and list(words) in (from_zero, from_one)


def _square(grid: Grid) -> Grid:
    """Fill what is left out up to a square: above the diagonal of a triangle, or all lines but the last."""
    size = len(grid.words)
    if size == 1:
        while len(grid.words[0]) > 1 and not grid.words[0][-1]:
            grid.words[0].pop()
        size = len(grid.words[0])
        grid.numbers *= size
        grid.words = [[""] * size for _ in range(size - 1)] + grid.words
    for i, words in enumerate(grid.words):
        if len(words) > size and not any(words[size:]):  # separators at the end of a line
            del words[size:]
        if len(words) > size or (len(words) <= i and any(words)):
            raise UserError(f"{grid.where(i)}: {len(words)} columns for {size} rows: R is square, or a lower triangle")
        words += [""] * (size - len(words))
    columns = range(1 + grid.skipped, size + 1 + grid.skipped)
    for i in range(size):
        grid.places.append([f"{grid.where(i)}, column {column}" for column in columns])
    return grid


def number_or_missing(word: str, where: str) -> float | None:
    """Return a word as a number, None where it stands for a missing one. Raises `UserError`."""
    if word.lower() in BLANK:
        return None
    try:
        return float(word)
    except ValueError as error:
        raise UserError(f"{where}: '{word}' is no number") from error
