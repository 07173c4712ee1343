"""Subspace algebra against known answers and invariants."""

import pytest
import torch

from bench.nn import subspace

torch.set_default_dtype(torch.float32)
R_INTEGER = torch.tensor([[2.0, 0, 1, 3], [1, 1, 0, 2], [0, 1, 1, 0]], dtype=torch.float64)


def diag(*values: float) -> torch.Tensor:
    return torch.diag(torch.tensor(values, dtype=torch.float64))


def gram_of(R: torch.Tensor) -> torch.Tensor:
    return R @ R.T


def random_inputs(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("energy", "below", "reach"),
    [(0.5, 0, 1), (0.76, 0, 1), (0.762, 1, 2), (0.95, 1, 2), (0.953, 2, 3), (0.999, 2, 3), (1.0, 2, 3)],
)
def test_first_task_keeps_below_or_reaches(energy, below, reach):
    gram = gram_of(diag(4, 2, 1))
    assert subspace.leading_basis(gram, energy, "below").shape[1] == below
    assert subspace.leading_basis(gram, energy, "reach").shape[1] == reach


def test_first_task_may_protect_nothing():
    assert subspace.leading_basis(gram_of(diag(10, 1)), 0.97).shape == (2, 0)


@pytest.mark.parametrize(("energy", "k"), [(0.8, 0), (0.9, 1), (0.95, 1), (0.99, 2), (0.999, 2)])
def test_first_task_on_the_integer_matrix(energy, k):
    assert subspace.leading_basis(gram_of(R_INTEGER), energy).shape[1] == k


def test_projection_on_the_integer_matrix():
    basis = subspace.leading_basis(gram_of(R_INTEGER), 0.9)
    gradient = torch.tensor([[1.0, 0, 0]], dtype=torch.float64)
    expected = torch.tensor([[0.28237439, -0.44496354, -0.06816552]], dtype=torch.float64)
    torch.testing.assert_close(subspace.project_out(gradient, basis), expected, atol=1e-8, rtol=0)
    left = torch.linalg.svd(R_INTEGER).U[:, :1]
    torch.testing.assert_close(basis @ basis.T, left @ left.T, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("energy", "added"), [(0.62, 0), (0.64, 1), (0.9, 1), (0.95, 2), (0.99, 2)])
def test_later_task_adds_until_reached(energy, added):
    R = torch.tensor([[3.0, 0, 0], [0, 2, 0], [0, 0, 1], [0, 0, 0.5]], dtype=torch.float64)
    basis = torch.eye(4, 1, dtype=torch.float64)
    assert subspace.extend_basis(basis, gram_of(R), energy).shape[1] == 1 + added


@pytest.mark.parametrize(("energy", "added"), [(0.97, 1), (0.98, 2)])
def test_later_task_on_the_integer_basis(energy, added):
    basis = subspace.leading_basis(gram_of(R_INTEGER), 0.9)
    R = torch.tensor([[0.0, 1], [0, 0], [3, 0]], dtype=torch.float64)
    held = float((basis.T @ gram_of(R) @ basis).trace() / gram_of(R).trace())
    assert held == pytest.approx(0.07758995, abs=1e-8)
    assert subspace.extend_basis(basis, gram_of(R), energy).shape[1] == 1 + added


def test_basis_stays_orthonormal_over_many_tasks():
    basis = subspace.empty_basis(torch.eye(40))
    for task in range(20):
        X = random_inputs(30, 6, task) @ random_inputs(6, 40, 100 + task)
        basis = subspace.extend_basis(basis, X.T @ X, 0.99)
        assert basis.shape[1] <= 40
        torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]).double(), atol=1e-10, rtol=0)
    assert basis.shape[1] == 40


def test_silent_layers_change_nothing():
    silent = torch.zeros(3, 3, dtype=torch.float64)
    basis = torch.eye(3, 1, dtype=torch.float64)
    assert subspace.leading_basis(silent, 0.9).shape == (3, 0)
    assert subspace.extend_basis(basis, silent, 0.9) is basis


