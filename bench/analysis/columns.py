"""What a run is measured by: the one definition of each metric and each cost, for tables, figures and frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from bench import metrics
from bench.core import Result

Fraction = TypeVar("Fraction", float, np.ndarray)


def percent(fraction: Fraction) -> Fraction:
    """Return a fraction, or an array of them, in percent. Results are stored as fractions and shown in percent."""
    return 100 * fraction


class Metric(NamedTuple):
    """What a column shows. A quality is shown in percent with its spread, and its best value is marked."""

    label: str
    meaning: str
    of: Callable[..., float]  # of a result; and of the joint one of the same seed, where `against_joint`
    quality: bool = True
    best: Literal["max", "min"] = "max"
    against_joint: bool = False

    def shown(self, value: Fraction) -> Fraction:
        """Return a value, or an array of them, in the unit in which it is shown."""
        return percent(value) if self.quality else value


# Costs. Each is NaN where it was not recorded, as for a result that was imported.


def trainable(result: Result) -> float:
    """Return how many parameters were trained in a task, mean over tasks.

    The mean is what training the stream took: some methods train less from task to task, others more, so that no single
    task stands for all.
    """
    counts = _recorded(result, "trainable")
    return fmean(counts) if counts else math.nan


def state_bytes(result: Result) -> float:
    """Return the bytes that the method carries from task to task beside the network, after the last task."""
    sizes = _recorded(result, "state_bytes")
    return sizes[-1] if sizes else math.nan


def old_samples_read(result: Result) -> float:
    """Return how many training samples of earlier tasks were read, over the whole run."""
    counts = _recorded(result, "old_samples_read")
    return sum(counts) if counts else math.nan


def stored(result: Result) -> float:
    """Return how many samples of the stream the method kept after the last task; 0 where that was not yet counted."""
    return float(result.tasks[-1].get("stored", 0)) if result.tasks else math.nan


def seconds(result: Result) -> float:
    """Return the seconds of the whole run, evaluation included."""
    return float(result.environment.get("seconds", math.nan))


def peak_bytes(result: Result) -> float:
    """Return the most bytes that the run's process held at a time; on a GPU, those of the device."""
    return float(result.environment.get("process_peak_bytes", math.nan))


def _recorded(result: Result, name: str) -> list[float]:
    """Return a number from the record of every task, NaN where there is none."""
    return [float(task.get(name, math.nan)) for task in result.tasks]


def curve(result: Result) -> np.ndarray:
    """Return the accuracy on what is learned so far, after each task, (T,), NaN where it was not measured: the mean
    over tasks; in class-il, where it was counted, over the test images of all of them."""
    R, seen = result.R, result.seen
    if not seen:
        return np.array([R[i, : i + 1].mean() for i in range(len(R))])
    return np.array([math.nan] * (len(R) - len(seen)) + seen)


def _acc(result: Result) -> float:
    return result.seen[-1] if result.seen else metrics.acc(result.R)


def _aia(result: Result) -> float:
    return metrics.mean_seen_accuracy(curve(result).tolist())


def _within(result: Result) -> float:
    return math.nan if result.within is None else float(result.within.mean())


def _fwt(result: Result) -> float:
    """Return forward transfer, where a shared head has an answer for tasks to come; else NaN."""
    untrained = result.tasks[0].get("untrained") if result.tasks else None
    return metrics.forward_transfer(result.R, np.array(untrained)) if untrained else math.nan


USUAL = ("acc", "bwt", "state")  # of METRICS, where none are asked for


def usual_metrics(scenario: str) -> Sequence[str]:
    """Return what is shown of a benchmark in a scenario where nothing else is asked for."""
    return ("acc", "aia", *USUAL[1:]) if scenario == "class-il" else USUAL


METRICS = {
    "acc": Metric("ACC", "mean accuracy over all tasks at the end, %", _acc),
    "bwt": Metric("BWT", "mean change of earlier tasks since they were learned, points", lambda r: metrics.bwt(r.R)),
    "forgetting": Metric(
        "F", "mean drop from the best past accuracy, points", lambda r: metrics.forgetting(r.R), best="min"
    ),
    "la": Metric("LA", "mean accuracy on each task when just learned, %", lambda r: metrics.learning_accuracy(r.R)),
    "aia": Metric("AIA", "mean over time of the accuracy on tasks seen, %", _aia),
    "within": Metric(
        "within", "in class-il, mean accuracy over all tasks had the task of every image been told, %", _within
    ),
    "fwt": Metric("FWT", "mean gain on a task just before it is learned over the untrained network, points", _fwt),
    "intransigence": Metric(
        "I", "mean shortfall against joint training when each task was learned, points",
        lambda r, joint: metrics.intransigence(r.R, joint.R[-1]), best="min", against_joint=True,
    ),
    "state": Metric("state", "MB carried between tasks besides the network", lambda r: state_bytes(r) / 1e6, False),
    "trainable": Metric(
        "trainable", "thousand parameters trained in a task, mean over tasks", lambda r: trainable(r) / 1e3, False
    ),
    "old": Metric("old", "thousand samples of earlier tasks read", lambda r: old_samples_read(r) / 1e3, False),
    "stored": Metric("stored", "samples of the stream kept at the end", stored, False),
    "seconds": Metric("time", "seconds per run", seconds, False),
}  # fmt: skip
