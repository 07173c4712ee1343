"""EWC: elastic weight consolidation (Kirkpatrick et al., PNAS 2017, arXiv 1612.00796).

L = CE + λ/2 Σ_i F_i (θ_i - θ*_i)², F the diagonal empirical Fisher information, F_i = mean_n (∂ log p(y_n|x_n)/∂θ_i)².
Three ways to add tasks up. A penalty per task, as in the paper: a sum of quadratics is a quadratic, so that one F and
one anchor suffice (Huszár, PNAS 2018), but for a constant. Online (Schwarz et al., ICML 2018, arXiv 1805.06370): F
decays by γ, and the anchor is the last task's. The mean of F over tasks, and that anchor, as in HAT's code (Serrà et
al., ICML 2018): alone of the three it does not stiffen with the number of tasks, so that a larger λ is stable.

Paper -> code: λ strength, F memory["fisher.*"], θ* memory["anchor.*"], γ decay.
Departures: heads of single tasks are left out (no other task uses them). λ is in canonical units, per-sample Fisher
and the half; code bases that square the mean gradient of a batch of b have a Fisher about b times smaller. Gradients
are not clipped, and no epoch is chosen by a loss that has the penalty in it, as HAT's code does both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.nn.activations import evaluating, squared_gradients
from bench.nn.penalties import held, quadratic
from bench.search_space import Log
from bench.settings import setting
from bench.training.data import TrainingData
from bench.training.method import Method


class EWC(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        strength: float = setting(100.0, "λ", at_least=0, search=Log(0.1, 1e4))
        tasks: Literal["sum", "online", "mean"] = setting(
            "sum", "a penalty per task; or one F, decayed or their mean, and the latest anchor"
        )
        decay: float = setting(1.0, "γ, of F online", at_least=0)
        fisher: Literal["per-sample", "batch"] = setting(
            "per-sample", "of every sample, or the squared mean gradient of each batch"
        )
        half: bool = setting(True, "λ/2, as in the paper, or λ")

    capturable = True
    config: Config

    def penalty(self) -> Tensor | float:
        factor = self.config.strength * (0.5 if self.config.half else 1.0)
        shared = self.network.shared_parameters()
        fisher = {n: self.memory[f"fisher.{n}"] for n in shared if f"fisher.{n}" in self.memory}
        return quadratic(held(shared, fisher, {n: self.memory[f"anchor.{n}"] for n in fisher}), factor)

    def end_task(self, task: int, data: TrainingData) -> None:
        parameters = self.network.shared_parameters()
        fisher = {n: torch.zeros_like(p) for n, p in parameters.items()}
        for squares in self._squares(data):
            for n, square in squares.items():
                fisher[n].add_(square, alpha=1 / len(data))
        kept, added = self._weights(task)
        for n, p in parameters.items():
            old = self.memory.get(f"fisher.{n}", torch.zeros_like(p))
            anchor = self.memory.get(f"anchor.{n}", torch.zeros_like(p))
            total = kept * old + added * fisher[n]
            share = torch.where(total > 0, fisher[n] / total, 1.0) if self.config.tasks == "sum" else 1.0
            self.memory[f"fisher.{n}"] = total
            self.memory[f"anchor.{n}"] = torch.lerp(anchor, p.detach(), share)

    def _weights(self, task: int) -> tuple[float, float]:
        """Return how much the F of earlier tasks and that of a task, counted from 0, count."""
        if self.config.tasks == "mean":
            return task / (task + 1), 1 / (task + 1)
        return self.config.decay if self.config.tasks == "online" else 1.0, 1.0

    def _squares(self, data: TrainingData) -> Iterator[dict[str, Tensor]]:
        """Of every batch: the sum over samples of squared gradients, or samples times the squared mean gradient."""
        parameters = self.network.shared_parameters()
        for x, y in data:
            if self.config.fisher == "per-sample":
                yield squared_gradients(self.network, x, y, data.task)
                continue
            with evaluating(self.network):
                loss = F.cross_entropy(self.network(x, data.task), y)
            grads = torch.autograd.grad(loss, list(parameters.values()))
            yield {n: len(x) * g.square() for n, g in zip(parameters, grads, strict=True)}
