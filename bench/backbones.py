"""The networks of the papers. A backbone maps inputs to features (n, f); heads are added by `build`."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

from bench.activations import evaluating
from bench.core import Benchmark
from bench.network import Network, track_statistics

Shape = tuple[int, ...]


Layers = dict[str, nn.Module]


def _block(n: int, layer: nn.Module, width: int, dropout: float, pool: bool = False) -> Layers:
    """Layer n of the AlexNet variant. Normalisation uses the statistics of the batch, in evaluation too (K-34)."""
    kind, norm = ("conv", nn.BatchNorm2d) if isinstance(layer, nn.Conv2d) else ("fc", nn.BatchNorm1d)
    layers: Layers = {
        f"{kind}{n}": layer,
        f"bn{n}": norm(width, track_running_stats=False),
        f"relu{n}": nn.ReLU(),
        f"drop{n}": nn.Dropout(dropout),  # of single elements, before pooling
    }
    return layers | {f"pool{n}": nn.MaxPool2d(2)} if pool else layers


def alexnet(shape: Shape) -> nn.Sequential:
    """The five-layer AlexNet variant of 10-split CIFAR-100: (n, 3, 32, 32) -> (n, 2048), no bias.

    Source: Serrà et al. 2018 as used by GPM (Saha et al. 2021); 6 499 328 weights and 9 088 affine parameters.
    """
    layers = _block(1, nn.Conv2d(shape[0], 64, 4, bias=False), 64, 0.2, pool=True)
    layers |= _block(2, nn.Conv2d(64, 128, 3, bias=False), 128, 0.2, pool=True)
    layers |= _block(3, nn.Conv2d(128, 256, 2, bias=False), 256, 0.5, pool=True) | {"flat": nn.Flatten()}
    layers |= _block(4, nn.Linear(1024, 2048, bias=False), 2048, 0.5)
    layers |= _block(5, nn.Linear(2048, 2048, bias=False), 2048, 0.5)
    return nn.Sequential(OrderedDict(layers))


def convnet(shape: Shape) -> nn.Sequential:
    """A small convolutional net for digits: (n, c, h, w) -> (n, 64), no bias, no normalisation."""
    positions = math.prod((side + 1) // 2 for side in shape[1:])
    layers: Layers = {
        "conv1": nn.Conv2d(shape[0], 16, 3, padding=1, bias=False),
        "relu1": nn.ReLU(),
        "conv2": nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        "relu2": nn.ReLU(),
        "flat": nn.Flatten(),
        "fc3": nn.Linear(32 * positions, 64, bias=False),
        "relu3": nn.ReLU(),
    }
    return nn.Sequential(OrderedDict(layers))


def mlp(shape: Shape) -> nn.Sequential:
    """The net of permuted MNIST: two hidden layers of 100 ReLU, no bias, (n, *shape) -> (n, 100)."""
    layers: Layers = {
        "flat": nn.Flatten(),
        "fc1": nn.Linear(math.prod(shape), 100, bias=False),
        "relu1": nn.ReLU(),
        "fc2": nn.Linear(100, 100, bias=False),
        "relu2": nn.ReLU(),
    }
    return nn.Sequential(OrderedDict(layers))


BACKBONES: dict[str, Callable[[Shape], nn.Module]] = {"alexnet": alexnet, "convnet": convnet, "mlp": mlp}


def build(benchmark: Benchmark, bn_mode: str = "batch") -> Network:
    """The network of a benchmark, freshly initialised from torch's global generator. For `bn_mode` see `Training`."""
    name = benchmark.backbone
    backbone = BACKBONES[name](benchmark.input_shape) if name else benchmark.own_backbone()
    with evaluating(backbone), torch.no_grad():
        features = backbone(torch.zeros(2, *benchmark.input_shape)).shape[1]
    if bn_mode == "running-frozen":
        track_statistics(backbone)
    heads = benchmark.num_tasks if benchmark.scenario == "task-il" else 1
    return Network(backbone, features, benchmark.num_classes, heads)
