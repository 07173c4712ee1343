"""Adam-NSCL: known answers of its step and its null space; its property, that the update lies in the null space."""

import sys
from collections import OrderedDict
from typing import Any

import pytest
import torch
from conftest import first_quick
from torch import Tensor, nn

from bench.catalog.catalog import Catalog
from bench.core import Training, UserError
from bench.nn.network import Network
from bench.tools.trial import GROUNDS, Ground, Run
from bench.training.data import Batch, TrainingData
from bench.training.step import make_optimizer

AdamNSCL: Any = Catalog().method("adamnscl")
null_projector, mean_grams = (getattr(sys.modules[AdamNSCL.__module__], n) for n in ("null_projector", "mean_grams"))
FC = "backbone.fc"


def of_layer(layer: nn.Module, features: int, **settings: object) -> Any:
    network = Network(nn.Sequential(OrderedDict(fc=layer, flat=nn.Flatten())), features, 2, 2)
    return AdamNSCL(network, AdamNSCL.Config(**settings))


def data_of(x: Tensor, batch_size: int = 64) -> TrainingData:
    return TrainingData(0, x, torch.zeros(len(x), dtype=torch.int64), batch_size)


def test_two_steps_of_adam_in_a_null_space() -> None:
    """By hand, lr 0.1, weight decay 0.05, T = B Bᵀ / √2, B spanning (1, 0, 1) and (0, 1, 1)."""
    layer = nn.Linear(3, 1, bias=False)
    layer.weight.data = torch.tensor([[0.3, 0.2, 0.1]])
    method = of_layer(layer, 1, later_rate=1.0)
    B = torch.linalg.qr(torch.tensor([[1.0, 0], [0, 1], [1, 1]]).double()).Q
    method.memory["covariance"] = {FC: torch.eye(3).double() - 0.9 * B @ B.T}
    method.config = AdamNSCL.Config(later_rate=1.0, scaled=True, ratio=2)
    method.begin_task(1, data_of(torch.zeros(2, 3)))
    T = torch.tensor([[2.0, -1, 1], [-1, 2, 1], [1, 1, 2]]) * 0.235702
    torch.testing.assert_close(method.projectors[FC], T, atol=1e-6, rtol=0)
    optimizer = make_optimizer(method.parameters(), Training(optimizer="adam", lr=0.1, weight_decay=0.05))
    weights = []
    for grad in ([1.0, -2, 0.5], [0.5, 1, -1]):
        layer.weight.grad = torch.tensor([grad])
        method.edit_grads()
        optimizer.step()
        method.after_step(Batch(torch.zeros(1), torch.zeros(1), 1))
        weights.append(layer.weight.detach().clone())
    known = torch.tensor([[[0.205719, 0.247140, 0.052860]], [[0.164137, 0.289887, 0.054024]]])
    torch.testing.assert_close(torch.stack(weights), known, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("values", "ratio", "k"),
    [((4, 1, 0.05, 0.01), 1, 1), ((4, 1, 0.05, 0.01), 5, 2), ((4, 1, 0.05, 0.01), 10, 2), ((4, 1, 0.05, 0.01), 30, 2),
     ((4, 1, 0.05, 0.01), 200, 3), ((100, 10, 1, 0.5, 0.1), 10, 3), ((100, 10, 1, 0.5, 0.1), 30, 3),
     ((100, 10, 1, 0.5, 0.1), 100, 4), ((100, 10, 1, 0.5, 0.1), 1000, 5), ((1, 0, 0), 10, 2), ((2, 2), 1, 2)],
)  # fmt: skip
def test_which_directions_are_null(values: tuple[float, ...], ratio: float, k: int) -> None:
    """The authors' rule, λ <= a λ_min; with zeros among them, zero counts as a little."""
    d = len(values)
    covariance = torch.tensor(values, dtype=torch.float64).diag()
    known = torch.tensor([0.0] * (d - k) + [1.0] * k).double().diag()
    torch.testing.assert_close(null_projector(covariance, ratio, 1e-7, False), known)
    torch.testing.assert_close(null_projector(covariance, ratio, 1e-7, True), known / k**0.5)


