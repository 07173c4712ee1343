"""Known answers of TRGP's spaces, trust and scaled weights, and that with Q = I it is GPM."""

import sys
from typing import Any

import pytest
import torch
from conftest import first_quick
from torch import Tensor, nn

from bench.catalog.catalog import Catalog
from bench.core import UserError
from bench.nn.network import Network
from bench.nn.steering import scaled_weight, steered
from bench.nn.subspace import leading_basis, project_out
from bench.tools.method_checks import ANYWHERE, CHECKS, why_not
from bench.tools.trial import PLAIN, SHARED, Ground, Run
from bench.training.method import Method

TRGP: Any = Catalog().method("trgp")
helpers: Any = sys.modules[TRGP.__module__]
SOUND = Ground("toy", "sound")
G = torch.tensor([[1, -2, 0.5], [0, 1, 1]], dtype=torch.float64)


def double(rows: list) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def near(found: Tensor, known: list) -> None:
    torch.testing.assert_close(found.detach(), double(known), atol=2e-6, rtol=0)


def projector(basis: Tensor) -> Tensor:
    return basis @ basis.T


def first_basis() -> Tensor:
    R = double([[2, 0, 1, 3], [1, 1, 0, 2], [0, 1, 1, 0]])
    return leading_basis(R @ R.T, 0.9)


@pytest.mark.parametrize(("energy", "size", "new"), [(0.9, 2, 1), (0.97, 3, 2), (0.999, 3, 2)])
def test_a_space_as_the_authors_code_selects_it(energy: float, size: int, new: int) -> None:
    M = first_basis()
    near(M[:, 0].abs(), [0.847128, 0.525261, 0.080467])
    R = double([[0, 1, 0, 1], [1, 0, 0, 0], [3, 0, 1, 0]])
    whole, space = helpers._extended(M, R @ R.T, energy, True)
    lacking, same = helpers._extended(M, R @ R.T, energy, False)
    assert torch.equal(space, same) and space.shape[1] == size
    assert whole.shape[1] == 1 + new and lacking.shape[1] == new
    torch.testing.assert_close(whole.T @ whole, torch.eye(1 + new).double())
    lost = whole[:, 1]
    assert float((lacking.T @ lost).norm()) < 1e-12 and float(lost @ R @ R.T @ lost) == pytest.approx(
        10.419481, abs=1e-5
    )


def test_the_released_code_loses_the_strongest_new_direction() -> None:
    e = torch.eye(5).double()
    gram = torch.diag(double([1, 0.25, 9, 4, 0.01]))
    whole, space = helpers._extended(e[:, :2], gram, 0.97, True)
    lacking, _ = helpers._extended(e[:, :2], gram, 0.97, False)
    near(projector(whole), projector(e[:, :4]).tolist())
    near(projector(lacking), projector(e[:, [0, 1, 3]]).tolist())
    near(projector(space), projector(e[:, [0, 2, 3]]).tolist())


def test_no_input_selects_nothing() -> None:
    basis, space = helpers._extended(torch.eye(3).double()[:, :1], torch.zeros(3, 3).double(), 0.9, True)
    assert basis.shape == (3, 1) and space.shape == (3, 0)


@pytest.mark.parametrize(("trust", "known"), [(0.5, [1]), (0.2, [1, 2])])
def test_whom_a_gradient_trusts(trust: float, known: list[int]) -> None:
    """Shares of three earlier spaces: .232980, .946864, .415227; the two best of those above the threshold."""
    second = torch.linalg.qr(double([[1, 0], [0, 1], [1, 1]])).Q
    spaces = [first_basis(), second, torch.eye(3).double()[:, 2:]]
    shares = torch.stack([(G @ S).norm() / G.norm() for S in spaces])
    near(shares, [0.232980, 0.946864, 0.415227])
    assert helpers._within(G, spaces, trust, 2) == known
    assert helpers._within(G, spaces, 0.0, 3) == [0, 1, 2]
    assert helpers._within(G, spaces[2:], float(shares[2]), 2) == [], "the threshold itself is not enough"


def test_a_scaled_weight() -> None:
    S = torch.eye(3).double()[:, :2]
    near(scaled_weight(double([[1, 2, 3]]), [helpers._scale(S, double([[2, 0.5], [0, 1]]))]), [[2, 2.5, 3]])


