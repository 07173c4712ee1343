"""The order in which samples are trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bench.core import Split, slices
from bench.training.data import Batch
from bench.training.evaluation import Data

GATHERED = 2**20  # numbers, about, that are copied into their order at a time


def on_device(split: Split, device: torch.device, t: int) -> Data:
    """Return a split of task t as the loop takes it: the task, inputs and labels."""
    return t, torch.from_numpy(split.x).to(device), torch.from_numpy(split.y).to(device)


def count_batches(parts: Sequence[Data], size: int) -> int:
    """Return how many batches `random_batches` gives."""
    return sum(len(slices(len(y), size)) for _, _, y in parts)


def random_batches(parts: Sequence[Data], size: int, generator: torch.Generator, epoch: int = 0) -> Iterator[Batch]:
    """Yield all samples once, each batch from one task; with several tasks, their batches in random order."""
    last = max(count_batches(parts, size) - 1, 1)
    for i, (t, x, y) in enumerate(_drawn(parts, size, generator)):
        yield Batch(x, y, t, i / last, epoch)


def _drawn(parts: Sequence[Data], size: int, generator: torch.Generator) -> Iterator[Data]:
    orders = [torch.randperm(len(y), generator=generator).to(y.device) for _, _, y in parts]
    if len(parts) == 1:
        yield from _gathered(parts[0], orders[0], size)
        return
    batches = [(part, order[s]) for part, order in enumerate(orders) for s in slices(len(order), size)]
    for i in torch.randperm(len(batches), generator=generator).tolist():
        part, chosen = batches[i]
        t, x, y = parts[part]
        yield t, x[chosen], y[chosen]


def _gathered(data: Data, order: Tensor, size: int) -> Iterator[Data]:
    """Yield the batches of one task in a given order. Small ones are gathered many at a time."""
    t, x, y = data
    parts = slices(len(order), size)
    several = max(1, GATHERED // (size * x[0].numel()))
    for i in range(0, len(parts), several):
        group = parts[i : i + several]
        start = group[0].start
        chosen = order[start : group[-1].stop]
        xs, ys = x[chosen], y[chosen]
        for part in group:
            own = slice(part.start - start, part.stop - start)
            yield t, xs[own], ys[own]
