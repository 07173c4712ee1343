"""Grams of layer inputs, C = XᵀX, added up batch by batch in float64 from products in the precision of the inputs.

A sum of float32 products over at most ROWS rows is off by 1e-9 to 1e-7 of the largest eigenvalue. The thresholds of
null spaces lie at 1e-6 of it or above: on CIFAR-100 the ranks are those of products in float64, at half of the cost.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.nn.layers import Convolution, Weighted

ROWS = 4096  # that are multiplied at a time
CHUNK = 2**22  # numbers in an unfolded input, about: memory that allocators keep at hand


def padded(layer: Convolution, x: Tensor) -> Tensor:
    """Return the inputs x (n, c, h, w), or (n, c, l), with the layer's padding around them."""
    sides = layer._reversed_padding_repeated_twice
    if not any(sides):
        return x
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, sides, mode=mode)


def unfold_inputs(layer: Weighted, x: Tensor) -> Tensor:
    """Return the input matrix of a layer, (groups, n, d): rows are samples, tokens or patches in the order (b, y, x).

    Inputs x are (..., d) of a Linear layer and (b, c, h, w), or (b, c, l), of a convolution.
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, x.shape[-1])
    x = padded(layer, x).contiguous()
    b, c = x.shape[:2]
    of_b, of_c, *of_sides = x.stride()
    within = [dilation * step for dilation, step in zip(layer.dilation, of_sides, strict=True)]
    onward = [stride * step for stride, step in zip(layer.stride, of_sides, strict=True)]
    positions = _positions(layer, x)
    channels = c // layer.groups
    patches = x.as_strided(  # every number of every patch, without a copy
        (layer.groups, channels, *layer.kernel_size, b, *positions),
        (channels * of_c, of_c, *within, of_b, *onward),
    )
    last = 1 + len(positions)  # dimension of a patch's own
    return patches.flatten(last + 1).flatten(1, last).transpose(1, 2)


def _positions(layer: Convolution, x: Tensor) -> list[int]:
    """Return how many places the kernel takes in padded inputs x (n, c, h, w), down and across, or (n, c, l)."""
    positions = []
    for side, k, dilation, stride in zip(x.shape[2:], layer.kernel_size, layer.dilation, layer.stride, strict=True):
        reach = dilation * (k - 1) + 1
        positions.append((side - reach) // stride + 1)
    return positions


class GramSum:
    """The Grams of a layer's weight blocks, of all inputs that were added. Small batches are gathered first."""

    def __init__(self, layer: Weighted, copies: int) -> None:
        """Begin an empty sum; `copies` tells how often an unfolded input holds a number."""
        self.layer = layer
        self.copies = copies
        self._waiting: list[Tensor] = []
        self._samples = 0  # in them: counted as they come, for there may be thousands

    def add(self, x: Tensor) -> None:
        """Add the inputs of a batch, (n, d), (n, tokens, d), (n, c, h, w) or (n, c, l), as the layer gets them."""
        numbers = x[0].numel() * self.copies  # of a sample, unfolded
        some = max(1, CHUNK // numbers)  # samples
        if len(x) >= some:
            for part in x.split(some):
                self._add(part)
            return
        self._waiting.append(x.clone())  # what comes after the layer may write to its input
        self._samples += len(x)
        if self._samples >= some:
            self._flush()

    def grams(self) -> list[Tensor]:
        """Return the Gram of each block, float64 (d, d); nothing where no input was added."""
        self._flush()
        return self._finish()

    def _flush(self) -> None:
        if self._waiting:
            self._add(torch.cat(self._waiting))
            self._waiting, self._samples = [], 0

    def _add(self, x: Tensor) -> None:
        raise NotImplementedError

    def _finish(self) -> list[Tensor]:
        raise NotImplementedError


def gram_sum(layer: Weighted) -> GramSum:
    """Return an empty sum of the layer's Grams, float64 (d, d) a block, in the form that suits the layer."""
    if not isinstance(layer, nn.Conv2d) or layer.groups > 1:
        return Patches(layer)
    moves_by_one = layer.stride == (1, 1) and layer.dilation == (1, 1)
    return KernelRows(layer) if moves_by_one else Patches(layer)


class Patches(GramSum):
    """The sum for any layer: one product per block of unfolded inputs."""

    def __init__(self, layer: Weighted) -> None:
        copies = 1 if isinstance(layer, nn.Linear) else math.prod(layer.kernel_size)
        super().__init__(layer, copies)
        self.totals: list[Tensor] = []

    def _add(self, x: Tensor) -> None:
        matrices = unfold_inputs(self.layer, x)
        if not self.totals:
            d = matrices.shape[2]
            self.totals = [matrices.new_zeros(d, d, dtype=torch.float64) for _ in matrices]
        for total, rows in zip(self.totals, matrices, strict=True):
            _add_upper(total, rows)

    def _finish(self) -> list[Tensor]:
        return [_mirrored(total) for total in self.totals]


def _add_upper(total: Tensor, rows: Tensor) -> None:
    """Add XᵀX of rows X (n, d) to total (d, d), except what stands below its diagonal blocks: half of the work."""
    d = len(total)
    step = max(d // 8, 16)
    for i in range(0, d, step):
        j = min(i + step, d)
        _add_product(total[i:j, i:], rows[:, i:j], rows[:, i:])


def _mirrored(total: Tensor) -> Tensor:
    """Return the symmetric matrix whose upper triangle is that of `total`, (d, d)."""
    return total.triu() + total.triu(1).T


class KernelRows(GramSum):
    """The sum for a convolution that moves by one pixel, whose Gram has few products of its own.

    Let X_i be the inputs that row i of the kernel meets at all places, and i <= j. X_iᵀX_j is a sum over image rows;
    that of (i + 1, j + 1) is the same sum moved down by a row: it gains the products at one border and loses those at
    the other. So only the k products with i = 0 are made in full, of the k (k + 1) / 2, and every number is copied once
    for a column of the kernel, not for every place in it.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        self.k, self.width = layer.kernel_size
        super().__init__(layer, self.width)
        self.total: Tensor | None = None  # [i, j]: X_iᵀX_j for i = 0, else its difference from [i - 1, j - 1]

    def _add(self, x: Tensor) -> None:
        assert isinstance(self.layer, nn.Conv2d)
        pixels = padded(self.layer, x).permute(2, 0, 3, 1)  # (h, n, w, c)
        windows = pixels.unfold(2, self.width, 1)  # (h, n, places, c, width)
        rows = windows.transpose(3, 4).flatten(3).flatten(1, 2)  # (h, n * places, width * c)
        if self.total is None:
            d = rows.shape[2]
            self.total = x.new_zeros(self.k, self.k, d, d, dtype=torch.float64)
        last = len(rows) - self.k  # where the kernel's first row ends
        for j in range(self.k):
            _add_product(self.total[0, j], rows[: last + 1], rows[j : j + last + 1])
            for i in range(1, j + 1):
                _add_product(self.total[i, j], rows[i + last], rows[j + last])
                _add_product(self.total[i, j], rows[i - 1], rows[j - 1], sign=-1)

    def _finish(self) -> list[Tensor]:
        if self.total is None:
            return []
        total = self.total.clone()
        d = total.shape[2]
        for j in range(1, self.k):
            for i in range(1, j + 1):
                total[i, j] += total[i - 1, j - 1]
        for j in range(self.k):
            for i in range(j):
                total[j, i] = total[i, j].T
        c = d // self.width
        parts = total.view(self.k, self.k, self.width, c, self.width, c)
        whole = parts.permute(3, 0, 2, 5, 1, 4).reshape(self.k * d, self.k * d)  # (c, row, column) twice
        return [_mirrored(whole)]


def _add_product(total: Tensor, a: Tensor, b: Tensor, sign: int = 1) -> None:
    """Add sign AᵀB of rows A (..., d) and B (..., e) to total (d, e), in float64 over blocks of rows."""
    a_blocks = a.flatten(0, -2).split(ROWS)
    b_blocks = b.flatten(0, -2).split(ROWS)
    for rows, others in zip(a_blocks, b_blocks, strict=True):
        total.add_(rows.T @ others, alpha=sign)
