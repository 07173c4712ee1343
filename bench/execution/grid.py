"""Running a grid: what is pending goes to an executor, and what comes back to disk, at once and one way or another."""

from __future__ import annotations

import errno
import json
import os
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from bench import files, same_data
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
        changed = {} if resources.address else changed_data(ready, resources, folder)
        yield from (_on_changed_data(json.loads(stream)[0], seeds) for stream, seeds in changed.items())
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
                    if others := changed.get(same_data.stream_of(event.result.cell)):
                        event.result.environment["data_of"] = others
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
    """Get the data of every benchmark ready, once. Return the cells that can run, and failures for the others."""
    failures: dict[str, DataError] = {}
    wanted = {same_data.stream_of(cell): cell for cell in cells}
    for stream, cell in wanted.items():
        try:
            resources.catalog.benchmark(cell.benchmark, cell.options).prepare(resources.data)
        except DataError as error:
            failures[stream] = error
    lost = [cell for cell in cells if same_data.stream_of(cell) in failures]
    failed = [
        Result(cell, error=str(failures[same_data.stream_of(cell)]), environment=environment(resources, cell.precision))
        for cell in lost
    ]
    return [cell for cell in cells if same_data.stream_of(cell) not in failures], failed


def changed_data(cells: Iterable[Cell], resources: Resources, folder: Path) -> dict[str, dict[str, str]]:
    """Return, by stream, the fingerprints that the data of results on disk have now, by seed, where they are others
    than when those were run.

    Fingerprints of two seeds differ, so that a result of a new seed would not tell. One seed is looked at, and all
    where it shows a change, or where results of one seed are not all on the same data.
    """
    streams = {same_data.stream_of(cell): cell for cell in cells}
    known: dict[str, dict[int, set[str]]] = {stream: defaultdict(set) for stream in streams}
    for benchmark in {cell.benchmark for cell in streams.values()}:
        for result in store.load_all(folder, benchmark):
            for stream, seed, found in same_data.prints_of(result)[:1] if isinstance(result, Result) else ():
                if stream in known:
                    known[stream][seed].add(found)
    changed = {stream: _changed(streams[stream], resources, on_disk) for stream, on_disk in known.items()}
    return {stream: others for stream, others in changed.items() if others}


def _changed(cell: Cell, resources: Resources, on_disk: dict[int, set[str]]) -> dict[str, str]:
    """Return the fingerprints of a cell's data under those seeds of which a result on disk has another one."""
    alike = all(len(found) == 1 for found in on_disk.values())
    changed: dict[str, str] = {}
    for seed, found in sorted(on_disk.items()):
        now = _fingerprint_now(cell, resources, seed)
        if now is not None and found != {now}:
            changed[str(seed)] = now
        elif alike and not changed:
            break
    return changed


def _fingerprint_now(cell: Cell, resources: Resources, seed: int) -> str | None:
    """Return the fingerprint of a cell's data under another seed; None where they cannot be had, which cells tell."""
    try:
        benchmark = resources.catalog.benchmark(cell.benchmark, cell.options, cell.scenario)
        return same_data.fingerprint(benchmark.stream(seed, resources.data))
    except Exception:  # of whoever wrote the benchmark; a cell on the same data fails with it, and keeps it
        return None


def _on_changed_data(benchmark: str, seeds: Iterable[str]) -> Trouble:
    """Return the line that says so."""
    what = f"the data of {benchmark} have changed since its results were run, as of seed {next(iter(seeds))}"
    return Trouble(f"{what}: results on either are not averaged with one another; remove the old ones")
