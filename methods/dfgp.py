"""DFGP: data augmented flatness-aware gradient projection (Yang et al., ICCV 2023).

GPM trained where the loss is flat, around weights and around data: sharpness-aware minimization, whose ascent is not
projected, and a second loss on mixed samples x̃_n = (1 - λ_n) x_n + λ_n x_π(n), λ ~ Beta(α, α), π a random order of the
batch. With the first gradient of a step λ climbs by a vector of fixed length too, within [0, 1]. The gradient at the
climbed weights and λ is freed of the span of M, G <- G - G M Mᵀ; biases and normalization stop after the first task,
but go on taking part in the ascent.

Paper -> code: M memory[block], λ mix, α beta, w mixup, ε_th energy (constant). With mixup 0 it is GPM with SAM, with
sam "none" besides GPM. Departures: M is re-orthonormalized; thresholds stay below 1; Adam and weight decay, under which
projecting gradients is not projecting updates, are refused; SAM's radius is the training's rho.
As in the authors' code: the first task keeps the largest k *below* the energy; λ climbs by 0.05 whatever rho is. Of its
defects, a setting under "published": the labels of x̃ have the weights of each other, mean λ for that of x_n.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core import Benchmark, Training
from bench.nn.subspace import empty_basis, extend_basis, leading_basis
from bench.search_space import Log
from bench.settings import setting
from bench.training.data import Batch, TrainingData
from bench.training.method import Method
from bench.training.projection import Protection, inputs_to_protect, projections, why_not_projected


class DFGP(Method):
    @dataclass(frozen=True)
    class Config(Protection, Method.Config):
        mixup: float = setting(
            0.1, "w, weight of the loss on mixed samples; 0: none", at_least=0, search=Log(1e-4, 1.0)
        )
        beta: float = setting(20.0, "α, of the distribution of λ", above=0)
        climb: float = setting(0.05, "length of the ascent of λ, of a batch together", at_least=0)
        labels: Literal["own", "crossed"] = setting("own", "weights of the two labels: as of their images, or swapped")

    protocols = {
        "published": {"sam": "all", "energy": 0.95, "energy_step": 0.0, "labels": "crossed"},
        "sound": {"sam": "all", "energy": 0.95, "energy_step": 0.0, "first_rule": "reach"},
    }
    by_default = False
    config: Config

    @classmethod
    def unsupported(cls, benchmark: Benchmark, training: Training) -> str | None:
        return why_not_projected(training)

    def begin_task(self, task: int, data: TrainingData) -> None:
        self.projections = projections(self.network, self.memory)
        weights = {id(layer.weight) for layer in self.network.layers().values()}
        others = [p for p in self.network.shared_parameters().values() if id(p) not in weights]
        self.still = others if task > 0 else []
        self.random = np.random.default_rng(int(torch.randint(2**62, (), generator=self.generator)))

    def before_step(self, batch: Batch) -> Batch:
        if self.config.mixup:
            drawn = self.random.beta(self.config.beta, self.config.beta, len(batch.y))
            self.mix = torch.from_numpy(drawn).to(batch.x).requires_grad_()
            self.partner = torch.from_numpy(self.random.permutation(len(batch.y))).to(batch.y)
        return batch

    def loss(self, batch: Batch) -> Tensor:
        loss = super().loss(batch)
        if not self.config.mixup:
            return loss
        mix = self.mix if self.mix.grad is None else self._climbed()  # the first, or the second loss of a step
        share = mix.view(-1, *[1] * (batch.x.dim() - 1))
        mixed = (1 - share) * batch.x + share * batch.x[self.partner]
        weight = mix.detach().mean() if self.config.labels == "crossed" else 1 - mix.detach()
        logits = self.logits(mixed, batch.task)
        return loss + self.config.mixup * _on_both(logits, batch.y, batch.y[self.partner], weight)

    def edit_grads(self) -> None:
        for project in self.projections:
            project()
        for parameter in self.still:
            if parameter.grad is not None:
                parameter.grad.zero_()

    def end_task(self, task: int, data: TrainingData) -> None:
        for name, (gram, energy) in inputs_to_protect(self.network, self.config, data, self.generator):
            if task == 0:
                self.memory[name] = leading_basis(gram, energy, self.config.first_rule)
            else:
                self.memory[name] = extend_basis(self.memory.get(name, empty_basis(gram)), gram, energy)

    def report(self) -> dict[str, dict[str, int]]:
        return {"rank": {name: basis.shape[1] for name, basis in self.memory.items()}}

    def _climbed(self) -> Tensor:
        """Return λ (n,) after its ascent along its gradient, a constant."""
        assert self.mix.grad is not None
        step = self.mix.grad * (self.config.climb / (self.mix.grad.norm() + 1e-16))
        return (self.mix.detach() + step).clamp(0, 1)


def _on_both(logits: Tensor, y: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    """Return the mean cross-entropy of labels (n,), each with a weight (n,) or all with one, and of others with the
    rest."""
    first = F.cross_entropy(logits, y, reduction="none")
    second = F.cross_entropy(logits, other, reduction="none")
    return (weight * first + (1 - weight) * second).mean()
