"""Layers whose weights are scaled, and whose gradients are freed of directions, in a pass.

A weight W (o, d) counts as W + Σ W S F Sᵀ, and its gradient as G P. In a Linear layer both are done to the inputs
x (n, d), for x (W R)ᵀ = (x Rᵀ) Wᵀ, and (δᵀ x) P = δᵀ (x P): a batch of images has fewer rows than a wide layer has
outputs, and no further product of W's size is computed. A convolution has more places than outputs, and small kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from bench.nn.layers import Convolution, Weighted
from bench.nn.network import Network, blocks_of

Free = Callable[[Tensor], Tensor]  # rows (n, d) times a matrix P (d, d), such as I - M Mᵀ


class Scale(NamedTuple):
    """A term of a scaled weight, W S F Sᵀ: its component in a space S (d, k), times a factor F (k, k)."""

    space: Tensor
    factor: Tensor
    learnt: bool = True  # whether W gets a gradient through it


class _Way(NamedTuple):
    """How one weight block is steered."""

    scales: Sequence[Scale]
    free: Free | None


@contextmanager
def steered(network: Network, scales: Mapping[str, Sequence[Scale]], frees: Mapping[str, Free]) -> Iterator[None]:
    """Inside, layers compute with scaled weights, and gradients will be freed, both by the weight block's name.

    Gradients of an ascent of SAM stay as they are, as before any `edit_grads`. Raises `KeyError` for another name.
    """
    free_of = {} if network.ascends else frees
    unknown = {*scales, *frees}
    forwards = []
    for path, layer in network.layers().items():
        names = [block.name for block in blocks_of(path, layer)]
        unknown.difference_update(names)
        ways = [_Way(scales.get(name, ()), free_of.get(name)) for name in names]
        if any(way.scales or way.free for way in ways):
            forwards.append((layer, _forward(layer, ways)))
    if unknown:
        raise KeyError(f"no weight block is called {min(unknown)}")
    before = [(layer, vars(layer).get("forward")) for layer, _ in forwards]
    try:
        for layer, forward in forwards:
            vars(layer)["forward"] = forward
        yield
    finally:
        for layer, own in before:
            del vars(layer)["forward"]
            if own is not None:
                vars(layer)["forward"] = own


def _forward(layer: Weighted, ways: Sequence[_Way]) -> Callable[[Tensor], Tensor]:
    if isinstance(layer, nn.Linear):
        return partial(_linear, layer, ways[0])
    return partial(_convolution, layer, ways)


def scaled_weight(weight: Tensor, scales: Sequence[Scale]) -> Tensor:
    """Return W + Σ W S F Sᵀ, (o, d)."""
    held = weight.detach()
    terms = [_scaled(weight if learnt else held, S, factor) for S, factor, learnt in scales]
    return torch.stack([weight, *terms]).sum(0)


def _scaled(rows: Tensor, S: Tensor, factor: Tensor) -> Tensor:
    """Return rows (n, d) times S F Sᵀ. Never S F first, which is more work than either where k is large."""
    within = rows @ S
    return (within @ factor) @ S.T if len(rows) < len(S) else within @ (factor @ S.T)


def _convolution(layer: Convolution, ways: Sequence[_Way], x: Tensor) -> Tensor:
    """Return the outputs (n, o, ...) of a layer for inputs x (n, c, ...)."""
    weight: Tensor = layer.weight
    if any(way.free for way in ways):
        weight = _Freed.apply(weight, [way.free for way in ways])
    if any(way.scales for way in ways):
        blocks = weight.flatten(1).chunk(len(ways))
        weight = torch.cat([scaled_weight(W, way.scales) for W, way in zip(blocks, ways, strict=True)]).view_as(weight)
    return layer._conv_forward(x, weight, layer.bias)


class _Freed(torch.autograd.Function):
    """A kernel as it is, (o, c, ...), whose gradient is freed block by block."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, frees: Sequence[Free | None]) -> Tensor:
        ctx.frees = frees
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        blocks = grad.flatten(1).chunk(len(ctx.frees))
        freed = [free(G) if free else G for free, G in zip(ctx.frees, blocks, strict=True)]
        return torch.cat(freed).view(grad.shape), None


def _linear(layer: nn.Linear, way: _Way, x: Tensor) -> Tensor:
    """Return the outputs (..., o) of a layer for inputs x (..., d)."""
    rows = x.reshape(-1, layer.in_features)
    passed, seen = rows, rows.detach()
    for S, factor, learnt in way.scales:
        term = _scaled(rows, S, factor.T)
        passed = passed + term
        if learnt:
            seen = seen + term.detach()
    out: Tensor = _Linear.apply(passed, seen, layer.weight, layer.bias, way.free)
    return out.view(*x.shape[:-1], layer.out_features)


class _Linear(torch.autograd.Function):
    """x Wᵀ + b of rows x (n, d). The gradient of W is that of other inputs z, freed: δᵀ (z P), or (δᵀ z) P if that is
    less work."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, seen: Tensor, weight: Tensor, bias: Tensor | None, free: Free | None) -> Tensor:
        ctx.save_for_backward(seen, weight)
        ctx.free = free
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        seen, weight = ctx.saved_tensors
        for_x, _, for_weight, for_bias, _ = ctx.needs_input_grad
        back = (grad @ weight.to(grad)).to(seen) if for_x else None
        rows = grad.to(weight)  # under autocast, what is freed is freed in float32
        learnt = _gradient(rows, seen.to(weight), ctx.free) if for_weight else None
        return back, None, learnt, rows.sum(0) if for_bias else None, None


def _gradient(grad: Tensor, seen: Tensor, free: Free | None) -> Tensor:
    """Return the gradient (o, d) from rows δ (n, o) and z (n, d)."""
    if free is None:
        return grad.T @ seen
    return grad.T @ free(seen) if len(seen) < grad.shape[1] else free(grad.T @ seen)
