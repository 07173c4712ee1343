"""OWM: the authors' numbers, and what P is: symmetric, positive, and without the inputs that it has seen."""

import sys
from collections import OrderedDict
from typing import Any

import pytest
import torch
from conftest import first_quick
from torch import Tensor, nn

from bench.catalog.catalog import Catalog
from bench.core import Benchmark, Training, UserError
from bench.nn.activations import input_grams
from bench.nn.network import Network
from bench.nn.subspace import interference
from bench.tools.trial import GROUNDS, Ground, Run, snapshot
from bench.training.data import Batch, TrainingData
from bench.training.step import make_optimizer, training_step

OWM: Any = Catalog().method("owm")
shrink, shrunk = sys.modules[OWM.__module__].shrink, sys.modules[OWM.__module__].shrunk
FC = "backbone.fc"


def of_layers(*layers: nn.Module, features: int = 2, **settings: object) -> Any:
    """The method on a backbone of layers called fc, fc1, fc2, ... and two heads; every hook of a task's begin done."""
    names = ["fc", *(f"fc{i}" for i in range(1, len(layers)))]
    network = Network(nn.Sequential(OrderedDict(zip(names, layers, strict=True))), features, 2, 2)
    method = OWM(network, OWM.Config(**{"schedule": "constant", "alpha": 1.0, "clip": 1e9, **settings}))
    method.begin_task(0, TrainingData(0, torch.zeros(1), torch.zeros(1), 1))
    return method


def see(method: Any, inputs: Tensor, progress: float = 0.0, epoch: int = 0) -> None:
    """The hooks of a step up to the gradients."""
    batch = Batch(inputs, torch.zeros(len(inputs), dtype=torch.int64), 0, progress, epoch)
    method.loss(method.before_step(batch)).backward()


def symmetric(upper: list[list[float]]) -> Tensor:
    d = len(upper)
    rows = torch.tensor([[0.0] * (d - len(row)) + row for row in upper])
    return rows.triu() + rows.triu(1).T


@pytest.mark.parametrize(
    ("alpha", "known"),
    [(1.0, [[0.523810, -0.190476, -0.285714], [0.523810, 0.285714], [0.428571]]),
     (0.1, [[0.502732, -0.169399, -0.327869], [0.502732, 0.327869], [0.344262]])],
)  # fmt: skip
def test_two_batches_of_the_authors_layer(alpha: float, known: list[list[float]]) -> None:
    """As the authors' OWMLayer computes them, alpha = 1 in the first batch; their W is (d, o)."""
    layer = nn.Linear(3, 2, bias=False)
    layer.weight.data = torch.tensor([[1.0, 0, 1], [0, 1, 1]])
    method = of_layers(layer)
    optimizer = make_optimizer(method.parameters(), Training(lr=0.1))
    grad = torch.tensor([[1.0, 0, 3], [2, -1, 1]])
    weights = []
    for inputs, a in ((torch.tensor([[2.0, 0, 0], [0, 2, 0]]), 1.0), (torch.tensor([[1.0, -1, 2]]), alpha)):
        object.__setattr__(method.config, "alpha", a)
        see(method, inputs)
        layer.weight.grad = method.frees()[FC](grad)
        optimizer.step()
        weights.append(layer.weight.detach().T.clone())
        if len(weights) == 1:
            first = symmetric([[0.666667, -0.333333, 0], [0.666667, 0], [1.0]])
            torch.testing.assert_close(method.P[FC].float(), first, atol=1e-6, rtol=0)
    torch.testing.assert_close(method.P[FC].float(), symmetric(known), atol=1e-6, rtol=0)
    first = torch.tensor([[0.933333, -0.166667], [0.033333, 1.133333], [0.7, 0.9]])
    torch.testing.assert_close(weights[0], first, atol=1e-6, rtol=0)
    if alpha == 1:
        second = torch.tensor([[0.966667, -0.261905], [-0.033333, 1.195238], [0.6, 0.942857]])
        torch.testing.assert_close(weights[1], second, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("stride", "known"),
    [(0, [[0.449664, -0.389262, -0.067114, 0.093960], [0.687145, -0.160041, -0.083634], [0.654104, -0.438823],
          [0.383583]]),
     (2, [[1.0, 0, 0, 0], [0.962963, -0.111111, -0.148148], [0.666667, -0.444444], [0.407407]])],
)  # fmt: skip
def test_patches_of_a_convolution(stride: int, known: list[list[float]]) -> None:
    """A mean image of 0 ... 8 under a kernel of 2 x 2: every patch, or those of the released code's fixed stride."""
    method = of_layers(nn.Conv2d(1, 1, 2, bias=False), nn.Flatten(), features=4, patch_stride=stride)
    image = torch.arange(9.0).view(1, 1, 3, 3)
    see(method, torch.cat([image - 1, image + 1]))
    torch.testing.assert_close(method.P[FC].float(), symmetric(known), atol=1e-6, rtol=0)
    if stride == 0:
        grad = torch.tensor([-0.154362, 0.170367, -0.180176, 0.144553])
        torch.testing.assert_close(method.frees()[FC](torch.tensor([[1.0, 2, 3, 4]]))[0], grad, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("epoch", "progress", "known"),
    [(0, 0.0, [1.0, 1, 1, 1]), (12, 0.5, [3.162278e-3, 0.01, 0.1, 0.316228]), (24, 1.0, [1e-5, 1e-4, 0.01, 0.1]),
     (40, 0.5, [1e-5, 1e-4, 0.01, 0.1])],
)  # fmt: skip
def test_alpha_falls_by_other_powers_of_ten_in_every_layer(epoch: int, progress: float, known: list[float]) -> None:
    """The authors' exponents: 5 of convolutions, 4, 2 and 1 of the Linear layers; over 25 epochs."""
    layers = nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 2)
    method = of_layers(*layers, schedule="decay")
    method.before_step(Batch(torch.zeros(1), torch.zeros(1), 0, progress, epoch))
    assert [float(alpha) for alpha in method.alphas().values()] == pytest.approx(known, rel=1e-6)


