"""Properties of ER and A-GEM: what a step is made of, what stays in memory, and what a correction guarantees."""

import sys

import pytest
import torch
from torch.nn import functional as F

from bench.catalog.catalog import Catalog
from bench.nn.network import Network
from bench.tools.trial import Ground, Run
from bench.training.data import Batch

AGEM = Catalog().method("agem")
corrected = sys.modules[AGEM.__module__].corrected  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("own", "reference", "known"),
    [([1.0, -2, 0.5, 3], [0.0, 1, 2, -1], [1, -4 / 3, 11 / 6, 7 / 3]), ([1.0, 2, 0.5, -3], [0.0, 1, 2, -1], None),
     ([1.0, -1, 2, 0, 0, 0.5, -0.5], [-2.0, 1, 0.5, 1, -1, 0, 0],
      [0.448276, -0.724138, 2.137931, 0.275862, -0.275862, 0.5, -0.5]),
     ([1.0, -1, 2], [-2.0, 1, 0.5], [0.238095, -0.619048, 2.190476]), ([1.0, 2], [0.0, 0.0], None)],
)  # fmt: skip
def test_the_correction_of_agem(own: list[float], reference: list[float], known: list[float] | None) -> None:
    """The first two as mammoth's code computes them; the others by hand, over several parameters as over one."""
    grads = [torch.tensor(own[:1]), torch.tensor(own[1:])]
    references = [torch.tensor(reference[:1]), torch.tensor(reference[1:])]
    found = torch.cat(corrected(grads, references))
    torch.testing.assert_close(found, torch.tensor(known or own), atol=1e-6, rtol=0)
    assert float(found @ torch.tensor(reference)) >= -1e-6


def test_no_step_of_agem_raises_the_loss_on_its_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run("agem", reference=1000)
    run.learn(1)
    products, edit = [], run.method.edit_grads

    def watched() -> None:
        edit()
        old = run.method.memory["samples"]
        loss = F.cross_entropy(run.network(old["x"], old["task"]), old["y"])
        reference = torch.autograd.grad(loss, run.method.learning, materialize_grads=True)
        terms = [(p.grad * r).sum() for p, r in zip(run.method.learning, reference, strict=True)]
        products.append(float(sum(terms)))

    monkeypatch.setattr(type(run.method), "edit_grads", lambda self: watched())
    run.learn(2, first=1)
    assert len(products) > 10
    assert min(products) > -1e-5
    assert min(products) < 1e-5, "no step was corrected"


@pytest.mark.parametrize("fill", ["ring", "random"])
def test_what_agem_keeps(fill: str) -> None:
    run = Run("agem", per_class=3, fill=fill)
    _, records = run.session.run()
    samples = run.method.memory["samples"]
    found = sorted(zip(samples["task"].tolist(), samples["y"].tolist(), strict=True))
    classes = [(t, y) for t in range(3) for y in range(2)]
    assert found == [pair for pair in classes for _ in range(3)]
    assert [record.stored for record in records] == [6, 12, 18]
    for task in range(3):
        images = torch.from_numpy(run.tasks[task].train.x)
        mine = samples["x"][samples["task"] == task]
        assert len(mine) == 6
        for image in mine:
            same = (images == image).flatten(1).all(1)
            assert same.any()


def test_er_trains_on_the_batch_and_as_many_old_samples_each_with_its_own_head() -> None:
    run = Run("er", capacity=24)
    run.learn(2)
    x = torch.from_numpy(run.tasks[2].train.x[:5])
    y = torch.from_numpy(run.tasks[2].train.y[:5])
    mixed = run.method.before_step(Batch(x, y, 2))
    assert torch.equal(mixed.x[:5], x)
    assert torch.equal(mixed.task[:5], torch.full((5,), 2))
    assert len(mixed.y) == 10
    assert set(mixed.task[5:].tolist()) <= {0, 1}
    parts = []
    for image, label, task in zip(mixed.x, mixed.y, mixed.task, strict=True):
        logits = run.network(image[None], int(task))
        parts.append(F.cross_entropy(logits, label[None]))
    torch.testing.assert_close(run.method.loss(mixed), torch.stack(parts).mean())


def test_one_loss_over_the_heads_of_several_tasks() -> None:
    """Joint logits (1, 0, .5, 0), (0, 2, 0, 1), (0, 0, 3, 1) of two heads, tasks 0, 1, 1, labels 0, 1, 0."""
    network = Network(torch.nn.Identity(), 4, 2, 2)
    for t, head in enumerate(network.heads):
        head.weight.data = torch.eye(4)[2 * t : 2 * t + 2]
    x = torch.tensor([[1, 0, 0.5, 0], [0, 2, 0, 1], [0, 0, 3, 1]])
    method = Catalog().method("finetune")(network)
    loss = method.loss(Batch(x, torch.tensor([0, 1, 0]), torch.tensor([0, 1, 1])))
    assert float(loss) == pytest.approx(0.251150, abs=1e-6)


def test_er_offers_every_sample_once_however_many_epochs() -> None:
    run = Run("er", capacity=1000, epochs=3)
    _, records = run.session.run()
    assert [record.stored for record in records] == [48, 96, 144]
    assert int(run.method.memory["seen"]) == 144


def test_er_that_keeps_nothing_new_is_fine_tuning_with_one_old_sample() -> None:
    """With a buffer of one sample, the bytes carried are those of one sample."""
    run = Run("er", capacity=1)
    _, records = run.session.run()
    sample = run.method.memory["samples"]
    assert [record.stored for record in records] == [1, 1, 1]
    size = sum(t.nbytes for t in sample.values())
    assert records[-1].state_bytes == size + run.method.memory["seen"].nbytes


@pytest.mark.parametrize("method", ["er", "agem"])
def test_heads_of_earlier_tasks_go_on_learning(method: str) -> None:
    run = Run(method)
    run.learn(1)
    before = run.network.heads[0].weight.detach().clone()
    run.learn(2, first=1)
    assert not torch.equal(run.network.heads[0].weight, before)


@pytest.mark.slow
def test_replay_forgets_less_than_fine_tuning() -> None:
    """On permuted digits, three epochs a task: the mean accuracy on the first four tasks after the fifth."""
    ground = Ground("permuted_digits", "published")
    means = {}
    for name in ("finetune", "agem", "er"):
        R = Run(name, ground=ground, epochs=3).learn()
        means[name] = sum(a or 0.0 for a in R[-1][:4]) / 4
    assert means["er"] > means["agem"] > means["finetune"] + 0.02, means
