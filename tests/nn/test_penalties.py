"""The quadratic penalty: its value, its gradient in both forms, and what it leaves alone."""

import pytest
import torch
from torch import nn

from bench.nn.penalties import add_gradient, held, quadratic


def test_the_penalty_and_its_gradient() -> None:
    """Ω = (2, 4) and θ - θ* = (.1, -.2): Σ Ω Δ² = .18, with gradient 2 Ω Δ = (.4, -1.6)."""
    parameters = {"a": nn.Parameter(torch.tensor([1.1, -0.2])), "new": nn.Parameter(torch.ones(3))}
    holds = held(parameters, {"a": torch.tensor([2.0, 4.0])}, {"a": torch.tensor([1.0, 0.0])})
    assert [hold.parameter is parameters["a"] for hold in holds] == [True]
    penalty = quadratic(holds, 1.0)
    assert isinstance(penalty, torch.Tensor) and float(penalty.detach()) == pytest.approx(0.18, abs=1e-6)
    [grad] = torch.autograd.grad(penalty, [parameters["a"]])
    torch.testing.assert_close(grad, torch.tensor([0.4, -1.6]))
    parameters["a"].grad = torch.tensor([1.0, 1.0])
    add_gradient(holds, 0.5)
    torch.testing.assert_close(parameters["a"].grad, torch.tensor([1.2, 0.2]))


def test_what_has_no_gradient_is_left_so_and_nothing_held_costs_nothing() -> None:
    parameter = nn.Parameter(torch.ones(2))
    add_gradient(held({"a": parameter}, {"a": torch.ones(2)}, {"a": torch.zeros(2)}), 1.0)
    assert parameter.grad is None
    assert quadratic([], 3.0) == 0.0
