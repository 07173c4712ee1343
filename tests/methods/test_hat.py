"""HAT: known answers of its gates, gradients and steps, and that old answers do not move by one bit."""

import sys
from collections import OrderedDict
from typing import Any

import pytest
import torch
from conftest import first_quick
from torch import Tensor, nn

from bench.catalog.catalog import Catalog
from bench.core import Training, UserError
from bench.nn.architectures import build
from bench.nn.network import Network
from bench.tools.method_checks import why_not
from bench.tools.trial import SHARED, Ground, Run, snapshot
from bench.training.data import Batch, TrainingData

HAT = Catalog().method("hat")
compensation = sys.modules[HAT.__module__].compensation  # type: ignore[attr-defined]


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def mlp(*widths: int) -> Network:
    """Two gated layers with biases, and heads for two tasks of two classes."""
    inputs, one, two = widths
    layers = OrderedDict(fc1=nn.Linear(inputs, one), relu1=nn.ReLU(), fc2=nn.Linear(one, two), relu2=nn.ReLU())
    return Network(nn.Sequential(layers), two, 2, 2).double()


def begun(network: Network, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor] | None, samples: int) -> Any:
    """HAT in task 1 of a network, after a task whose embeddings were `first`; or in task 0, were `second` None."""
    method: Any = HAT(network)
    data = TrainingData(0, torch.zeros(samples, 1), torch.zeros(samples), 1)
    for task, own in enumerate([first] if second is None else [first, second]):
        if task:
            method.end_task(task - 1, data)
        network.open([task])
        method.begin_task(task, data)
        for embedding, values in zip(method.embeddings.values(), own, strict=True):
            embedding.data = values
    return method


E1 = numbers(-1, 0.5, 2), numbers(0.01, -0.004, 1)
E2 = numbers(0.1, -0.02, -3), numbers(0, 1, -1)


def test_masks_and_what_they_leave_of_gradients() -> None:
    """As the authors' code has them, at s_max = 400."""
    method = begun(mlp(2, 3, 3), E1, E2, 1)
    torch.testing.assert_close(method.memory["mask"]["0"]["backbone.fc1"], numbers(0, 1, 1), atol=1e-6, rtol=0)
    second = method.memory["used"]["backbone.fc2"]
    torch.testing.assert_close(second, numbers(0.982014, 0.167982, 1), atol=1e-6, rtol=0)
    keep = {name: k for name, p in method.network.named_parameters() for q, k in method.keep if p is q}
    assert list(keep) == [f"backbone.{layer}.{name}" for layer in ("fc1", "fc2") for name in ("weight", "bias")]
    rows = [[1, 0.017986, 0.017986], [1, 0.832018, 0.832018], [1, 0, 0]]
    for name, known in {
        "fc1.weight": numbers(1, 0, 0)[:, None],
        "fc2.weight": torch.tensor(rows, dtype=torch.float64),
        "fc2.bias": numbers(0.017986, 0.832018, 0),
    }.items():
        torch.testing.assert_close(keep[f"backbone.{name}"], known, atol=1e-6, rtol=0)


def test_sharpness_rises_within_an_epoch_and_begins_anew() -> None:
    method = begun(mlp(2, 3, 3), E1, None, 4750)
    found, batch = [], Batch(torch.zeros(64, 2), torch.zeros(64), 0)
    for epoch in (0, 1):
        for _ in range(75):
            method.before_step(batch._replace(epoch=epoch))
            found.append(float(method.sharpness))
            method.after_step(batch)
    assert [found[n] for n in (0, 1, 37, 74)] == pytest.approx([0.0025, 5.39194, 199.41178, 398.82106], rel=1e-5)
    assert found[75:] == found[:75]


def test_the_regularizer() -> None:
    first, second = begun(mlp(2, 3, 3), E1, None, 1), begun(mlp(2, 3, 3), E1, E2, 1)
    assert float(first._taken(200.0).detach()) == pytest.approx(0.698470, abs=1e-6)
    assert float(second._taken(0.0025).detach()) == pytest.approx(0.500315, abs=1e-6)
    assert float(second._taken(400.0).detach()) == pytest.approx(0.995139, abs=1e-6)


