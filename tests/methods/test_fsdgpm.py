"""FS-DGPM: the authors' numbers; what a step is made of, and where the ascent and the step lead."""

from typing import Any

import pytest
import torch
from conftest import first_quick
from torch import Tensor, nn
from torch.nn import functional as F

from bench.catalog.catalog import Catalog
from bench.core import Training, UserError
from bench.nn.network import Network
from bench.nn.subspace import leading_basis
from bench.tools.trial import GROUNDS, Ground, Run
from bench.training.data import Batch, TrainingData
from bench.training.step import make_optimizer, training_step

FSDGPM: Any = Catalog().method("fsdgpm")
NOTHING = TrainingData(1, torch.zeros(1), torch.zeros(1), 1)


def of_one_matrix(**settings: Any) -> Any:
    """The method on a network that is one shared matrix, W (2, 3), whose inputs have spanned the first two axes."""
    network = Network(nn.Identity(), 3, 2, 1)
    network.heads[0].weight.data = torch.tensor([[0.1, -0.2, 0.3], [0, 0.4, -0.1]])
    method = FSDGPM(network, FSDGPM.Config(**{"ascent": 0.05, "second_order": False, "soft": "first-step", **settings}))
    method.memory["basis"] = {"heads.0": torch.eye(3).double()[:, :2]}
    method.begin_task(1, NOTHING)
    return method


def known_batch() -> Batch:
    """(1, 0, 2) and (0, 1, -1) of labels 0 and 1, each twice: halves of one sample would not be halved."""
    return Batch(torch.tensor([[1.0, 0, 2], [1, 0, 2], [0, 1, -1], [0, 1, -1]]), torch.tensor([0, 0, 1, 1]), 1, epoch=1)


def test_four_steps_of_the_authors_code() -> None:
    """A matrix with an empty buffer, λ = 1 at first, η₁ = .05, η₂ = .01, rate .1, momentum .9, first order."""
    method = of_one_matrix()
    weight = method.network.heads[0].weight
    start = {"heads.0.weight": weight}
    method.own = 4
    batch = known_batch()
    ascended = method._ascended(start, batch._replace(x=batch.x[:2], y=batch.y[:2]))
    ascended = method._ascended(ascended, batch._replace(x=batch.x[2:], y=batch.y[2:]))
    known = torch.tensor([[0.085547, -0.186553, 0.3], [0.014453, 0.386553, -0.1]])
    torch.testing.assert_close(ascended["heads.0.weight"], known, atol=1e-6, rtol=0)
    loss = method.loss(method.before_step(batch))
    loss.backward()
    row = torch.tensor([-0.147513, 0.135801, -0.430827])
    torch.testing.assert_close(weight.grad, torch.stack([row, -row]), atol=1e-6, rtol=0)
    soft = method.soft["heads.0"]
    torch.testing.assert_close(soft.grad, torch.tensor([0.00426388, 0.00184401]), atol=1e-8, rtol=0)
    soft.grad = None
    optimizer = make_optimizer(method.parameters(), Training(lr=0.1, momentum=0.9))
    losses, columns = [], []
    for step in range(4):
        losses.append(float(training_step(method, optimizer, batch, 0.0)))
        columns.append(float(weight.detach()[0, 2]))
        torch.testing.assert_close(soft.detach(), torch.full((2,), 0.99995459), atol=1.2e-7, rtol=0)
        if step == 0:
            first = torch.tensor([0.10000067, -0.20000062, 0.34308273])
            torch.testing.assert_close(weight[0].detach(), first, atol=1e-6, rtol=0)
    assert losses == pytest.approx([0.333254, 0.297451, 0.242220, 0.185218], abs=1e-6)
    assert columns[1:] == pytest.approx([0.420577, 0.522020, 0.637446], abs=2e-6)


