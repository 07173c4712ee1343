"""Curves for MLflow: to the server that MLFLOW_TRACKING_URI names, or to a folder of files."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress

from bench.execution.loggers.logger import Logger, Run

EXPERIMENT = "ness-bench"
IMPATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}  # else minutes a cell


class MLflow(Logger):
    """A run in the experiment ness-bench. Nothing global of MLflow is touched: no active run, no tracking address."""

    needs = "mlflow"

    def __init__(self, run: Run) -> None:
        for name, value in IMPATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        server = os.environ.get("MLFLOW_TRACKING_URI")
        if not server:  # files, which from version 3 on have to be asked for
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self.client = MlflowClient(server or run.folder.resolve().as_uri())
        with suppress(MlflowException):  # it is there, or another process has just made it; else the next line raises
            self.client.create_experiment(EXPERIMENT)
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        self.id = self.client.create_run(experiment.experiment_id, run_name=run.name).info.run_id
        for name, value in run.facts.items():
            self.client.log_param(self.id, name, value)

    def add(self, axis: str, step: int, values: Mapping[str, float]) -> None:
        """Log a batch of metrics; MLflow has one axis, a metric's own."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.id, [Metric(name, value, now, step) for name, value in values.items()])

    def close(self, failed: bool) -> None:
        """End the run, as failed where the cell failed."""
        self.client.set_terminated(self.id, "FAILED" if failed else "FINISHED")
