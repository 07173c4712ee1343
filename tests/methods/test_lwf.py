"""LwF: the distillation in numbers, what is carried, and what it does to the answers of earlier tasks."""

import sys
from typing import Any

import pytest
import torch
from conftest import first_quick
from torch import tensor

from bench.catalog.catalog import Catalog
from bench.core import UserError
from bench.tools.trial import GROUNDS, PLAIN, SHARED, Ground, Run, difference, snapshot
from bench.training.data import Batch

LWF: Any = Catalog().method("lwf")
distillation = sys.modules[LWF.__module__].distillation  # type: ignore[attr-defined]


@pytest.mark.parametrize(("temperature", "known"), [(1.0, 0.981315), (2.0, 1.062784)])
def test_the_distillation_of_one_head(temperature: float, known: float) -> None:
    """As FACIL's and HAT's code compute it, without the floor of the latter: the paper's Eq. 2-3."""
    answers, targets = tensor([[[1.0, 0, -1]], [[0.5, 0.5, 2]]]), tensor([[[2.0, 0, 0]], [[0.0, 1, 1]]])
    assert float(distillation(answers, targets, temperature)) == pytest.approx(known, abs=1e-6)


def test_the_entropy_of_the_teacher_is_no_part_of_what_is_learnt() -> None:
    """KL, the distillation less what it is where the network answers as the teacher does: 0.139850 at T = 1."""
    answers, targets = tensor([[[1.0, 0, -1]], [[0.5, 0.5, 2]]]), tensor([[[2.0, 0, 0]], [[0.0, 1, 1]]])
    for temperature, known in ((1.0, 0.139850), (2.0, 0.037936)):
        least = distillation(targets, targets, temperature)
        assert float(distillation(answers, targets, temperature) - least) == pytest.approx(known, abs=1e-6)


@pytest.mark.parametrize(("heads", "known"), [("separate", 0.650848 + 0.680414), ("joined", 1.357621)])
def test_the_distillation_of_two_heads(heads: str, known: float) -> None:
    """By HAT's code a sum over heads, by FACIL's one softmax over all of their outputs."""
    answers = tensor([[[1.0, 0], [-1, 0.5]], [[0.5, 0.5], [2, 0]]])
    targets = tensor([[[2.0, 0], [0, 1]], [[0.0, 1], [1, 0]]])
    assert float(distillation(answers, targets, 2.0, heads)) == pytest.approx(known, abs=2e-6)


def test_the_gradient_is_the_gap_of_softened_outputs_over_the_temperature() -> None:
    """The teacher's (2, 0) is (0.73105858, 0.26894142) at T = 2; the network's (0, 0) is (1/2, 1/2). No factor T²."""
    answers = torch.zeros(1, 1, 2, requires_grad=True)
    distillation(answers, tensor([[[2.0, 0]]]), 2.0).backward()
    known = (0.5 - tensor([[[0.73105858, 0.26894142]]])) / 2
    torch.testing.assert_close(answers.grad, known)


@pytest.mark.parametrize("ground", first_quick(GROUNDS), ids=lambda ground: ground.benchmark)
@pytest.mark.parametrize("sam", first_quick(["none", "all"]))
def test_with_lambda_zero_it_is_fine_tuning_bit_for_bit(ground: Ground, sam: str) -> None:
    own = {"sam": sam, "momentum": 0.9, "weight_decay": 1e-3, "epochs": 3}
    runs = [Run("lwf", ground=ground, strength=0.0, **own), Run("finetune", ground=ground, **own)]
    matrices = [run.learn() for run in runs]
    assert matrices[0] == matrices[1]
    assert not difference(*(run.network.state_dict() for run in runs))


@pytest.mark.parametrize("setting", [{"temperature": 0.0}, {"temperature": -1.0}, {"strength": -0.1}])
def test_what_is_refused(setting: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(setting))} must be"):
        LWF.Config(**setting)


