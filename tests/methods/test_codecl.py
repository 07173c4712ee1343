"""CODE-CL: the algebra of conceptors in numbers, what they protect, and what a task scales."""

import sys
from typing import Any

import pytest
import torch
from conftest import first_quick
from torch import Tensor, nn

from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.core import UserError
from bench.nn.activations import input_rows
from bench.nn.architectures import BACKBONES
from bench.nn.network import Network
from bench.nn.steering import scaled_weight, steered
from bench.tools.trial import Run, difference
from bench.training.data import TrainingData

CODECL: Any = Catalog().method("codecl")
code: Any = sys.modules[CODECL.__module__]
X1 = [[2, 0, 1, 3], [1, 1, 0, 2], [0, 1, 1, 0]]
X2 = [[0, 1, 0, 1], [1, 0, 0, 0], [3, 0, 1, 0]]


def matrix(rows: Any) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def diagonal(*values: float) -> Tensor:
    return matrix(values).diag()


def conceptor(columns: Any, aperture: float, share: float = 0.0) -> Tensor:
    return code.conceptor(matrix(columns).T, aperture, share)


def near(found: Tensor, known: Any, atol: float = 1e-6) -> None:
    torch.testing.assert_close(found, matrix(known), atol=atol, rtol=0)


def test_conceptors_in_numbers() -> None:
    """As the authors' code computes them: R (R + α⁻² I)⁻¹."""
    axes = [[2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    near(conceptor(axes, 4), diagonal(0.941176, 0.8, 0).tolist())
    near(conceptor(axes, 6), diagonal(0.972973, 0.9, 0).tolist())
    C = conceptor(X1, 4)
    near(C, [[0.937067, 0.081903, -0.008431], [0.081903, 0.850346, 0.030111], [-0.008431, 0.030111, 0.879253]])
    near(torch.linalg.eigvalsh(C), [0.790728, 0.888889, 0.987050])
    near(conceptor(X2, 4), [[0.888889, 0, 0], [0, 0.327869, 0.196721], [0, 0.196721, 0.918033]])


def kept_share(C: Tensor, columns: Any) -> float:
    """Σ‖C x‖ / Σ‖x‖ over inputs."""
    X = matrix(columns).T
    return float((X @ C).norm(dim=1).sum() / X.norm(dim=1).sum())


def test_the_aperture_grows_by_tenths_until_enough_of_the_inputs_is_kept() -> None:
    assert kept_share(conceptor(X1, 4), X1) == pytest.approx(0.957845, abs=1e-6)
    grown = conceptor(X1, 4, share=0.9579)
    near(torch.linalg.eigvalsh(grown), [0.820529, 0.906367, 0.989274])
    assert kept_share(grown, X1) == pytest.approx(0.964273, abs=1e-6)
    near(grown, conceptor(X1, 4.4).tolist(), atol=1e-12)
    assert torch.equal(conceptor(X1, 4, share=0.957), conceptor(X1, 4))


@pytest.mark.parametrize(
    ("aperture", "steps", "known"), [(4.0, 4, (0.990375, 0.919565, 0)), (1.0, 19, (0.991167, 0.925751, 0))]
)
def test_growth_and_floor_together(aperture: float, steps: int, known: tuple[float, ...]) -> None:
    axes = diagonal(3, 1, 0.1).tolist()
    plain = conceptor(axes, 4)
    near(plain, diagonal(0.979592, 0.842105, 0.050633).tolist())
    assert kept_share(plain, axes) == pytest.approx(0.923401, abs=1e-6)
    grown = conceptor(axes, aperture, share=0.95)
    near(grown, conceptor(axes, aperture * 1.1**steps).tolist(), atol=1e-12)
    near(code.above(grown, 0.2), diagonal(*known).tolist())


def test_inputs_that_are_all_zero_have_an_empty_conceptor() -> None:
    assert not conceptor([[0, 0], [0, 0]], 6, share=0.95).any()


def test_and_or_and_not_on_diagonal_matrices() -> None:
    """Eigenvalue by eigenvalue, as numbers: a AND b = 1 / (1/a + 1/b - 1), a OR b = NOT (NOT a AND NOT b)."""
    A, B = diagonal(0.9, 0.5, 0.2), diagonal(0.8, 0.4, 0.6)
    both = code.conjunction(A, B)
    near(both, diagonal(0.734694, 0.285714, 0.176471).tolist())
    near(code.disjunction(A, B), diagonal(0.928571, 0.625, 0.636364).tolist())
    assert float(both.trace() / A.trace()) == pytest.approx(0.748049, abs=1e-6)
    for a, b in ((0.9, 0.8), (0.5, 0.4), (0.2, 0.6)):
        joint = 1 / (1 / a + 1 / b - 1)
        near(code.conjunction(diagonal(a), diagonal(b)), [[joint]])
        either = 1 - 1 / (1 / (1 - a) + 1 / (1 - b) - 1)
        near(code.disjunction(diagonal(a), diagonal(b)), [[either]])
    identity = torch.eye(3).double()
    near(code.conjunction(identity - A, identity - B), (identity - code.disjunction(A, B)).tolist(), atol=1e-9)


def test_and_is_next_to_nothing_where_ranges_do_not_meet() -> None:
    A, B = diagonal(0.9, 0.5, 0), diagonal(0.8, 0, 0.6)
    near(code.conjunction(A, B), diagonal(0.734694, 1e-8, 1e-8).tolist())
    near(code.conjunction(A, B)[1:, 1:], diagonal(1e-8, 1e-8).tolist(), atol=1e-12)
    near(code.disjunction(A, B), diagonal(0.928571, 0.5, 0.6).tolist())
    near(code.conjunction(A, 0 * B), diagonal(1e-8, 1e-8, 1e-8).tolist(), atol=1e-12)


def test_and_and_or_of_matrices_that_do_not_commute() -> None:
    """As the authors' code computes them."""
    C1, C2 = conceptor(X1, 4), conceptor(X2, 4)
    both = code.conjunction(C1, C2)
    near(both, [[0.834455, 0.024818, 0.005802], [0.024818, 0.309738, 0.176302], [0.005802, 0.176302, 0.820434]])
    near(torch.linalg.eigvalsh(both), [0.253956, 0.831487, 0.879184])
    assert float(both.trace() / C1.trace()) == pytest.approx(0.736735, abs=1e-6)
    known = [[0.960077, 0.051540, -0.013570], [0.051540, 0.891402, 0.031253], [-0.013570, 0.031253, 0.970494]]
    near(code.disjunction(C1, C2), known)
    near(code.disjunction(C2, C1), known)


@pytest.mark.parametrize("detach", [False, True])
def test_a_scaled_layer_in_numbers(detach: bool) -> None:
    """By hand: W + W U (A - I) Uᵀ, and the gradient that W gets of L = Σ y² / 2, with and without the term - W U Uᵀ."""
    U, A = matrix([[1, 0], [0, 1], [0, 0]]), matrix([[2, 0.5], [0, 1]])
    x = matrix([[1, 1, 1], [0, 1, 2]])
    method = CODECL(Network(nn.Linear(3, 2, bias=False), 2, 1, 2).double(), CODECL.Config(detach=detach))
    method.memory = {"U": {"1": {"backbone": U}}, "A": {"1": {"backbone": A}}}
    layer: Any = method.network.backbone
    layer.weight.data = matrix([[1, 2, 3], [0, -1, 1]])
    with steered(method.network, method._scales(1), {}):
        y = layer(x)
    near(y.detach(), [[7.5, 0], [8.5, 1]])
    near(x @ scaled_weight(layer.weight, method._scales(1)["backbone"]).detach().T, [[7.5, 0], [8.5, 1]])
    (y.square().sum() / 2).backward()
    outer = y.detach().T @ x
    inside = A.T if detach else A.T - torch.eye(2).double()
    torch.testing.assert_close(layer.weight.grad, outer @ (torch.eye(3).double() + U @ inside @ U.T))


def test_a_gradient_loses_the_share_of_each_direction_that_is_taken() -> None:
    C = conceptor(diagonal(3, 1, 0.1).tolist(), 4)
    near(code._freed(C, matrix([[1, -2, 0.5]])), [[0.020408, -0.315789, 0.474684]])


def test_the_floor_comes_after_the_disjunction() -> None:
    """By hand: 0.5 OR 0.15 = 0.540541, though 0.15 alone is below the floor and counts as nothing."""
    method = CODECL(Network(nn.Linear(3, 2), 2, 2, 2), CODECL.Config(aperture=1.0, share=0.0, floor=0.2, overlap=1.0))
    for task, (energy, known) in enumerate([(1.0, 0.5), (0.15 / 0.85, 0.540541)]):
        x = torch.tensor([[energy**0.5, 0.0, 0.0]]).repeat(8, 1)
        data = TrainingData(task, x, torch.zeros(8, dtype=torch.int64), 8)
        method.network.open([task])
        method.begin_task(task, data)
        method.end_task(task, data)
        near(method.memory["conceptor"]["backbone"], diagonal(known, 0, 0).tolist())
    alone = CODECL(Network(nn.Linear(3, 2), 2, 1, 2), method.config)
    alone.end_task(0, data)
    assert not alone.memory["conceptor"]["backbone"].any()


def test_the_first_task_is_fine_tuning_bit_for_bit() -> None:
    runs = [Run("codecl"), Run("finetune")]
    for run in runs:
        run.learn(1)
    assert not difference(*(run.network.state_dict() for run in runs))


@pytest.mark.parametrize("own", first_quick([{}, {"momentum": 0.9}, {"sam": "all"}]), ids=["sgd", "momentum", "sam"])
def test_no_update_leaves_what_is_free_where_protection_is_hard(own: dict[str, Any]) -> None:
    """With a wide aperture eigenvalues are 0 or nearly 1: the answers on the first task's inputs stay."""
    run = Run("codecl", aperture=1e6, rank=1000, samples=48, start="identity", **own)
    run.learn(1)
    x = torch.from_numpy(run.tasks[0].train.x)
    before = {n: (rows, b.weight.clone()) for (n, rows), b in
              zip(input_rows(run.network, x, 0), run.network.blocks().values(), strict=True)}  # fmt: skip
    answers = run.network.eval()(x, 0).detach()
    run.learn(2, first=1)
    moved = {n: b.weight - before[n][1] for n, b in run.network.blocks().items()}
    for name, delta in moved.items():
        seen = before[name][0]
        assert float((seen @ delta.T).norm()) < 2e-3 * float(seen.norm() * delta.norm()) or not delta.any()
    assert any(delta.norm() > 0.01 for delta in moved.values())
    torch.testing.assert_close(run.network.eval()(x, 0).detach(), answers, atol=2e-3, rtol=0)


def begun(start: str, **settings: Any) -> tuple[Run, Tensor, Tensor]:
    """A run at the beginning of its second task, images of it, and the answers before anything was scaled."""
    run = Run("codecl", rank=4, start=start, **settings)
    run.learn(1)
    x = torch.from_numpy(run.tasks[1].train.x)
    answers = run.network.eval()(x, 1).detach()
    run.network.open([1])
    run.method.begin_task(1, TrainingData(1, x, torch.from_numpy(run.tasks[1].train.y), 16))
    return run, x, answers


def test_the_identity_leaves_the_network_as_it_is_and_a_random_start_does_not() -> None:
    gaps = {}
    for start in ("identity", "random"):
        run, x, answers = begun(start)
        scales = run.method.memory["A"]["1"]
        assert "backbone.conv1" in scales and all(A.shape == (4, 4) for A in scales.values())
        gaps[start] = float((run.method.forward(x, 1).detach() - answers).abs().max())
        assert torch.equal(run.method.forward(x, 0), run.network(x, 0)), "the first task is not scaled"
    assert gaps["identity"] < 1e-5 < 0.01 < gaps["random"], gaps


def test_a_random_start_is_that_of_a_new_linear_layer() -> None:
    run = begun("random")[0]
    scales = torch.cat([A.detach().flatten() for A in run.method.memory["A"]["1"].values()])
    assert float(scales.abs().max()) <= 0.5 and float(scales.std()) == pytest.approx(0.5 / 3**0.5, abs=0.1)


def test_scales_of_a_task_are_trained_kept_and_used_for_it_alone() -> None:
    run = Run("codecl", rank=4, start="identity")
    run.learn(2)
    kept = {name: A.clone() for name, A in run.method.memory["A"]["1"].items()}
    assert list(kept) == ["backbone.conv1"] and not torch.allclose(kept["backbone.conv1"], torch.eye(4), atol=1e-3)
    U = run.method.memory["U"]["1"]["backbone.conv1"]
    torch.testing.assert_close(U.T @ U, torch.eye(4))
    x = torch.from_numpy(run.tasks[1].test.x)
    run.network.eval()
    assert not torch.allclose(run.method.forward(x, 1), run.network(x, 1), atol=1e-3)
    W = run.network.get_parameter("backbone.conv1.weight").detach()
    effective = W.flatten(1) + W.flatten(1) @ U @ (kept["backbone.conv1"] - torch.eye(4)) @ U.T
    by_hand = run.network(x, 1, weights={"backbone.conv1.weight": effective.view_as(W)})
    torch.testing.assert_close(run.method.forward(x, 1), by_hand)
    run.learn(3, first=2)
    assert not difference(run.method.memory["A"]["1"], kept)


def test_a_layer_is_scaled_where_inputs_overlap_and_it_is_wider_than_the_rank() -> None:
    none = Run("codecl", rank=4, overlap=1.0)
    none.learn()
    assert "A" not in none.method.memory and none.method.report()["scaled"] == {}
    narrow = Run("codecl", rank=9)
    narrow.learn(2)
    assert "backbone.conv1" not in narrow.method.memory.get("A", {}).get("1", {}), "it has 9 inputs"
    wide = Run("codecl", rank=8)
    wide.learn(2)
    assert "backbone.conv1" in wide.method.report()["scaled"]["1"]


def on_groups(**settings: Any) -> tuple[Any, Tensor, Tensor]:
    """The method at the beginning of its second task, on a network with groups, biases and normalization; images x, and
    the answers before anything was scaled."""
    torch.manual_seed(0)
    network = Network(BACKBONES["groupnet"]((2, 6, 6)), 32, 2, 2)
    method = CODECL(network, CODECL.Config(rank=2, overlap=0.0, **settings))
    x, y = torch.randn(40, 2, 6, 6), torch.arange(40) % 2
    for task in (0, 1):
        network.open([task])
        method.begin_task(task, TrainingData(task, x, y, 16))
        if task == 0:
            method.end_task(task, TrainingData(task, x, y, 16))
    network.eval()
    return method, x, network(x, 1).detach()


def test_after_the_first_task_weights_scales_and_the_own_head_learn_and_nothing_else() -> None:
    method, x, answers = on_groups()
    learning = {name for name, p in method.network.named_parameters() if p.requires_grad}
    layers = ("conv1", "conv2", "fc3")
    assert learning == {f"backbone.{layer}.weight" for layer in layers} | {"heads.1.weight"}
    scales = method.memory["A"]["1"]
    assert list(scales) == ["backbone.conv1.g0", "backbone.conv1.g1", "backbone.conv2", "backbone.fc3"]
    assert [id(p) for p in method.parameters()[-4:]] == [id(A) for A in scales.values()]
    torch.testing.assert_close(method.forward(x, 1), answers)


def test_only_linear_layers_detach_and_every_group_is_scaled_by_its_own() -> None:
    grads = []
    for detach in (False, True):
        method, x, answers = on_groups(detach=detach)
        method.forward(x, 1).square().sum().backward()
        named = method.network.named_parameters()
        grads.append({name: p.grad for name, p in named if p.grad is not None})
        method.memory["A"]["1"]["backbone.conv1.g1"].data.mul_(-1)
        assert not torch.allclose(method.forward(x, 1), answers, atol=1e-3)
    same = {name for name in grads[0] if torch.allclose(grads[0][name], grads[1][name], 1e-3, 1e-4)}
    assert same == {"backbone.conv1.weight", "backbone.conv2.weight", "heads.1.weight"}


def test_what_is_carried_has_the_sizes_of_the_layers() -> None:
    run = Run("codecl", rank=4)
    _, records = run.session.run()
    sizes = {name: block.weight.shape[1] for name, block in run.network.blocks().items()}
    conceptors = run.method.memory["conceptor"]
    assert {name: tuple(C.shape) for name, C in conceptors.items()} == {n: (d, d) for n, d in sizes.items()}
    assert all(0 <= float(e) < 1 + 1e-9 for C in conceptors.values() for e in torch.linalg.eigvalsh(C).clamp(min=0))
    assert records[0].state_bytes == 8 * sum(d * d for d in sizes.values())
    assert records[2].report["capacity"]["backbone.conv1"] > records[0].report["capacity"]["backbone.conv1"]


def test_where_it_does_not_apply() -> None:
    catalog = Catalog()
    cells, reasons = catalog.plan(Request(["codecl"], ["permuted_digits"], [0]))
    assert not cells and "task of every test image" in str(reasons)
    for own in ({"weight_decay": 1e-4}, {"optimizer": "adam"}):
        cells, reasons = catalog.plan(Request(["codecl"], ["toy"], [0], None, {"codecl": own}))
        assert not cells and "projects gradients" in str(reasons)


@pytest.mark.parametrize(
    "setting", [{"aperture": 0.0}, {"share": 1.0}, {"rank": 0}, {"overlap": -0.1}, {"floor": 1.0}, {"samples": 0}]
)
def test_what_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(setting))} must be"):
        CODECL.Config(**setting)


def test_the_protocols_differ_by_the_defects_of_the_released_code() -> None:
    published, sound = Run("codecl").method.config, CODECL.Config()
    assert (published.start, published.detach) == ("random", True)
    assert (sound.start, sound.detach) == ("identity", False)
