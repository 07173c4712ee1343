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
    """Eigen-decomposition of a symmetric positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(gram.double())
    return Spectrum(values.clamp(min=0).flip(0), vectors.flip(1))


def energy_schedule(start: float, step: float, task: int) -> float:
    """The energy to protect after task `task`: start + step * task, kept below 1."""
    return min(start + step * task, ENERGY_CAP)


def empty_basis(gram: Tensor) -> Tensor:
    """The basis of the null subspace, (d, 0)."""
    return gram.new_zeros(len(gram), 0, dtype=torch.float64)


def project_out(rows: Tensor, basis: Tensor) -> Tensor:
    """Rows (n, d) without their component in the span of `basis`."""
    return rows - (rows @ basis) @ basis.T


class Rotation(NamedTuple):
    """The orthogonal matrix H = I - Y T Yᵀ, (d, d): its first k columns span a basis (d, k), the others its complement.

    A product of k Householder reflections in compact form (Schreiber & Van Loan 1989).
    """

    vectors: Tensor  # Y (d, k)
    core: Tensor  # T (k, k), upper triangular

    def __call__(self, rows: Tensor) -> Tensor:
        """X H for rows X (..., d)."""
        return rows - ((rows @ self.vectors) @ self.core) @ self.vectors.T

    @property
    def cost(self) -> int:
        """Multiplications for a row; a dense matrix needs d²."""
        d, k = self.vectors.shape
        return k * (2 * d + k)

    @property
    def rank(self) -> int:
        """d - k."""
        return self.vectors.shape[0] - self.vectors.shape[1]

    def inverse(self) -> Rotation:
        """Of X Hᵀ."""
        return Rotation(self.vectors, self.core.T)

    def free(self) -> Tensor:
        """The columns (d, d - k) that do not belong to the basis."""
        d, k = self.vectors.shape
        return self.inverse()(torch.eye(d).to(self.vectors)[k:]).T

    def to(self, other: Tensor) -> Rotation:
        """In the precision and on the device of `other`."""
        return Rotation(self.vectors.to(other), self.core.to(other))


def rotation(basis: Tensor) -> Rotation:
    """Coordinates in which the span of `basis` (d, k) is the first k axes."""
    reflectors, tau = torch.geqrf(basis.double())
    Y = reflectors.tril(-1) + torch.eye(*basis.shape, dtype=reflectors.dtype, device=basis.device)
    above = torch.eye(len(tau)).to(Y) + tau[:, None] * (Y.T @ Y).triu(1)  # diag(τ) T⁻¹; τ is 0 where nothing reflects
    return Rotation(Y, torch.linalg.solve_triangular(above, tau.diag(), upper=True))


def complement(basis: Tensor) -> Tensor:
    """An orthonormal basis (d, d - k) of everything orthogonal to `basis` (d, k)."""
    return rotation(basis).free()


def residual_gram(gram: Tensor, basis: Tensor) -> Tensor:
    """(I - P) C (I - P) with P = M Mᵀ: the Gram of the inputs without their component in the span of `basis`."""
    half = project_out(gram.double(), basis)
    return project_out(half.T, basis)


def leading_basis(gram: Tensor, energy: float, rule: Literal["below", "reach"] = "below") -> Tensor:
    """The leading directions that hold a share `energy` of the trace.

    "below": the largest k whose share stays under `energy` (GPM's code; one less than the paper, and possibly none);
    "reach": the smallest k whose share reaches it (GPM's paper).
    """
    values, vectors = spectrum(gram)
    total = values.sum()
    if total == 0:
        return empty_basis(gram)
    below = int((values.cumsum(0) / total < energy).sum())
    return vectors[:, : below if rule == "below" else min(below + 1, len(values))]


def extend_basis(basis: Tensor, gram: Tensor, energy: float) -> Tensor:
    """`basis` and the fewest residual directions with which a share `energy` of the trace is held (GPM, Eq. 8-9)."""
    total = gram.double().trace()
    values, vectors = spectrum(residual_gram(gram, basis))
    held = total - values.sum()
    if total == 0 or held / total >= energy:
        return basis
    below = int(((held + values.cumsum(0)) / total < energy).sum())
    added = vectors[:, : min(below + 1, len(gram) - basis.shape[1])]
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
    """The directions that the inputs hardly excite.

    r = #{i : σ_i <= θ}, θ = eps * Σσ ("nuclear", NESS's code) or eps * √Σσ² ("frobenius", NESS's Eq. 5).
    "freeze-layer" does as the released code, where one eigenvalue below zero by rounding leaves no direction at all.
    """
    raw, vectors = torch.linalg.eigh(gram.double())
    sigma = raw.clamp(min=0).sqrt()
    threshold = eps * (sigma.sum() if norm == "nuclear" else sigma.square().sum().sqrt())
    rank = int((sigma <= threshold).sum())
    if nan_policy == "freeze-layer" and bool((raw < 0).any()):
        rank = 0
    return Null(vectors[:, :rank], vectors[:, rank:], float(threshold))


def dual_basis(basis: Tensor | None, retain: bool, gram: Tensor, energy: float) -> tuple[Tensor, bool]:
    """DualGPM's memory after a task (Liang & Li, CVPR 2023): `basis` spans what to avoid, or, when more than half of
    the space is protected, what is still allowed (`retain`): whichever is thinner. Returns the new pair.
    """
    if basis is None:
        basis = leading_basis(gram, energy)
        basis = basis if basis.shape[1] else spectrum(gram).vectors[:, :1]
    elif not retain:
        basis = extend_basis(basis, gram, energy)
    else:
        basis = _shrink_basis(basis, gram, energy)
    if not retain and 2 * basis.shape[1] > len(gram):
        return complement(basis), True
    return basis, retain


def _shrink_basis(basis: Tensor, gram: Tensor, energy: float) -> Tensor:
    """The allowed space without its leading directions, until it holds less than 1 - energy of the new inputs."""
    inside, directions = spectrum(basis.T @ gram.double() @ basis)
    total = gram.double().trace()
    share = (inside.sum() - torch.cat([inside.new_zeros(1), inside.cumsum(0)])) / total  # left after removing 0, 1, ...
    removed = int((share >= 1 - energy).sum()) if total > 0 else 0
    return basis @ directions[:, removed:]


def interference(delta: Tensor, gram: Tensor) -> float:
    """‖X Δᵀ‖_F: how much an update `delta` (o, d) moves a layer's outputs on the inputs behind `gram`."""
    delta = delta.double()
    return float(((delta @ gram.double()) * delta).sum().clamp(min=0).sqrt())
