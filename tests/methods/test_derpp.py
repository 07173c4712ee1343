"""DER++: its loss in numbers, what its buffer holds, and what it is without its two terms."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from conftest import first_quick
from torch import Tensor, nn, tensor

from bench.catalog.catalog import Catalog
from bench.core import UserError
from bench.nn.network import Network
from bench.tools.trial import GROUNDS, Ground, Run, difference
from bench.training.data import Batch, TrainingData

DERPP: Any = Catalog().method("derpp")
FIRST = tensor([[0.5, -0.5], [1, 1]])


def method_of(heads: list[Tensor], drawn: list[dict[str, Tensor]], **settings: Any) -> Any:
    """The method on features (n, 2) and given heads, the draws of a step made already."""
    network = Network(nn.Identity(), 2, 2, len(heads))
    for head, weight in zip(network.heads, heads, strict=True):
        head.weight.data = weight  # type: ignore[union-attr, assignment]
    method = DERPP(network, DERPP.Config(**settings))
    method.begin_task(0, TrainingData(0, torch.zeros(0, 2), torch.zeros(0), 1))
    method.drawn = drawn
    return method


@pytest.mark.parametrize(
    ("alpha", "beta", "known"),
    [(0.0, 0.0, 0.220095), (1.0, 0.0, 0.220095 + 0.375), (0.0, 1.0, 0.220095 + 1.410038), (0.1, 0.5, 0.962614)],
)
def test_the_loss_in_numbers(alpha: float, beta: float, known: float) -> None:
    """By hand, of Eq. 6: answers (1, 0), (0, 2); in the buffer logits (0, 0), (1, 2) where answers are FIRST."""
    zeros = torch.zeros(2, dtype=torch.long)
    drawn = [{"x": FIRST, "task": zeros, "logits": tensor([[0.0, 0], [1, 2]]), "y": zeros},
             {"x": tensor([[2.0, 0], [0, 0]]), "task": zeros, "y": tensor([1, 0])}]  # fmt: skip
    method = method_of([torch.eye(2)], drawn, alpha=alpha, beta=beta)
    loss = method.loss(Batch(tensor([[1.0, 0], [0, 2]]), tensor([0, 1]), 0))
    assert float(loss.detach()) == pytest.approx(known, abs=2e-6)


def test_the_gradient_of_the_square_is_a_mean_over_samples_and_logits() -> None:
    zeros, images = torch.zeros(2, dtype=torch.long), FIRST.clone().requires_grad_()
    drawn = [{"x": images, "task": zeros, "logits": tensor([[0.0, 0], [1, 2]])}, {}]
    method = method_of([torch.eye(2)], drawn, alpha=1.0, beta=0.0)
    method.loss(Batch(tensor([[1.0, 0], [0, 2]]), tensor([0, 1]), 0)).backward()
    torch.testing.assert_close(images.grad, tensor([[0.25, -0.25], [0, -0.5]]))


def test_the_loss_under_a_head_per_task_in_numbers() -> None:
    """By hand: features (1, 2), (0, 1), (2, -1), the first of task 1, the others of task 0."""
    heads = [torch.eye(2), tensor([[0.5, 0.5], [-1, 1]])]
    zero = torch.zeros(1, dtype=torch.long)
    drawn = [{"x": tensor([[0.0, 1]]), "task": zero, "logits": tensor([[0.0, 0.5]]), "y": zero},
             {"x": tensor([[2.0, -1]]), "task": zero, "y": zero}]  # fmt: skip
    batch = Batch(tensor([[1.0, 2]]), tensor([1]), 1)
    parts = {(0.0, 0.0): 0.974077, (1.0, 0.0): 0.974077 + 0.125, (0.0, 1.0): 0.974077 + 0.048587, (0.2, 0.5): 1.023371}
    for (alpha, beta), known in parts.items():
        loss = method_of(heads, drawn, alpha=alpha, beta=beta).loss(batch)
        assert float(loss.detach()) == pytest.approx(known, abs=2e-6)
    assert float(method_of(heads, []).loss(batch).detach()) == pytest.approx(0.974077, abs=2e-6), "an empty buffer"


@pytest.mark.parametrize(("seed", "known"), [(0, [6, 18, 13, 11]), (1, [10, 11, 2, 4])])
def test_the_reservoir_of_the_authors_code(seed: int, known: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream 0..19 in batches of five, random numbers from numpy's legacy generator as there."""
    legacy = np.random.RandomState(seed)
    module = sys.modules[DERPP.__module__]
    monkeypatch.setattr(module, "integer_below", lambda generator: lambda n: legacy.randint(0, n))
    method = method_of([torch.eye(2)], [], capacity=4)
    for start in range(0, 20, 5):
        x = torch.arange(start, start + 5.0)[:, None].repeat(1, 2)
        batch = method.before_step(Batch(x, torch.arange(start, start + 5) % 2, 0))
        method.loss(batch)
        method.after_step(batch)
    samples = method.memory["samples"]
    assert samples["x"][:, 0].tolist() == known and torch.equal(samples["logits"], samples["x"])


