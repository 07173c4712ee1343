"""What happens while a grid runs, as whoever drives it is told."""

from __future__ import annotations

from typing import NamedTuple

from bench.core import Cell, Result


class CellStarted(NamedTuple):
    """A process has begun with a cell."""

    cell: Cell


class EpochStarted(NamedTuple):
    """An epoch of a task of a cell is about to begin, both counted from 0."""

    cell: Cell
    task: int
    epoch: int


class CellFinished(NamedTuple):
    """A cell has ended here, with a matrix or an error."""

    result: Result
    left: float | None = None  # seconds that the grid may still take, where that is known


class Idle(NamedTuple):
    """There is nothing to do here but to wait for others."""


class CellFound(NamedTuple):
    """Another process has finished a cell of this grid in the meantime."""

    result: Result
    left: float | None = None


class Trouble(NamedTuple):
    """Something went wrong, and the grid goes on."""

    text: str
    about: str = ""  # what is told once only, however many cells meet it


class Unsaved(NamedTuple):
    """The grid ends, and a result could not be written."""

    result: Result


CellEvent = CellStarted | EpochStarted | CellFinished | Idle | Trouble
Event = CellEvent | CellFound | Unsaved
