"""When the learning rate falls, and when training stops."""

from __future__ import annotations

import math
from typing import Protocol

from bench.core import Training


class Schedule(Protocol):
    """A learning rate, and the best loss so far."""

    lr: float
    best: float

    def update(self, loss: float) -> tuple[bool, bool]:
        """After an epoch: return whether the loss is the best so far, and whether to stop."""


def schedule_of(training: Training) -> Schedule:
    """Return the schedule that the settings name, at its start."""
    return Cosine(training) if training.lr_schedule == "cosine" else Plateau(training)


class Plateau:
    """The schedule of GPM's training loop (Saha et al. 2021), which later null-space methods share.

    The rate is cut when the validation loss has not improved for `patience` epochs, and training stops when it would
    fall below `lr_min`. An equal loss is no improvement.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.lr, self.best, self.left = training.lr, math.inf, training.patience

    def update(self, loss: float) -> tuple[bool, bool]:
        """After an epoch: return whether the loss is the best so far, and whether to stop."""
        if loss < self.best:
            self.best, self.left = loss, self.training.patience
            return True, False
        self.left -= 1
        if self.training.patience == 0 or self.left > 0:
            return False, False
        self.lr, self.left = self.lr / self.training.factor, self.training.patience
        return False, self.lr < self.training.lr_min


class Cosine:
    """The schedule of InfLoRA's code (Liang & Li, CVPR 2024): along a cosine, from the first rate to 1/64 of it.

    Of K epochs, epoch e = 0 ... K - 1 has lr cos(99π e / (200 (K - 1))). It never stops.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.lr, self.best, self.epoch = training.lr, math.inf, 0

    def update(self, loss: float) -> tuple[bool, bool]:
        """After an epoch: return whether the loss is the best so far, and that training goes on."""
        self.epoch += 1
        last = max(self.training.epochs - 1, 1)
        self.lr = self.training.lr * math.cos(0.99 * math.pi / 2 * min(self.epoch / last, 1))
        improved = loss < self.best
        self.best = min(self.best, loss)
        return improved, False
