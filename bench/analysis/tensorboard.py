"""Results as TensorBoard scalars, written by tensorboardX: a run a cell, a step a task."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bench import files
from bench.analysis.columns import METRICS
from bench.analysis.labels import row_label, without_marks
from bench.core import Result, UserError
from bench.execution.loggers.logger import accuracies


def write_scalars(results: Iterable[Result], folder: Path) -> int:
    """Write the finished results under `folder`, as <benchmark>/<method>/seed<k>-<hash>; return how many runs.

    `accuracy/task_<j>`: accuracy on task j after each task; `accuracy/seen`: its mean over the tasks learned so far;
    `accuracy/all_classes`: in class-il, that over all test images of these tasks;
    `final/<metric>`: the metrics, in percent, at the last step. A run that is there already is written anew.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UserError("--tensorboard needs tensorboardX: pip install tensorboardX") from error
    files.check_writable(folder, "--tensorboard")
    written = 0
    for result in results:
        if result.error is None:
            _write(result, folder, SummaryWriter)
            written += 1
    return written


def _write(result: Result, folder: Path, writer_class: type) -> None:
    cell = result.cell
    run = folder / cell.benchmark / without_marks(row_label(cell)).replace("/", "_") / cell.path.stem
    for old in run.glob("events.out.tfevents.*"):
        old.unlink()
    with writer_class(str(run)) as writer:
        for i, row in enumerate(result.matrix):
            for name, accuracy in accuracies(row, i).items():
                writer.add_scalar(name, accuracy, i)
        for record in result.tasks:
            if "seen" in record:
                writer.add_scalar("accuracy/all_classes", record["seen"], record["task"])
        for name, metric in METRICS.items():
            if not metric.quality or metric.against_joint:
                continue
            value = metric.of(result)
            if not np.isnan(value):
                writer.add_scalar(f"final/{name}", metric.shown(value), len(result.matrix) - 1)
