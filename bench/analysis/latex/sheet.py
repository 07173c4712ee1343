"""What a table on a page is made of, and about how wide and high that is.

Widths are estimated from those of Computer Modern, on the safe side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from bench.analysis.latex.text import escape

TEXT_WIDTH = 345.0  # points, of a one-column article
NOTE_LEADING = 9.5  # points from line to line of the notes
LETTERS = 75  # of a line of notes
QUADS = {".,:;'|!ijl": 0.28, "()[]ft ": 0.39, "mMW%@": 0.98, "w±−+=<>†‡→": 0.78}  # of these signs


class Style(NamedTuple):
    """A size of type, and whether spreads stand as indices."""

    command: str
    quad: float  # points
    leading: float  # points from line to line
    gap: float  # points on both sides of a column
    lowered: bool


STYLES = (
    Style("", 10.0, 12.0, 6.0, False),
    Style(r"\small", 9.25, 11.0, 4.0, False),
    Style(r"\footnotesize", 8.5, 9.5, 3.0, False),
    Style(r"\footnotesize", 8.5, 9.5, 2.5, True),
)


class Piece(NamedTuple):
    """What stands in a cell: LaTeX, and its width in quads."""

    text: str
    width: float


@dataclass(frozen=True)
class Column:
    """A column of numbers: its head, its letter in the layout, and its cells from top to bottom."""

    head: Piece
    layout: str
    cells: Sequence[Piece]

    @property
    def width(self) -> float:
        """Return the width of its widest cell, in quads."""
        return max(piece.width for piece in (self.head, *self.cells))


@dataclass(frozen=True)
class Group:
    """Columns under a common name, such as a benchmark; '' for none."""

    name: str
    columns: Sequence[Column]


@dataclass(frozen=True)
class Sheet:
    """A table: the columns that name its rows, which every part repeats, and groups of others."""

    left: Sequence[Column]
    groups: Sequence[Group]
    below: frozenset[int] = frozenset()  # rows that belong to the one above them

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.left[0].cells)

    def part(self, groups: Sequence[Group]) -> Sheet:
        """Return these of its groups, without the rows that hold nothing there."""
        found = replace(self, groups=groups)
        return found.with_rows([n for n in range(self.rows) if not found._is_blank(n)])

    def with_rows(self, kept: Sequence[int]) -> Sheet:
        """Return some of its rows, by their numbers."""

        def some(columns: Sequence[Column]) -> list[Column]:
            return [replace(column, cells=[column.cells[n] for n in kept]) for column in columns]

        groups = [Group(group.name, some(group.columns)) for group in self.groups]
        return Sheet(some(self.left), groups, frozenset(k for k, n in enumerate(kept) if n in self.below))

    def _is_blank(self, row: int) -> bool:
        """Return whether a row holds nothing; one that belongs to the row above it, no number either."""
        nothing = ("", "--") if row in self.below else ("",)
        return all(column.cells[row].text in nothing for group in self.groups for column in group.columns)


def piece_of(text: str) -> Piece:
    """Return a plain text as a piece."""
    return Piece(escape(text), width_of(text))


def width_of(text: str) -> float:
    """Return about how wide a plain text is, in quads."""
    return sum(map(_sign_width, text))


def _sign_width(sign: str) -> float:
    for signs, width in QUADS.items():
        if sign in signs:
            return width
    if sign.isdigit():
        return 0.5
    return 0.76 if sign.isupper() or not sign.isascii() else 0.54


def width_on_page(sheet: Sheet, style: Style) -> float:
    """Return the width of a sheet in points."""
    names = sum(column.width * style.quad + 2 * style.gap for column in sheet.left)
    return names + sum(_group_width(group, style) for group in sheet.groups) - 2 * style.gap


def _group_width(group: Group, style: Style) -> float:
    """Return the width of a group in points: of its columns, or of its name where that is wider."""
    columns = sum(column.width * style.quad + 2 * style.gap for column in group.columns)
    return max(columns, width_of(group.name) * style.quad + 2 * style.gap)


def height_on_page(sheets: Sequence[Sheet], style: Style, notes: Sequence[str], width: float) -> float:
    """Return about how high sheets are with notes below them that have so much width, in points."""
    rows = sum(sheet.rows + 3 for sheet in sheets)
    lines = sum(map(len, notes)) // int(LETTERS * width / TEXT_WIDTH) + 1
    return rows * style.leading + 8 * len(sheets) + lines * NOTE_LEADING
