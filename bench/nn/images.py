"""Images as a network gets them, made of stored ones batch by batch on their device: random parts, or the middle."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core import Views

TRIES = 10  # at a part that fits into the image; then it is the whole one


def random_views(x: Tensor, views: Views, generator: torch.Generator) -> Tensor:
    """Return a random part of each image, uint8 (n, c, h, w), half of them mirrored, float32 (n, c, side, side).

    Parts are drawn as torchvision's RandomResizedCrop draws them, and resized as it resizes a tensor: bilinear, without
    antialiasing. The numbers come from a generator on the CPU, and are the same on every device.
    """
    n, _, height, width = x.shape
    boxes = random_boxes(n, height, width, views, generator)
    mirrored = torch.rand(n, generator=generator) < 0.5
    pixels = x.float() / 255
    return cut(pixels, boxes.to(x.device), mirrored.to(x.device), views.side)


def random_boxes(n: int, height: int, width: int, views: Views, generator: torch.Generator) -> Tensor:
    """Return n boxes within an image, (n, 4): top, left, height and width, in whole pixels as float32.

    A share of the area is uniform in `views.scale`, the logarithm of width / height in that of `views.ratio`.
    """
    share, shape = torch.rand(2, n, TRIES, generator=generator).unbind()
    smallest, largest = views.scale
    area = height * width * (smallest + (largest - smallest) * share)
    narrowest, widest = (math.log(bound) for bound in views.ratio)
    ratio = torch.exp(narrowest + (widest - narrowest) * shape)
    heights = (area / ratio).sqrt().round()
    widths = (area * ratio).sqrt().round()
    heights, widths = _first_that_fit(heights, widths, height, width)
    down, across = torch.rand(2, n, generator=generator).unbind()
    top = (down * (height - heights + 1)).floor()
    left = (across * (width - widths + 1)).floor()
    return torch.stack([top, left, heights, widths], dim=1)


def _first_that_fit(heights: Tensor, widths: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return of the tries (n, TRIES) the first height and width (n,) within the image; its own where none is."""
    not_empty = (heights > 0) & (widths > 0)
    fits = (heights <= height) & (widths <= width) & not_empty
    some = fits.any(1)
    first = fits.float().argmax(1, keepdim=True)
    drawn_height = heights.gather(1, first).squeeze(1)
    drawn_width = widths.gather(1, first).squeeze(1)
    whole_height, whole_width = torch.tensor([height, width], dtype=torch.float32)
    return drawn_height.where(some, whole_height), drawn_width.where(some, whole_width)


def cut(x: Tensor, boxes: Tensor, mirrored: Tensor, side: int) -> Tensor:
    """Return the part of each image x (n, c, h, w) in its box (n, 4), resized to (n, c, side, side), mirrored or not.

    A pixel beyond the box counts as the one at its edge.
    """
    top, left, height, width = boxes[:, :, None].unbind(1)  # (n, 1) each
    centers = (torch.arange(side, device=x.device) + 0.5) / side
    rows = top + (centers * height - 0.5).clamp(min=0).minimum(height - 1)  # (n, side), in pixels of x
    columns = left + (centers * width - 0.5).clamp(min=0).minimum(width - 1)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    down = _from_minus_one_to_one(rows, x.shape[2])
    across = _from_minus_one_to_one(columns, x.shape[3])
    places = torch.broadcast_tensors(across[:, None, :], down[:, :, None])
    grid = torch.stack(places, dim=3)  # (n, side, side, 2)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=True)


def _from_minus_one_to_one(pixels: Tensor, size: int) -> Tensor:
    """Return places along a side of `size` pixels as `grid_sample` takes them: -1 at its first, 1 at its last."""
    last = max(size - 1, 1)
    return 2 * pixels / last - 1


def central_views(x: Tensor, views: Views) -> Tensor:
    """Return the middle of each image, uint8 (n, c, h, w), resized first, float32 (n, c, side, side)."""
    x = x.float() / 255
    size = (views.resized, views.resized)
    if x.shape[2:] != size:
        x = F.interpolate(x, size, mode="bilinear", antialias=True)
    start = (views.resized - views.side) // 2
    end = start + views.side
    return x[:, :, start:end, start:end]
