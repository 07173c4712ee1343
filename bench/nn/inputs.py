"""Linear layers that are scaled, and whose gradients are freed, by way of their inputs.

What multiplies a weight W (o, d) from the right can multiply the layer's inputs x (n, d) instead, x (W R)ᵀ = (x Rᵀ) Wᵀ,
and so can what multiplies its gradient, (δᵀ x) P = δᵀ (x P). A batch of images has fewer rows than a wide layer has
outputs, and then no further product of W's size is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from bench.nn.network import Network

Free = Callable[[Tensor], Tensor]  # rows (n, d) times a matrix (d, d), such as I - M Mᵀ


class Scale(NamedTuple):
    """A term of a scaled weight, W + W out backᵀ, from factors (d, k) each."""

    out: Tensor
    back: Tensor
    learnt: bool = True  # whether W gets a gradient through it


@contextmanager
def steered(network: Network, scales: Mapping[str, Sequence[Scale]], frees: Mapping[str, Free]) -> Iterator[None]:
    """Inside, Linear layers compute with scaled weights, and gradients of their weights will be freed, by their paths.

    Gradients of an ascent of SAM stay as they are, as before any `edit_grads`.
    """
    paths = {*scales, *frees}
    layers = [(path, cast(nn.Linear, network.get_submodule(path))) for path in paths]
    try:
        for path, layer in layers:
            free = None if network.ascends else frees.get(path)
            vars(layer)["forward"] = partial(_steered, layer, scales.get(path, ()), free)
        yield
    finally:
        for _, layer in layers:
            vars(layer).pop("forward", None)


def _steered(layer: nn.Linear, scales: Sequence[Scale], free: Free | None, x: Tensor) -> Tensor:
    """Return the outputs (..., o) of a layer for inputs x (..., d)."""
    passed, seen = x, x.detach()
    for scale in scales:
        term = (x @ scale.back) @ scale.out.T
        passed = passed + term
        if scale.learnt:
            seen = seen + term.detach()
    return _Linear.apply(passed, seen, layer.weight, layer.bias, free)


class _Linear(torch.autograd.Function):
    """x Wᵀ + b, whose weight's gradient is that of other inputs, freed: δᵀ (z P), or (δᵀ z) P where that is less."""

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
        rows = grad.flatten(0, -2).to(weight)  # under autocast, what is freed is freed in float32
        learnt = _gradient(rows, seen.flatten(0, -2).to(weight), ctx.free) if for_weight else None
        return back, None, learnt, rows.sum(0) if for_bias else None, None


def _gradient(grad: Tensor, seen: Tensor, free: Free | None) -> Tensor:
    """Return the gradient (o, d) from rows δ (n, o) and z (n, d)."""
    if free is None:
        return grad.T @ seen
    return grad.T @ free(seen) if len(seen) < grad.shape[1] else free(grad.T @ seen)
