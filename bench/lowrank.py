"""The only adapter: W + scale * up @ down on Linear and Conv2d layers, attached for a task and merged after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from bench.network import Network, WeightBlock


class Factors(NamedTuple):
    """Of an update of one weight block: `up` (o, r), zero at first, and `down` (r, d)."""

    up: nn.Parameter
    down: nn.Parameter


class LowRank(nn.Module):
    """A frozen layer and a trainable update of low rank, block by block."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, factors: list[Factors], scale: float) -> None:
        super().__init__()
        self.layer, self.scale = layer, scale
        self.ups = nn.ParameterList(f.up for f in factors)
        self.downs = nn.ParameterList(f.down for f in factors)

    def delta(self) -> Tensor:
        """The update in the shape of the layer's weight."""
        blocks = [up @ down for up, down in zip(self.ups, self.downs, strict=True)]
        return self.scale * torch.cat(blocks).view_as(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        out, d = self.layer.weight.flatten(1).shape
        rows = x.numel() // x.shape[-1]
        if isinstance(self.layer, nn.Linear) and rows * (out + d) < out * d:  # x down upᵀ is cheaper than up down
            return cast(Tensor, self.layer(x)) + F.linear(self.scale * F.linear(x, self.downs[0]), self.ups[0])
        return cast(Tensor, functional_call(self.layer, {"weight": self.layer.weight + self.delta()}, (x,)))


def attach(
    network: Network, downs: Mapping[str, Tensor], scale: float = 1.0, train_down: bool = False
) -> dict[str, Factors]:
    """Freeze what tasks share, and put an update on every layer that has directions in `downs`, (r, d) by block.

    The function of the network does not change, for `up` starts at zero. Layers without a direction stay frozen.
    """
    network.freeze()
    attached: dict[str, Factors] = {}
    blocks = network.blocks()
    for path, layer in network.layers().items():
        own = [b for b in blocks.values() if b.layer is layer]
        if not any(len(downs.get(b.name, ())) for b in own):
            continue
        factors = [_factors(b, downs[b.name], train_down) for b in own]
        network.set_submodule(path, LowRank(layer, factors, scale).train(layer.training))
        attached |= {b.name: f for b, f in zip(own, factors, strict=True)}
    return attached


def _factors(block: WeightBlock, down: Tensor, train_down: bool) -> Factors:
    up = block.weight.new_zeros(len(block.weight), len(down))
    return Factors(nn.Parameter(up), nn.Parameter(down.to(up), requires_grad=train_down))


@torch.no_grad()
def merge(network: Network) -> None:
    """W <- W + scale * up @ down; the layers are themselves again, with the same names as before `attach`."""
    for path, module in list(network.named_modules()):
        if isinstance(module, LowRank):
            module.layer.weight += module.delta()
            network.set_submodule(path, module.layer)
