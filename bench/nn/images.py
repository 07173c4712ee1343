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
    boxes = random_boxes(len(x), x.shape[2], x.shape[3], views, generator)
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    return cut(x.float() / 255, boxes.to(x.device), mirrored.to(x.device), views.side)


def random_boxes(n: int, height: int, width: int, views: Views, generator: torch.Generator) -> Tensor:
    """Return n boxes within an image, (n, 4): top, left, height and width, in whole pixels as float32.

    A share of the area is uniform in `views.scale`, the logarithm of width / height in that of `views.ratio`.
    """
    share, shape = torch.rand(2, n, TRIES, generator=generator).unbind()
    low, high = views.scale
    area = height * width * (low + (high - low) * share)
    flat, wide = (math.log(bound) for bound in views.ratio)
    ratio = torch.exp(flat + (wide - flat) * shape)
    heights, widths = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
    fits = (heights <= height) & (widths <= width) & (heights > 0) & (widths > 0)
    first = fits.float().argmax(1, keepdim=True)
    some = fits.any(1)
    own_height = heights.gather(1, first).squeeze(1).where(some, torch.tensor(float(height)))
    own_width = widths.gather(1, first).squeeze(1).where(some, torch.tensor(float(width)))
    down, across = torch.rand(2, n, generator=generator).unbind()
    top = (down * (height - own_height + 1)).floor()
    left = (across * (width - own_width + 1)).floor()
    return torch.stack([top, left, own_height, own_width], dim=1)


def cut(x: Tensor, boxes: Tensor, mirrored: Tensor, side: int) -> Tensor:
    """Return the part of each image x (n, c, h, w) in its box (n, 4), resized to (n, c, side, side), mirrored or not.

    A pixel beyond the box counts as the one at its edge.
    """
    top, left, height, width = boxes[:, :, None].unbind(1)  # (n, 1) each
    places = (torch.arange(side, device=x.device) + 0.5) / side
    rows = top + (places * height - 0.5).clamp(min=0).minimum(height - 1)  # (n, side), in pixels of x
    columns = left + (places * width - 0.5).clamp(min=0).minimum(width - 1)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    down = 2 * rows / max(x.shape[2] - 1, 1) - 1
    across = 2 * columns / max(x.shape[3] - 1, 1) - 1
    grid = torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), dim=3)  # (n, side, side, 2)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=True)


def central_views(x: Tensor, views: Views) -> Tensor:
    """Return the middle of each image, uint8 (n, c, h, w), resized first, float32 (n, c, side, side)."""
    x = x.float() / 255
    if x.shape[2:] != (views.resized, views.resized):
        x = F.interpolate(x, (views.resized, views.resized), mode="bilinear", antialias=True)
    start = (views.resized - views.side) // 2
    end = start + views.side
    return x[:, :, start:end, start:end]
