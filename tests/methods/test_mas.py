"""MAS: known answers of the importance, per sample, as released, and of the norm itself; and what it holds to."""

import pytest
import torch
from conftest import first_quick
from torch import Tensor, nn

from bench.catalog.catalog import Catalog
from bench.core import UserError
from bench.nn.network import Network
from bench.tools.trial import Run
from bench.training.data import TrainingData
from bench.training.method import Method

MAS = Catalog().method("mas")
X = torch.tensor([[1.0, 2], [0, -1], [3, 1]])


def linear(weight: list[list[float]], **settings: object) -> Method:
    """MAS on F = W x, W the only shared parameter."""
    network = Network(nn.Linear(len(weight[0]), len(weight), bias=False), len(weight), len(weight), 2)
    network.backbone.weight.data = torch.tensor(weight)
    for head in network.heads:
        nn.init.eye_(head.weight)
    return MAS(network, MAS.Config(**settings))


def omega(method: Method, x: Tensor) -> Tensor:
    """What the end of a task makes of inputs."""
    method.end_task(0, TrainingData(0, x, torch.zeros(len(x), dtype=torch.long), 2))
    return method.memory["omega"]["backbone.weight"]


def close(found: Tensor, known: list[list[float]]) -> None:
    torch.testing.assert_close(found, torch.tensor(known), atol=2e-6, rtol=1e-6)


SQUARE = [[1.0, -1], [0.5, 2]]


def test_the_importance_of_every_sample() -> None:
    close(omega(linear(SQUARE), X), [[4.666667, 3.333333], [10, 9.666667]])
    close(omega(linear(SQUARE, squared=False), X), [[0.568449, 0.459071], [1.193639, 1.238348]])


@pytest.mark.parametrize(
    ("sizes", "known"),
    [([2, 1], [[6.5, 3.5], [12.75, 9]]), ([3], [[3.333333, 0.666667], [10, 9.666667]]),
     ([1, 1, 1], [[4.666667, 3.333333], [10, 9.666667]])],
)  # fmt: skip
def test_the_importance_as_the_authors_code_has_it(sizes: list[int], known: list[list[float]]) -> None:
    """Signs cancel within a batch, and all batches count as long as the last one; batches of one are samples."""
    found = linear(SQUARE)._of_batches(X.split(sizes), 0)  # type: ignore[attr-defined]
    close(found["backbone.weight"], known)


def test_published_takes_batches_in_a_random_order_that_a_seed_repeats() -> None:
    close(omega(linear(SQUARE, absolute="batch"), X), [[3.333333, 0.666667], [10, 9.666667]])
    four = torch.cat([X, torch.tensor([[-1.0, 2]])])
    orders = []
    for seed in (0, 0, 1, 2, 3):
        method = linear(SQUARE, absolute="batch", batch=2)
        method.generator.manual_seed(seed)
        orders.append(tuple(omega(method, four).flatten().tolist()))
    assert orders[0] == orders[1] and len(set(orders)) > 1


@pytest.mark.parametrize(("squared", "known"), [(True, [[2 / 3, 4 / 3]]), (False, [[1 / 3, 1 / 3]])])
def test_a_sample_with_answer_zero(squared: bool, known: list[list[float]]) -> None:
    """F = (1, -2) x, of which the second answer is 0: a norm has no derivative there, and it counts as 0."""
    found = omega(linear([[1.0, -2]], squared=squared), torch.tensor([[1.0, 0], [2, 1], [0, -1]]))
    close(found, known)


def test_the_penalty_has_no_half_and_its_anchor_is_the_last_task_s() -> None:
    method = linear([[1.1, -0.2]])
    method.memory = {
        "omega": {"backbone.weight": torch.tensor([[2.0, 4]])},
        "anchor": {"backbone.weight": torch.tensor([[1.0, 0]])},
    }
    penalty = method.penalty()
    assert isinstance(penalty, Tensor) and float(penalty.detach()) == pytest.approx(0.18, abs=1e-6)
    [grad] = torch.autograd.grad(penalty, [method.network.backbone.weight])
    close(grad, [[0.4, -1.6]])


def test_importance_adds_up_over_tasks_and_asks_for_no_label() -> None:
    first, twice = omega(linear(SQUARE), X), linear(SQUARE)
    omega(twice, X)
    twice.network.backbone.weight.data.mul_(2)
    torch.testing.assert_close(omega(twice, X), 3 * first)
    assert torch.equal(twice.memory["anchor"]["backbone.weight"], twice.network.backbone.weight)
    wrong = TrainingData(0, X, torch.full((3,), -100), 2)
    blind = linear(SQUARE)
    blind.end_task(0, wrong)
    assert torch.equal(blind.memory["omega"]["backbone.weight"], first)


@pytest.mark.parametrize("absolute", first_quick(["sample", "batch"]))
def test_the_stronger_the_closer_to_the_anchor(absolute: str) -> None:
    drift = []
    for strength in (0.0, 30.0):
        run = Run("mas", strength=strength, absolute=absolute)
        run.learn(1)
        importance, anchor = run.method.memory["omega"], run.method.memory["anchor"]
        run.learn(2, first=1)
        moved = {n: p.detach() - anchor[n] for n, p in run.network.shared_parameters().items()}
        drift.append(sum(float((importance[n] * moved[n].square()).sum()) for n in moved))
    assert 0 < drift[1] < drift[0] / 2


@pytest.mark.parametrize("wrong", [{"strength": -1.0}, {"batch": 0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        Run("mas", **wrong)
