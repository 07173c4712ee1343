"""The LeNet variant of the superclasses of CIFAR-100."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from bench.nn.layers import LocalResponseNorm


def lenet(shape: tuple[int, ...]) -> nn.Sequential:
    """Return the LeNet variant of the superclasses of CIFAR-100: (n, 3, 32, 32) -> (n, 500), no bias.

    Source: Yoon et al. 2020 as used by GPM (Saha et al. 2021); 2 986 500 weights.
    """

    def stage(n: int, inputs: int, outputs: int) -> dict[str, nn.Module]:
        return {
            f"conv{n}": nn.Conv2d(inputs, outputs, 5, padding=2, bias=False),
            f"relu{n}": nn.ReLU(),
            f"lrn{n}": LocalResponseNorm(4, alpha=0.001 / 9, beta=0.75, k=1),
            f"pool{n}": nn.MaxPool2d(3, stride=2, padding=1),
        }

    positions = math.prod((side + 3) // 4 for side in shape[1:])
    layers = stage(1, shape[0], 20) | stage(2, 20, 50)
    layers["flat"] = nn.Flatten()
    layers["fc3"] = nn.Linear(50 * positions, 800, bias=False)
    layers["relu3"] = nn.ReLU()
    layers["fc4"] = nn.Linear(800, 500, bias=False)
    layers["relu4"] = nn.ReLU()
    return nn.Sequential(OrderedDict(layers))