def test_two_scaled_spaces_add_up_and_what_their_gradients_are() -> None:
    """As the authors' Linear computes it."""
    W, x = double([[1, 2, 3], [0, -1, 1]]).requires_grad_(), double([[1, 1, 1], [0, 1, 2]])
    first, Q1 = torch.eye(3).double()[:, :2], double([[2, 0.5], [0, 1]]).requires_grad_()
    near(x @ scaled_weight(W, [helpers._scale(first, Q1)]).T, [[7.5, 0], [8.5, 1]])
    second, Q2 = double([[0], [0.6], [0.8]]), double([[3]]).requires_grad_()
    scales = [helpers._scale(first, Q1), helpers._scale(second, Q2)]
    near(scaled_weight(W, scales), [[2, 6.82, 8.76], [0, -0.76, 1.32]])
    network = Network(nn.Linear(3, 2, bias=False), 2, 1, 2).double()
    layer: Any = network.backbone
    layer.weight = W = nn.Parameter(W.detach())
    with steered(network, {"backbone": scales}, {}):
        y = layer(x)
    near(y, [[17.58, 0.56], [24.34, 1.88]])
    grads = torch.autograd.grad(0.5 * y.square().sum(), [W, Q1, Q2])
    near(grads[0], [[56.12, 135.712, 191.316], [2.34, 8.344, 12.192]])
    near(grads[1], [[17.58, 41.92], [34.6, 81.4]])
    near(grads[2], [[282.36]])


class Unit(TRGP):
    """TRGP whose Q are not trained."""

    def parameters(self) -> list:
        return Method.parameters(self)


@pytest.mark.parametrize("training", first_quick([{}, {"momentum": 0.9, "lr": 0.01}]))
@pytest.mark.parametrize("trust", first_quick([0.0, 1.0]))
def test_with_q_the_identity_it_is_gpm(trust: float, training: dict) -> None:
    """With the same M: TRGP's own holds at least as much. The threshold 1 trusts nobody, so that there is no Q."""
    trgp, gpm = (Run(name, energy=0.9, epochs=2, **training) for name in ("trgp", "gpm"))
    config = TRGP.Config(energy=0.9, trust=trust)
    trgp.session.method = trgp.method = Unit(trgp.network, config, trgp.method.generator)
    trusted = 0
    for task in range(3):
        for run in (trgp, gpm):
            run.learn(task + 1, first=task)
        for name, weight in trgp.network.state_dict().items():
            torch.testing.assert_close(weight, gpm.network.state_dict()[name], atol=1e-5, rtol=1e-4)
        gpm.method.memory = dict(trgp.method.memory["basis"])
        trusted += sum(map(len, trgp.method.report()["trusted"].values()))
    assert (trusted > 0) == (trust == 0)
    assert min(basis.shape[1] for basis in gpm.method.memory.values()) > 0


@pytest.mark.parametrize("training", first_quick([{}, {"momentum": 0.9, "lr": 0.01}, {"sam": "all"}]))
def test_weights_never_move_along_the_protected_directions_though_q_is_free(training: dict) -> None:
    run = Run("trgp", energy=0.9, trust=0.0, gate="layer", **training)
    run.learn(2)
    before = {name: block.weight.clone() for name, block in run.network.blocks().items()}
    bases, old = dict(run.method.memory["basis"]), run.method.state()
    run.learn(3, first=2)
    for name, block in run.network.blocks().items():
        moved = (block.weight - before[name]).double()
        assert float((moved @ bases[name]).norm()) < 1e-5 * float(block.weight.norm())
    scales = run.method.memory["scale"]["2"]
    assert {name: len(own) for name, own in scales.items()} == dict.fromkeys(before, 2)
    assert all(float((Q - torch.eye(len(Q))).norm()) > 1e-4 for own in scales.values() for Q in own.values())
    kept = {name: tensor for name, tensor in old.items() if not name.startswith("basis")}
    assert kept and all(torch.equal(run.method.state()[name], tensor) for name, tensor in kept.items())


def test_a_task_is_tested_with_its_own_scales() -> None:
    run = Run("trgp", trust=0.0, gate="layer")
    run.learn(2)
    x = torch.from_numpy(run.tasks[1].test.x)
    run.network.eval()
    plain = [run.network(x, task) for task in range(2)]
    assert torch.equal(run.method.forward(x, 0), plain[0])
    assert float((run.method.forward(x, 1) - plain[1]).detach().abs().max()) > 1e-3
    scales = run.method._scales(1)
    assert set(scales) == set(run.network.layers())
    weights = {}
    for path, layer in run.network.layers().items():
        weights[f"{path}.weight"] = scaled_weight(layer.weight.flatten(1), scales[path]).view_as(layer.weight)
    torch.testing.assert_close(run.method.forward(x, 1), run.network(x, 1, weights=weights))


