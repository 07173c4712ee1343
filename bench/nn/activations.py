"""What layers see and what their loss tells them: input Grams and squared gradients. The only forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bench.nn.grams import gram_sum, unfold_inputs
from bench.nn.network import Network, blocks_of, groups_of

Batches = Iterable[tuple[Tensor, Tensor]]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Keep every module in evaluation mode inside the block, and return each to the mode it had."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def input_grams(
    network: Network, batches: Batches, task: int, rows: Mapping[str, int] | None = None
) -> dict[str, Tensor]:
    """Return the Gram C = XᵀX, float64 (d, d), of the inputs X (n, d) of every weight block, by the block's name.

    One pass is made over `batches` of inputs (n, *input_shape) and labels (n,), in evaluation mode. `rows` limits a
    layer, by its path, to the first so many samples of each batch; normalisation still sees all of them. A layer that
    received no input has no Gram. Raises `FloatingPointError` where inputs, or their squares, are not finite.
    """
    layers = network.layers()
    sums = {name: gram_sum(layer) for name, layer in layers.items()}

    def observe(name: str) -> Callable[..., None]:
        limit = rows.get(name) if rows else None

        def hook(layer: nn.Module, inputs: tuple[Tensor]) -> None:
            sums[name].add(inputs[0][:limit])

        return hook

    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        for name, layer in layers.items():
            handle = layer.register_forward_pre_hook(observe(name))
            stack.callback(handle.remove)
        for x, _ in batches:
            network(x, task)
    grams: dict[str, Tensor] = {}
    for name, layer in layers.items():
        found = sums[name].grams()
        for block, gram in zip(blocks_of(name, layer), found, strict=False):  # an idle layer has none
            if not bool(gram.diagonal().isfinite().all()):
                raise FloatingPointError(f"the inputs of {block.name} are not finite")
            grams[block.name] = gram
    return grams


@torch.no_grad()
def input_rows(
    network: Network, x: Tensor, task: int, weights: Mapping[str, Tensor] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Yield every weight block's name and inputs, rows (n, d), for images x, in evaluation mode, a block at a time.

    `weights` stand in the place of parameters, as in `Network.forward`. Idle layers are left out.
    """
    seen: dict[str, Tensor] = {}

    def observe(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor]) -> None:
            seen[name] = inputs[0].clone()  # what comes after the layer may write to its input

        return hook

    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        for name, layer in network.layers().items():
            stack.callback(layer.register_forward_pre_hook(observe(name)).remove)
        network(x, task, weights=weights)
    for name, layer in network.layers().items():
        if name in seen:
            blocks = blocks_of(name, layer)
            yield from ((b.name, rows) for b, rows in zip(blocks, unfold_inputs(layer, seen[name]), strict=True))


@contextmanager
def mean_inputs(network: Network) -> Iterator[dict[str, Tensor]]:
    """Inside, collect what each of `layers()` gets, its mean over the last batch, float32 (1, *shape), by its path."""
    means: dict[str, Tensor] = {}

    def observe(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor]) -> None:
            means[name] = inputs[0].detach().float().mean(0, keepdim=True)

        return hook

    with ExitStack() as stack:
        for name, layer in network.layers().items():
            stack.callback(layer.register_forward_pre_hook(observe(name)).remove)
        yield means


