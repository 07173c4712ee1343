"""Small convolutional nets: one for digits, and one for tests."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from bench.nn.layers import Dropout


def convnet(shape: tuple[int, ...]) -> nn.Sequential:
    """Return a small convolutional net for digits: (n, c, h, w) -> (n, 64), no bias, no normalisation."""
    positions = math.prod((side + 1) // 2 for side in shape[1:])
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(shape[0], 16, 3, padding=1, bias=False),
        "relu1": nn.ReLU(),
        "conv2": nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        "relu2": nn.ReLU(),
        "flat": nn.Flatten(),
        "fc3": nn.Linear(32 * positions, 64, bias=False),
        "relu3": nn.ReLU(),
    }
    return nn.Sequential(OrderedDict(layers))


def groupnet(shape: tuple[int, ...]) -> nn.Sequential:
    """Return a small net with what the papers' networks lack, for tests: (n, c, h, w), c even -> (n, 32).

    It has biases everywhere, a grouped convolution, dropout, and batch normalization by the statistics of the batch, in
    evaluation too.
    """
    positions = math.prod((side + 1) // 2 for side in shape[1:])
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(shape[0], 16, 3, padding=1, groups=2),
        "bn1": nn.BatchNorm2d(16, track_running_stats=False),
        "relu1": nn.ReLU(),
        "drop1": Dropout(0.1),
        "conv2": nn.Conv2d(16, 16, 3, stride=2, padding=1),
        "bn2": nn.BatchNorm2d(16, track_running_stats=False),
        "relu2": nn.ReLU(),
        "flat": nn.Flatten(),
        "fc3": nn.Linear(16 * positions, 32),
        "relu3": nn.ReLU(),
    }
    return nn.Sequential(OrderedDict(layers))
