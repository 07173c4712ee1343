"""What a logger is: it is told the curves of one cell while they grow, and writes them wherever it does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from bench.core import Cell


class Run(NamedTuple):
    """A cell as a logger knows it."""

    folder: Path  # of the logger, which it may make
    name: str  # such as "digits/finetune/seed0-0123456789ab"
    facts: dict[str, Any]  # method, benchmark, seed and settings
    continued: bool  # whether the cell goes on from a checkpoint


class Logger(ABC):
    """Curves of one run. Whatever it raises is told once, and the cell goes on without it."""

    needs: ClassVar[str]  # the package that it brings the curves to

    @abstractmethod
    def __init__(self, run: Run) -> None:
        """Begin a run."""

    @abstractmethod
    def add(self, axis: str, step: int, values: Mapping[str, float]) -> None:
        """Take points of curves, by their names, at a step of an axis: "epoch" or "task", counted from 0."""

    @abstractmethod
    def close(self, failed: bool) -> None:
        """End the run."""


def run_of(cell: Cell, folder: Path, continued: bool) -> Run:
    """Return a cell as a logger knows it, with settings as in "training.lr" and "config.energy"."""
    facts = {"method": cell.method, "benchmark": cell.benchmark, "seed": cell.seed, "key": cell.key}
    facts |= {"scenario": cell.scenario, "protocol": cell.protocol, "precision": cell.precision}
    for group in ("training", "config", "options"):
        facts |= {f"{group}.{name}": value for name, value in getattr(cell, group).items()}
    return Run(folder, cell.path.with_suffix("").as_posix(), facts, continued)


def accuracies(row: Sequence[float | None], task: int) -> dict[str, float]:
    """Return the curves' points after a task: the accuracy on each task that was tested, and the mean over those
    learned so far."""
    points = {f"accuracy/task_{j}": value for j, value in enumerate(row) if value is not None}
    seen = [value for value in row[: task + 1] if value is not None]
    if len(seen) == task + 1:
        points["accuracy/seen"] = sum(seen) / len(seen)
    return points
