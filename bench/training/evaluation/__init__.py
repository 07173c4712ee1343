"""How good a network is, over test batches that are part of the protocol: task by task, or over all classes seen."""

from bench.training.evaluation.accuracy import evaluate, measure, validation_loss
from bench.training.evaluation.drift import Drift, Moved
from bench.training.evaluation.stream import Measured, Row, StreamTests

__all__ = ["Drift", "Measured", "Moved", "Row", "StreamTests", "evaluate", "measure", "validation_loss"]
