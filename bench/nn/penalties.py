"""What pulls parameters back to where they were, each as hard as it mattered: the penalty of EWC, SI and MAS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Held(NamedTuple):
    """A parameter θ with its importance Ω and its anchor θ*, all of one shape."""

    parameter: nn.Parameter
    importance: Tensor
    anchor: Tensor


def held(
    parameters: Mapping[str, nn.Parameter], importance: Mapping[str, Tensor], anchors: Mapping[str, Tensor]
) -> list[Held]:
    """Return those of the parameters that have an importance and an anchor, by name."""
    return [Held(p, importance[n], anchors[n]) for n, p in parameters.items() if n in importance]


def quadratic(parameters: Iterable[Held], factor: float) -> Tensor | float:
    """Return factor Σ Ω (θ - θ*)², a scalar with its gradient; 0.0 where nothing is held."""
    total: Tensor | float = 0.0
    for parameter, importance, anchor in parameters:
        moved = (parameter - anchor).flatten()
        pull = (importance.flatten() * moved).detach()
        energy = torch.dot(pull, moved)  # its gradient is `pull` alone, half of that of Σ Ω (θ - θ*)²
        total = total + factor * (2 * energy - energy.detach())
    return total


@torch.no_grad()
def add_gradient(parameters: Iterable[Held], factor: float) -> None:
    """Add the gradient of `quadratic`, 2 factor Ω (θ - θ*), to the gradients of parameters that have one, in place."""
    for parameter, importance, anchor in parameters:
        if parameter.grad is not None:
            parameter.grad.add_(importance * (parameter - anchor), alpha=2 * factor)