SPECTRUM = (100, 10, 1, 0.1, 0.01)
SPREAD = (50, 30, 10, 5, 3, 1.5, 0.4, 0.1)


@pytest.mark.parametrize(
    ("sigma", "eps", "nuclear", "frobenius"),
    [
        (SPECTRUM, 1e-3, 2, 2),
        (SPECTRUM, 1e-2, 3, 3),
        (SPECTRUM, 5e-4, 1, 1),
        (SPREAD, 2e-3, 1, 1),
        (SPREAD, 5e-3, 2, 1),
        (SPREAD, 2e-2, 3, 2),
        (SPREAD, 1e-1, 6, 5),
        ((3, 0.1, 0.001), 1e-3, 1, 1),
        ((3, 0.1, 0.001), 5e-2, 2, 2),
        ((1,) * 10, 1e-2, 0, 0),
        ((1,) * 1001, 1e-3, 1001, 0),
        ((1,) * 999, 1e-3, 0, 0),
        ((0,) * 7, 1e-3, 7, 7),
    ],
)
def test_null_rank(sigma, eps, nuclear, frobenius):
    gram = diag(*sigma).square()
    for norm, rank in (("nuclear", nuclear), ("frobenius", frobenius)):
        split = subspace.null_basis(gram, eps, norm)
        assert split.basis.shape == (len(sigma), rank)
        assert split.rest.shape == (len(sigma), len(sigma) - rank)


def test_null_threshold_is_the_norm_times_eps():
    assert subspace.null_basis(diag(3, 0.1, 0.001).square(), 1e-3).threshold == pytest.approx(0.003101)


def test_null_rank_ignores_scale_and_order_of_the_inputs():
    X = random_inputs(50, 12) * torch.logspace(0, -4, 12, dtype=torch.float64)
    ranks = set()
    for Y in (X, 37.5 * X, X.flip(0)):
        split = subspace.null_basis(Y.T @ Y, 1e-2)
        ranks.add(split.basis.shape[1])
    assert len(ranks) == 1
    assert 0 < min(ranks) < 12


