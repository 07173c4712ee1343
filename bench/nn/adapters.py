"""The only adapter: an update of rank r on Linear and convolutional layers, attached for a task and merged after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from bench.nn.layers import Weighted
from bench.nn.network import Network, WeightBlock, blocks_of
from bench.nn.subspace import Rotation, rotation


class Factors(NamedTuple):
    """The factors of an update of one weight block: `up` (o, r), zero at first, and `down` (r, d)."""

    up: nn.Parameter
    down: nn.Parameter


Down = Tensor | Rotation  # rows (r, d), or the rotation whose last r columns they are


class LowRank(nn.Module):
    """A frozen layer and a trainable update, scale * up @ down, block by block."""

    def __init__(self, layer: Weighted, ups: list[nn.Parameter], downs: Sequence[Down], scale: float = 1.0) -> None:
        super().__init__()
        self.layer = layer
        self.scale = scale
        self.downs = downs
        self.ups = nn.ParameterList(ups)
        self.trained_downs = nn.ParameterList(down for down in downs if isinstance(down, nn.Parameter))

    def delta(self) -> Tensor:
        """Return the update in the shape of the layer's weight."""
        blocks = [_product(up, down) for up, down in zip(self.ups, self.downs, strict=True)]
        return self.scale * torch.cat(blocks).view_as(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of the updated layer: (..., d) -> (..., o), or (n, c, ...) -> (n, o, ...)."""
        down = self.downs[0]
        if isinstance(down, Tensor) and self._is_cheaper_in_factors(x):
            out = cast(Tensor, self.layer(x))
            inner = self.scale * F.linear(x, down)  # (..., r)
            return out + F.linear(inner, self.ups[0])
        weight = self.layer.weight + self.delta()
        return cast(Tensor, functional_call(self.layer, {"weight": weight}, (x,)))

    def _is_cheaper_in_factors(self, x: Tensor) -> bool:
        """Return whether two thin products with the rows of x cost less than making the update."""
        if not isinstance(self.layer, nn.Linear):
            return False
        out, d = self.layer.weight.shape
        rows = x.numel() // d
        return rows * (out + d) < out * d


def _product(up: Tensor, down: Down) -> Tensor:
    """Return up @ down, (o, d)."""
    if isinstance(down, Tensor):
        return up @ down
    held = down.vectors.shape[1]
    return down.inverse()(F.pad(up, (held, 0)))


class Rotated(nn.Module):
    """A frozen Linear layer and a trainable update orthogonal to a thin basis (d, k), in coordinates made for it.

    With x' = x H and W' = W H, H the rotation that makes the basis the first k axes, x Wᵀ = x' W'ᵀ, and the update is
    a term `up` (o, d - k) of the last columns of W'. So neither a product of factors nor a projection of gradients
    (2 o d k operations or more) is ever computed: beside the layer's own work there is the rotation of each row of x.
    """

    def __init__(self, layer: nn.Linear, turn: Rotation) -> None:
        super().__init__()
        self.layer = layer
        self.exact = turn
        self.turn = turn.to(layer.weight)
        self.k = turn.vectors.shape[1]
        weight = turn(layer.weight.detach().double()).to(layer.weight)
        self.held = weight[:, : self.k].contiguous()
        self.free = weight[:, self.k :].contiguous()
        self.ups = nn.ParameterList([nn.Parameter(torch.zeros_like(self.free))])

    def delta(self) -> Tensor:
        """Return the update in the shape of the layer's weight, (o, d)."""
        up = self.ups[0].double()
        return _product(up, self.exact).to(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of the updated layer: (..., d) -> (..., o)."""
        x = self.turn(x)
        held, free = x[..., : self.k], x[..., self.k :]
        return F.linear(free, self.free + self.ups[0], self.layer.bias) + F.linear(held, self.held)


def attach(
    network: Network, downs: Mapping[str, Tensor], scale: float = 1.0, train_down: bool = False
) -> dict[str, Factors]:
    """Freeze what tasks share, put an update on every layer that has directions, and return its factors by block.

    `downs` gives the directions (r, d) by block. The function of the network does not change, for `up` starts at zero.
    Layers without a direction stay frozen. Updates are to be merged before layer inputs are read.
    """
    network.freeze()
    ranks = {name: len(down) for name, down in downs.items()}
    attached: dict[str, Factors] = {}
    for path, blocks in _adaptable(network, ranks).items():
        own: dict[str, Factors] = {}
        for block in blocks:
            down = downs[block.name].to(block.weight, copy=True).contiguous()
            own[block.name] = Factors(_zeros(block, len(down)), nn.Parameter(down, train_down))
        own_ups = [factors.up for factors in own.values()]
        own_downs = [factors.down for factors in own.values()]
        _replace(network, path, LowRank(blocks[0].layer, own_ups, own_downs, scale))
        attached |= own
    return attached


def attach_free(network: Network, bases: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Freeze what tasks share, and put on every layer an update orthogonal to its basis M, (d, k) by block.

    Returns the updates' coordinates `up`, (o, d - k) by block, in an orthonormal basis of what is free, zero at first.
    Training them by SGD is training the weight by projected gradients, G (I - M Mᵀ); decay, SAM and other optimizers
    cannot leave the free space either. Layers whose bases are complete, or not given, stay frozen. Updates are to be
    merged before layer inputs are read.
    """
    network.freeze()
    ranks = {name: len(M) - M.shape[1] for name, M in bases.items()}
    attached: dict[str, nn.Parameter] = {}
    for path, blocks in _adaptable(network, ranks).items():
        turns = [rotation(bases[b.name].to(b.weight.device)) for b in blocks]
        module = _free(blocks, turns)
        _replace(network, path, module)
        for block, up in zip(blocks, module.ups, strict=True):
            attached[block.name] = up
    return attached


def _free(blocks: list[WeightBlock], turns: list[Rotation]) -> LowRank | Rotated:
    """Return a free update of a layer in the form that costs the least arithmetic."""
    layer = blocks[0].layer
    out, d = blocks[0].weight.shape
    factors_cost = turns[0].rank * (out + d)  # for a row of inputs
    if isinstance(layer, nn.Linear) and turns[0].cost < factors_cost:
        return Rotated(layer, turns[0])
    ups = [_zeros(block, turn.rank) for block, turn in zip(blocks, turns, strict=True)]
    downs = [_free_down(layer, turn, d) for turn in turns]
    return LowRank(layer, ups, downs)


def _free_down(layer: Weighted, turn: Rotation, d: int) -> Down:
    """Return the free directions of a block, as a rotation where that costs less than their rows do."""
    product_cost = turn.rank * d  # for a row of `up`
    if not isinstance(layer, nn.Linear) and turn.cost < product_cost:
        return turn.to(layer.weight)
    return turn.free().T.to(layer.weight).contiguous()


def _adaptable(network: Network, ranks: Mapping[str, int]) -> dict[str, list[WeightBlock]]:
    """Return the blocks of every layer in which one has a rank above 0, by the layer's path."""
    adaptable: dict[str, list[WeightBlock]] = {}
    for path, layer in network.layers().items():
        blocks = blocks_of(path, layer)
        if any(ranks.get(block.name, 0) for block in blocks):
            adaptable[path] = blocks
    return adaptable


def _replace(network: Network, path: str, module: nn.Module) -> None:
    """Put a module in the place of another, in the same mode."""
    mode = network.get_submodule(path).training
    network.set_submodule(path, module.train(mode))


def _zeros(block: WeightBlock, rank: int) -> nn.Parameter:
    """Return an `up` (o, rank) of zeros."""
    return nn.Parameter(block.weight.new_zeros(len(block.weight), rank))


@torch.no_grad()
def merge(network: Network) -> None:
    """Add every update to its weight, and put the layers back in their places, with the same names as before."""
    for path, module in list(network.named_modules()):
        if isinstance(module, LowRank | Rotated):
            module.layer.weight += module.delta()
            network.set_submodule(path, module.layer)