@pytest.mark.parametrize(
    ("start", "known"),
    [(0.3, [0.952574, 0.999927, 0.99995457]), (-0.5, [0.006693, 0.516726, 0.994332, 0.999952]),
     (0.99995458, [0.99995458] * 3)],
)  # fmt: skip
def test_importances_run_to_one_whatever_they_learn(start: float, known: list[float]) -> None:
    """λ <- sigmoid(10 λ), where λ does not learn."""
    method = of_one_matrix(soft_lr=0.0)
    soft = method.soft["heads.0"]
    soft.data.fill_(start)
    found = []
    for _ in known:
        soft.grad = torch.ones(2)
        method.network.heads[0].weight.grad = torch.zeros(2, 3)
        method.edit_grads()
        found.append(float(soft.detach()[0]))
    assert found == pytest.approx(known, abs=1e-6)


@pytest.mark.parametrize(("rule", "learns"), [("first-step", [True, False, False]), ("every-step", [True, True, True])])
def test_when_importances_learn(rule: str, learns: list[bool]) -> None:
    """Released, the optimizer of λ steps a parameter that was replaced; momentum .9, gradients of norm 2 at most."""
    method = of_one_matrix(soft=rule, soft_lr=0.1)
    soft, momentum = method.soft["heads.0"], torch.zeros(2)
    for does in learns:
        momentum = 0.9 * momentum + torch.tensor([1.2, 1.6])
        known = torch.sigmoid(10 * (soft.detach() - 0.1 * momentum * does))
        soft.grad = torch.tensor([3.0, 4.0])
        method.network.heads[0].weight.grad = torch.zeros(2, 3)
        method.edit_grads()
        torch.testing.assert_close(soft.detach(), known, atol=1e-5, rtol=0)
    method.begin_task(2, NOTHING)
    assert torch.equal(method.soft["heads.0"].detach(), torch.ones(2)) and float(method.soft_lr) == pytest.approx(0.1)


@pytest.mark.parametrize(("energy", "k"), [(0.8, 1), (0.9, 2), (0.95, 2), (0.99, 3), (0.999, 3)])
def test_how_many_directions_a_basis_has(energy: float, k: int) -> None:
    """Inputs (2, 1, 0), (0, 1, 1), (1, 0, 1), (3, 2, 0): the authors take the direction that crosses τ too."""
    X = torch.tensor([[2.0, 1, 0], [0, 1, 1], [1, 0, 1], [3, 2, 0]])
    method = FSDGPM(Network(nn.Identity(), 3, 2, 1), FSDGPM.Config(energy=energy, energy_step=0.0))
    method.begin_task(0, NOTHING)
    method.after_step(Batch(X, torch.tensor([0, 1, 0, 1]), 0))
    method.end_task(0, NOTHING)
    basis = method.memory["basis"]["heads.0"]
    assert method.report() == {"rank": {"heads.0": k}} and basis.shape == (3, k)
    assert torch.equal(basis, leading_basis(X.double().T @ X.double(), energy, "reach"))


def test_second_order_is_the_gradient_of_what_the_step_reduces() -> None:
    """By differences of the loss, of which both ascents are part; first order is another number."""
    method = of_one_matrix(second_order=True, ascent=0.5)
    method.network.double()
    method.bases = {"heads.0": torch.eye(3).double()[:, :2]}
    method.soft = {"heads.0": torch.tensor([0.9, 0.4], dtype=torch.float64, requires_grad=True)}
    batch = known_batch()._replace(x=known_batch().x.double())
    method.own, weight = 4, method.network.heads[0].weight
    grads = torch.autograd.grad(method.loss(batch), [weight, method.soft["heads.0"]])
    for parameter, grad in zip((weight, method.soft["heads.0"]), grads, strict=True):
        for i in range(parameter.numel()):
            ends = []
            for shift in (1e-6, -2e-6):
                parameter.data.view(-1)[i] += shift
                ends.append(float(method.loss(batch).detach()))
            parameter.data.view(-1)[i] += 1e-6
            assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float(grad.flatten()[i]), abs=1e-7)
    object.__setattr__(method.config, "second_order", False)
    [first] = torch.autograd.grad(method.loss(batch), [weight])
    assert float((first - grads[0]).norm()) > 1e-3


