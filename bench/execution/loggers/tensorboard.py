"""Curves as TensorBoard's event files, written by tensorboardX: a folder a cell."""

from __future__ import annotations

from collections.abc import Mapping

from bench.execution.loggers.logger import Logger, Run


class TensorBoard(Logger):
    """Writes a run to its own folder, anew where the cell begins anew."""

    needs = "tensorboardX"

    def __init__(self, run: Run) -> None:
        from tensorboardX import SummaryWriter

        place = run.folder / run.name
        for old in [] if run.continued else place.glob("events.out.tfevents.*"):
            old.unlink()
        self.writer = SummaryWriter(str(place), flush_secs=10)

    def add(self, axis: str, step: int, values: Mapping[str, float]) -> None:
        """Write scalars; TensorBoard has one axis, a curve's own."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self, failed: bool) -> None:
        """Flush and close the file."""
        self.writer.close()
