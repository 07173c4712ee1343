"""The loggers of a cell while it runs. One that fails is left alone from there on: no logger ends a cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from bench.core import Cell
from bench.execution.events import Trouble
from bench.execution.loggers import LOGGERS
from bench.execution.loggers.logger import Logger, accuracies, run_of
from bench.training.loop import Event, TaskDone
from bench.training.stage import EpochDone


class Live:
    """Hands what happens to loggers, by name. What goes wrong there is yielded, a line a logger.

    Runs begin with the first event, for only then is it known whether the cell goes on from a checkpoint.
    """

    def __init__(self, cell: Cell, names: Sequence[str], folder: Path) -> None:
        self.cell, self.names, self.folder = cell, names, folder
        self.loggers: dict[str, Logger] | None = None
        self.epochs = 0  # trained so far, over all tasks

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *error: object) -> None:
        list(self.end(failed=True))  # where the cell was interrupted, and nobody is there to be told

    def see(self, event: Event, before: int) -> Iterator[Trouble]:
        """Tell the loggers what has happened; `before` are the epochs that were trained before a checkpoint."""
        if self.loggers is None:
            self.epochs, self.loggers = before, {}
            for name in self.names:
                yield from self._try(name, partial(self._open, name, before > 0))
        if isinstance(event, EpochDone):
            points = {"loss/train": event.loss, "loss/validation": event.validation_loss, "learning_rate": event.lr}
            yield from self._add("epoch", self.epochs, points)
            self.epochs += 1
        elif isinstance(event, TaskDone):
            points = accuracies(event.row, event.record.task)
            if event.record.seen is not None:
                points["accuracy/all_classes"] = event.record.seen
            yield from self._add("task", event.record.task, points)

    def end(self, failed: bool) -> Iterator[Trouble]:
        """Close the loggers that are still with us."""
        ending = dict(self.loggers or {})
        for name, logger in ending.items():
            yield from self._try(name, partial(logger.close, failed))
        self.loggers = {}

    def _open(self, name: str, continued: bool) -> None:
        assert self.loggers is not None
        if not self.folder.parent.is_dir():
            raise FileNotFoundError(f"there is no {self.folder.parent} on this machine")
        self.loggers[name] = LOGGERS[name](run_of(self.cell, self.folder / name, continued))

    def _add(self, axis: str, step: int, points: Mapping[str, float]) -> Iterator[Trouble]:
        for name, logger in list((self.loggers or {}).items()):
            yield from self._try(name, partial(logger.add, axis, step, points))

    def _try(self, name: str, work: Callable[[], None]) -> Iterator[Trouble]:
        try:
            work()
        except (Exception, SystemExit) as error:  # whatever a package raises where its server is away
            assert self.loggers is not None
            self.loggers.pop(name, None)
            said = " ".join(str(error).split()) or type(error).__name__
            yield Trouble(f"--log {name}: {said}; the run goes on without it", about=f"--log {name}")