@pytest.mark.parametrize(
    ("sharpness", "known"),
    [(0.0025, [160000, 159996.0001, 159600.668, 125831.834]), (1.0, [400.0] * 4),
     (10.0, [40, 40.099081, 50.734670, 173242.370]), (400.0, [1, 14.153763, 5.869945e16])],
)  # fmt: skip
def test_compensation_frees_an_embedding_s_gradient_of_the_sharpness(sharpness: float, known: list[float]) -> None:
    e = numbers(0, 0.01, 0.1, 1)
    factor = compensation(e, sharpness, 400.0)
    torch.testing.assert_close(factor[: len(known)], numbers(*known), rtol=1e-6, atol=0)
    if sharpness <= 10:
        a = torch.sigmoid(sharpness * e)
        own = numbers(100, 99.9975, 99.750416, 78.644773)
        torch.testing.assert_close(sharpness * a * (1 - a) * factor, own, rtol=1e-6, atol=0)


def test_a_whole_step() -> None:
    """The authors' code in a step of the second task, at s = 10 and a rate of .05."""
    network = mlp(2, 2, 2)
    weights = {"fc1.weight": [[1, 0.5], [-0.5, 1]], "fc1.bias": [0.1, 0.2], "fc2.weight": [[0.5, 1], [1, -0.5]]}
    for name, values in {**weights, "fc2.bias": [0, 0.1]}.items():
        network.get_parameter(f"backbone.{name}").data = torch.tensor(values, dtype=torch.float64)
    network.heads[1].weight.data = torch.tensor([[1, -1], [0.5, 1]], dtype=torch.float64)
    first, second = (numbers(1, -1), numbers(-1, 0.01)), (numbers(0.5, -0.2), numbers(0.1, 0.3))
    method = begun(network, first, second, 2)
    method.sharpness.fill_(10)
    batch = Batch(torch.tensor([[1, 2], [0.5, -1]], dtype=torch.float64), torch.tensor([0, 1]), 1)
    close(torch.cat(list(method._gates(method.sharpness).values())), [0.993307, 0.119203, 0.731059, 0.952574])
    logits = method.forward(batch.x, 1)
    close(logits, [-1.075138, 2.441067, -0.153569, 0.208031])
    loss = method.loss(batch).double()
    assert float(method._taken(10.0).detach()) == pytest.approx(0.429832, abs=1e-6)
    assert float(loss.detach()) == pytest.approx(2.359418, abs=2e-6)
    loss.backward()
    fc1, fc2 = network.backbone.fc1.weight, network.backbone.fc2.weight
    e1, e2 = method.embeddings.values()
    close(fc1.grad, [0.655137, 2.012705, -0.076294, -0.152588])
    close(fc2.grad, [-0.362783, -0.035968, 1.890834, 0.187464])
    close(torch.cat([e1.grad, e2.grad]), [0.114410, -0.752176, 0.146155, 0.880636])
    method.edit_grads()
    close(fc1.grad, [0, 0, -0.076294, -0.152588])
    close(fc2.grad, [-0.362783, -0.035968, 0.034009, 0.187464])
    close(torch.cat([e1.grad, e2.grad]), [161.772885, -70.928534, 7.415101, 190.610654])
    torch.optim.SGD(method.parameters(), lr=0.05).step()
    method.after_step(batch)
    close(torch.cat([e1.data, e2.data]), [-6, 3.346427, -0.270755, -6])
    close(fc1, [1, 0.5, -0.496185, 1.007629])
    close(fc2, [0.518139, 1.001798, 0.998300, -0.509373])


def close(found: Tensor, known: list[float]) -> None:
    torch.testing.assert_close(found.detach().flatten(), numbers(*known), atol=2e-6, rtol=1e-7)


@pytest.mark.parametrize("settings", first_quick([{}, {"momentum": 0.9}, {"sam": "all", "rho": 0.05}]), ids=str)
def test_old_answers_do_not_move_by_one_bit(settings: dict[str, Any]) -> None:
    """Where gates are open or shut to the last bit: what is between rounds to one or the other here."""
    run = Run("hat", **settings)
    run.learn(1)
    memory = run.method.memory
    memory["used"] = {gate: mask.round() for gate, mask in memory["used"].items()}
    memory["mask"]["0"] = memory["used"]
    x, before = torch.from_numpy(run.tasks[0].test.x), snapshot(run.network)
    run.network.eval()
    old = run.method.forward(x, 0)
    run.network.train()
    run.learn(2, first=1)
    run.network.eval()
    assert torch.equal(run.method.forward(x, 0), old) and old.abs().max() > 0
    now = run.network.state_dict()
    assert all(not torch.equal(now[name], before[name]) for name in ("backbone.conv1.weight", "backbone.fc3.weight"))


