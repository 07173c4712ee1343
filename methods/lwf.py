"""LwF: learning without forgetting (Li & Hoiem, ECCV 2016, arXiv 1606.09282).

The network as it was before a task, the teacher, answers for the heads of earlier tasks on the task's own images; the
network in training is held to these answers by a cross-entropy of softened outputs, L = CE + λ_o Σ_j D_j (Eq. 2-3),
D = -Σ_c p_c log q_c, p and q softmax(logits / T) of teacher and network; no factor T². Heads of earlier tasks go on
learning. Under one shared head it is that head which is held.

Paper -> code: λ_o strength, T temperature, the teacher's weights memory[teacher]. `heads` "joined" takes one softmax
over the outputs of all old heads, as FACIL's code does, in the place of one a head, as the paper and HAT's code do.
Departures: no warm-up of the new head with the rest frozen; no floor under q (HAT's code adds 1e-5, shared by the
classes, and differs in the sixth digit); gradients are not clipped, as they are at 100 in HAT's code; the best epoch is
chosen by the cross-entropy alone. The teacher passes in evaluation mode, so without dropout; where normalization uses
batch statistics, with those of the same batch.
"""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core import Benchmark, Training
from bench.nn.network import Network
from bench.nn.precision import compute
from bench.search_space import Log
from bench.settings import setting
from bench.training.data import Batch, TrainingData
from bench.training.method import Method


class LwF(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        strength: float = setting(1.0, "λ_o; 0 is fine-tuning", at_least=0, search=Log(0.1, 10))
        temperature: float = setting(2.0, "T, by which logits are divided", above=0)
        heads: Literal["separate", "joined"] = setting("separate", "a softmax a head, or one over all old heads")

    protocols = {"class-il": {"heads": "joined"}}
    trains_old_heads = True
    by_default = False
    config: Config

    @classmethod
    def unsupported(cls, benchmark: Benchmark, training: Training) -> str | None:
        if training.logits == "seen":
            return "it learns the head of the task, while earlier ones are held to the teacher: set logits to current"
        return None

    def begin_task(self, task: int, data: TrainingData) -> None:
        self.count = min(task + 1, len(self.network.heads))
        self.old = min(task, len(self.network.heads))
        if self.old:
            self.teacher = copy.deepcopy(self.network).eval()
            self.teacher.load_state_dict(self.memory["teacher"], assign=True)  # no second copy of the weights
            self.teacher.requires_grad_(False)

    def before_step(self, batch: Batch) -> Batch:
        if self.old and self.config.strength:
            self.targets = self._answers(self.teacher, batch.x, self.old)
        return batch

    def loss(self, batch: Batch) -> Tensor:
        if not self.old or not self.config.strength:
            return super().loss(batch)
        answers = self._answers(self.network, batch.x, self.count)  # the task's own come last
        held = distillation(answers[:, : self.old], self.targets, self.config.temperature, self.config.heads)
        return F.cross_entropy(answers[:, -1], batch.y) + self.config.strength * held

    def end_task(self, task: int, data: TrainingData) -> None:
        self.memory["teacher"] = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.__dict__.pop("teacher", None)
        self.__dict__.pop("targets", None)

    def _answers(self, network: Network, x: Tensor, count: int) -> Tensor:
        """Return the logits (n, count, num_classes) of the first `count` heads, from one pass of the backbone."""

        def forward(x: Tensor, count: int) -> Tensor:
            features = network.backbone(x)
            return torch.stack([network.answer(features, j) for j in range(count)], dim=1)

        return compute(forward, self.network.precision, x, count)


def distillation(answers: Tensor, targets: Tensor, temperature: float, heads: str = "separate") -> Tensor:
    """Return Σ_heads -Σ_c p_c log q_c, its mean over samples, of logits (n, h, c): p of `targets`, q of `answers`."""
    if heads == "joined":
        answers, targets = answers.flatten(1).unsqueeze(1), targets.flatten(1).unsqueeze(1)
    p = F.softmax(targets / temperature, dim=2)
    return -(p * F.log_softmax(answers / temperature, dim=2)).sum((1, 2)).mean()
