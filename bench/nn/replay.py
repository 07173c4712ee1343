"""Samples of the stream that a method keeps: which stay, which go, and which are drawn to be seen again.

Samples are a dict of tensors with a row for each sample: `x` (m, *input_shape), `y` (m,), `task` (m,), and whatever
else a method keeps of each. It belongs in a method's memory under the name "samples", where it is saved and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

Samples = dict[str, Tensor]


def draw(samples: Samples, count: int, generator: torch.Generator) -> Samples:
    """Return at most `count` distinct samples, (count, ...) each, drawn uniformly."""
    order = torch.randperm(len(samples["y"]), generator=generator)
    chosen = order[:count]
    return {name: rows[chosen.to(rows.device)] for name, rows in samples.items()}


def put(samples: Samples, new: Samples, slots: Sequence[int | None]) -> Samples:
    """Return the samples (m, ...) with row i of `new` (n, ...) in slot `slots[i]`, and nowhere for None.

    Of two rows in one slot the later stays. New slots come in order, without a gap.
    """
    last = {slot: row for row, slot in enumerate(slots) if slot is not None}
    if not last:
        return samples
    size_before = len(samples.get("y", ()))
    size = max(size_before, max(last) + 1)
    places = list(last)
    rows = list(last.values())
    kept = {}
    for name, tensor in new.items():
        room = tensor.new_empty(size, *tensor.shape[1:])
        if name in samples:
            room[: len(samples[name])] = samples[name]
        room[places] = tensor[rows]
        kept[name] = room
    return kept


def reservoir_slots(
    seen: int,
    count: int,
    capacity: int,
    below: Callable[[int], int],
    rule: Literal["uniform", "recent"] = "uniform",
) -> list[int | None]:
    """Return the slot of each of `count` samples that come after `seen` others, None for those that are not kept.

    The reservoir of Vitter (1985) draws from all samples so far, the one at hand included, so that each is kept with
    the same probability ("uniform"). The rule "recent" leaves it out of the count, as the code of A-GEM and tiny
    episodic memories does, and prefers late ones. `below(n)` draws an integer in [0, n).
    """
    slots: list[int | None] = []
    for position in range(seen, seen + count):
        if position < capacity:
            slots.append(position)
            continue
        candidates = position + 1 if rule == "uniform" else position
        slot = below(candidates)
        slots.append(slot if slot < capacity else None)
    return slots


def integer_below(generator: torch.Generator) -> Callable[[int], int]:
    """Return a function that draws an integer in [0, n) from a generator."""
    return lambda n: int(torch.randint(n, (), generator=generator))


class Rings:
    """The last `per_class` samples seen of every class (Chaudhry et al., ICLR 2019)."""

    def __init__(self, per_class: int) -> None:
        self.per_class = per_class
        self.samples: Samples = {}
        self._seen: dict[int, int] = {}  # by label
        self._slots: dict[tuple[int, int], int] = {}  # by label and place in its ring

    def add(self, new: Samples) -> None:
        """Add samples (n, ...) in their order; each takes the place of the oldest of its class."""
        slots: list[int | None] = []
        for label in new["y"].tolist():
            seen = self._seen.get(label, 0)
            place = label, seen % self.per_class
            if place not in self._slots:
                self._slots[place] = len(self._slots)
            slots.append(self._slots[place])
            self._seen[label] = seen + 1
        self.samples = put(self.samples, new, slots)


def joined(first: Samples, second: Samples) -> Samples:
    """Return the samples of both, (m + n, ...), those of `first` (m, ...) first."""
    if not first:
        return second
    return {name: torch.cat([first[name], rows]) for name, rows in second.items()}
