"""From the name of a backbone to the network of a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from bench.config import nearest
from bench.core import SHARED_HEAD, TASK_KNOWN, Benchmark
from bench.nn.activations import evaluating
from bench.nn.architectures.alexnet import alexnet
from bench.nn.architectures.convnet import convnet, groupnet
from bench.nn.architectures.lenet import lenet
from bench.nn.architectures.mlp import mlp
from bench.nn.architectures.resnet18 import resnet18
from bench.nn.architectures.vit import tiny_vit, vit_base_patch16_224
from bench.nn.architectures.weights import demand_same_network, load_weights
from bench.nn.network import Network
from bench.nn.normalization import track_statistics

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "alexnet": alexnet,
    "convnet": convnet,
    "groupnet": groupnet,
    "lenet": lenet,
    "mlp": mlp,
    "resnet18": resnet18,
    "resnet18_stride2": partial(resnet18, stride=2),
    "tiny_vit": tiny_vit,
    "vit_base_patch16_224": vit_base_patch16_224,
}
CHANNELS_LAST = ("alexnet",)  # faster so on a CPU; the LeNet is not. Not the ResNet18, which would be, by a fifth: with
# torch 2.14 the backward pass of a strided 1 x 1 convolution of few channels in this format can end the process
KAIMING = ("lenet",)  # whose weights start Kaiming-uniform, those of the heads too, and not as torch has it


def build(benchmark: Benchmark, bn_mode: str = "batch", weights: Path | None = None) -> Network:
    """Return the network of a benchmark, freshly initialised from torch's global generator.

    It maps inputs (n, *input_shape) and their task to logits (n, num_classes). For `bn_mode` see `Training`. A
    pre-trained backbone gets its weights from a file; without one they are random, for whoever looks at shapes or
    times. Raises `UserError` for a backbone that nobody knows, `DataError` for a file of something else.
    """
    name = benchmark.backbone
    backbone = _backbone(benchmark)
    if weights is not None:
        load_weights(backbone, weights)
    probe = torch.zeros(2, *benchmark.input_shape)
    with evaluating(backbone), torch.no_grad():
        features = backbone(probe).shape[1]
    if bn_mode == "running-frozen":
        track_statistics(backbone)
    heads = 1 if benchmark.scenario in SHARED_HEAD else benchmark.num_tasks
    network = Network(backbone, features, benchmark.num_classes, heads, benchmark.head_bias)
    network.task_known = benchmark.scenario in TASK_KNOWN
    network.views = benchmark.views
    network.channels_last = name in CHANNELS_LAST
    if name in KAIMING:
        _start_kaiming_uniform(network)
    return network


def demand_start(benchmark: Benchmark, data: Path) -> None:
    """Raise `DataError` where a benchmark's network starts from weights that are missing, or are another network's."""
    weights = benchmark.weights()
    if weights:
        with torch.device("meta"):  # shapes alone
            backbone = _backbone(benchmark)
        demand_same_network(backbone, weights.find(data))


def _backbone(benchmark: Benchmark) -> nn.Module:
    """Return the backbone of a benchmark, its weights random."""
    name = benchmark.backbone
    if not name:
        own: nn.Module = benchmark.own_backbone()
        return own
    if name not in BACKBONES:
        raise nearest(f"backbone of {benchmark.name}", name, BACKBONES)
    return BACKBONES[name](benchmark.input_shape, **benchmark.backbone_options())


def _start_kaiming_uniform(network: Network) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
