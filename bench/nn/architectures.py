"""The networks of the papers. A backbone maps inputs to features (n, f); heads are added by `build`."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.config import nearest
from bench.core import Benchmark
from bench.nn.activations import evaluating
from bench.nn.layers import Dropout, LocalResponseNorm
from bench.nn.network import Network
from bench.nn.normalization import track_statistics

Shape = tuple[int, ...]
Layers = dict[str, nn.Module]


def _block(n: int, layer: nn.Module, width: int, dropout: float, pool: bool = False) -> Layers:
    """Return layer n of the AlexNet variant and what follows it.

    Normalisation uses the statistics of the batch, in evaluation too, as in GPM's code (main_cifar100.py).
    """
    if isinstance(layer, nn.Conv2d):
        kind = "conv"
        norm: nn.Module = nn.BatchNorm2d(width, track_running_stats=False)
    else:
        kind = "fc"
        norm = nn.BatchNorm1d(width, track_running_stats=False)
    layers: Layers = {
        f"{kind}{n}": layer,
        f"bn{n}": norm,
        f"relu{n}": nn.ReLU(),
        f"drop{n}": Dropout(dropout),  # of single elements, before pooling
    }
    if pool:
        layers[f"pool{n}"] = nn.MaxPool2d(2)
    return layers


def alexnet(shape: Shape) -> nn.Sequential:
    """Return the five-layer AlexNet variant of 10-split CIFAR-100: (n, 3, 32, 32) -> (n, 2048), no bias.

    Source: Serrà et al. 2018 as used by GPM (Saha et al. 2021); 6 499 328 weights and 9 088 affine parameters.
    """
    layers = _block(1, nn.Conv2d(shape[0], 64, 4, bias=False), 64, 0.2, pool=True)
    layers |= _block(2, nn.Conv2d(64, 128, 3, bias=False), 128, 0.2, pool=True)
    layers |= _block(3, nn.Conv2d(128, 256, 2, bias=False), 256, 0.5, pool=True)
    layers["flat"] = nn.Flatten()
    layers |= _block(4, nn.Linear(1024, 2048, bias=False), 2048, 0.5)
    layers |= _block(5, nn.Linear(2048, 2048, bias=False), 2048, 0.5)
    return nn.Sequential(OrderedDict(layers))


def convnet(shape: Shape) -> nn.Sequential:
    """Return a small convolutional net for digits: (n, c, h, w) -> (n, 64), no bias, no normalisation."""
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
    """Return the net of permuted MNIST: two hidden layers of 100 ReLU, no bias, (n, *shape) -> (n, 100)."""
    layers: Layers = {
        "flat": nn.Flatten(),
        "fc1": nn.Linear(math.prod(shape), 100, bias=False),
        "relu1": nn.ReLU(),
        "fc2": nn.Linear(100, 100, bias=False),
        "relu2": nn.ReLU(),
    }
    return nn.Sequential(OrderedDict(layers))


def groupnet(shape: Shape) -> nn.Sequential:
    """Return a small net with what the papers' networks lack, for tests: (n, c, h, w), c even -> (n, 32).

    It has biases everywhere, a grouped convolution, dropout, and batch normalization by the statistics of the batch, in
    evaluation too.
    """
    positions = math.prod((side + 1) // 2 for side in shape[1:])
    layers: Layers = {
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


def lenet(shape: Shape) -> nn.Sequential:
    """Return the LeNet variant of the superclasses of CIFAR-100: (n, 3, 32, 32) -> (n, 500), no bias.

    Source: Yoon et al. 2020 as used by GPM (Saha et al. 2021); 2 986 500 weights.
    """

    def stage(n: int, inputs: int, outputs: int) -> Layers:
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


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, projected by a 1 x 1 convolution where the shape changes (He et al. 2016).

    Registered in the order conv1, conv2, shortcut, which settings by layer follow.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = _batch_norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = _batch_norm(outputs)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut.extend([projection, _batch_norm(outputs)])

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, outputs, h / stride, w / stride), rounded up, for x (n, inputs, h, w)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


def _batch_norm(width: int) -> nn.BatchNorm2d:
    """Return a normalization by the statistics of the batch, in evaluation too, as in GPM's code."""
    return nn.BatchNorm2d(width, track_running_stats=False)


def resnet18(shape: Shape, stride: int = 1) -> nn.Sequential:
    """Return the reduced ResNet18, 20 channels wide and without bias: (n, 3, 32, 32) -> (n, 640).

    With stride 2 in the first convolution, (n, 3, 84, 84) -> (n, 1440). It has 1 090 140 weights and 3 000 affine
    parameters. Source: Lopez-Paz & Ranzato 2017 as used by GPM (Saha et al. 2021) and, with stride 2, by TRGP (Lin et
    al. 2022).
    """
    layers: Layers = {
        "conv1": nn.Conv2d(shape[0], 20, 3, stride, padding=1, bias=False),
        "bn1": _batch_norm(20),
        "relu1": nn.ReLU(),
    }
    stages = ((20, 20, 1), (20, 40, 2), (40, 80, 2), (80, 160, 2))  # channels in and out, and the first block's stride
    for n, (inputs, outputs, first_stride) in enumerate(stages, 1):
        first = BasicBlock(inputs, outputs, first_stride)
        second = BasicBlock(outputs, outputs, stride=1)
        layers[f"layer{n}"] = nn.Sequential(first, second)
    layers["pool"] = nn.AvgPool2d(2)
    layers["flat"] = nn.Flatten()
    return nn.Sequential(OrderedDict(layers))


BACKBONES: dict[str, Callable[[Shape], nn.Module]] = {
    "alexnet": alexnet,
    "convnet": convnet,
    "groupnet": groupnet,
    "lenet": lenet,
    "mlp": mlp,
    "resnet18": resnet18,
    "resnet18_stride2": partial(resnet18, stride=2),
}
CHANNELS_LAST = ("alexnet",)  # faster so on a CPU; the LeNet is not. Not the ResNet18, which would be, by a fifth: with
# torch 2.14 the backward pass of a strided 1 x 1 convolution of few channels in this format can end the process
KAIMING = ("lenet",)  # whose weights start Kaiming-uniform, those of the heads too, and not as torch has it


def build(benchmark: Benchmark, bn_mode: str = "batch") -> Network:
    """Return the network of a benchmark, freshly initialised from torch's global generator.

    It maps inputs (n, *input_shape) and their task to logits (n, num_classes). For `bn_mode` see `Training`. Raises
    `UserError` for a backbone that nobody knows.
    """
    name = benchmark.backbone
    if name and name not in BACKBONES:
        raise nearest(f"backbone of {benchmark.name}", name, BACKBONES)
    backbone = BACKBONES[name](benchmark.input_shape) if name else benchmark.own_backbone()
    probe = torch.zeros(2, *benchmark.input_shape)
    with evaluating(backbone), torch.no_grad():
        features = backbone(probe).shape[1]
    if bn_mode == "running-frozen":
        track_statistics(backbone)
    heads = benchmark.num_tasks if benchmark.scenario == "task-il" else 1
    network = Network(backbone, features, benchmark.num_classes, heads)
    network.channels_last = name in CHANNELS_LAST
    if name in KAIMING:
        _start_kaiming_uniform(network)
    return network


def _start_kaiming_uniform(network: Network) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
