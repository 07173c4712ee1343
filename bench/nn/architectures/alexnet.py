"""The AlexNet variant of 10-split CIFAR-100."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from bench.nn.layers import Dropout


def _block(n: int, layer: nn.Module, width: int, dropout: float, pool: bool = False) -> dict[str, nn.Module]:
    """Return layer n of the AlexNet variant and what follows it.

    Normalisation uses the statistics of the batch, in evaluation too, as in GPM's code (main_cifar100.py).
    """
    if isinstance(layer, nn.Conv2d):
        kind = "conv"
        norm: nn.Module = nn.BatchNorm2d(width, track_running_stats=False)
    else:
        kind = "fc"
        norm = nn.BatchNorm1d(width, track_running_stats=False)
    layers: dict[str, nn.Module] = {
        f"{kind}{n}": layer,
        f"bn{n}": norm,
        f"relu{n}": nn.ReLU(),
        f"drop{n}": Dropout(dropout),  # of single elements, before pooling
    }
    if pool:
        layers[f"pool{n}"] = nn.MaxPool2d(2)
    return layers


def alexnet(shape: tuple[int, ...]) -> nn.Sequential:
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
