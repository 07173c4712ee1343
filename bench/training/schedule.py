"""When the learning rate falls, and when training stops."""

from __future__ import annotations

import math

from bench.core import Training


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