@pytest.mark.parametrize("ground", first_quick(GROUNDS), ids=lambda ground: ground.benchmark)
@pytest.mark.parametrize("sam", first_quick(["none", "all"]))
def test_without_alpha_and_beta_it_is_fine_tuning_bit_for_bit(ground: Ground, sam: str) -> None:
    own = {"sam": sam, "momentum": 0.9, "weight_decay": 1e-3, "epochs": 3}
    runs = [Run("derpp", ground=ground, alpha=0.0, beta=0.0, **own), Run("finetune", ground=ground, **own)]
    matrices = [run.learn() for run in runs]
    assert matrices[0] == matrices[1]
    assert not difference(*(run.network.state_dict() for run in runs))


@pytest.mark.parametrize("alone", [{"alpha": 0.5, "beta": 0.0}, {"alpha": 0.0, "beta": 0.5}])
def test_either_term_alone_changes_what_is_learnt(alone: dict[str, float]) -> None:
    runs = [Run("derpp", **alone), Run("finetune")]
    for run in runs:
        run.learn(2)
    assert difference(*(run.network.state_dict() for run in runs))


@pytest.mark.parametrize("sam", first_quick(["none", "all"]))
def test_the_logits_that_are_kept_are_those_of_the_step_before_its_weights_move(sam: str) -> None:
    """One step on one batch: the buffer holds what the untrained network answers."""
    run = Run("derpp", capacity=100, epochs=1, batch_size=48, sam=sam)
    untrained = Run("finetune").network
    run.learn(1)
    samples = run.method.memory["samples"]
    assert len(samples["y"]) == 48
    torch.testing.assert_close(samples["logits"], untrained(samples["x"], 0).detach())
    assert not torch.allclose(samples["logits"], run.network(samples["x"], 0), atol=1e-3)


def test_the_two_draws_of_a_step_differ_and_are_as_large_as_the_batch_or_the_buffer() -> None:
    run = Run("derpp", capacity=24)
    run.learn(2)
    x, y = torch.from_numpy(run.tasks[2].train.x[:5]), torch.from_numpy(run.tasks[2].train.y[:5])
    assert run.method.before_step(Batch(x, y, 2)).x is x
    first, second = run.method.drawn
    assert len(first["y"]) == len(second["y"]) == 5 and not torch.equal(first["x"], second["x"])
    run.method.before_step(Batch(x.repeat(10, 1, 1, 1), y.repeat(10), 2))
    assert [len(part["y"]) for part in run.method.drawn] == [24, 24]
    assert first["logits"].shape == (5, 2) and set(first["task"].tolist()) <= {0, 1}


def test_samples_are_offered_in_every_epoch_and_no_draw_outlives_its_step() -> None:
    run = Run("derpp", capacity=30, epochs=3)
    _, records = run.session.run()
    assert [record.stored for record in records] == [30, 30, 30] and int(run.method.memory["seen"]) == 3 * 3 * 48
    assert run.method.drawn == [] and run.method.answers is None
    assert set(run.method.memory["samples"]["task"].tolist()) == {0, 1, 2}
    kept = run.method.memory["samples"]
    assert records[-1].state_bytes == sum(part.nbytes for part in kept.values()) + run.method.memory["seen"].nbytes


@pytest.mark.parametrize("setting", [{"alpha": -0.1}, {"beta": -0.1}, {"capacity": 0}, {"replay": -1}])
def test_what_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(setting))} must be"):
        DERPP.Config(**setting)
