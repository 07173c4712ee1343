"""The net of permuted MNIST."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn


def mlp(shape: tuple[int, ...]) -> nn.Sequential:
    """Return the net of permuted MNIST: two hidden layers of 100 ReLU, no bias, (n, *shape) -> (n, 100)."""
    layers: dict[str, nn.Module] = {
        "flat": nn.Flatten(),
        "fc1": nn.Linear(math.prod(shape), 100, bias=False),
        "relu1": nn.ReLU(),
        "fc2": nn.Linear(100, 100, bias=False),
        "relu2": nn.ReLU(),
    }
    return nn.Sequential(OrderedDict(layers))
