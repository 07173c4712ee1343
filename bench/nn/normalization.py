"""Batch normalisation with running statistics: kept from now on, measured anew, or left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.core import slices
from bench.nn.activations import evaluating
from bench.nn.network import Network


def track_statistics(module: nn.Module) -> None:
    """From now on batch normalisation keeps running statistics, and evaluates with them."""
    for layer in module.modules():
        if isinstance(layer, _BatchNorm) and layer.running_mean is None:
            layer.track_running_stats = True
            layer.running_mean, layer.running_var = torch.zeros(layer.num_features), torch.ones(layer.num_features)
            layer.num_batches_tracked = torch.zeros((), dtype=torch.long)


@torch.no_grad()
def settle_statistics(
    network: Network,
    forward: Callable[[Tensor, int], object],
    train: Sequence[tuple[int, Tensor, Tensor]],
    batch_size: int,
) -> None:
    """Where normalization tracks statistics, make them those of the training data, passed `forward` without dropout.

    `train` has the task, inputs (n, *input_shape) and labels of each part. What is tracked in training is measured
    behind dropout, whose outputs vary more than what evaluation will see (Li et
    al., CVPR 2019): on the AlexNet that costs 19 points on the first task. So they are averaged anew, over one pass.
    """
    if not _tracking(network):
        return
    with evaluating(network), _momentum(network, None):  # a plain mean over batches
        for layer in _tracking(network):
            layer.reset_running_stats()
            layer.train()
        for t, x, y in train:
            for part in slices(len(y), batch_size):
                forward(x[part], t)


def steady_statistics(module: nn.Module) -> AbstractContextManager[None]:
    """Inside, normalisation does not move its running statistics: what passes is not what they are of."""
    return _momentum(module, 0.0)


@contextmanager
def _momentum(module: nn.Module, momentum: float | None) -> Iterator[None]:
    before = {layer: layer.momentum for layer in _tracking(module)}
    for layer in before:
        layer.momentum = momentum
    try:
        yield
    finally:
        for layer, own in before.items():
            layer.momentum = own


def _tracking(module: nn.Module) -> list[_BatchNorm]:
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]
