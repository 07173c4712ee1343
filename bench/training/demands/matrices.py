"""A layer is what it does, not what its class is: why methods that take layers for matrices may not have a network.

They read the inputs of a Linear, Conv1d or Conv2d layer, update its weight beside it, and add the update when a task
has ended. That is right where the layer computes x Wᵀ + b of a W that is its own, where nothing reaches W past the
layer, and where nothing else learns that no matrix holds. All else would give numbers that are wrong and look right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.nn.activations import evaluating
from bench.nn.layers import Weighted, is_known
from bench.nn.network import Network

SAMPLES = 2  # that are passed
TOLERANCE = 3e-3  # of the largest output: on a GPU convolutions round to ten bits
Layers = Mapping[str, Weighted]


def fault_of(network: Network, x: Tensor, task: int) -> str:
    """Return what makes a network unfit for updates of weight matrices, beginning with a name; empty where it is fit.

    A few of the inputs x (n, *input_shape) of a task are passed a few times; without any, structure alone is looked at.
    Weights, buffers, gradients, modes and torch's random state are afterwards what they were.
    """
    network.fault = ""
    layers = network.layers()
    found = _tied(network, layers) or _computed(layers) or _left_out(network, layers)
    if found or not len(x):
        return found
    x = x[:SAMPLES]
    together = _trial(network, layers, x, task)
    if not together:
        return ""
    for path, layer in layers.items():
        alone = _trial(network, {path: layer}, x, task)
        if alone:
            return f"{path} ({type(layer).__name__}) {alone}"
    return f"{', '.join(layers)}: at least one {together}"


def _tied(network: Network, layers: Layers) -> str:
    """Return which layer's weight has a second name, or lies in the memory of another parameter."""
    weights = {f"{path}.weight" for path in layers}
    places = []
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if parameter.numel():
            start = parameter.data_ptr()
            places.append((start, start + parameter.nbytes, name))
    for (_, end, first), (start, _, second) in pairwise(sorted(places)):
        if start < end and not weights.isdisjoint((first, second)):
            return f"{first} and {second} are one tensor: an update of one would be an update of both"
    return ""


def _computed(layers: Layers) -> str:
    """Return which layer's weight is made of other parameters, or stands beside further tensors."""
    for path, layer in layers.items():
        kind = type(layer).__name__
        if layer._parameters.get("weight") is None:
            return f"{path} ({kind}) computes its weight from other parameters, as weight_norm does"
        for name in {**layer._parameters, **layer._buffers}:
            if name not in ("weight", "bias"):
                return f"{path} ({kind}) has {name} beside its weight and bias"
    return ""


def _left_out(network: Network, layers: Layers) -> str:
    """Return which parameter would learn and is none of a layer that is known."""
    shared = network.shared_parameters()
    for path, module in network.named_modules():
        if is_known(module):
            continue
        for own, _ in module.named_parameters(recurse=False):
            if f"{path}.{own}" in shared:
                kind = type(module).__name__
                return f"{path}.{own} ({kind}) is no parameter of a Linear, Conv1d, Conv2d or normalization layer"
    return ""


class _StandIn(nn.Module):
    """Stands where an adapter would, computes what the layer is taken for, and notes what is amiss."""

    def __init__(self, layer: Weighted) -> None:
        super().__init__()
        self.layer = layer
        self.twin = layer.weight.detach().clone().requires_grad_()  # which a gradient reaches by this way alone
        self.fault, self.passed = "", False
        hooked = layer._forward_pre_hooks or layer._forward_hooks
        self.simple = type(layer) in (nn.Linear, nn.Conv1d, nn.Conv2d) and not hooked and "forward" not in vars(layer)

    def forward(self, x: Tensor, *more: Any, **named: Any) -> Tensor:
        """Return what the layer is taken to give, (..., o) or (n, o, h', w'), in its gradient the twin's alone."""
        self.passed = True
        plain = _plain(self.layer, x, self.twin)
        if self.simple:
            return plain
        with torch.no_grad():
            own = cast(Tensor, self.layer(x, *more, **named))
        if more or named or not _close(own, plain):
            self.fault = "does not compute x Wᵀ + b of its inputs x and its weight W"
        return plain

    def __getattr__(self, name: str) -> Any:
        """Lend what an adapter does not have."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            self.fault = f"has its {name} read past its forward"
            return getattr(self.layer, name)


def _plain(layer: Weighted, x: Tensor, weight: Tensor) -> Tensor:
    """Return what a layer of such a weight gives by torch's own definition."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, layer.bias)
    if isinstance(layer, nn.Conv1d):
        return nn.Conv1d._conv_forward(layer, x, weight, layer.bias)
    return nn.Conv2d._conv_forward(layer, x, weight, layer.bias)


def _close(a: Tensor, b: Tensor) -> bool:
    """Return whether two outputs are the same up to rounding."""
    if a.shape != b.shape:
        return False
    size = float(b.detach().nan_to_num().abs().max())
    return torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * size, equal_nan=True)


def _trial(network: Network, layers: Layers, x: Tensor, task: int) -> str:
    """Return what is amiss where stand-ins take the place of layers, one at least; empty where nothing is."""
    with ExitStack() as stack:
        stack.enter_context(_as_it_was(network, x.device))
        stack.enter_context(evaluating(network))
        with torch.no_grad():
            before = network.forward(x, task)
        stand_ins = stack.enter_context(_stood_in(network, layers))
        try:
            after = network.forward(x, task)
            unheard = _unheard(after, stand_ins, [layer.weight for layer in layers.values()])
            network.train()
            with torch.no_grad():
                network.forward(x, task)
        except Exception as error:  # whatever anybody's code may do
            return f"cannot have an adapter: {' '.join(str(error).split())}"
        for stand_in in stand_ins:
            if stand_in.fault:
                return stand_in.fault
        moved = "" if _close(after, before) else "changes the network's outputs where it has an adapter"
        return unheard or moved


def _unheard(logits: Tensor, stand_ins: Sequence[_StandIn], weights: Sequence[Tensor]) -> str:
    """Return whether a gradient reaches a weight past its layer, or does not reach the update of a layer in use."""
    if not logits.requires_grad:
        grads: Sequence[Tensor | None] = [None] * (len(stand_ins) + len(weights))
    else:
        twins = [stand_in.twin for stand_in in stand_ins]
        grads = torch.autograd.grad(logits.sum(), [*twins, *weights], allow_unused=True)
    inside, past = grads[: len(stand_ins)], grads[len(stand_ins) :]
    if any(grad is not None for grad in past):
        return "is reached by another way than by its name in the network"
    if any(grad is None and s.passed for grad, s in zip(inside, stand_ins, strict=True)):
        return "passes no gradient to an update"
    return ""


@contextmanager
def _stood_in(network: Network, layers: Layers) -> Iterator[list[_StandIn]]:
    """Let stand-ins take the place of layers inside the block, and let the layers' weights learn."""
    learnt = {path: layer.weight.requires_grad for path, layer in layers.items()}
    stand_ins = {path: _StandIn(layer).eval() for path, layer in layers.items()}
    try:
        for path, stand_in in stand_ins.items():
            network.set_submodule(path, stand_in)
            layers[path].weight.requires_grad_(True)
        yield list(stand_ins.values())
    finally:
        for path, layer in layers.items():
            network.set_submodule(path, layer)
            layer.weight.requires_grad_(learnt[path])


@contextmanager
def _as_it_was(network: Network, device: torch.device) -> Iterator[None]:
    """Give buffers and torch's random state back what they were inside the block."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for name, buffer in network.named_buffers():
                buffer.copy_(before[name])