@pytest.mark.parametrize("ground", first_quick(GROUNDS), ids=lambda ground: ground.benchmark)
def test_the_teacher_is_carried_and_counted_and_is_what_teaches(ground: Ground) -> None:
    run = Run("lwf", ground=ground)
    records = run.session.run()[1]
    weights = run.network.state_dict()
    assert not difference(run.method.memory["teacher"], weights)
    assert [record.state_bytes for record in records] == [sum(w.nbytes for w in weights.values())] * 3
    other = Run("lwf", ground=ground)
    other.learn(1)
    for name, taught in other.method.memory["teacher"].items():
        if name.startswith("heads."):
            taught.mul_(-1)
    other.learn(2, first=1)
    again = Run("lwf", ground=ground)
    again.learn(2)
    assert difference(other.network.state_dict(), again.network.state_dict()), "another teacher taught the same"


def test_the_teacher_stays_as_it_was_while_all_else_learns() -> None:
    run = Run("lwf")
    run.learn(1)
    before, weights = {n: w.clone() for n, w in run.method.memory["teacher"].items()}, snapshot(run.network)
    seen: list[str] = []
    end = run.method.end_task
    run.method.end_task = lambda task, data: (  # type: ignore[method-assign]
        seen.append(difference(run.method.memory["teacher"], before)), end(task, data))  # fmt: skip
    run.learn(2, first=1)
    assert seen == [""]
    moved = {n for n, w in run.network.state_dict().items() if not torch.equal(w, weights[n])}
    assert moved == set(weights) - {"heads.2.weight"}, "heads of earlier tasks learn, and those to come do not"


def test_the_teacher_answers_without_dropout() -> None:
    run = Run("lwf", ground=SHARED)
    run.learn(1)
    x, y = torch.from_numpy(run.tasks[1].train.x[:8]), torch.from_numpy(run.tasks[1].train.y[:8])
    run.method.begin_task(1, None)  # type: ignore[arg-type]
    run.network.statistics_frozen = True  # as after the first task
    run.network.train()
    run.method.before_step(Batch(x, y, 1))
    noisy, plain = run.network(x, 0), run.network.eval()(x, 0)
    torch.testing.assert_close(run.method.targets, plain[:, None].detach())
    assert not torch.allclose(noisy, plain) and not run.method.targets.requires_grad


def test_the_loss_of_a_step_is_the_sum_of_its_parts() -> None:
    run = Run("lwf", strength=3.0, temperature=1.5)
    run.learn(2)
    method, x, y = run.method, torch.from_numpy(run.tasks[2].train.x[:8]), torch.from_numpy(run.tasks[2].train.y[:8])
    method.begin_task(2, None)  # type: ignore[arg-type]
    for head in run.network.heads:
        head.weight.data *= 1.5  # the network moves, its teacher does not
    batch = method.before_step(Batch(x, y, 2))
    parts = [torch.nn.functional.cross_entropy(run.network(x, 2), y)]
    for j in (0, 1):
        p = torch.softmax(method.teacher(x, j) / 1.5, 1)
        parts.append(-3 * (p * torch.log_softmax(run.network(x, j) / 1.5, 1)).sum(1).mean())
        assert not torch.allclose(method.teacher(x, j), run.network(x, j))
    torch.testing.assert_close(method.loss(batch), sum(parts))


def test_answers_of_earlier_heads_on_new_images_change_less_the_stronger_they_are_held() -> None:
    gaps = []
    for strength in (0.0, 1.0, 10.0):
        run = Run("lwf", strength=strength, ground=PLAIN)
        run.learn(1)
        x = torch.from_numpy(run.tasks[1].train.x)
        before = torch.softmax(run.network(x, 0).detach(), 1)
        run.learn(2, first=1)
        after = torch.softmax(run.network(x, 0).detach(), 1)
        gaps.append(float((after - before).abs().mean()))
    assert gaps[0] > 1.5 * gaps[1] > 1.5 * gaps[2], gaps
