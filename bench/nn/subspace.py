"""All subspace algebra of the suite, in float64.

A `gram` (d, d) is C = XᵀX, the uncentred second moment of a layer's inputs X (n, d); its eigenvalues are the squared
singular values of X. A `basis` (d, k) has orthonormal columns; k may be 0. Eigenvalues are clamped at zero.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

ENERGY_CAP = 0.9999  # an energy of 1 would protect every direction and end learning


class Spectrum(NamedTuple):
    """Eigenvalues (d,), descending and non-negative, and eigenvectors (d, d) as columns."""

    values: Tensor
    vectors: Tensor


def spectrum(gram: Tensor) -> Spectrum:
    """Return the eigen-decomposition of a symmetric positive semi-definite matrix (d, d)."""
    ascending, vectors = _eigh(gram)
    values = ascending.clamp(min=0)
    return Spectrum(values.flip(0), vectors.flip(1))


def _eigh(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return torch's eigenvalues (d,), ascending, and eigenvectors (d, d). Raises `FloatingPointError`.

    Of NaN, LAPACK says that it did not converge, or gives an answer, as it happens.
    """
    if not bool(gram.isfinite().all()):
        raise FloatingPointError(f"a matrix ({len(gram)}, {len(gram)}) to be decomposed is not finite")
    values, vectors = torch.linalg.eigh(gram.double())
    return values, vectors


def energy_schedule(start: float, step: float, task: int) -> float:
    """Return the energy to protect after task `task`: start + step * task, kept below 1."""
    return min(start + step * task, ENERGY_CAP)


def empty_basis(gram: Tensor) -> Tensor:
    """Return the basis (d, 0) of the subspace that has no direction, for a gram (d, d)."""
    return gram.new_zeros(len(gram), 0, dtype=torch.float64)


def project_out(rows: Tensor, basis: Tensor) -> Tensor:
    """Return rows (n, d) without their component in the span of `basis` (d, k)."""
    inside = (rows @ basis) @ basis.T
    return rows - inside


class Rotation(NamedTuple):
    """The orthogonal matrix H = I - Y T Yᵀ, (d, d): its first k columns span a basis (d, k), the others its complement.

    A product of k Householder reflections in compact form (Schreiber & Van Loan 1989).
    """

    vectors: Tensor  # Y (d, k)
    core: Tensor  # T (k, k), upper triangular

    def __call__(self, rows: Tensor) -> Tensor:
        """Return X H, (..., d), for rows X (..., d)."""
        inside = (rows @ self.vectors) @ self.core  # (..., k)
        return rows - inside @ self.vectors.T

    @property
    def cost(self) -> int:
        """Return the number of multiplications for a row (d,); a dense matrix needs d²."""
        d, k = self.vectors.shape
        return k * (2 * d + k)

    @property
    def rank(self) -> int:
        """Return the dimension of the complement, d - k."""
        d, k = self.vectors.shape
        return d - k

    def inverse(self) -> Rotation:
        """Return the rotation by Hᵀ, (d, d), which undoes this one."""
        return Rotation(self.vectors, self.core.T)

    def free(self) -> Tensor:
        """Return the columns (d, d - k) of H that do not belong to the basis."""
        d, k = self.vectors.shape
        axes = torch.eye(d).to(self.vectors)[k:]
        return self.inverse()(axes).T

    def to(self, other: Tensor) -> Rotation:
        """Return the rotation (d, d) in the precision and on the device of `other`."""
        return Rotation(self.vectors.to(other), self.core.to(other))


def rotation(basis: Tensor) -> Rotation:
    """Return the rotation (d, d) to coordinates in which the span of `basis` (d, k) is the first k axes."""
    reflectors, tau = torch.geqrf(basis.double())
    ones = torch.eye(*basis.shape, dtype=reflectors.dtype, device=basis.device)
    Y = reflectors.tril(-1) + ones
    products = (Y.T @ Y).triu(1)
    above = torch.eye(len(tau)).to(Y) + tau[:, None] * products  # diag(τ) T⁻¹; τ is 0 where nothing reflects
    core = torch.linalg.solve_triangular(above, tau.diag(), upper=True)
    return Rotation(Y, core)


def complement(basis: Tensor) -> Tensor:
    """Return an orthonormal basis (d, d - k) of everything orthogonal to `basis` (d, k)."""
    return rotation(basis).free()


def residual_gram(gram: Tensor, basis: Tensor) -> Tensor:
    """Return (I - P) C (I - P), (d, d), with P = M Mᵀ: the Gram of inputs without their component in the span of M.

    `gram` is C (d, d) and `basis` is M (d, k).
    """
    half = project_out(gram.double(), basis)
    return project_out(half.T, basis)


