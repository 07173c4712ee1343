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
    x = torch.from_numpy(split.x).to(device)
    y = torch.from_numpy(split.y).to(device)
    return t, x, y


def gathered(parts: Sequence[Data]) -> Mixed:
    """Return the data of several tasks as one: the task of each sample (n,), inputs and labels."""
    tasks = torch.cat([torch.full_like(y, t) for t, _, y in parts])
    inputs = torch.cat([x for _, x, _ in parts])
    labels = torch.cat([y for _, _, y in parts])
    return tasks, inputs, labels


def count_batches(parts: Sequence[Mixed], size: int) -> int:
    """Return how many batches `random_batches` gives."""
    return sum(len(slices(len(y), size)) for _, _, y in parts)


def random_batches(parts: Sequence[Mixed], size: int, generator: torch.Generator, epoch: int = 0) -> Iterator[Batch]:
    """Yield all samples once, each batch from one part; with several parts, their batches in random order."""
    last = max(count_batches(parts, size) - 1, 1)
    for i, (t, x, y) in enumerate(_drawn(parts, size, generator)):
        progress = i / last
        yield Batch(x, y, t, progress, epoch)


def _drawn(parts: Sequence[Mixed], size: int, generator: torch.Generator) -> Iterator[Mixed]:
    """Yield the tasks, inputs and labels of the batches, in random order."""
    orders = [_random_order(y, generator) for _, _, y in parts]
    if len(parts) == 1:
        yield from _gathered(parts[0], orders[0], size)
        return
    batches: list[tuple[Mixed, Tensor]] = []
    for part, order in zip(parts, orders, strict=True):
        batches += [(part, order[own]) for own in slices(len(order), size)]
    for i in torch.randperm(len(batches), generator=generator).tolist():
        (t, x, y), chosen = batches[i]
        yield _of(t, chosen), x[chosen], y[chosen]


def _random_order(y: Tensor, generator: torch.Generator) -> Tensor:
    """Return an order of the samples with labels y (n,), drawn on the CPU, on their device."""
    order = torch.randperm(len(y), generator=generator)
    return order.to(y.device)


def _of(task: int | Tensor, chosen: Tensor) -> int | Tensor:
    """Return the task of the samples chosen."""
    return task[chosen] if isinstance(task, Tensor) else task


def _gathered(data: Mixed, order: Tensor, size: int) -> Iterator[Mixed]:
    """Yield the batches of one task in a given order. Small ones are gathered many at a time."""
    t, x, y = data
    batches = slices(len(order), size)
    numbers = size * x[0].numel()
    several = max(1, GATHERED // numbers)
    for i in range(0, len(batches), several):
        group = batches[i : i + several]
        start = group[0].start
        end = group[-1].stop
        chosen = order[start:end]
        xs, ys = x[chosen], y[chosen]
        for batch in group:
            own = slice(batch.start - start, batch.stop - start)
            yield _of(t, chosen[own]), xs[own], ys[own]
