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
    """Make batch normalisation keep running statistics (c,) from now on, and evaluate with them."""
    for layer in module.modules():
        if isinstance(layer, _BatchNorm) and layer.running_mean is None:
            layer.track_running_stats = True
            layer.running_mean = torch.zeros(layer.num_features)
            layer.running_var = torch.ones(layer.num_features)
            layer.num_batches_tracked = torch.zeros((), dtype=torch.long)


def takes_batch_statistics(module: nn.Module) -> bool:
    """Return whether batch normalization takes the statistics (c,) of its batch, in evaluation too."""
    return any(isinstance(layer, _BatchNorm) and layer.running_mean is None for layer in module.modules())


@torch.no_grad()
def settle_statistics(
    network: Network,
    forward: Callable[[Tensor, int | Tensor], object],
    train: Sequence[tuple[int | Tensor, Tensor, Tensor]],
    batch_size: int,
) -> None:
    """Make the statistics that normalization tracks those of the training data, passed `forward` without dropout.

    `train` has the task, or that of each sample (n,), inputs (n, *input_shape) and labels (n,) of each part. What is
    tracked in training is measured behind dropout, whose outputs vary more than what evaluation will see (Li et al.,
    CVPR 2019): on the AlexNet that costs 19 points on the first task. So the statistics are averaged anew, over one
    pass. Where nothing is tracked, nothing is done.
    """
    layers = _tracking(network)
    if not layers:
        return
    with evaluating(network), _momentum(network, None):  # a plain mean over batches
        for layer in layers:
            layer.reset_running_stats()
            layer.train()
        for t, x, y in train:
            for part in slices(len(y), batch_size):
                forward(network.test_images(x[part]), t[part] if isinstance(t, Tensor) else t)


def steady_statistics(module: nn.Module) -> AbstractContextManager[None]:
    """Return a context in which normalisation does not move its running statistics (c,).

    It is for passes of data that the statistics are not meant to describe.
    """
    return _momentum(module, 0.0)


@contextmanager
def _momentum(module: nn.Module, momentum: float | None) -> Iterator[None]:
    """Give normalization that tracks statistics another momentum inside the block."""
    before = {layer: layer.momentum for layer in _tracking(module)}
    for layer in before:
        layer.momentum = momentum
    try:
        yield
    finally:
        for layer, own in before.items():
            layer.momentum = own


def _tracking(module: nn.Module) -> list[_BatchNorm]:
    """Return the batch normalization layers that keep running statistics."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    return [layer for layer in layers if layer.running_mean is not None]
