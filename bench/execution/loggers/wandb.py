"""Curves for Weights & Biases: its own variables, as WANDB_MODE=offline and WANDB_PROJECT, say where to."""

from __future__ import annotations

import os
from collections.abc import Mapping

from bench.execution.loggers.logger import Logger, Run


class WeightsAndBiases(Logger):
    """A run in the project ness-bench, in the group of its method and benchmark."""

    needs = "wandb"

    def __init__(self, run: Run) -> None:
        import wandb

        run.folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "ness-bench"),
            name=run.name,
            group=run.name.rpartition("/")[0],
            config=run.facts,
            dir=str(run.folder),
            settings=wandb.Settings(silent=True, console="off", init_timeout=20),
        )
        self.named: set[str] = set()

    def add(self, axis: str, step: int, values: Mapping[str, float]) -> None:
        """Log a row, whose axis is a column of it."""
        for name in values.keys() - self.named:
            self.run.define_metric(name, step_metric=axis)
        self.named |= values.keys()
        self.run.log({**values, axis: step})

    def close(self, failed: bool) -> None:
        """Finish the run, with exit code 1 where the cell failed."""
        self.run.finish(exit_code=int(failed))
