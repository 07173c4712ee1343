"""What a layer sees and what its loss tells it: input Grams and squared gradients. The only forward hooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bench.network import Network, blocks_of, groups_of

Batches = Iterable[tuple[Tensor, Tensor]]


CHUNK = 2**21  # numbers in an unfolded input, about: memory that allocators keep at hand


def unfold_inputs(layer: nn.Linear | nn.Conv2d, x: Tensor) -> Tensor:
    """The input matrix of a layer, (groups, n, d): rows are samples, tokens or patches in the order (b, y, x)."""
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, x.shape[-1])
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode).contiguous()
    sides = zip(x.shape[2:], layer.kernel_size, layer.dilation, layer.stride, strict=True)
    positions = [(side - dilation * (k - 1) - 1) // stride + 1 for side, k, dilation, stride in sides]
    (b, c, *_), (of_b, of_c, of_y, of_x), g = x.shape, x.stride(), layer.groups
    (down, right), (below, beside) = layer.dilation, layer.stride
    patches = x.as_strided(  # every number of every patch, without a copy
        (g, c // g, *layer.kernel_size, b, *positions),
        (c // g * of_c, of_c, down * of_y, right * of_x, of_b, below * of_y, beside * of_x),
    )
    return patches.flatten(4).flatten(1, 3).transpose(1, 2)


def chunks(layer: nn.Linear | nn.Conv2d, x: Tensor) -> Iterable[Tensor]:
    """Parts of a batch whose unfolded inputs have about CHUNK numbers, fewer with strides, or are a single sample's."""
    patch = math.prod(layer.kernel_size) if isinstance(layer, nn.Conv2d) else 1
    return x.split(max(1, CHUNK // (x[0].numel() * patch)))


def add_gram(total: Tensor, rows: Tensor) -> None:
    """total (d, d) += XᵀX for rows X (n, d), but for what stands below its diagonal blocks: half of the work."""
    d = len(total)
    for i in range(0, d, max(d // 8, 16)):
        j = min(i + max(d // 8, 16), d)
        total[i:j, i:].addmm_(rows[:, i:j].T, rows[:, i:])


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
    grams: dict[str, Tensor] = {}

    def observe(name: str) -> Callable[..., None]:
        def hook(layer: Any, inputs: tuple[Tensor]) -> None:
            x = inputs[0][: rows.get(name)] if rows else inputs[0]
            for part in chunks(layer, x.double()):
                for block, matrix in zip(blocks_of(name, layer), unfold_inputs(layer, part), strict=True):
                    if block.name not in grams:
                        grams[block.name] = matrix.new_zeros(matrix.shape[1], matrix.shape[1])
                    add_gram(grams[block.name], matrix)

        return hook

    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        for name, layer in network.layers().items():
            stack.callback(layer.register_forward_pre_hook(observe(name)).remove)
        for x, _ in batches:
            network(x, task)
    return {name: gram.triu() + gram.triu(1).T for name, gram in grams.items()}


@contextmanager
def constant_batch_statistics(network: nn.Module) -> Iterator[None]:
    """Batch normalisation without running statistics treats those of the batch at hand as constants.

    Then one sample's loss does not depend on another sample, and gradients per sample are defined.
    """
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is None]

    def hook(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].detach().transpose(0, 1).flatten(1)
        layer.running_mean, layer.running_var = x.mean(1), x.var(1, unbiased=False)

    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for layer, handle in zip(layers, handles, strict=True):
            handle.remove()
            layer.running_mean = layer.running_var = None


def squared_gradients(network: Network, x: Tensor, y: Tensor, task: int) -> dict[str, Tensor]:
    """Σ_n (∂ log p(y_n | x_n) / ∂θ)² over a batch, for every shared parameter by name, in evaluation mode.

    The gradient of each sample is its own, from one pass: layer inputs and output gradients are kept, and their
    product squared before the sum. Statistics of batch normalisation count as constants.
    """
    seen: list[tuple[str, nn.Module, Tensor, Tensor]] = []
    shared = network.shared_parameters()

    def observe(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            output.register_hook(lambda grad: seen.append((name, layer, inputs[0].detach(), grad)))

        return hook

    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        stack.enter_context(constant_batch_statistics(network))
        for name, layer in network.named_modules():
            if any(f"{name}.{n}" in shared for n, _ in layer.named_parameters(recurse=False)):
                stack.callback(layer.register_forward_hook(observe(name)).remove)
        loss = F.cross_entropy(network(x, task), y, reduction="sum")
        learning = [p for p in shared.values() if p.requires_grad]
        torch.autograd.grad(loss, learning, allow_unused=True)  # unlike backward, leaves every .grad alone
        squares: dict[str, Tensor] = {}
        for name, layer, inputs, grad in seen:
            if any(key.startswith(f"{name}.") for key in squares):
                raise NotImplementedError(f"no per-sample gradients for {name}, which is used twice in a pass")
            for parameter, square in _squares(name, layer, inputs, grad).items():
                squares[f"{name}.{parameter}"] = square
    return {n: s for n, s in squares.items() if n in shared}


def _squares(name: str, layer: nn.Module, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Σ_n g_n² of a layer's own parameters, from its inputs and the gradient of its output."""
    if isinstance(layer, nn.Linear | nn.Conv2d):
        groups, samples = groups_of(layer), len(x)
        rows = unfold_inputs(layer, x).unflatten(1, (samples, -1))  # (g, n, positions, d)
        if isinstance(layer, nn.Conv2d):
            grad = grad.flatten(2).transpose(1, 2)  # (n, positions, o)
        grad = grad.reshape(samples, -1, groups, layer.weight.shape[0] // groups).permute(2, 0, 1, 3)
        if rows.shape[2] == 1:  # one position: the square of an outer product is the outer product of squares
            weight = grad[:, :, 0].square().transpose(1, 2) @ rows[:, :, 0].square()
        else:
            weight = (grad.transpose(2, 3) @ rows).square().sum(1)
        bias = grad.sum(2).square().sum(1)
        return {"weight": weight.reshape(layer.weight.shape), "bias": bias.flatten()}
    if isinstance(layer, _BatchNorm):
        assert layer.running_mean is not None and layer.running_var is not None
        normalised = F.batch_norm(x, layer.running_mean, layer.running_var, eps=layer.eps)
        return {
            n: (grad * factor).reshape(*grad.shape[:2], -1).sum(2).square().sum(0)
            for n, factor in (("weight", normalised), ("bias", 1.0))
        }
    raise NotImplementedError(f"no per-sample gradients for {name}, a {type(layer).__name__}")