def test_grouped_convolutions_are_scaled_group_by_group() -> None:
    run = Run("trgp", trust=0.0, ground=PLAIN)
    network = Run("finetune", ground=SHARED).network
    run.method.network = network
    S = torch.eye(9)[:, :2]
    run.method.memory = {
        "space": {"0": dict.fromkeys(network.blocks(), S)},
        "scale": {"1": {"backbone.conv1.g1": {"0": 3 * torch.eye(2)}}},
    }
    layer: Any = network.get_submodule("backbone.conv1")
    x = torch.randn(2, 2, 6, 6)
    with steered(network, run.method._scales(1), {}):
        found = layer(x)
    expected = layer.weight.detach().clone()
    expected[8:].flatten(1)[:, :2] *= 3
    layer.weight.data = expected
    torch.testing.assert_close(found, layer(x))


def test_a_first_layer_that_is_not_scaled_closes_the_gate() -> None:
    gated, free = Run("trgp"), Run("trgp", gate="layer")
    for run in (gated, free):
        all_three = {"backbone.conv1": [0], "backbone.conv2": [0], "backbone.fc3": [0]}
        assert run.method._gated(all_three) == all_three
    without = {"backbone.conv1": [], "backbone.conv2": [0], "backbone.fc3": [0]}
    assert gated.method._gated(without) == {}
    assert free.method._gated(without) == without


def test_a_residual_block_has_a_gate_of_its_own() -> None:
    from bench.nn import architectures

    network = architectures.build(Catalog().benchmark("five_datasets"))
    method = TRGP(network, TRGP.Config(gate="first"))
    trusted = {name: [0] for name in network.blocks() if "shortcut" not in name}
    assert method._gated(trusted) == trusted and len(trusted) == 17
    trusted["backbone.layer2.1.conv1"] = []
    closed = set(trusted) - set(method._gated(trusted))
    assert closed == {"backbone.layer2.1.conv1", "backbone.layer2.1.conv2"}
    assert method._gated({**trusted, "backbone.conv1": []}) == {}


def test_the_third_task_may_trust_the_second_alone_and_some_layers_nobody() -> None:
    run = Run("trgp", trust=0.0, third="second", unscaled=["conv"], gate="layer")
    found = []
    for task in range(3):
        run.learn(task + 1, first=task)
        found.append(run.method.report()["trusted"])
    assert found == [{}, {"backbone.fc3": [0]}, {"backbone.fc3": [1]}]


@pytest.mark.parametrize("normalization", ["frozen", "free"])
def test_whether_normalization_goes_on_learning(normalization: str) -> None:
    from bench.nn import architectures

    network = architectures.build(Catalog().benchmark("split_cifar100"))
    method = TRGP(network, TRGP.Config(normalization=normalization))
    method._trusted = lambda task, data: {}
    method.memory["basis"] = {}
    network.open([1])
    method.begin_task(1, None)
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert ("backbone.bn1.weight" in learning) == (normalization == "free")
    assert {"backbone.conv1.weight", "heads.1.weight"} < learning and "heads.0.weight" not in learning


@pytest.mark.parametrize(
    "check", [check for check in CHECKS if check not in ANYWHERE], ids=lambda check: check.__name__
)
@pytest.mark.slow
def test_it_keeps_the_contract_under_the_sound_protocol(check: Any) -> None:
    check("trgp", ground=SOUND)


def test_where_it_does_not_apply() -> None:
    assert "the task of every test image" in why_not("trgp", SHARED)
    for settings, reason in (({"optimizer": "adam"}, "adam"), ({"weight_decay": 0.1}, "weight decay")):
        with pytest.raises(UserError, match=reason):
            Run("trgp", **settings)


@pytest.mark.parametrize("setting", [{"trust": -0.1}, {"regions": 0}, {"probe": 0}])
def test_bad_values_are_refused(setting: dict) -> None:
    with pytest.raises(UserError, match=next(iter(setting))):
        Run("trgp", **setting)


def test_updates_stay_outside_a_subspace_that_q_cannot_change() -> None:
    """The gradient of W through a scaled weight has a part in M even where that of an unscaled one has none."""
    S = torch.eye(3).double()[:, :1]
    W = double([[1, 2, 3]]).requires_grad_()
    scaled_weight(W, [helpers._scale(S, double([[2]]))]).sum().backward()
    assert W.grad is not None
    near(W.grad, [[2, 1, 1]])
    near(project_out(W.grad, S), [[0, 1, 1]])


@pytest.mark.parametrize("name", ["trgp", "codecl"])
def test_it_answers_before_it_has_learnt_anything(name: str) -> None:
    """As where a stream has one task, whose only head is asked beforehand."""
    run = Run(name)
    x = torch.from_numpy(run.tasks[0].test.x)
    assert torch.equal(run.method.forward(x, 0), run.network(x, 0))
