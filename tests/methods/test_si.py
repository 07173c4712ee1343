"""SI: known answers of a path, and that a path adds up to the change of the loss."""

from collections.abc import Sequence

import pytest
import torch
from conftest import first_quick
from torch import nn

from bench.catalog.catalog import Catalog
from bench.core import UserError
from bench.nn.network import Network
from bench.tools.trial import Run
from bench.training.data import Batch, TrainingData
from bench.training.method import Method

SI = Catalog().method("si")
Sample = tuple[tuple[float, float], float]  # inputs and target
FIRST: Sequence[Sample] = (((1, 2), 1), ((2, -1), 0.5), ((0, 1), -1))
SECOND: Sequence[Sample] = (((1, 1), 2), ((1, 0), 0))


def linear(**settings: float) -> Method:
    """SI on y = wᵀx, w = 0 at first and the only shared parameter."""
    network = Network(nn.Linear(2, 1, bias=False), 1, 1, 2).double()
    nn.init.zeros_(network.backbone.weight)
    for head in network.heads:
        nn.init.ones_(head.weight)
    return SI(network, SI.Config(**settings))


def descend(method: Method, samples: Sequence[Sample], lr: float = 0.1) -> None:
    """Learn a task but for its end: a step of gradient descent on ½ (y - t)² for each sample."""
    empty = TrainingData(0, torch.zeros(0, 2), torch.zeros(0), 1)
    method.begin_task(0, empty)
    method.network.open([])
    optimizer = torch.optim.SGD(method.parameters(), lr=lr)
    for x, target in samples:
        optimizer.zero_grad()
        inputs = torch.tensor([x], dtype=torch.float64)
        (0.5 * (method.network(inputs, 0) - target).square().sum()).backward()
        method.edit_grads()
        optimizer.step()
        method.after_step(Batch(inputs, torch.zeros(1), 0))


def close(found: torch.Tensor, known: Sequence[float]) -> None:
    torch.testing.assert_close(found.flatten(), torch.tensor(known, dtype=torch.float64), atol=2e-6, rtol=0)


@pytest.mark.parametrize(("damping", "omega"), [(0.1, (1.428571, 5.505063)), (1.0, (0.192308, 0.556568))])
def test_the_path_and_the_importance_of_a_task(damping: float, omega: tuple[float, float]) -> None:
    """Three steps by hand: w = (.1, .2), (.2, .15), (.2, .035)."""
    method = linear(damping=damping)
    descend(method, FIRST)
    close(method.network.backbone.weight.detach(), (0.2, 0.035))
    close(method.path["backbone.weight"], (0.2, 0.55725))
    method.end_task(0, TrainingData(0, torch.zeros(0, 2), torch.zeros(0), 1))
    close(method.memory["omega"]["backbone.weight"], omega)
    close(method.memory["anchor"]["backbone.weight"], (0.2, 0.035))


def test_a_second_task_is_pulled_back_and_its_path_is_that_of_the_loss_alone() -> None:
    method = linear(strength=0.5, damping=0.1)
    empty = TrainingData(0, torch.zeros(0, 2), torch.zeros(0), 1)
    descend(method, FIRST)
    method.end_task(0, empty)
    descend(method, SECOND)
    close(method.grads["backbone.weight"], (0.3765, 0))
    close(method.network.backbone.weight.grad - method.grads["backbone.weight"], (0.252143, 0.971644))
    close(method.network.backbone.weight.detach(), (0.313636, 0.114336))
    close(method.path["backbone.weight"], (0.335191, 0.311523))
    method.end_task(1, empty)
    close(method.memory["omega"]["backbone.weight"], (4.397146, 8.435822))


@pytest.mark.parametrize("lr", first_quick([0.03, 0.003, 0.0003], 2))
def test_the_path_sums_to_the_change_of_a_quadratic_loss(lr: float) -> None:
    """With the loss ½ (wᵀx - t)², whose curvature is xxᵀ, steps of -lr g sum to its fall, and a share lr xᵀx / (2 - lr
    xᵀx) of it more, which vanishes with the rate."""
    method = linear()
    descend(method, [((1.0, 2.0), 3.0)] * round(0.3 / lr), lr)
    weight = method.network.backbone.weight.detach().flatten()
    fell = 4.5 - 0.5 * float(weight[0] + 2 * weight[1] - 3) ** 2
    excess = lr * 5 / (2 - lr * 5)
    assert fell > 4
    assert float(method.path["backbone.weight"].sum()) == pytest.approx(fell * (1 + excess), rel=1e-9)


def test_the_accumulated_importance_is_clamped_and_not_a_task_s_share() -> None:
    """As in the authors' code: a task whose loss rose along a path takes away from what was there, down to zero."""
    method = linear(damping=1.0)
    empty = TrainingData(0, torch.zeros(0, 2), torch.zeros(0), 1)
    method.begin_task(0, empty)
    method.memory = {"omega": {"backbone.weight": torch.tensor([[3.0, 1.0]]).double()}}
    method.path["backbone.weight"] -= 2
    method.end_task(0, empty)
    close(method.memory["omega"]["backbone.weight"], (1, 0))


def test_the_stronger_the_closer_to_the_anchor() -> None:
    drift = []
    for strength in (0.0, 1000.0):
        run = Run("si", strength=strength)
        run.learn(1)
        omega, anchor = run.method.memory["omega"], run.method.memory["anchor"]
        run.learn(2, first=1)
        moved = {n: p.detach() - anchor[n] for n, p in run.network.shared_parameters().items()}
        drift.append(sum(float((omega[n] * moved[n].square()).sum()) for n in moved))
    assert 0 < drift[1] < drift[0] / 4


def test_without_strength_it_is_fine_tuning_to_the_bit() -> None:
    still, plain = Run("si", strength=0.0), Run("finetune")
    assert still.learn() == plain.learn()
    assert all(torch.equal(a, b) for a, b in zip(still.network.parameters(), plain.network.parameters(), strict=True))


@pytest.mark.parametrize("wrong", [{"strength": -1.0}, {"damping": 0.0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        Run("si", **wrong)
