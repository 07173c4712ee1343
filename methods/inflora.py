"""InfLoRA: interference-free low-rank adaptation (Liang & Li, CVPR 2024, arXiv 2404.00228).

ΔW = A B per task: B (r, d) is fixed, its rows the leading directions of the *new* task's inputs within the space that
earlier tasks leave free; A (o, r) starts at zero and is trained, then merged. The space is DualGPM's memory (Liang &
Li, CVPR 2023): a basis of what to avoid or, once that is the thinner one, of what is still allowed.

Paper -> code: A factors.up, B factors.down, M_t memory[block], "retain" memory[block + ".retain"].
A pre-trained network is adapted from the first task on, as the authors' ViT: B then holds the leading directions of all
its inputs. Where keys and values get the same inputs they get the same B. Adapted to networks trained from scratch: the
first task trains everything; every Linear and Conv2d layer is adapted; normalization frozen after the first task.
Energies are those of the Gram squared, as in the authors' code (σ⁴), or of the inputs (σ²). Departures: unaugmented
inputs in evaluation mode; branches are merged; directions that leave the allowed space are dropped; a first task that
fills over half of the space stores the true complement.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bench.nn.activations import input_grams
from bench.nn.adapters import attach, merge
from bench.nn.subspace import dual_basis, empty_basis, energy_schedule, project_out, residual_gram, spectrum
from bench.search_space import Integers, Linear
from bench.settings import setting
from bench.training.data import TrainingData
from bench.training.method import Method


class InfLoRA(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        rank: int = setting(10, "r, at most a quarter of a layer's inputs", at_least=1, search=Integers(4, 64))
        energy: float = setting(
            0.95, "share of energy to protect after the first task", above=0, at_most=1, search=Linear(0.9, 0.995)
        )
        energy_step: float = setting(0.005, "added to it with every task")
        energy_power: Literal[4, 2] = setting(4, "energies are σ⁴ (authors: the Gram as input matrix) or σ² (GPM)")
        b_scale: Literal["inverse-sqrt-3", "unit"] = setting(
            "inverse-sqrt-3", "norm of the rows of B: as the authors have it, or 1"
        )

    config: Config

    def begin_task(self, task: int, data: TrainingData) -> None:
        if task > 0 or self.network.pretrained:
            grams = input_grams(self.network, data, task)
            attach(self.network, {name: self._design(name, gram) for name, gram in grams.items()})

    def end_task(self, task: int, data: TrainingData) -> None:
        merge(self.network)
        energy = energy_schedule(self.config.energy, self.config.energy_step, task)
        for name, gram in input_grams(self.network, data, task).items():
            basis, retain = self.memory.get(name), bool(self.memory.get(f"{name}.retain", False))
            source = gram @ gram if self.config.energy_power == 4 else gram
            self.memory[name], retain = dual_basis(basis, retain, source, energy)
            self.memory[f"{name}.retain"] = torch.tensor(retain)

    def _design(self, name: str, gram: Tensor) -> Tensor:
        """B (r, d): the leading left singular vectors of the Gram within the allowed space."""
        basis, retain = self.memory.get(name, empty_basis(gram)), bool(self.memory.get(f"{name}.retain", False))
        squared = gram @ gram  # the left singular vectors of P C are the eigenvectors of P C² P
        allowed = basis @ (basis.T @ squared @ basis) @ basis.T if retain else residual_gram(squared, basis)
        free = basis.shape[1] if retain else len(gram) - basis.shape[1]
        rows = spectrum(allowed).vectors.T[: min(self.config.rank, max(len(gram) // 4, 1), free)]
        inside = rows - project_out(rows, basis) if retain else project_out(rows, basis)
        rows = inside[(inside - rows).norm(dim=1) < 1e-3]
        return rows / 3**0.5 if self.config.b_scale == "inverse-sqrt-3" else rows

    def report(self) -> dict[str, dict[str, int]]:
        return {"rank": {n: b.shape[1] for n, b in self.memory.items() if not n.endswith(".retain")}}
