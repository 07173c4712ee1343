"""The only adapter: an update of rank r on Linear and Conv2d layers, attached for a task and merged after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from bench.network import Network, WeightBlock
from bench.subspace import complement, rotation


class Factors(NamedTuple):
    """Of an update of one weight block: `up` (o, r), zero at first, and `down` (r, d)."""

    up: nn.Parameter
    down: nn.Parameter


class LowRank(nn.Module):
    """A frozen layer and a trainable update, scale * up @ down, block by block."""

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


class Rotated(nn.Module):
    """A frozen Linear layer and a trainable update orthogonal to a thin basis (d, k), in coordinates made for it.

    With x' = x H and W' = W H, H the rotation that makes the basis the first k axes, x Wᵀ = x' W'ᵀ, and the update is
    a term `up` (o, d - k) of the last columns of W'. So neither a product of factors nor a projection of gradients
    (2 o d k operations or more) is ever computed: beside the layer's own work there are 8 d k for each row of x.
    """

    def __init__(self, layer: nn.Linear, basis: Tensor) -> None:
        super().__init__()
        self.layer, self.k = layer, basis.shape[1]
        self.exact = rotation(basis)
        self.thin = self.exact.to(layer.weight)
        weight = self.exact(layer.weight.detach().double()).to(layer.weight)
        self.held, self.free = weight[:, : self.k].contiguous(), weight[:, self.k :].contiguous()
        self.ups = nn.ParameterList([nn.Parameter(torch.zeros_like(self.free))])

    def delta(self) -> Tensor:
        """The update in the shape of the layer's weight."""
        up = F.pad(self.ups[0].double(), (self.k, 0))
        return self.exact.inverse()(up).to(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.thin(x)
        held, free = x[..., : self.k], x[..., self.k :]
        return F.linear(free, self.free + self.ups[0], self.layer.bias) + F.linear(held, self.held)


def attach(
    network: Network, downs: Mapping[str, Tensor], scale: float = 1.0, train_down: bool = False
) -> dict[str, Factors]:
    """Freeze what tasks share, and put an update on every layer that has directions in `downs`, (r, d) by block.

    The function of the network does not change, for `up` starts at zero. Layers without a direction stay frozen.
    """
    attached: dict[str, Factors] = {}
    for path, blocks in _adaptable(network, {name: len(down) for name, down in downs.items()}).items():
        factors = [_factors(b, downs[b.name], train_down) for b in blocks]
        _replace(network, path, LowRank(blocks[0].layer, factors, scale))
        attached |= {b.name: f for b, f in zip(blocks, factors, strict=True)}
    return attached


def attach_free(network: Network, bases: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Freeze what tasks share, and put on every layer an update orthogonal to its basis M, (d, k) by block.

    Returns the updates' coordinates `up`, (o, d - k) by block, in an orthonormal basis of what is free, zero at first.
    Training them by SGD is training the weight by projected gradients, G (I - M Mᵀ) (K-12); momentum, decay and other
    optimisers cannot leave the free space either. Layers whose basis is complete stay frozen.
    """
    attached: dict[str, nn.Parameter] = {}
    for path, blocks in _adaptable(network, {name: len(M) - M.shape[1] for name, M in bases.items()}).items():
        layer, basis = blocks[0].layer, bases[blocks[0].name]
        if isinstance(layer, nn.Linear) and 2 * basis.shape[1] <= len(basis):
            module: Rotated | LowRank = Rotated(layer, basis)
        else:
            module = LowRank(layer, [_factors(b, complement(bases[b.name]).T, False) for b in blocks], 1.0)
        _replace(network, path, module)
        attached |= {b.name: up for b, up in zip(blocks, module.ups, strict=True)}
    return attached


def _adaptable(network: Network, ranks: Mapping[str, int]) -> dict[str, list[WeightBlock]]:
    """The blocks of every layer in which one has a rank above 0, by the layer's path. Freezes what tasks share."""
    network.freeze()
    blocks = network.blocks().values()
    by_layer = {path: [b for b in blocks if b.layer is layer] for path, layer in network.layers().items()}
    return {path: own for path, own in by_layer.items() if any(ranks.get(b.name, 0) for b in own)}


def _replace(network: Network, path: str, module: nn.Module) -> None:
    network.set_submodule(path, module.train(network.get_submodule(path).training))


def _factors(block: WeightBlock, down: Tensor, train_down: bool) -> Factors:
    up = block.weight.new_zeros(len(block.weight), len(down))
    return Factors(nn.Parameter(up), nn.Parameter(down.to(up), requires_grad=train_down))


@torch.no_grad()
def merge(network: Network) -> None:
    """Updates join the weights; the layers are themselves again, with the same names as before."""
    for path, module in list(network.named_modules()):
        if isinstance(module, LowRank | Rotated):
            module.layer.weight += module.delta()
            network.set_submodule(path, module.layer)
