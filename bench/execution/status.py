"""What a grid is doing, for whoever asks from another terminal: a file it keeps, and how to read it."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from bench import files, locks
from bench.core import Cell, Result
from bench.execution.queue import Agenda, Estimate
from bench.text import counted

EVERY = 1.0  # seconds, at most, between two notes of progress


class Journal:
    """Kept while a grid runs, `<results>/.grids/<process>-<any>.json`; a lock beside it tells whether it is alive.

    In two containers, or on two machines, processes may have the same number: it is told, and nothing rests on it.
    """

    def __init__(self, folder: Path, total: int, done: int, workers: int, estimate: Estimate) -> None:
        self.folder, self.workers, self.estimate = folder / ".grids", workers, estimate
        self.total, self.done, self.failed = total, done, 0
        self.started = time.time()
        self.running: dict[str, tuple[Cell, float, int, int]] = {}  # by key: cell, start (monotonic), task, epoch
        self.agenda: Agenda | None = None
        self._noted = 0.0
        self._path = self.folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.json"

    def __enter__(self) -> Journal:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = self._path.with_suffix(".lock").open("ab")
        with suppress(locks.NoLocksError):
            locks.acquire(self._lock)
        self._note()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        files.remove(self._path)
        files.remove(self._path.with_suffix(".lock"))
        self._lock.close()

    def progress(self, cell: Cell, task: int, epoch: int) -> None:
        """Note where a cell is, before an epoch."""
        start = self.running[cell.key][1] if cell.key in self.running else time.monotonic()
        self.running[cell.key] = (cell, start, task, epoch)
        if time.monotonic() - self._noted > EVERY:
            self._note()

    def finished(self, result: Result) -> None:
        """Note that a cell has ended, and how."""
        self.running.pop(result.cell.key, None)
        self.done, self.failed = self.done + (result.error is None), self.failed + (result.error is not None)
        self.estimate.learn(result)
        self._note()

    def left(self) -> float | None:
        """Return the seconds until the grid ends, or None while none is known."""
        now = time.monotonic()
        running = [(cell, now - start) for cell, start, *_ in self.running.values()]
        return self.estimate.left(self.agenda.waiting if self.agenda else [], running, max(self.workers, 1))

    def _note(self) -> None:
        self._noted = now = time.monotonic()
        running = [
            {"cell": str(c), "task": task, "epoch": epoch, "epochs": c.training["epochs"], "seconds": now - start}
            for c, start, task, epoch in self.running.values()
        ]
        facts = {"total": self.total, "done": self.done, "failed": self.failed, "left": self.left()}
        try:
            files.write_text(self._path, json.dumps({**facts, "started": self.started, "running": running}))
        except OSError:
            return  # a full disk: the grid has better to do than to tell


def grids(results: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the grids that are alive, each as its process and note. What dead ones left is removed."""
    for path in sorted((results / ".grids").glob("*.json")):
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            alive = _locked(path.with_suffix(".lock"))
        except FileNotFoundError:
            continue  # it ended just now
        if alive:
            yield int(path.stem.partition("-")[0]), note
            continue
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)


def _locked(path: Path) -> bool:
    """Return whether another process has a lock; where there are none, as if it had."""
    with path.open("ab") as file:
        try:
            return not locks.acquire(file, wait=False)
        except locks.NoLocksError:
            return True


def describe_grid(process: int, note: dict[str, Any]) -> Iterator[str]:
    """Yield a grid in lines."""
    total, done, failed, running, left = (note[name] for name in ("total", "done", "failed", "running", "left"))
    started = time.strftime("%Y-%m-%d %H:%M", time.localtime(note["started"]))
    yield f"grid of {counted(total, 'cell')}, process {process}, started {started}"
    waiting = total - done - failed - len(running)
    counts = f"{done} finished, {len(running)} running, {failed} failed, {waiting} waiting"
    rest = f"; {estimate(left)} left" if left is not None else ""
    yield f"  {counts}{rest}"
    for cell in running:
        where = f"task {cell['task'] + 1}, epoch {cell['epoch'] + 1} of at most {cell['epochs']}"
        yield f"  running: {cell['cell']}: {where}, for {duration(cell['seconds'])}"


def estimate(seconds: float, word: str = "about") -> str:
    """Return a time that is not known exactly, in words; what takes no second needs no `word` before it."""
    return duration(seconds) if seconds < 1 else f"{word} {duration(seconds)}"


def duration(seconds: float) -> str:
    """Return a time for people."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