@pytest.mark.parametrize("momentum", first_quick([0.0, 0.9]))
def test_no_update_leaves_the_free_space_of_the_buffer(momentum: float) -> None:
    """With λ at 1, up to the 5e-5 that the released sigmoid leaves; ascents lead along the basis alone."""
    run = Run("fsdgpm", momentum=momentum, energy=0.9, energy_step=0.0, capacity=96)
    run.learn(1)
    bases = {name: V.float() for name, V in run.method.memory["basis"].items()}
    before = {name: block.weight.clone() for name, block in run.network.blocks().items()}
    run.learn(2, first=1)
    free = 0
    for name, block in run.network.blocks().items():
        delta = block.weight - before[name]
        assert bases[name].shape[1] > 0
        assert float((delta @ bases[name]).norm()) < 1e-3 * float(delta.norm()) + 1e-6, name
        free += float(delta.norm()) > 1e-2
    assert free >= 1


@pytest.mark.parametrize("ground", first_quick(GROUNDS))
def test_where_the_ascent_leads(ground: Ground) -> None:
    """Of matrices along their basis, of all else along the whole gradient; by at most 2 η₁."""
    run = Run("fsdgpm", ground=ground, energy=0.7, ascent=0.05)
    run.learn(1)
    run.network.open([0, 1])
    run.method.begin_task(1, NOTHING)
    weights: dict[str, Tensor] = {n: p for n, p in run.network.named_parameters() if p.requires_grad}
    x, y = torch.from_numpy(run.tasks[1].train.x[:8]), torch.from_numpy(run.tasks[1].train.y[:8])
    grads = torch.autograd.grad(F.cross_entropy(run.network.eval()(x, 1), y), list(weights.values()), allow_unused=True)
    ascended = run.method._ascended(weights, Batch(x, y, 1))
    matrices = {f"{path}.weight" for path in run.network.layers()}
    for (name, weight), grad in zip(weights.items(), grads, strict=True):
        moved = ascended[name].detach() - weight.detach()
        assert float(moved.abs().max()) <= 0.1 + 1e-6
        if grad is not None and name not in matrices:
            torch.testing.assert_close(moved, 0.05 * grad.clamp(-2, 2), atol=1e-6, rtol=1e-4)
    path = "backbone.fc3"
    V = run.method.bases[path]
    moved = (ascended[f"{path}.weight"] - weights[f"{path}.weight"]).detach()
    assert float(moved.norm()) > 1e-4
    torch.testing.assert_close(moved @ V @ V.T, moved, atol=1e-5, rtol=1e-3)


def test_the_buffer_is_offered_each_sample_once_and_every_task_replays() -> None:
    run = Run("fsdgpm", capacity=1000, epochs=2)
    _, records = run.session.run()
    assert [record.stored for record in records] == [48, 96, 144] and int(run.method.memory["seen"]) == 144
    run.method.begin_task(2, NOTHING)
    x, y = torch.from_numpy(run.tasks[2].train.x[:5]), torch.from_numpy(run.tasks[2].train.y[:5])
    mixed = run.method.before_step(Batch(x, y, 2))
    assert len(mixed.y) == 10 and torch.equal(mixed.x[:5], x) and torch.equal(mixed.task[:5], torch.full((5,), 2))
    assert set(mixed.task[5:].tolist()) <= {0, 1, 2} and run.method.own == 5


@pytest.mark.parametrize("frozen", [False, True])
def test_what_is_no_matrix_learns_on_unless_it_is_frozen(frozen: bool) -> None:
    run = Run("fsdgpm", ground=GROUNDS[1], freeze_rest=frozen, epochs=1)
    run.learn(1)
    before = run.network.backbone.bn1.weight.detach().clone()
    run.learn(2, first=1)
    assert torch.equal(run.network.backbone.bn1.weight, before) == frozen


def test_where_it_does_not_apply() -> None:
    for words in ({"optimizer": "adam"}, {"weight_decay": 1e-4}):
        with pytest.raises(UserError, match="it projects gradients, which only the steps of SGD without weight decay"):
            Run("fsdgpm", **words)
    with pytest.raises(UserError, match="it is sharpness-aware by itself, without sam"):
        Run("fsdgpm", sam="all")
    with pytest.raises(UserError, match=r"energy must be in \(0, 1\], not 1\.5"):
        Run("fsdgpm", energy=1.5)