def normal(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def duplicated(n, d):
    X = normal(n, d // 2, 0)
    return torch.cat([X, X], dim=1)


@pytest.mark.parametrize(
    ("X", "rank"),
    [
        (duplicated(500, 40), 20),
        (torch.cat([normal(300, 30, 1), torch.ones(300, 20)], 1), 19),
        (normal(100, 200, 2), 100),
        (normal(500, 40, 3) * (torch.arange(40) >= 5), 5),
    ],
    ids=["duplicates", "constants", "fewer rows than columns", "zeros"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_null_rank_of_deficient_inputs(X, rank, dtype):
    X = X.to(dtype)
    assert subspace.null_basis(X.T @ X, 1e-3)[0].shape[1] == rank


def test_nan_policy_of_the_released_code_freezes_the_layer():
    gram = diag(4, 1, -1e-12)
    assert subspace.null_basis(gram, 0.4, nan_policy="clamp")[0].shape[1] == 2
    assert subspace.null_basis(gram, 0.4, nan_policy="freeze-layer")[0].shape[1] == 0


def test_null_directions_bound_the_interference():  # Eq. 7 of the paper, summed over inputs
    X = random_inputs(60, 10) * torch.logspace(0, -3, 10, dtype=torch.float64)
    gram = X.T @ X
    basis, _, threshold = subspace.null_basis(gram, 1e-2)
    up = random_inputs(4, basis.shape[1], 9)
    left = subspace.interference(up @ basis.T, gram)
    assert left == pytest.approx(float((X @ (up @ basis.T).T).norm()), rel=1e-9)
    assert 0 < left <= threshold * float(up.norm())


@pytest.mark.parametrize(("energy", "k"), [(0.95, 3)])
def test_energies_of_the_inputs(energy, k):  # σ², as DualGPM's paper has it
    sigma = (10, 5, 3, 2, 1, 1, 1, 1)
    assert subspace.dual_basis(None, False, diag(*sigma).square(), energy)[0].shape[1] == k


def test_energies_of_the_gram_squared():  # σ⁴, as InfLoRA's code has it
    sigma = (10, 5, 3, 2, 1, 1, 1, 1)
    assert subspace.dual_basis(None, False, diag(*sigma) ** 4, 0.95)[0].shape[1] == 1
    gram = diag(4, 3, 2, 1)
    assert subspace.leading_basis(gram @ gram, 0.95).shape[1] == 2
    assert subspace.leading_basis(gram @ gram, 0.97).shape[1] == 3
    assert subspace.leading_basis(gram, 0.95).shape[1] == 3


def test_energy_schedule():  # and the cap below 1
    assert [round(subspace.energy_schedule(0.95, 0.005, t), 4) for t in (0, 1, 9)] == [0.95, 0.955, 0.995]
    assert subspace.energy_schedule(0.965, 0.003, 19) < 1


def test_dual_basis_switches_to_the_complement():
    basis, retain = subspace.dual_basis(None, False, diag(4, 3, 2, 1), 0.95)
    assert retain
    torch.testing.assert_close(basis.abs(), torch.eye(4).double()[:, 3:], atol=1e-12, rtol=0)


@pytest.mark.parametrize(("energy", "left"), [(0.95, 2), (0.99, 1), (0.9995, 0)])
def test_dual_basis_shrinks_what_is_allowed(energy, left):
    allowed = torch.eye(4, dtype=torch.float64)[:, 2:]
    basis, retain = subspace.dual_basis(allowed, True, diag(9, 4, 1, 0.25).square(), energy)
    assert retain
    assert basis.shape == (4, left)
    if left == 1:
        torch.testing.assert_close(basis.abs(), torch.eye(4).double()[:, 3:], atol=1e-12, rtol=0)
    again, _ = subspace.dual_basis(basis, True, diag(1, 1, 1, 1), energy)
    assert again.shape[1] <= left


def test_dual_memory_protects_the_same_in_both_forms():
    """Whichever form is stored, what may still be used is orthogonal to the leading inputs of the first task."""
    X = random_inputs(200, 8) * torch.logspace(0, -2, 8, dtype=torch.float64)
    gram = X.T @ X
    leading = subspace.leading_basis(gram, 0.999)
    basis, retain = subspace.dual_basis(None, False, gram, 0.999)
    assert retain
    assert 2 * leading.shape[1] > 8
    torch.testing.assert_close(
        basis.T @ leading, torch.zeros(basis.shape[1], leading.shape[1]).double(), atol=1e-10, rtol=0
    )


@pytest.mark.parametrize(
    "basis",
    [
        torch.linalg.qr(random_inputs(9, 4)).Q,
        torch.linalg.qr(random_inputs(9, 9)).Q,
        torch.eye(9).double()[:, :3],  # reflections that are none
        torch.eye(9).double()[:, [7, 0]],
        torch.zeros(9, 0).double(),
    ],
    ids=["thin", "complete", "first axes", "axes", "empty"],
)
def test_rotation_is_orthogonal_and_starts_with_the_basis(basis):
    k = basis.shape[1]
    X = random_inputs(5, 9)
    turn = subspace.rotation(basis)
    H = turn(torch.eye(9).double())
    torch.testing.assert_close(H @ H.T, torch.eye(9).double(), atol=1e-12, rtol=0)
    first = H[:, :k]
    torch.testing.assert_close(first @ first.T, basis @ basis.T, atol=1e-12, rtol=0)
    torch.testing.assert_close(turn(X), X @ H, atol=1e-12, rtol=0)
    torch.testing.assert_close(turn.inverse()(X), X @ H.T, atol=1e-12, rtol=0)


def test_complement():
    basis = torch.linalg.qr(random_inputs(7, 3)).Q
    both = torch.cat([basis, subspace.complement(basis)], dim=1)
    torch.testing.assert_close(both.T @ both, torch.eye(7).double(), atol=1e-12, rtol=0)
