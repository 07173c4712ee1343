"""Layers of the suite's own: what torch's do in a fraction of the time on a CPU, and projections side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

Convolution = nn.Conv1d | nn.Conv2d
Weighted = nn.Linear | Convolution  # the layers whose weights are matrices, see `bench.nn.network.WeightBlock`
LEVELS = 2**16  # a probability is a multiple of one in so many


def keep_mask(x: Tensor, p: float) -> Tensor:
    """Return a random mask in the shape and type of x (n, c, ...): 0 with probability p, else 1 / (1 - p).

    p counts as the nearest multiple of 2**-16, and the factor is exact for it. Sixteen random bits decide an element;
    a number from torch's global generator serves four, in the order (n, ..., c), so that one seed gives one mask
    whatever the layout of x. Drawing a Bernoulli variable for each, as torch does, takes four times as long on a CPU.
    """
    cut = round(p * LEVELS)
    size = x.numel()
    bits = torch.empty((size + 3) // 4, dtype=torch.int64, device=x.device).random_(-(2**63), None)
    wide = x.dtype if x.dtype.itemsize > 2 else torch.float32
    levels = bits.view(torch.int16)[:size].to(wide)
    mask = levels.ge_(cut - LEVELS // 2)  # in place, and among floats: torch's comparison of integers is slow
    mask = mask.mul_(LEVELS / (LEVELS - cut)).to(x.dtype)
    if x.dim() <= 2:
        return mask.view(x.shape)
    channels_last = x.movedim(1, -1).shape
    return mask.view(channels_last).movedim(-1, 1)


class Dropout(nn.Dropout):
    """Dropout of single elements of (n, c, ...), by `keep_mask` on a CPU and as torch has it on a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x (n, c, ...) with elements dropped and the others scaled, in the same shape."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or round(self.p * LEVELS) == LEVELS:
            return F.dropout(x, self.p)
        return x * keep_mask(x, self.p)


class LocalResponseNorm(nn.LocalResponseNorm):
    """Normalization over neighboring channels (Krizhevsky et al. 2012), as torch defines it: x / (k + alpha m)**beta.

    m is the mean square over `size` channels around each, those beyond the edge counted as 0. The sum is made of
    shifted views, not by a pooling in three dimensions; a power of 3/4 takes two square roots.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x (n, c, h, w) normalized, in the same shape."""
        channels = x.shape[1]
        squares = F.pad(x * x, (0, 0, 0, 0, self.size // 2, (self.size - 1) // 2))
        total = squares[:, :channels]
        for shift in range(1, self.size):
            total = total + squares[:, shift : shift + channels]
        scale = total * (self.alpha / self.size) + self.k
        if self.beta != 0.75:
            return x * scale.pow(-self.beta)
        root = scale.rsqrt()
        return x * (root * root.sqrt())


class Projections(nn.Module):
    """The queries, keys and values of tokens, by three Linear layers in the place of one: each has a weight matrix and
    a name of its own, and all get the same input."""

    PARTS = ("q", "k", "v")  # in the order in which their outputs stand side by side

    def __init__(self, fused: nn.Linear) -> None:
        """Take the weights (3 d, d) of a layer, and its biases."""
        super().__init__()
        width = fused.in_features
        weights = fused.weight.detach().split(width)
        biases = fused.bias.detach().split(width) if fused.bias is not None else (None, None, None)
        for name, weight, bias in zip(self.PARTS, weights, biases, strict=True):
            layer = nn.Linear(width, width, bias=bias is not None, device="meta")  # draws no random number
            layer.weight = nn.Parameter(weight.clone())
            if bias is not None:
                layer.bias = nn.Parameter(bias.clone())
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, tokens, 3 d) for tokens x (n, tokens, d)."""
        return torch.cat([self.get_submodule(name)(x) for name in self.PARTS], dim=-1)


@contextmanager
def without_dropout(module: nn.Module) -> Iterator[None]:
    """Let dropout pass everything (n, c, ...) inside the block; all else stays in the mode it is in."""
    dropouts = [layer for layer in module.modules() if isinstance(layer, nn.Dropout)]
    active = [layer for layer in dropouts if layer.training]
    for layer in active:
        layer.training = False
    try:
        yield
    finally:
        for layer in active:
            layer.training = True


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


def is_known(layer: nn.Module) -> bool:
    """Return whether a layer's parameters stand in a weight block, beside one, or in a normalization."""
    return isinstance(layer, Weighted | _BatchNorm | nn.LayerNorm | nn.GroupNorm)


def unknown_layer(build: Callable[[], nn.Module]) -> str:
    """Return the kind of the first layer of a network whose parameters stand neither in a weight block nor in a
    normalization; empty where there is none. torch's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        layers = list(build().modules())
    for layer in layers:
        if not is_known(layer) and len(list(layer.parameters(recurse=False))) > 0:
            return type(layer).__name__
    return ""
