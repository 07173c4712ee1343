"""SGP: scaled gradient projection (Saha & Roy, AAAI 2023, arXiv 2302.01386).

GPM with importances: of a gradient's component along a direction of the basis M, not all is removed but a share λ in
[0, 1], G <- G - G M Λ Mᵀ, Λ = diag(λ). After a task a direction that its inputs R, (d, n), have singular value σ
along gains (α + 1) σ / (α σ + max σ), up to λ = 1 in all: importances add up and never fall.

Paper -> code: M memory[basis], λ memory[importance], α alpha, ε_th energy. σ = ‖Mᵢᵀ R‖, for old directions as for new
ones, whose σ is the singular value of the residual; taken from the Gram R Rᵀ. With α without bound SGP is GPM.
Departures: evaluation mode is set explicitly; thresholds stay below 1; the basis is re-orthonormalized; a layer without
a direction is left free, where the released code stops. Gradients are projected, which projects updates under SGD with
or without momentum and SAM, but not under Adam or weight decay: those are refused.
As in the authors' code, not the paper: the first task keeps the largest k *below* the energy.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core import Benchmark, Training
from bench.nn.subspace import empty_basis, extend_basis, leading_basis
from bench.search_space import Log
from bench.settings import setting
from bench.training.data import TrainingData
from bench.training.method import Method
from bench.training.projection import Protection, inputs_to_protect, open_weights, projections, why_not_projected


class SGP(Method):
    @dataclass(frozen=True)
    class Config(Protection, Method.Config):
        alpha: float = setting(10.0, "α: the larger, the more of the gradient is removed", above=0, search=Log(1, 100))

    protocols = {"sound": {"first_rule": "reach"}}
    by_default = False
    capturable = True
    config: Config

    @classmethod
    def unsupported(cls, benchmark: Benchmark, training: Training) -> str | None:
        return why_not_projected(training)

    def begin_task(self, task: int, data: TrainingData) -> None:
        self.projections = projections(self.network, self.memory.get("basis", {}), self.memory.get("importance"))
        if task > 0:
            open_weights(self.network)

    def edit_grads(self) -> None:
        for project in self.projections:
            project()

    def end_task(self, task: int, data: TrainingData) -> None:
        bases, importances = self.memory.get("basis", {}), self.memory.get("importance", {})
        for name, (gram, energy) in inputs_to_protect(self.network, self.config, data, self.generator):
            if task == 0:
                basis = leading_basis(gram, energy, self.config.first_rule)
            else:
                basis = extend_basis(bases.get(name, empty_basis(gram)), gram, energy)
            importances[name] = _grown(importances.get(name), basis, gram, self.config.alpha)
            bases[name] = basis
        self.memory = {"basis": bases, "importance": importances}

    def report(self) -> dict[str, dict[str, float]]:
        importances = self.memory["importance"]
        means = {name: float(own.mean()) for name, own in importances.items() if len(own)}
        return {"rank": {name: len(own) for name, own in importances.items()}, "importance": means}


def _grown(old: Tensor | None, basis: Tensor, gram: Tensor, alpha: float) -> Tensor:
    """Return the importances (k,) of a basis (d, k) after a task with Gram (d, d); `old` are those of the first
    columns before it."""
    strength = ((gram @ basis) * basis).sum(0).clamp(min=0).sqrt()
    largest = torch.cat([strength, strength.new_zeros(1)]).max()  # 0 where there is no direction at all
    gain = (alpha + 1) * strength / (alpha * strength + largest).clamp(min=torch.finfo(strength.dtype).tiny)
    known = gain.new_zeros(0) if old is None else old
    before = torch.cat([known, gain.new_zeros(len(gain) - len(known))])
    return (before + gain).clamp(max=1)
