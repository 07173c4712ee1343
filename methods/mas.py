"""MAS: memory aware synapses (Aljundi et al., ECCV 2018, arXiv 1711.09601).

A parameter matters as much as it moves the network's answers, of which no label is asked: after a task,
Ω <- Ω + (1/N) Σ_n |∂ ‖F(x_n)‖² / ∂θ|, F the logits of the task's head (Eqs. 2, 3). Later tasks minimize
CE + λ Σ Ω (θ - θ*)², θ* the weights after the last task (Eq. 4).

Paper -> code: λ strength, Ω memory[omega], θ* memory[anchor]. The authors' code sums gradients over a batch before it
takes absolute values, so that signs cancel, and averages batches by a running mean that counts all of them as long as
the last one ("batch", in a random order); the paper's is of every sample. Departures: heads of single tasks are left
out; statistics of batch normalization are held constant per sample; no decay by the sign of the weights, as the
authors' optimizer has. FACIL takes the norm itself, not squared; 0 where an answer is 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bench.core import slices
from bench.nn.activations import evaluating, sample_gradients
from bench.nn.penalties import held, quadratic
from bench.search_space import Log
from bench.settings import setting
from bench.training.data import TrainingData
from bench.training.method import Method


class MAS(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        strength: float = setting(1.0, "λ", at_least=0, search=Log(1e-3, 100))
        absolute: Literal["sample", "batch"] = setting("sample", "whose gradients absolute values are taken of")
        batch: int = setting(200, "samples of a batch, where it is a batch's", at_least=1)
        squared: bool = setting(True, "the answers' squared norm, or the norm")

    protocols = {"published": {"absolute": "batch"}}
    by_default = False
    capturable = True
    config: Config

    def penalty(self) -> Tensor | float:
        omega, anchor = self.memory.get("omega", {}), self.memory.get("anchor", {})
        return quadratic(held(self.network.shared_parameters(), omega, anchor), self.config.strength)

    def end_task(self, task: int, data: TrainingData) -> None:
        omega = self.memory.get("omega", {})
        if self.config.absolute == "sample":
            own = self._of_samples(data)
        else:
            x, _ = data.sample(len(data), self.generator)
            own = self._of_batches([x[part] for part in slices(len(x), self.config.batch)], task)
        self.memory["omega"] = {n: omega.get(n, 0.0) + new for n, new in own.items()}
        self.memory["anchor"] = {n: p.detach().clone() for n, p in self.network.shared_parameters().items()}

    def _of_samples(self, data: TrainingData) -> dict[str, Tensor]:
        """Return the mean over samples of the absolute values of their gradients, by name."""
        mean = {n: torch.zeros_like(p) for n, p in self.network.shared_parameters().items()}
        for x, _ in data:
            for n, total in sample_gradients(self.network, x, data.task, self._answer, torch.abs).items():
                mean[n].add_(total, alpha=1 / len(data))
        return mean

    def _of_batches(self, batches: Sequence[Tensor], task: int) -> dict[str, Tensor]:
        """Return the authors' running mean, Ω <- (Ω i b + |Σ_n g_n|) / ((i + 1) b), b the size of batch i."""
        mean = {n: torch.zeros_like(p) for n, p in self.network.shared_parameters().items()}
        shared = list(self.network.shared_parameters().values())
        for i, x in enumerate(batches):
            with evaluating(self.network):
                grads = torch.autograd.grad(self._answer(self.network(x, task)), shared)
            for total, grad in zip(mean.values(), grads, strict=True):
                total.mul_(i).add_(grad.abs(), alpha=1 / len(x)).div_(i + 1)
        return mean

    def _answer(self, logits: Tensor) -> Tensor:
        """Return the sum over samples of the (squared) norms of logits (n, num_classes)."""
        if self.config.squared:
            return logits.square().sum()
        return torch.linalg.vector_norm(logits, dim=1).sum()