def test_the_scaled_projector_is_another_rate() -> None:
    projector = null_projector(torch.tensor([1.0, 1.0, 50.0]).diag(), 10, 0, True)
    update = torch.tensor([2.0, 4, 6]).double() @ projector
    torch.testing.assert_close(update, torch.tensor([1.41421356, 2.82842712, 0]).double())


def test_without_a_floor_one_direction_is_free_at_least() -> None:
    """Eigenvalues that rounding left below zero count as zero, and none is then under a times the smallest but they."""
    assert float(null_projector(torch.tensor([-1e-12, 1e-9, 1.0]).double().diag(), 10, 0, False).trace()) == 1


@pytest.mark.parametrize(("rows", "known"), [("batch-means", [[4.0, 2], [2, 1]]), ("samples", [[10.0, 2], [2, 4]])])
def test_the_covariance_of_two_inputs(rows: str, known: list[list[float]]) -> None:
    """(1, 2) and (3, 0), whose mean is (2, 1); it adds up over tasks."""
    method = of_layer(nn.Linear(2, 2, bias=False), 2, rows=rows)
    for task in range(2):
        method.begin_task(task, data_of(torch.tensor([[1.0, 2], [3, 0]])))
        method.end_task(task, data_of(torch.tensor([[1.0, 2], [3, 0]])))
        gram = method.memory["covariance"][FC]
        torch.testing.assert_close(gram, (task + 1) * torch.tensor(known).double())


def test_batches_of_one_have_the_covariance_of_all_samples() -> None:
    """A grouped convolution too."""
    method = of_layer(nn.Conv2d(2, 4, 2, groups=2), 36)
    x = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    single = [mean_grams(method.network, data_of(x[i : i + 1])) for i in range(2)]
    method.begin_task(0, data_of(x))
    method.end_task(0, data_of(x))
    assert set(method.memory["covariance"]) == {f"{FC}.g0", f"{FC}.g1"}
    for name, gram in method.memory["covariance"].items():
        torch.testing.assert_close(single[0][name] + single[1][name], gram, atol=1e-5, rtol=1e-5)


OPTIMIZERS: list[dict[str, Any]] = [
    {},
    {"weight_decay": 1e-2},
    {"optimizer": "sgd", "momentum": 0.9, "lr": 0.01},
    {"sam": "all"},
]


def null_bases(run: Run) -> dict[str, Tensor]:
    """What the projectors of the running task project onto, (d, k) by block."""
    bases = {}
    for name, projector in run.method.projectors.items():
        values, vectors = torch.linalg.eigh(projector)
        bases[name] = vectors[:, values > values[-1] / 2]
    return bases


@pytest.mark.parametrize("words", first_quick(OPTIMIZERS))
@pytest.mark.parametrize("ground", first_quick(GROUNDS))
def test_the_update_lies_in_the_null_space(words: dict[str, Any], ground: Ground) -> None:
    """Whatever the optimizer: every step is projected, and so their sum; the gradients are not."""
    run = Run("adamnscl", ground=ground, ratio=1e5, **words)
    run.learn(1)
    blocks = run.network.blocks()
    before = {name: block.weight.clone() for name, block in blocks.items()}
    run.method.begin_task(1, TrainingData(1, torch.zeros(1), torch.zeros(1), 1))
    bases = null_bases(run)
    assert set(bases) == set(blocks)
    outside = dict.fromkeys(bases, 0.0)
    edit = run.method.edit_grads

    def watched() -> None:
        edit()
        for name, basis in bases.items():
            grad = blocks[name].grad
            outside[name] = max(outside[name], float((grad - grad @ basis @ basis.T).norm() / (grad.norm() + 1e-12)))

    type(run.method).edit_grads, kept = lambda self: watched(), type(run.method).edit_grads
    try:
        run.learn(2, first=1)
    finally:
        type(run.method).edit_grads = kept
    moved = {name: blocks[name].weight - old for name, old in before.items()}
    partly = [n for n, delta in moved.items() if float(delta.norm()) > 1e-3 and bases[n].shape[1] < len(bases[n])]
    assert partly and max(outside[name] for name in partly) > 0.1
    for name, delta in moved.items():
        gap = float((delta - delta @ bases[name] @ bases[name].T).norm())
        assert gap < 1e-5 + 1e-4 * float(delta.norm()), name


