"""Progress on standard error: what the grid is doing now."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.core import Cell, Result
from bench.execution.events import CellFinished, CellFound, EpochStarted, Event
from bench.execution.status import estimate
from bench.text import printable


class Display:
    """A bar for the grid and one for each running cell on a terminal; else a line for each finished cell."""

    def __init__(self, total: int) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        console = Console(stderr=True)
        self.bars = Progress(*columns, console=console, disable=not (total and console.is_terminal), transient=True)
        self.total, self.count = total, 0
        self.grid = self.bars.add_task("cells", total=total)
        self.running: dict[str, Any] = {}

    def __enter__(self) -> Display:
        if not self.bars.disable:
            self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if not self.bars.disable:  # old versions of rich end with an empty line even so
            self.bars.stop()

    def show(self, event: Event) -> None:
        """Tell what has happened."""
        if isinstance(event, EpochStarted):
            self._epoch(event.cell, event.task, event.epoch)
        elif isinstance(event, CellFinished | CellFound):
            self._ended(event.result, event.left)

    def _epoch(self, cell: Cell, task: int, epoch: int) -> None:
        epochs = cell.training["epochs"]
        if cell.key not in self.running:
            self.running[cell.key] = self.bars.add_task("", total=epochs)
        text = printable(f"{cell}: task {task + 1}, epoch {epoch + 1}")
        self.bars.update(self.running[cell.key], description=text, completed=epoch)

    def _ended(self, result: Result, left: float | None) -> None:
        self.count += 1
        if result.cell.key in self.running:
            self.bars.remove_task(self.running.pop(result.cell.key))
        self.bars.advance(self.grid)
        outcome = "failed" if result.error else f"{result.environment['seconds']:.1f} s"
        line = f"[{self.count}/{self.total}] {result.cell}: {outcome}"
        if "checkpoint" in result.environment:
            line += f" ({result.environment['checkpoint']})"
        if left:
            line += f"; {estimate(left)} left"
            self.bars.update(self.grid, description=f"cells, {estimate(left)} left")
        if self.bars.disable:
            print(printable(line), file=sys.stderr, flush=True)
        else:
            self.bars.console.print(printable(line), highlight=False, markup=False)
