"""The order in which samples are trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from bench.core import Split, slices
from bench.training.data import Batch, Data, Mixed

GATHERED = 2**20  # numbers, about, that are copied into their order at a time


def on_device(split: Split, device: torch.device, t: int) -> Data:
    """Return a split of task t as the loop takes it: the task, inputs and labels."""
    return t, torch.from_numpy(split.x).to(device), torch.from_numpy(split.y).to(device)


def gathered(parts: Sequence[Data]) -> Mixed:
    """Return the data of several tasks as one: the task of each sample (n,), inputs and labels."""
    tasks = [torch.full_like(y, t) for t, _, y in parts]
    return torch.cat(tasks), torch.cat([x for _, x, _ in parts]), torch.cat([y for _, _, y in parts])


def count_batches(parts: Sequence[Mixed], size: int) -> int:
    """Return how many batches `random_batches` gives."""
    return sum(len(slices(len(y), size)) for _, _, y in parts)


def random_batches(parts: Sequence[Mixed], size: int, generator: torch.Generator, epoch: int = 0) -> Iterator[Batch]:
    """Yield all samples once, each batch from one part; with several parts, their batches in random order."""
    last = max(count_batches(parts, size) - 1, 1)
    for i, (t, x, y) in enumerate(_drawn(parts, size, generator)):
        yield Batch(x, y, t, i / last, epoch)


def _drawn(parts: Sequence[Mixed], size: int, generator: torch.Generator) -> Iterator[Mixed]:
    orders = [torch.randperm(len(y), generator=generator).to(y.device) for _, _, y in parts]
    if len(parts) == 1:
        yield from _gathered(parts[0], orders[0], size)
        return
    batches = [(part, order[s]) for part, order in enumerate(orders) for s in slices(len(order), size)]
    for i in torch.randperm(len(batches), generator=generator).tolist():
        part, chosen = batches[i]
        t, x, y = parts[part]
        yield _of(t, chosen), x[chosen], y[chosen]


def _of(task: int | Tensor, chosen: Tensor) -> int | Tensor:
    """Return the task of the samples chosen."""
    return task[chosen] if isinstance(task, Tensor) else task


def _gathered(data: Mixed, order: Tensor, size: int) -> Iterator[Mixed]:
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
            yield _of(t, chosen[own]), xs[own], ys[own]
