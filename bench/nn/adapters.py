"""The only adapter: an update of rank r on Linear and Conv2d layers, attached for a task and merged after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from bench.nn.network import Network, WeightBlock
from bench.nn.subspace import Rotation, rotation


class Factors(NamedTuple):
    """Of an update of one weight block: `up` (o, r), zero at first, and `down` (r, d)."""

    up: nn.Parameter
    down: nn.Parameter


Down = Tensor | Rotation  # rows (r, d), or the rotation whose last r columns they are


class LowRank(nn.Module):
    """A frozen layer and a trainable update, scale * up @ down, block by block."""

    def __init__(
        self, layer: nn.Linear | nn.Conv2d, ups: list[nn.Parameter], downs: Sequence[Down], scale: float = 1.0
    ) -> None:
        super().__init__()
        self.layer, self.scale, self.downs = layer, scale, downs
        self.ups = nn.ParameterList(ups)
        self.trained_downs = nn.ParameterList(down for down in downs if isinstance(down, nn.Parameter))

    def delta(self) -> Tensor:
        """The update in the shape of the layer's weight."""
        blocks = [_product(up, down) for up, down in zip(self.ups, self.downs, strict=True)]
        return self.scale * torch.cat(blocks).view_as(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        out, d = self.layer.weight.flatten(1).shape
        rows, down = x.numel() // x.shape[-1], self.downs[0]
        if isinstance(self.layer, nn.Linear) and isinstance(down, Tensor) and rows * (out + d) < out * d:
            return cast(Tensor, self.layer(x)) + F.linear(self.scale * F.linear(x, down), self.ups[0])  # cheaper
        return cast(Tensor, functional_call(self.layer, {"weight": self.layer.weight + self.delta()}, (x,)))


def _product(up: Tensor, down: Down) -> Tensor:
    """up @ down, (o, d)."""
    if isinstance(down, Tensor):
        return up @ down
    return down.inverse()(F.pad(up, (down.vectors.shape[1], 0)))


class Rotated(nn.Module):
    """A frozen Linear layer and a trainable update orthogonal to a thin basis (d, k), in coordinates made for it.

    With x' = x H and W' = W H, H the rotation that makes the basis the first k axes, x Wᵀ = x' W'ᵀ, and the update is
    a term `up` (o, d - k) of the last columns of W'. So neither a product of factors nor a projection of gradients
    (2 o d k operations or more) is ever computed: beside the layer's own work there is the rotation of each row of x.
    """

    def __init__(self, layer: nn.Linear, turn: Rotation) -> None:
        super().__init__()
        self.layer, self.exact, self.turn = layer, turn, turn.to(layer.weight)
        self.k = turn.vectors.shape[1]
        weight = turn(layer.weight.detach().double()).to(layer.weight)
        self.held, self.free = weight[:, : self.k].contiguous(), weight[:, self.k :].contiguous()
        self.ups = nn.ParameterList([nn.Parameter(torch.zeros_like(self.free))])

    def delta(self) -> Tensor:
        """The update in the shape of the layer's weight."""
        return _product(self.ups[0].double(), self.exact).to(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.turn(x)
        held, free = x[..., : self.k], x[..., self.k :]
        return F.linear(free, self.free + self.ups[0], self.layer.bias) + F.linear(held, self.held)


def attach(
    network: Network, downs: Mapping[str, Tensor], scale: float = 1.0, train_down: bool = False
) -> dict[str, Factors]:
    """Freeze what tasks share, and put an update on every layer that has directions in `downs`, (r, d) by block.

    The function of the network does not change, for `up` starts at zero. Layers without a direction stay frozen. To be
    merged before layer inputs are read.
    """
    network.freeze()
    attached: dict[str, Factors] = {}
    for path, blocks in _adaptable(network, {name: len(down) for name, down in downs.items()}).items():
        own = [nn.Parameter(downs[b.name].to(b.weight, copy=True).contiguous(), train_down) for b in blocks]
        ups = [_zeros(b, len(down)) for b, down in zip(blocks, own, strict=True)]
        _replace(network, path, LowRank(blocks[0].layer, ups, own, scale))
        attached |= {b.name: Factors(up, down) for b, up, down in zip(blocks, ups, own, strict=True)}
    return attached


def attach_free(network: Network, bases: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Freeze what tasks share, and put on every layer an update orthogonal to its basis M, (d, k) by block.

    Returns the updates' coordinates `up`, (o, d - k) by block, in an orthonormal basis of what is free, zero at first.
    Training them by SGD is training the weight by projected gradients, G (I - M Mᵀ) (K-12); decay, SAM and other
    optimisers cannot leave the free space either. Layers whose bases are complete, or not given, stay frozen. To be
    merged before layer inputs are read.
    """
    network.freeze()
    attached: dict[str, nn.Parameter] = {}
    for path, blocks in _adaptable(network, {name: len(M) - M.shape[1] for name, M in bases.items()}).items():
        turns = [rotation(bases[b.name].to(b.weight.device)) for b in blocks]
        module = _free(blocks, turns)
        _replace(network, path, module)
        attached |= {b.name: up for b, up in zip(blocks, module.ups, strict=True)}
    return attached


def _free(blocks: list[WeightBlock], turns: list[Rotation]) -> LowRank | Rotated:
    """The form of a free update that costs the least arithmetic."""
    layer, (out, d) = blocks[0].layer, blocks[0].weight.shape
    if isinstance(layer, nn.Linear) and turns[0].cost < turns[0].rank * (out + d):  # what factors cost a row of inputs
        return Rotated(layer, turns[0])
    downs: list[Down] = [
        turn.to(layer.weight)
        if isinstance(layer, nn.Conv2d) and turn.cost < turn.rank * d  # what their product costs a row of `up`
        else turn.free().T.to(layer.weight).contiguous()
        for turn in turns
    ]
    return LowRank(layer, [_zeros(b, turn.rank) for b, turn in zip(blocks, turns, strict=True)], downs)


def _adaptable(network: Network, ranks: Mapping[str, int]) -> dict[str, list[WeightBlock]]:
    """The blocks of every layer in which one has a rank above 0, by the layer's path."""
    blocks = network.blocks().values()
    by_layer = {path: [b for b in blocks if b.layer is layer] for path, layer in network.layers().items()}
    return {path: own for path, own in by_layer.items() if any(ranks.get(b.name, 0) for b in own)}


def _replace(network: Network, path: str, module: nn.Module) -> None:
    network.set_submodule(path, module.train(network.get_submodule(path).training))


def _zeros(block: WeightBlock, rank: int) -> nn.Parameter:
    return nn.Parameter(block.weight.new_zeros(len(block.weight), rank))


@torch.no_grad()
def merge(network: Network) -> None:
    """Updates join the weights; the layers are themselves again, with the same names as before."""
    for path, module in list(network.named_modules()):
        if isinstance(module, LowRank | Rotated):
            module.layer.weight += module.delta()
            network.set_submodule(path, module.layer)
