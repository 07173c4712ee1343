"""Running a grid: what is pending goes to an executor, and what comes back to disk, at once and one way or another."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol

from bench.catalog import registry
from bench.core import Cell, DataError, Result
from bench.execution import store
from bench.execution.executors import EXECUTORS
from bench.execution.queue import Agenda, Claims, Estimate
from bench.execution.runner import Resources, environment
from bench.execution.status import Journal


class Watcher(Protocol):
    """Is told how it goes."""

    def progress(self, cell: Cell, task: int, epoch: int) -> None: ...
    def finished(self, result: Result, left: float | None) -> None: ...


class Keeper:
    """Puts results into the results folder. What cannot be written, because the disk is full, is held and tried again
    with every later result."""

    def __init__(self, folder: Path, claims: Claims, warn: Callable[[str], None]) -> None:
        self.folder, self.claims, self.warn = folder, claims, warn
        self.unsaved: list[Result] = []

    def keep(self, *results: Result) -> None:
        """Write them, and whatever could not be written before."""
        self.unsaved += results
        held = []
        for waiting in self.unsaved:
            try:
                store.save(waiting, self.folder)
            except OSError as error:
                held.append(waiting)
                self.warn(f"cannot write {self.folder / waiting.cell.path}: {error.strerror}; held, and tried again")
                continue
            if waiting.error is None:
                store.checkpoint(store.checkpoints(self.folder), waiting.cell).unlink(missing_ok=True)
            self.claims.release(waiting.cell.key)
        self.unsaved = held


def drive(
    pending: Sequence[Cell],
    results: MutableMapping[str, Result],
    resources: Resources,
    executor: str,
    folder: Path,
    watcher: Watcher,
    warn: Callable[[str], None],
    answers: Callable[[Result], bool] = lambda result: result.error is None,
) -> list[Result]:
    """Run the pending cells. Every outcome joins `results`, by key, as it comes, which already hold what is done.

    `answers` tells whether a result that another process stored in the meantime will do. Returns the results that could
    not be written.
    """
    estimate = Estimate()
    for done in results.values():
        estimate.learn(done)
    total = len(results) + len(pending)
    with Claims(folder) as claims, Journal(folder, total, len(results), resources.workers, estimate) as journal:
        keeper = Keeper(folder, claims, warn)

        def arrived(result: Result) -> None:
            results[result.cell.key] = result
            journal.finished(result)
            watcher.finished(result, journal.left())

        def progress(cell: Cell, task: int, epoch: int) -> None:
            journal.progress(cell, task, epoch)
            watcher.progress(cell, task, epoch)

        ready, failed = (list(pending), []) if resources.address else prepare(pending, resources)
        agenda = journal.agenda = Agenda(estimate.longest_first(ready), folder, claims, arrived, answers)
        try:
            for result in chain(failed, EXECUTORS[executor](agenda, resources, progress) if ready else ()):
                keeper.keep(result)
                arrived(result)
        finally:  # interrupted or done: there may be room now
            keeper.keep()
        return keeper.unsaved


def prepare(cells: Sequence[Cell], resources: Resources) -> tuple[list[Cell], list[Result]]:
    """Get the data of every benchmark ready, once. Returns the cells that can run, and failures for the others."""
    failures: dict[str, DataError] = {}
    wanted = {_stream_of(cell): cell for cell in cells}
    for stream, cell in wanted.items():
        try:
            registry.get_benchmark(cell.benchmark, resources.plugins, cell.options).prepare(resources.data)
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
