"""What layers see and what their loss tells them: input Grams and squared gradients. The only forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bench.core import UserError
from bench.nn.grams import gram_sum, unfold_inputs
from bench.nn.layers import Weighted, constant_batch_statistics
from bench.nn.network import Network, blocks_of, groups_of

Batches = Iterable[tuple[Tensor, Tensor]]
ROUNDING = 0.03  # of a parameter's largest squared gradient: on a GPU convolutions round to ten bits, 0.003 in all
NOISE = 1e-10  # of the network's largest: what is 0 but for rounding


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
    layer, by its path, to the first so many samples of each batch; normalisation still sees all of them. A Gram that
    layers share, as the projections of attention do, is computed once, and each gets a copy. A layer that received no
    input has no Gram. Raises `FloatingPointError` where inputs, or their squares, are not finite.
    """
    layers = network.layers()
    limits = rows or {}
    shared = {n: first for n, first in network.same_inputs().items() if limits.get(n) == limits.get(first)}
    sums = {name: gram_sum(layer) for name, layer in layers.items() if name not in shared}

    def observe(name: str) -> Callable[..., None]:
        limit = limits.get(name)

        def hook(layer: nn.Module, inputs: tuple[Tensor]) -> None:
            sums[name].add(inputs[0][:limit])

        return hook

    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        for name in sums:
            handle = layers[name].register_forward_pre_hook(observe(name))
            stack.callback(handle.remove)
        for x, _ in batches:
            network(x, task)
    totals = {name: own.grams() for name, own in sums.items()}
    for name, first in shared.items():
        totals[name] = [gram.clone() for gram in totals[first]]
    grams: dict[str, Tensor] = {}
    for name, layer in layers.items():
        for block, gram in zip(blocks_of(name, layer), totals[name], strict=False):  # an idle layer has none
            _demand_finite(block.name, gram)
            grams[block.name] = gram
    return grams


def _demand_finite(name: str, gram: Tensor) -> None:
    if not bool(gram.diagonal().isfinite().all()):
        raise FloatingPointError(f"the inputs of {name} are not finite")


@torch.no_grad()
def input_rows(network: Network, x: Tensor, task: int) -> Iterator[tuple[str, Tensor]]:
    """Yield every weight block's name and inputs, rows (n, d), for images x, in evaluation mode, a block at a time.

    Idle layers are left out.
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
        network(x, task)
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
    normalization are constants. Raises `UserError` for a layer of another kind, one used twice in a pass, and where
    autograd finds another gradient of a sample: on the first batch that a network is given, two are compared.
    """
    if not network.samples_told_apart:
        demand_own_gradients(network, x[:2], task)
    with _observed(network) as seen:
        total = objective(network(x, task))
        return _sums(network, seen, total, size)