@pytest.mark.parametrize("seed", first_quick(range(3)))
def test_old_accuracies_do_not_move(seed: int) -> None:
    """Masks as they are, unrounded."""
    R = Run("hat", seed=seed).learn()
    assert [R[2][0], R[2][1]] == [R[0][0], R[1][1]]
    assert min(R[t][t] or 0.0 for t in range(3)) > 0.9


@pytest.mark.parametrize("benchmark", first_quick(["split_cifar100", "five_datasets", "cifar100_superclass"]))
def test_closed_weights_stay_and_answers_too_on_the_papers_networks(benchmark: str) -> None:
    """The second task moves whatever it may; with gates that are 0 or 1, the first task's answers keep their bits."""
    torch.manual_seed(0)
    network = build(Catalog().benchmark(benchmark))
    method: Any = HAT(network)
    x = torch.randn(4, *Catalog().benchmark(benchmark).input_shape)
    data = TrainingData(0, x, torch.zeros(4, dtype=torch.long), 4)
    network.open([0])
    method.begin_task(0, data)
    for e in method.embeddings.values():
        e.data = e.data.sign()
    method.end_task(0, data)
    network.open([1])
    method.begin_task(1, data)
    shared = network.shared_parameters()
    assert {id(p) for p, _ in method.keep} == {id(p) for p in shared.values()}
    network.eval()
    with torch.no_grad():
        old = method.forward(x, 0)
        moved = 0
        for p, keep in method.keep:
            p += 0.1 * torch.randn(p.shape) * keep
            moved += int((keep.expand_as(p) > 0).sum())
        assert 0.5 < moved / sum(p.numel() for p in shared.values()) < 0.95
        assert torch.equal(method.forward(x, 0), old) and old.abs().max() > 0
        assert not torch.equal(method.forward(x, 1), old)


def test_a_grouped_convolution_closes_pairs_of_its_own_group() -> None:
    keep = sys.modules[HAT.__module__]._keep  # type: ignore[attr-defined]
    after, before = numbers(1, 0, 1, 0.5), numbers(1, 0, 0.25, 1)
    found = keep(torch.zeros(4, 2, 3, 3), after, before, 2)
    assert found.shape == (4, 2, 1, 1)
    close(found, [0, 1, 1, 1, 0.75, 0, 0.75, 0.5])


def test_the_regularizer_is_in_the_validation_loss_where_it_was_published() -> None:
    losses = {}
    for whole in (False, True):
        run = Run("hat", epochs=1, validate_all=whole)
        _, records = run.session.run()
        losses[whole] = records[0].validation_loss
    mask = Run("hat", epochs=1)
    mask.learn(1)
    used = mask.method.memory["used"].values()
    share = sum(float(m.sum()) for m in used) / sum(len(m) for m in used)
    assert losses[True] - losses[False] == pytest.approx(run.method.config.sparsity * share, rel=1e-5)


def test_where_it_does_not_apply() -> None:
    assert "task of every test image" in why_not("hat", SHARED)
    assert not why_not("hat", Ground("toy", "sound"))
    toy = Catalog().benchmark("toy")
    assert HAT.unsupported(toy, Training()) is None
    assert "weight decay" in str(HAT.unsupported(toy, Training(weight_decay=0.1)))
    assert "Adam" in str(HAT.unsupported(toy, Training(optimizer="adam")))
    strange = Network(nn.Sequential(OrderedDict(norm=nn.LayerNorm(2))), 2, 2, 2)
    with pytest.raises(UserError, match=r"backbone\.norm, a LayerNorm"):
        begun(strange, E1, None, 1)


@pytest.mark.parametrize("wrong", [{"sparsity": -1.0}, {"hardest": 0.5}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        Run("hat", **wrong)
