"""Running a grid: what is pending goes to an executor, and what comes back to disk, at once and one way or another."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from bench import files
from bench.core import Cell, DataError, Result
from bench.execution import store
from bench.execution.events import CellFinished, CellFound, EpochStarted, Event, Trouble, Unsaved
from bench.execution.executors import EXECUTORS
from bench.execution.queue import Agenda, Claims, Estimate
from bench.execution.runner import Resources, environment
from bench.execution.status import Journal
from bench.text import counted

FULL = (errno.ENOSPC, errno.EDQUOT)


class Keeper:
    """Puts results into the results folder. What cannot be written, because the disk is full, is held and tried again
    with every later result. `kept` are results that are on disk already, by key."""

    def __init__(self, folder: Path, claims: Claims, kept: Iterable[Result] = ()) -> None:
        self.folder, self.claims = folder, claims
        self.kept = {result.cell.key: result for result in kept}
        self.unsaved: list[Result] = []

    def keep(self, *results: Result) -> list[Trouble]:
        """Write them, and whatever could not be written before. Return what went wrong."""
        self.unsaved += results
        held, troubles = [], []
        for waiting in self.unsaved:
            try:
                self._save(waiting)
            except OSError as error:
                held.append(waiting)
                what = f"cannot write {self.folder / waiting.cell.path}: {error.strerror}; held, and tried again"
                troubles.append(Trouble(what))
                continue
            self.kept[waiting.cell.key] = waiting
            self.claims.release(waiting.cell.key)
        self.unsaved = held
        return troubles

    def _save(self, result: Result) -> None:
        """Write a result, and remove the checkpoint of a finished cell: before it, where that makes the room."""
        checkpoint = store.checkpoint(store.checkpoints(self.folder), result.cell)
        try:
            store.save_result(result, self.folder)
        except OSError as error:
            in_the_way = error.errno in FULL and result.error is None and checkpoint.exists()
            if not in_the_way:
                raise
            files.remove(checkpoint)
            store.save_result(result, self.folder)
        if result.error is None:
            files.remove(checkpoint)

    def restore(self) -> list[Trouble]:
        """Write what was on disk and is not now, because the folder was removed, once more. Return a line on that."""
        gone = [result for result in self.kept.values() if not os.path.lexists(self.folder / result.cell.path)]
        if not gone:
            return []
        self.keep(*gone)
        lost = {result.cell.key for result in self.unsaved}
        again = sum(result.cell.key not in lost for result in gone)
        what = f"{counted(len(gone), 'result')} gone from {self.folder} at the end; {again} written again"
        return [Trouble(what)]


def succeeded(result: Result) -> bool:
    """Whether a result has a matrix, and no error."""
    return result.error is None


def run_grid(
    pending: Sequence[Cell],
    done: Sequence[Result],
    resources: Resources,
    executor: str,
    folder: Path,
    answers: Callable[[Result], bool] = succeeded,
) -> Generator[Event, None, None]:
    """Run the pending cells of a grid of which others are `done`. Yield what happens, results once they are on disk.

    `answers` tells whether a result that another process stored in the meantime will do.
    """
    estimate = Estimate()
    for result in done:
        estimate.learn(result)
    total = len(done) + len(pending)
    with Claims(folder) as claims, Journal(folder, total, len(done), resources.workers, estimate) as journal:
        if claims.trouble:
            yield Trouble(claims.trouble)
        keeper = Keeper(folder, claims, done)
        ready, failed = (list(pending), []) if resources.address else prepare(pending, resources)
        agenda = Agenda(estimate.longest_first(ready), folder, claims, answers)
        journal.agenda = agenda
        told: set[str] = set()
        try:
            for event in chain(map(CellFinished, failed), EXECUTORS[executor](agenda, resources) if ready else ()):
                yield from _found(agenda, journal)
                if isinstance(event, Trouble) and event.about:
                    if event.about in told:
                        continue
                    told.add(event.about)
                if isinstance(event, EpochStarted):
                    journal.progress(*event)
                if isinstance(event, CellFinished):
                    yield from keeper.keep(event.result)
                    journal.finished(event.result)
                    event = CellFinished(event.result, journal.left())
                yield event
            yield from _found(agenda, journal)
        finally:  # interrupted or done: there may be room now
            keeper.keep()
        yield from keeper.restore()
        yield from map(Unsaved, keeper.unsaved)


def _found(agenda: Agenda, journal: Journal) -> Iterator[CellFound]:
    """Yield the results of others that the agenda has met since the last look."""
    while agenda.found:
        result = agenda.found.pop(0)
        journal.finished(result)
        yield CellFound(result, journal.left())


def prepare(cells: Sequence[Cell], resources: Resources) -> tuple[list[Cell], list[Result]]:
    """Get the data of every benchmark ready, once. Returns the cells that can run, and failures for the others."""
    failures: dict[str, DataError] = {}
    wanted = {_stream_of(cell): cell for cell in cells}
    for stream, cell in wanted.items():
        try:
            resources.catalog.benchmark(cell.benchmark, cell.options).prepare(resources.data)
        except DataError as error:
            failures[stream] = error
    lost = [cell for cell in cells if _stream_of(cell) in failures]
    failed = [
        Result(cell, error=str(failures[_stream_of(cell)]), environment=environment(resources, cell.precision))
        for cell in lost
    ]
    return [cell for cell in cells if _stream_of(cell) not in failures], failed


def _stream_of(cell: Cell) -> str:
    """A benchmark with its options: what its data depend on, the seed aside."""
    return f"{cell.benchmark} {sorted(cell.options.items())}"