@contextmanager
def _observed(network: Network) -> Iterator[dict[str, Passed]]:
    """Inside, collect what layers with shared parameters receive and give, by path. Samples depend on no other."""
    seen: dict[str, Passed] = {}
    shared = network.shared_parameters()

    def observe(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            if not isinstance(layer, Weighted | _BatchNorm):
                raise UserError(f"no per-sample gradients for {name}, a {type(layer).__name__}")
            if name in seen:
                raise UserError(f"no per-sample gradients for {name}, which is used twice in a pass")
            if inputs[0].dim() < layer.weight.dim():
                raise UserError(f"no per-sample gradients for {name}, whose inputs are of no sample")
            seen[name] = Passed(layer, inputs[0].detach(), output)

        return hook

    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        stack.enter_context(constant_batch_statistics(network))
        for name, layer in network.named_modules():
            own = [f"{name}.{n}" for n, _ in layer.named_parameters(recurse=False)]
            if any(n in shared for n in own):
                handle = layer.register_forward_hook(observe(name))
                stack.callback(handle.remove)
        yield seen


def _sums(
    network: Network, seen: Mapping[str, Passed], total: Tensor, size: Size, again: bool = False
) -> dict[str, Tensor]:
    """Return Σ_n size(∂ total_n / ∂θ) of the parameters θ of all layers seen; `again`: the graph is kept."""
    outputs = [passed.output for passed in seen.values()]
    # unlike backward, this leaves every .grad alone
    grads = torch.autograd.grad(total, outputs, allow_unused=True, retain_graph=again)
    sizes: dict[str, Tensor] = {}
    for (name, passed), grad in zip(seen.items(), grads, strict=True):
        if grad is None:  # the total does not depend on it
            continue
        for parameter, own_size in _sizes(passed, grad, size).items():
            sizes[f"{name}.{parameter}"] = own_size
    shared = network.shared_parameters()
    return {name: own_size for name, own_size in sizes.items() if name in shared}


def demand_own_gradients(network: Network, x: Tensor, task: int) -> None:
    """Raise `UserError` where the squared gradients of samples x (n, ...), in a sum, are not those of autograd.

    So it is where the batch is not the first dimension of a layer's inputs, or parts of a sample or something that all
    samples share are there in the place of samples; where a weight acts elsewhere too; where a layer's own forward
    makes something else of it, or what comes after a layer writes to its outputs.
    """
    learning = {n: p for n, p in network.shared_parameters().items() if p.requires_grad}
    with _observed(network) as seen:
        logits = network(x, task)
        factors = torch.arange(1, logits.numel() + 1).to(logits).cos().view_as(logits)  # nothing is drawn
        terms = (logits * factors).sum(1)
        found = _sums(network, seen, terms.sum(), torch.square, again=True)
        true = {name: torch.zeros_like(p) for name, p in learning.items()}
        for term in terms:
            grads = torch.autograd.grad(term, list(learning.values()), allow_unused=True, retain_graph=True)
            for total, grad in zip(true.values(), grads, strict=True):
                total += 0 if grad is None else grad.square()
    noise = NOISE * max((float(total.max()) for total in true.values()), default=0.0)
    for name, total in true.items():
        gap = (found.get(name, 0) - total).abs().max()
        if float(gap) > ROUNDING * float(total.max()) + noise:
            raise UserError(
                f"no per-sample gradients for {name}: from its layer's inputs and outputs follow others than autograd's"
            )
    network.samples_told_apart = len(x) > 1


def sum_of_sizes(grads: Tensor, rows: Tensor, size: Size, samples: int = 8) -> Tensor:
    """Return Σ_n size(G_nᵀ X_n), (groups, o, d), for G (groups, n, positions, o) and X (groups, n, positions, d).

    A few samples are taken at a time, whose products stay in the processor's cache.
    """
    total = grads.new_zeros(len(grads), grads.shape[3], rows.shape[3])
    for some_grads, some_rows in zip(grads.split(samples, 1), rows.split(samples, 1), strict=True):
        products = some_grads.transpose(2, 3) @ some_rows  # (groups, samples, o, d)
        total += size(products, out=products).sum(1)
    return total


def _sizes(passed: Passed, grad: Tensor, size: Size) -> dict[str, Tensor]:
    """Return Σ_n size(g_n) of a layer's own parameters, from its inputs and the gradient of its output."""
    layer = passed.layer
    if isinstance(layer, _BatchNorm):
        return _sizes_of_scales(layer, passed.inputs, grad, size)
    assert isinstance(layer, Weighted)
    return _sizes_of_products(layer, passed.inputs, grad, size)


def _sizes_of_products(layer: Weighted, x: Tensor, grad: Tensor, size: Size) -> dict[str, Tensor]:
    """Return the sums for a layer whose output is a product of its weight and its unfolded inputs."""
    samples = len(x)
    groups = groups_of(layer)
    outputs = layer.weight.shape[0] // groups
    rows = unfold_inputs(layer, x).unflatten(1, (samples, -1))  # (g, n, positions, d)
    if not isinstance(layer, nn.Linear):
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
