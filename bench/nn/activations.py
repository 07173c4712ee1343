"""What layers see and what their loss tells them: input Grams and per-sample gradients. The only forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bench.nn.grams import gram_sum, unfold_inputs
from bench.nn.network import Network, blocks_of, groups_of

Batches = Iterable[tuple[Tensor, Tensor]]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards every module in the mode it had."""
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
    """C = XᵀX of the inputs of every weight block, float64 (d, d), in one pass over `batches`, in evaluation mode.

    `rows` limits a layer, by its path, to the first so many samples of each batch; normalisation still sees all.
    """
    sums = {name: gram_sum(layer) for name, layer in network.layers().items()}

    def observe(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor]) -> None:
            sums[name].add(inputs[0][: rows.get(name)] if rows else inputs[0])

        return hook

    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        for name, layer in network.layers().items():
            stack.callback(layer.register_forward_pre_hook(observe(name)).remove)
        for x, _ in batches:
            network(x, task)
    grams: dict[str, Tensor] = {}
    for name, layer in network.layers().items():
        for block, gram in zip(blocks_of(name, layer), sums[name].grams(), strict=False):  # none of an idle layer
            grams[block.name] = gram
    return grams


@contextmanager
def constant_batch_statistics(network: nn.Module) -> Iterator[None]:
    """Batch normalisation without running statistics treats those of the batch at hand as constants.

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
        for layer, handle in zip(layers, handles, strict=True):
            handle.remove()
            layer.running_mean = layer.running_var = None


def squared_gradients(network: Network, x: Tensor, y: Tensor, task: int) -> dict[str, Tensor]:
    """Σ_n (∂ log p(y_n | x_n) / ∂θ)² over a batch, for every shared parameter by name, in evaluation mode.

    The gradient of each sample is its own, see `sample_gradients`.
    """
    return sample_gradients(network, x, task, lambda logits: F.cross_entropy(logits, y, reduction="sum"), torch.square)


def sample_gradients(
    network: Network, x: Tensor, task: int, objective: Callable[[Tensor], Tensor], size: Callable[..., Tensor]
) -> dict[str, Tensor]:
    """Return Σ_n size(∂ objective_n / ∂θ) over a batch, for every shared parameter by name, in evaluation mode.

    `objective` makes of logits (n, num_classes) a sum of one term a sample; `size` is `torch.square` or `torch.abs`.
    All comes from one pass: layer inputs and the gradients of outputs are kept, and the size of their product taken
    before the sum. No gradient of a weight is made. Statistics of batch normalisation are constants.
    """
    seen: dict[str, tuple[nn.Module, Tensor, Tensor]] = {}
    shared = network.shared_parameters()

    def observe(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            if name in seen:
                raise NotImplementedError(f"no per-sample gradients for {name}, which is used twice in a pass")
            seen[name] = layer, inputs[0].detach(), output

        return hook

    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        stack.enter_context(constant_batch_statistics(network))
        for name, layer in network.named_modules():
            if any(f"{name}.{n}" in shared for n, _ in layer.named_parameters(recurse=False)):
                stack.callback(layer.register_forward_hook(observe(name)).remove)
        loss = objective(network(x, task))
        outputs = [output for _, _, output in seen.values()]
        grads = torch.autograd.grad(loss, outputs, allow_unused=True)  # unlike backward, leaves every .grad alone
        sizes: dict[str, Tensor] = {}
        for (name, (layer, inputs, _)), grad in zip(seen.items(), grads, strict=True):
            if grad is not None:
                for parameter, total in _sizes(name, layer, inputs, grad, size).items():
                    sizes[f"{name}.{parameter}"] = total
    return {n: s for n, s in sizes.items() if n in shared}


def sum_of_sizes(grads: Tensor, rows: Tensor, size: Callable[..., Tensor], samples: int = 8) -> Tensor:
    """Σ_n size(G_nᵀ X_n), (groups, o, d), for G (groups, n, positions, o) and X (groups, n, positions, d).

    A few samples at a time, whose products stay in the processor's cache.
    """
    total = grads.new_zeros(len(grads), grads.shape[3], rows.shape[3])
    for some_grads, some_rows in zip(grads.split(samples, 1), rows.split(samples, 1), strict=True):
        products = some_grads.transpose(2, 3) @ some_rows
        total += size(products, out=products).sum(1)
    return total


def _sizes(name: str, layer: nn.Module, x: Tensor, grad: Tensor, size: Callable[..., Tensor]) -> dict[str, Tensor]:
    """Σ_n size(g_n) of a layer's own parameters, from its inputs and the gradient of its output."""
    if isinstance(layer, nn.Linear | nn.Conv2d):
        groups, samples = groups_of(layer), len(x)
        rows = unfold_inputs(layer, x).unflatten(1, (samples, -1))  # (g, n, positions, d)
        if isinstance(layer, nn.Conv2d):
            grad = grad.flatten(2).transpose(1, 2)  # (n, positions, o)
        grad = grad.reshape(samples, -1, groups, layer.weight.shape[0] // groups).permute(2, 0, 1, 3)
        if rows.shape[2] == 1:  # one position: the size of an outer product is the outer product of sizes
            weight = size(grad[:, :, 0]).transpose(1, 2) @ size(rows[:, :, 0])
        else:
            weight = sum_of_sizes(grad, rows, size)
        bias = size(grad.sum(2)).sum(1)
        return {"weight": weight.reshape(layer.weight.shape), "bias": bias.flatten()}
    if isinstance(layer, _BatchNorm):
        assert layer.running_mean is not None and layer.running_var is not None
        normalised = F.batch_norm(x, layer.running_mean, layer.running_var, eps=layer.eps)
        return {
            n: size((grad * factor).reshape(*grad.shape[:2], -1).sum(2)).sum(0)
            for n, factor in (("weight", normalised), ("bias", 1.0))
        }
    raise NotImplementedError(f"no per-sample gradients for {name}, a {type(layer).__name__}")