@contextmanager
def constant_batch_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch normalisation without running statistics treat those of its batch as constants inside the block.

    Then one sample's loss does not depend on another sample, and gradients per sample are defined.
    """
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is None]

    def hook(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].detach()
        others = [d for d in range(x.dim()) if d != 1]
        mean = x.mean(others, keepdim=True)
        layer.running_mean = mean.flatten()
        layer.running_var = (x - mean).square_().mean(others)  # a third of the time of torch's var

    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer in layers:
            layer.running_mean = None
            layer.running_var = None


Size = Callable[..., Tensor]  # of a tensor, element by element, and into `out`


class Passed(NamedTuple):
    """A layer, and what it received and gave in a forward pass."""

    layer: nn.Module
    inputs: Tensor
    output: Tensor


def squared_gradients(network: Network, x: Tensor, y: Tensor, task: int) -> dict[str, Tensor]:
    """Return Σ_n (∂ log p(y_n | x_n) / ∂θ)² over a batch, for every shared parameter θ by name and in its shape.

    The inputs x (n, *input_shape) have labels y (n,). The gradient of each sample is its own, see `sample_gradients`.
    """
    return sample_gradients(network, x, task, lambda logits: F.cross_entropy(logits, y, reduction="sum"), torch.square)


def sample_gradients(
    network: Network, x: Tensor, task: int, objective: Callable[[Tensor], Tensor], size: Size
) -> dict[str, Tensor]:
    """Return Σ_n size(∂ objective_n / ∂θ) over a batch, for every shared parameter θ by name and in its shape.

    `objective` makes of logits (n, num_classes) a sum of one term a sample; `size` is `torch.square` or `torch.abs`.
    The inputs x (n, *input_shape) pass once, in evaluation mode: layer inputs and the gradients of outputs are kept,
    and the size of their product is taken before the sum. No gradient of a weight is made. Statistics of batch
    normalization are constants. Raises `NotImplementedError` for a layer of another kind, or one used twice in a pass.
    """
    seen: dict[str, Passed] = {}
    shared = network.shared_parameters()

    def observe(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            if name in seen:
                raise NotImplementedError(f"no per-sample gradients for {name}, which is used twice in a pass")
            seen[name] = Passed(layer, inputs[0].detach(), output)

        return hook

    sizes: dict[str, Tensor] = {}
    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        stack.enter_context(constant_batch_statistics(network))
        for name, layer in network.named_modules():
            own = [f"{name}.{n}" for n, _ in layer.named_parameters(recurse=False)]
            if any(n in shared for n in own):
                handle = layer.register_forward_hook(observe(name))
                stack.callback(handle.remove)
        total = objective(network(x, task))
        outputs = [passed.output for passed in seen.values()]
        grads = torch.autograd.grad(total, outputs, allow_unused=True)  # unlike backward, leaves every .grad alone
        for (name, passed), grad in zip(seen.items(), grads, strict=True):
            if grad is None:  # the objective does not depend on it
                continue
            for parameter, own_size in _sizes(name, passed, grad, size).items():
                sizes[f"{name}.{parameter}"] = own_size
    return {name: own_size for name, own_size in sizes.items() if name in shared}


def sum_of_sizes(grads: Tensor, rows: Tensor, size: Size, samples: int = 8) -> Tensor:
    """Return Σ_n size(G_nᵀ X_n), (groups, o, d), for G (groups, n, positions, o) and X (groups, n, positions, d).

    A few samples are taken at a time, whose products stay in the processor's cache.
    """
    total = grads.new_zeros(len(grads), grads.shape[3], rows.shape[3])
    for some_grads, some_rows in zip(grads.split(samples, 1), rows.split(samples, 1), strict=True):
        products = some_grads.transpose(2, 3) @ some_rows  # (groups, samples, o, d)
        total += size(products, out=products).sum(1)
    return total


def _sizes(name: str, passed: Passed, grad: Tensor, size: Size) -> dict[str, Tensor]:
    """Return Σ_n size(g_n) of a layer's own parameters, from its inputs and the gradient of its output."""
    layer = passed.layer
    if isinstance(layer, nn.Linear | nn.Conv2d):
        return _sizes_of_products(layer, passed.inputs, grad, size)
    if isinstance(layer, _BatchNorm):
        return _sizes_of_scales(layer, passed.inputs, grad, size)
    raise NotImplementedError(f"no per-sample gradients for {name}, a {type(layer).__name__}")


def _sizes_of_products(layer: nn.Linear | nn.Conv2d, x: Tensor, grad: Tensor, size: Size) -> dict[str, Tensor]:
    """Return the sums for a layer whose output is a product of its weight and its unfolded inputs."""
    samples = len(x)
    groups = groups_of(layer)
    outputs = layer.weight.shape[0] // groups
    rows = unfold_inputs(layer, x).unflatten(1, (samples, -1))  # (g, n, positions, d)
    if isinstance(layer, nn.Conv2d):
        grad = grad.flatten(2).transpose(1, 2)  # (n, positions, o)
    grad = grad.reshape(samples, -1, groups, outputs).permute(2, 0, 1, 3)  # (g, n, positions, o / g)
    if rows.shape[2] == 1:  # one position: the size of an outer product is the outer product of sizes
        weight = size(grad[:, :, 0]).transpose(1, 2) @ size(rows[:, :, 0])
    else:
        weight = sum_of_sizes(grad, rows, size)
    bias = size(grad.sum(2)).sum(1)
    return {"weight": weight.reshape(layer.weight.shape), "bias": bias.flatten()}


def _sizes_of_scales(layer: _BatchNorm, x: Tensor, grad: Tensor, size: Size) -> dict[str, Tensor]:
    """Return the sums for a normalization's scale and shift, its statistics being constants."""
    assert layer.running_mean is not None and layer.running_var is not None
    normalized = F.batch_norm(x, layer.running_mean, layer.running_var, eps=layer.eps)
    sizes: dict[str, Tensor] = {}
    for name, factor in (("weight", normalized), ("bias", 1.0)):
        by_position = (grad * factor).reshape(*grad.shape[:2], -1)  # (n, c, positions)
        sizes[name] = size(by_position.sum(2)).sum(0)
    return sizes