def leading_basis(gram: Tensor, energy: float, rule: Literal["below", "reach"] = "below") -> Tensor:
    """Return the leading directions (d, k) that hold a share `energy` of the trace of a gram (d, d).

    The rule "below" takes the largest k whose share stays under `energy`, as GPM's code does: one less than the paper
    has, and possibly none. "reach" takes the smallest k whose share reaches it, as GPM's paper does.
    """
    values, vectors = spectrum(gram)
    total = values.sum()
    if total == 0:
        return empty_basis(gram)
    shares = values.cumsum(0) / total
    below = int((shares < energy).sum())
    k = below if rule == "below" else min(below + 1, len(values))
    return vectors[:, :k]


def extend_basis(basis: Tensor, gram: Tensor, energy: float) -> Tensor:
    """Return `basis` (d, k) and the fewest residual directions with which a share `energy` of the trace is held.

    These are Eq. 8-9 of GPM (Saha et al. 2021), for a gram (d, d); the basis returned is (d, k + r).
    """
    total = gram.double().trace()
    values, vectors = spectrum(residual_gram(gram, basis))
    held = total - values.sum()
    if total == 0 or held / total >= energy:
        return basis
    shares = (held + values.cumsum(0)) / total
    below = int((shares < energy).sum())
    free = len(gram) - basis.shape[1]
    added = vectors[:, : min(below + 1, free)]
    added = torch.linalg.qr(added - basis @ (basis.T @ added)).Q  # keeps MᵀM = I over many tasks
    return torch.cat([basis, added], dim=1)


class Null(NamedTuple):
    """A split of the input space by how much the inputs excite it."""

    basis: Tensor  # (d, r), the directions hardly excited, ascending
    rest: Tensor  # (d, d - r), the others
    threshold: float  # θ, which the singular values of `basis` stay under


def null_basis(
    gram: Tensor,
    eps: float,
    norm: Literal["nuclear", "frobenius"] = "nuclear",
    nan_policy: Literal["clamp", "freeze-layer"] = "clamp",
) -> Null:
    """Return the directions (d, r) that the inputs of a gram (d, d) hardly excite, and the others (d, d - r).

    r = #{i : σ_i <= θ}, with θ = eps * Σσ ("nuclear", NESS's code) or eps * √Σσ² ("frobenius", NESS's Eq. 5).
    "freeze-layer" does as NESS's code, where one eigenvalue below zero by rounding leaves no direction at all.
    """
    raw, vectors = _eigh(gram)
    sigma = raw.clamp(min=0).sqrt()
    size = sigma.sum() if norm == "nuclear" else sigma.square().sum().sqrt()
    threshold = eps * size
    rank = int((sigma <= threshold).sum())
    rounded_below_zero = bool((raw < 0).any())
    if nan_policy == "freeze-layer" and rounded_below_zero:
        rank = 0
    return Null(vectors[:, :rank], vectors[:, rank:], float(threshold))


def dual_basis(basis: Tensor | None, retain: bool, gram: Tensor, energy: float) -> tuple[Tensor, bool]:
    """Return DualGPM's memory after a task (Liang & Li, CVPR 2023): a basis (d, k), and whether it is retained.

    The basis spans what to avoid, or, when more than half of the space is protected, what is still allowed (`retain`):
    whichever is thinner. `gram` (d, d) is that of the task's inputs; before the first task the basis is None.
    """
    if basis is None:
        basis = leading_basis(gram, energy)
        if basis.shape[1] == 0:
            basis = spectrum(gram).vectors[:, :1]
    elif not retain:
        basis = extend_basis(basis, gram, energy)
    else:
        basis = _shrink_basis(basis, gram, energy)
    if not retain and 2 * basis.shape[1] > len(gram):
        return complement(basis), True
    return basis, retain


def _shrink_basis(basis: Tensor, gram: Tensor, energy: float) -> Tensor:
    """Return the allowed space (d, k) without its leading directions, until it holds less than 1 - energy of C."""
    inside, directions = spectrum(basis.T @ gram.double() @ basis)
    total = gram.double().trace()
    removed = 0
    if total > 0:
        lost = torch.cat([inside.new_zeros(1), inside.cumsum(0)])  # by removing 0, 1, ... directions
        shares = (inside.sum() - lost) / total
        removed = int((shares >= 1 - energy).sum())
    return basis @ directions[:, removed:]


def interference(delta: Tensor, gram: Tensor) -> float:
    """Return ‖X Δᵀ‖_F: how much an update `delta` (o, d) moves a layer's outputs on the inputs of a gram XᵀX (d, d)."""
    delta = delta.double()
    squares = (delta @ gram.double()) * delta  # (o, d), whose sum is the trace of Δ XᵀX Δᵀ
    return float(squares.sum().clamp(min=0).sqrt())