def test_all_updates_of_a_batch_at_once_are_one_after_the_other() -> None:
    generator = torch.Generator().manual_seed(0)
    for n in (3, 6, 20):
        rows = torch.randn(n, 6, generator=generator, dtype=torch.float64)
        at_once, singly = torch.eye(6, dtype=torch.float64), torch.eye(6, dtype=torch.float64)
        shrink(at_once, rows, 0.3)
        for row in rows:
            k = singly @ row
            singly -= torch.outer(k, k) / (0.3 + row @ k)
        torch.testing.assert_close(at_once, singly)
        inverse = torch.linalg.inv(torch.eye(6).double() + rows.T @ rows / 0.3)
        torch.testing.assert_close(at_once, inverse)
        torch.testing.assert_close(shrunk(rows.T @ rows, 0.3), inverse)


def test_p_of_a_whole_task() -> None:
    """Inputs (2, 0, 0) and (0, 2, 0), alpha = 1, as van de Ven's code has it."""
    method = of_layers(nn.Linear(3, 2, bias=False), schedule="task")
    x, y = torch.tensor([[2.0, 0, 0], [0, 2, 0]]), torch.tensor([0, 1])
    method.end_task(0, TrainingData(0, x, y, 2))
    method.begin_task(1, TrainingData(1, x, y, 2))
    torch.testing.assert_close(method.P[FC], torch.tensor([1 / 3, 1 / 3, 1]).diag())
    method.end_task(1, TrainingData(1, 0 * x, y, 2))  # a mean over tasks
    torch.testing.assert_close(method.memory["A"][FC], torch.tensor([1.0, 1, 0]).double().diag())


@pytest.mark.parametrize("schedule", first_quick(["constant", "decay", "task"]))
@pytest.mark.parametrize("ground", first_quick(GROUNDS))
def test_p_stays_symmetric_and_positive(schedule: str, ground: Ground) -> None:
    run = Run("owm", ground=ground, schedule=schedule, alpha=1e-3)
    run.learn()
    run.method.begin_task(2, TrainingData(2, torch.zeros(1), torch.zeros(1), 1))
    assert set(run.method.P) == set(run.network.blocks())
    for P in run.method.P.values():
        assert float((P - P.T).abs().max()) < 1e-6
        values = torch.linalg.eigvalsh(P.double())
        assert -1e-6 < float(values.min()) < 0.1 and float(values.max()) < 1 + 1e-6


