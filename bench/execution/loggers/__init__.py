"""Live loggers, a file each. Another one is a file of its own, and a line here or an entry of `LOGGERS` made from
outside."""

from __future__ import annotations

from collections.abc import MutableMapping

from bench.execution.loggers.logger import Logger
from bench.execution.loggers.mlflow import MLflow
from bench.execution.loggers.tensorboard import TensorBoard
from bench.execution.loggers.wandb import WeightsAndBiases

LOGGERS: MutableMapping[str, type[Logger]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}
