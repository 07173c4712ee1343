"""Known answers of SGP's importances, and its properties: what a step keeps, and that with a large α it is GPM."""

import sys

import pytest
import torch
from conftest import first_quick
from torch import Tensor

from bench.catalog.catalog import Catalog
from bench.core import UserError
from bench.nn.subspace import empty_basis, extend_basis, leading_basis, rotation
from bench.tools.method_checks import why_not
from bench.tools.trial import PLAIN, SHARED, Ground, Run
from bench.training.projection import Projection

SGP = Catalog().method("sgp")
grown = sys.modules[SGP.__module__]._grown  # type: ignore[attr-defined]


def double(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def after(inputs: Tensor, energy: float, alpha: float, basis: Tensor | None = None, old: Tensor | None = None):
    """The basis and the importances after a task with the input matrix R (d, n)."""
    gram = inputs @ inputs.T
    basis = leading_basis(gram, energy) if basis is None else extend_basis(basis, gram, energy)
    return basis, grown(old, basis, gram, alpha)


def removed(basis: Tensor, importance: Tensor) -> Tensor:
    return basis * importance @ basis.T


def near(found: Tensor, known: list) -> None:
    torch.testing.assert_close(found, torch.tensor(known, dtype=torch.float64), atol=2e-6, rtol=0)


@pytest.mark.parametrize(("alpha", "known"), [(10.0, [1, 0.916667, 0.785714]), (3.0, [1, 0.8, 0.571429])])
def test_the_importance_of_singular_values_4_2_1(alpha: float, known: list[float]) -> None:
    near(grown(None, torch.eye(3).double(), torch.diag(double([[16, 4, 1]])[0]), alpha), known)


def test_importances_over_three_tasks_as_the_authors_code_computes_them() -> None:
    basis, first = after(torch.diag(double([[4, 1, 0.5, 0.1]])[0]), 0.999, 1.0)
    near(first, [1, 0.4])
    near(basis @ basis.T, torch.diag(torch.tensor([1.0, 1, 0, 0])).tolist())
    second = double([[0.5, 0, 0], [0, 0.3, 0], [0, 0, 2], [0, 0, 1]])
    basis, importance = after(second, 0.9, 1.0, basis, first)
    near(importance, [1, 0.636587, 1])
    near(basis[:, 2].abs(), [0, 0, 0.894427, 0.447214])
    G = double([[1, 1, 1, 1], [0, -1, 2, 1]])
    near(G - G @ removed(basis, importance), [[0, 0.363413, -0.2, 0.4], [0, -0.363413, 0, 0]])
    basis, importance = after(double([[0, 0], [1, 0], [0, 1], [0, -2]]), 0.7, 1.0, basis, importance)
    near(importance, [1, 1, 1, 1])
    near(basis[:, 3].abs(), [0, 0, 0.447214, 0.894427])


def test_importances_of_directions_that_are_no_axes() -> None:
    basis, importance = after(double([[2, 0, 1, 3], [1, 1, 0, 2], [0, 1, 1, 0]]), 0.99, 10.0)
    near(importance, [1, 0.840548])
    near(
        removed(basis, importance),
        [[0.764323, 0.398266, -0.118623], [0.398266, 0.322597, 0.229055], [-0.118623, 0.229055, 0.753629]],
    )
    basis, importance = after(double([[0, 1], [0, 0], [3, 0]]), 0.97, 10.0, basis, importance)
    near(importance, [1, 1, 0.871247])
    near(
        removed(basis, importance),
        [[0.970796, 0.050137, -0.019835], [0.050137, 0.913923, 0.034054], [-0.019835, 0.034054, 0.986528]],
    )
    G = double([[1, 0, 0], [1, 2, 3]])
    near(G - G @ removed(basis, importance), [[0.029204, -0.050137, 0.019835], [-0.011565, 0.019856, -0.007855]])


def test_old_and_new_directions_share_one_scale() -> None:
    R = double([[0.1, 0, 0], [0, 0.05, 0], [0, 0, 3]])
    basis, importance = after(R, 0.9, 10.0, torch.eye(3).double()[:, :2], double([[0.5, 0.25]])[0])
    near(importance, [0.775, 0.407143, 1])
    near(removed(basis, importance).diag(), [0.775, 0.407143, 1])


def test_importances_grow_where_no_direction_is_added() -> None:
    start = torch.eye(3).double()[:, :2]
    basis, importance = after(double([[2, 0], [0, 0.05], [0, 0]]), 0.9, 10.0, start, double([[0.9, 0.25]])[0])
    assert torch.equal(basis, start)
    near(importance, [1, 0.47])


def test_a_strength_is_what_the_released_code_takes_from_singular_pairs() -> None:
    """√(Σ_j (M_iᵀ u_j)² s_j²) over the first k singular pairs of M MᵀR is ‖M_iᵀ R‖."""
    generator = torch.Generator().manual_seed(0)
    R = torch.randn(6, 9, dtype=torch.float64, generator=generator)
    M = torch.linalg.qr(torch.randn(6, 3, dtype=torch.float64, generator=generator)).Q
    U, s, _ = torch.linalg.svd(M @ M.T @ R)
    theirs = ((M.T @ U[:, :3]).square() @ s[:3].square()).sqrt()
    gains = 11 * theirs / (10 * theirs + theirs.max())
    torch.testing.assert_close(grown(None, M, R @ R.T, 10.0), gains)


@pytest.mark.parametrize("gram", [torch.zeros(3, 3).double(), torch.eye(3).double()])
def test_no_direction_and_no_input_have_an_importance_all_the_same(gram: Tensor) -> None:
    assert grown(None, empty_basis(gram), gram, 10.0).shape == (0,)
    assert grown(None, torch.eye(3).double()[:, :2], 0 * gram, 10.0).tolist() == [0, 0]


def test_a_scaled_projection_is_training_scaled_coordinates() -> None:
    """ΔW = U S Hᵀ, H orthogonal with M first, S = √(1 - λ): a step of U moves W by -η G (I - M Λ Mᵀ)."""
    generator = torch.Generator().manual_seed(0)
    M = torch.linalg.qr(torch.randn(5, 2, dtype=torch.float64, generator=generator)).Q
    G = torch.randn(4, 5, dtype=torch.float64, generator=generator)
    importance = double([[0.9, 0.3]])[0]
    H = torch.cat([M, rotation(M).free()], dim=1)
    S = torch.diag(torch.cat([(1 - importance).sqrt(), torch.ones(3).double()]))
    torch.testing.assert_close((G @ H @ S) @ S @ H.T, G - G @ removed(M, importance), atol=1e-12, rtol=0)


@pytest.mark.parametrize("ground", first_quick([PLAIN, SHARED]))
def test_a_step_keeps_the_share_of_the_gradient_that_is_not_important(ground: Ground) -> None:
    run = Run("sgp", ground=ground, alpha=1.0)
    run.learn(2)
    memory = run.method.memory
    generator = torch.Generator().manual_seed(0)
    ranks = []
    for name, block in run.network.blocks().items():
        before = torch.randn(block.weight.shape, generator=generator)
        block.layer.weight.grad = torch.zeros_like(block.layer.weight)
        block.grad.copy_(before)
        basis, importance = memory["basis"][name].float(), memory["importance"][name].float()
        Projection(block, memory["basis"][name], memory["importance"][name])()
        torch.testing.assert_close(block.grad @ basis, before @ basis * (1 - importance), atol=1e-5, rtol=0)
        free = torch.eye(len(basis)) - basis @ basis.T
        torch.testing.assert_close(block.grad @ free, before @ free, atol=1e-5, rtol=0)
        ranks.append(basis.shape[1])
    assert len(ranks) == len(memory["importance"]) and max(ranks) > 0


@pytest.mark.parametrize("training", first_quick([{}, {"momentum": 0.9, "lr": 0.01}, {"sam": "all"}]))
def test_with_an_alpha_without_bound_it_is_gpm(training: dict) -> None:
    """Under SGD, with momentum too. Under SAM the ascent of SGP is not projected, so that only the space is GPM's."""
    sgp, gpm = Run("sgp", energy=0.9, alpha=1e12, epochs=2, **training), Run("gpm", energy=0.9, epochs=2, **training)
    for run in (sgp, gpm):
        run.learn(1)
    start = {name: block.weight.clone() for name, block in sgp.network.blocks().items()}
    bases = dict(sgp.method.memory["basis"])
    for run in (sgp, gpm):
        run.learn(2, first=1)
    for name, block in sgp.network.blocks().items():
        if "sam" in training:
            moved = block.weight - start[name]
            assert float((moved @ bases[name].float()).norm()) < 1e-5 < float(moved.norm())
        else:
            theirs = gpm.network.blocks()[name].weight
            torch.testing.assert_close(block.weight, theirs, atol=1e-5, rtol=1e-4)
    assert len(bases) == 3 and min(basis.shape[1] for basis in bases.values()) > 0


def test_a_small_alpha_protects_less() -> None:
    means = []
    for alpha in (0.1, 1.0, 10.0):
        run = Run("sgp", alpha=alpha, epochs=1)
        run.learn(1)
        means.append(run.method.report()["importance"])
    assert len(means[0]) == 3
    for name in means[0]:
        assert 0 < means[0][name] < means[1][name] < means[2][name] <= 1


def test_biases_and_normalization_stay_after_the_first_task() -> None:
    run = Run("sgp", ground=SHARED)
    run.learn(1)
    before = {name: p.detach().clone() for name, p in run.network.named_parameters()}
    run.learn(2, first=1)
    moved = {name for name, p in run.network.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {f"{path}.weight" for path in run.network.layers()}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"optimizer": "adam"}, "adam would change their direction"), ({"weight_decay": 0.1}, "weight decay")],
)
def test_it_says_under_what_training_it_would_not_hold(settings: dict, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        Run("sgp", **settings)
    assert not why_not("sgp", PLAIN)