def test_one_quadratic_has_the_gradient_of_the_sum_over_tasks() -> None:
    run = Run("adamnscl", ground=GROUNDS[1])
    terms = []
    for task in range(2):
        run.learn(task + 1, first=task)
        old = terms[-1][0] if terms else {}
        total = run.method.memory["importance"]
        new = {n: F - old.get(n, 0) for n, F in total.items()}
        now = {n: p.detach().clone() for n, p in run.method.others().items()}
        terms.append(({n: F.clone() for n, F in total.items()}, new, now))
    others = run.method.others()
    assert set(others) == {n for n, p in run.network.named_parameters() if p.dim() == 1} - {"heads.0.weight"}
    for parameter in others.values():
        parameter.data += 0.1
    found = torch.autograd.grad(run.method.penalty(), list(others.values()))
    for (name, parameter), grad in zip(others.items(), found, strict=True):
        known = sum(200 * new[name] * (parameter.detach() - anchor[name]) for _, new, anchor in terms)
        torch.testing.assert_close(grad, known, atol=1e-4, rtol=1e-3)
    assert any(float(new.abs().max()) > 0 for new in terms[1][1].values())


@pytest.mark.parametrize("labels", ["true", "predicted"])
def test_the_importance_is_of_batches(labels: str) -> None:
    """A bias of two outputs that are the logits, all 0: labels 0, 0 give a batch the gradient (-.5, .5),
    its square times two samples .5; of labels 1, 0 it is 0. The label predicted is 0."""
    layer = nn.Linear(2, 2)
    method = of_layer(layer, 2, labels=labels)
    for parameter in method.network.parameters():
        parameter.data.zero_()
    method.network.heads[0].weight.data = torch.eye(2)
    method.begin_task(0, data_of(torch.ones(4, 2)))
    method.end_task(0, TrainingData(0, torch.ones(4, 2), torch.tensor([0, 0, 1, 0]), 2))
    batches = [0.5, 0.5] if labels == "predicted" else [0.5, 0.0]
    known = torch.full((2,), sum(batches) / 2)
    torch.testing.assert_close(method.memory["importance"]["backbone.fc.bias"], known)


def test_rates_and_decay_of_each_kind_of_parameter() -> None:
    """As in the authors' scripts: 1e-4, then 5e-5 for the backbone, 5e-4 for normalization, 1e-3 for heads."""
    run = Run("adamnscl", ground=Ground("toy", "published"), lr=1e-4, weight_decay=5e-5)
    optimizers = []
    for task in range(2):
        run.network.open([task])
        run.method.begin_task(task, data_of(torch.zeros(2, 1, 6, 6)))
        groups = make_optimizer(run.method.parameters(), run.training).param_groups
        optimizers.append([(len(g["params"]), g["lr"], g["weight_decay"]) for g in groups])
    assert run.training.optimizer == "adam"
    assert optimizers[0] == [(3, pytest.approx(1e-4), 5e-5), (1, pytest.approx(1e-3), 0.0)]
    assert optimizers[1] == [(3, pytest.approx(5e-5), 5e-5), (1, pytest.approx(1e-3), 0.0)]
    shared = Run("adamnscl", ground=GROUNDS[1], lr=1e-4)
    shared.method.begin_task(0, data_of(torch.zeros(2, 2, 6, 6)))
    assert [g["lr_scale"] for g in shared.method.parameters()] == [1.0, 5.0]


def test_bad_values_are_refused() -> None:
    with pytest.raises(UserError, match=r"ratio must be at least 1, not 0\.5"):
        Run("adamnscl", ratio=0.5)