@pytest.mark.parametrize("alpha", [1e-2, 1e-5, 1e-8])
def test_p_annihilates_what_it_has_seen_as_alpha_falls(alpha: float) -> None:
    """A row r that was seen keeps |P r| <= sqrt(alpha) / 2, for P <= (I + r rᵀ / alpha)⁻¹."""
    rows = torch.randn(40, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    P = torch.eye(60, dtype=torch.float64)
    for some in rows.split(7):
        shrink(P, some, alpha)
    assert 0 < float((rows @ P).norm(dim=1).max()) <= alpha**0.5 / 2
    unseen = torch.linalg.qr(rows.T, mode="complete").Q[:, 40:].T
    torch.testing.assert_close(unseen @ P, unseen)


@pytest.mark.parametrize("momentum", first_quick([0.0, 0.9]))
def test_with_a_small_alpha_no_later_step_changes_an_answer(momentum: float) -> None:
    """The updates, momentum included, leave every layer's outputs on earlier inputs as they are."""
    run = Run("owm", schedule="task", alpha=1e-7, lr=0.01, momentum=momentum)
    run.learn(1)
    x, before = torch.from_numpy(run.tasks[0].train.x), snapshot(run.network)
    data = [(x, torch.from_numpy(run.tasks[0].train.y))]
    grams = input_grams(run.network, data, 0)
    answers = run.network(x, 0).detach()
    run.learn(2, first=1)
    torch.testing.assert_close(run.network(x, 0).detach(), answers, atol=1e-3, rtol=0)
    moved = {n: b.weight - before[f"{n}.weight"].flatten(1) for n, b in run.network.blocks().items()}
    assert float(moved["backbone.fc3"].norm()) > 0.01
    for name, delta in moved.items():
        assert interference(delta, grams[name]) < 1e-2 * float(grams[name].trace().sqrt() * delta.norm()) + 1e-5


def test_what_is_no_weight_matrix_learns_in_the_first_task_alone() -> None:
    run = Run("owm", ground=GROUNDS[1])
    fresh = snapshot(run.network)
    run.learn(1)
    before = snapshot(run.network)
    run.learn(2, first=1)
    own = {n: p for n, p in run.network.named_parameters() if p.dim() == 1}
    assert len(own) == 7
    for name, parameter in own.items():
        assert torch.equal(parameter, before[name])
    for name in ("backbone.bn1.weight", "backbone.fc3.bias"):
        assert not torch.equal(own[name], fresh[name])


def test_gradients_are_clipped_after_they_are_projected() -> None:
    """A whole step; P halves the gradient of the layer and not that of the head, so that the order is seen."""
    steps = []
    for clip in (1e9, 0.01):
        torch.manual_seed(0)
        method = of_layers(nn.Linear(3, 2, bias=False), clip=clip, schedule="task")
        method.P = {FC: torch.eye(3) / 2}
        before = {name: p.detach().clone() for name, p in method.network.named_parameters()}
        optimizer = make_optimizer(method.parameters(), Training(lr=1.0))
        training_step(method, optimizer, Batch(torch.ones(2, 3), torch.tensor([0, 1]), 0), 0.0)
        steps.append({name: p.detach() - before[name] for name, p in method.network.named_parameters()})
    whole, clipped = steps
    size = torch.stack([step.norm() for step in whole.values()]).norm()
    assert size > 0.01 and float(whole[f"{FC}.weight"].norm()) > 0
    for name, step in whole.items():
        torch.testing.assert_close(clipped[name], step * (0.01 / size), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("schedule", ["constant", "task"])
@pytest.mark.parametrize("ascends", [False, True])
def test_the_gradient_of_a_pass_is_freed_by_the_p_that_has_seen_its_inputs(schedule: str, ascends: bool) -> None:
    """But SAM's ascent is not, and shrinks no P."""
    method = of_layers(nn.Linear(3, 5, bias=False), features=5, schedule=schedule)
    x, y = torch.tensor([[2.0, 0, 1], [0, 2, 0]]), torch.tensor([0, 1])
    method.end_task(0, TrainingData(0, x, y, 2))
    method.begin_task(1, TrainingData(1, x, y, 2))
    before = method.P[FC].clone()
    method.network.ascends = ascends
    see(method, x)
    weight = method.network.backbone.fc.weight
    found = weight.grad.clone()
    weight.grad = None
    torch.nn.functional.cross_entropy(method.network(x, 0), torch.zeros(2, dtype=torch.int64)).backward()
    freed = weight.grad if ascends else weight.grad @ method.P[FC].float()
    torch.testing.assert_close(found, freed)
    assert torch.equal(method.P[FC], before) == (ascends or schedule == "task")


class Strange(Benchmark):
    def own_backbone(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ConvTranspose2d(2, 2, 3), nn.Flatten())


def test_where_it_does_not_apply() -> None:
    state = torch.random.get_rng_state()
    assert OWM.unsupported(Strange(), Training()) == "it knows Linear and Conv2d layers, not ConvTranspose2d"
    assert torch.equal(torch.random.get_rng_state(), state)
    Strange.own_backbone = lambda self: nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.Flatten())
    assert OWM.unsupported(Strange(), Training()) is None
    for words in ({"optimizer": "adam"}, {"weight_decay": 1e-4}):
        with pytest.raises(UserError, match="it projects gradients, which only the steps of SGD without weight decay"):
            Run("owm", **words)
    with pytest.raises(UserError, match=r"alpha must be greater than 0, not 0\.0"):
        Run("owm", alpha=0.0)
