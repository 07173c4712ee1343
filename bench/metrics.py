"""Metrics of continual learning: pure functions of the accuracy matrix.

`R[i, j]` is the accuracy on task j after training task i, (T, T), in [0, 1]; entries above the diagonal may be NaN.
What cannot be computed is NaN. Every function returns a fraction; tables multiply by 100.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def acc(R: np.ndarray) -> float:
    """Average accuracy over all tasks after the last one (Lopez-Paz & Ranzato 2017)."""
    return float(np.mean(R[-1]))


def bwt(R: np.ndarray) -> float:
    """Backward transfer: mean change of earlier tasks since they were learned; negative is forgetting (ibid.)."""
    if len(R) < 2:
        return np.nan
    change = R[-1] - np.diag(R)
    return float(np.mean(change[:-1]))


def learning_accuracy(R: np.ndarray) -> float:
    """Mean accuracy on each task just after it was learned. acc = learning_accuracy + bwt (T-1)/T."""
    return float(np.mean(np.diag(R)))


def forgetting(R: np.ndarray, include_last: bool = False) -> float:
    """Mean drop of earlier tasks from their best past accuracy (Chaudhry et al. 2018); may be negative.

    `include_last` also looks for the best in the last row, as mammoth does; it is then never negative.
    """
    if len(R) < 2:
        return np.nan
    earlier = len(R) - 1
    rows = len(R) if include_last else earlier
    drops = []
    for j in range(earlier):
        best = np.max(R[j:rows, j])
        drops.append(best - R[-1, j])
    return float(np.mean(drops))


def forward_transfer(R: np.ndarray, untrained: np.ndarray) -> float:
    """Mean gain on a task not yet learned over an untrained network, `untrained` (T,) (Lopez-Paz & Ranzato 2017).

    With a head per task the head of a future task is untrained: the number is then noise around 0.
    """
    if len(R) < 2:
        return np.nan
    gain = np.diag(R, 1) - untrained[1:]
    return float(np.mean(gain))


def intransigence(R: np.ndarray, reference: np.ndarray) -> float:
    """Mean shortfall, when each task was learned, against a reference model, (T,) (Chaudhry et al. 2018)."""
    shortfall = reference - np.diag(R)
    return float(np.mean(shortfall))


def average_incremental_accuracy(R: np.ndarray) -> float:
    """Mean over time of the mean accuracy on the tasks seen so far."""
    seen = [np.mean(row[: i + 1]) for i, row in enumerate(R)]
    return float(np.mean(seen))


def mean_seen_accuracy(seen: Sequence[float]) -> float:
    """Mean over time of the accuracy over the test images of all classes seen so far, as class-incremental tables have
    it ("Avg."): `average_incremental_accuracy` with every image of the same weight, not every task."""
    return float(np.mean(seen)) if len(seen) else np.nan


def confusion_of_tasks(tasks: np.ndarray, guesses: np.ndarray, num_tasks: int) -> list[list[float]]:
    """Return the share of the images of task i that are taken for a class of task j, (T, T), every row of sum 1.

    `tasks` and `guesses` hold the true and the guessed task of each image.
    """
    counts = np.zeros((num_tasks, num_tasks))
    np.add.at(counts, (tasks, guesses), 1)
    images = counts.sum(1, keepdims=True)
    shares: list[list[float]] = (counts / images).tolist()
    return shares
