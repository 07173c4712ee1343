"""Which cell is next: each goes to one process only, however many work on one results folder, and the longest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from bench import locks
from bench.core import Cell, Result
from bench.execution import store

PROBE = 2**48  # a byte beyond those of all keys, which have 12 hex digits


class Claims:
    """Claims of this process on cells: locks on single bytes of one file, which the kernel lifts when their owner dies.

    The byte is the cell's key as a number. Nothing is written, and nothing is left to clean up. On a file system
    without locks every claim is granted, and `trouble` says so.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / ".claims").open("ab")
        self.trouble = ""
        try:
            locks.acquire_byte(self._file, PROBE)
        except locks.NoLocksError as error:
            self.trouble = f"{folder}: {error.strerror}; run one command at a time there, or cells may run twice"
        else:
            locks.release_byte(self._file, PROBE)

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def claim(self, key: str) -> bool:
        """Whether the cell is this process's now; False while another has it."""
        return bool(self.trouble) or locks.acquire_byte(self._file, int(key, 16))

    def release(self, key: str) -> None:
        """Let others have it."""
        if not self.trouble:
            locks.release_byte(self._file, int(key, 16))


class Agenda:
    """Hands out the cells of a grid: iterate for a cell that is now this process's, or None while all that is left is
    being run by others. What those finish, and `answers` the request, joins the list `found`."""

    def __init__(
        self,
        cells: Sequence[Cell],
        folder: Path,
        claims: Claims,
        answers: Callable[[Result], bool] = lambda result: result.error is None,
    ) -> None:
        self.waiting = list(cells)
        self.folder, self.claims, self.answers = folder, claims, answers
        self.found: list[Result] = []

    def __iter__(self) -> Iterator[Cell | None]:
        while self.waiting:
            yield self._next()

    def _next(self) -> Cell | None:
        for cell in list(self.waiting):
            if not self.claims.claim(cell.key):
                continue
            self.waiting.remove(cell)
            done = store.stored_result(cell, self.folder)  # since this process last looked
            if not isinstance(done, Result) or not self.answers(done):
                return cell
            self.claims.release(cell.key)
            self.found.append(done)
        return None


class Estimate:
    """Seconds that cells take, from those measured so far: of the same method and budget, else of what is nearest."""

    def __init__(self) -> None:
        self._measured: dict[tuple[object, ...], list[float]] = {}

    def learn(self, result: Result) -> None:
        """Take a finished result into account."""
        if result.error is None and "seconds" in result.environment:
            for kind in _kinds(result.cell):
                self._measured.setdefault(kind, []).append(float(result.environment["seconds"]))

    def of(self, cell: Cell) -> float | None:
        """Return the mean over the nearest kind of cell that has been measured; None before the first."""
        for kind in _kinds(cell):
            if kind in self._measured:
                return sum(self._measured[kind]) / len(self._measured[kind])
        return None

    def left(self, waiting: Sequence[Cell], running: Sequence[tuple[Cell, float]], workers: int) -> float | None:
        """Return the seconds until a grid ends: cells waiting, and cells running with the seconds they have run."""
        times = []
        for cell, ran in (*((cell, 0.0) for cell in waiting), *running):
            known = self.of(cell)
            if known is None:
                return None
            times.append(max(known - ran, 0.0))
        return max(sum(times) / workers, max(times, default=0.0))

    def longest_first(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return the cells in an order in which no long one starts when the others are done."""
        return sorted(cells, key=lambda cell: (-(self.of(cell) or 0.0), -int(cell.training.get("epochs", 0))))


def _kinds(cell: Cell) -> list[tuple[object, ...]]:
    """Return the kinds that a cell is of, from the most alike to the least."""
    budget = cell.training.get("epochs")
    return [(cell.benchmark, budget, cell.method), (cell.benchmark, budget), (cell.benchmark,), ()]
