"""DER++: dark experience replay (Buzzega et al., NeurIPS 2020, arXiv 2004.07211).

A buffer holds a random sample of the stream, and with each image x' its label y' and the logits z' that the network
gave when it entered. A step minimizes CE(f(x), y) + α mean (f(x') - z')² + β CE(f(x''), y''), Eq. 6, for two
independent draws from the buffer, the square's mean over samples and logits; then the batch is offered to the buffer.
Heads of earlier tasks go on learning. With α = β = 0 it is fine-tuning.

Paper -> code: M capacity and memory[samples], z memory[samples][logits], size of a draw replay. As in the authors' code
a draw has as many samples as a batch, each part of the loss has a forward pass of its own, the logits are those of the
step's own pass, in training mode, and samples are offered in every epoch: a task that trains longer holds a larger part
of the buffer, an image more than one place. Under a head per task, which the paper does not have, logits, square and
cross-entropy are those of the head of the sample's own task; under one softmax over all classes so far, the square is
of the logits that there were when x' entered. Under SAM the logits are those at the unperturbed weights.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.nn.replay import Samples, draw, integer_below, put, reservoir_slots
from bench.search_space import Integers, Linear
from bench.settings import setting
from bench.training.data import Batch, TrainingData, tasks_of
from bench.training.method import Method, OldData


class DERpp(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        alpha: float = setting(0.2, "α, of the square of what logits changed by", at_least=0, search=Linear(0.0, 1.0))
        beta: float = setting(0.5, "β, of the cross-entropy on old labels", at_least=0, search=Linear(0.0, 1.0))
        capacity: int = setting(200, "samples of all tasks together", at_least=1, search=Integers(10, 5000))
        replay: int = setting(0, "samples of each draw; 0: as many as a batch has", at_least=0)

    protocols = {"class-il": {"logits": "seen"}}
    trains_old_heads = True
    by_default = False
    config: Config

    @classmethod
    def old_data(cls, config: Config) -> OldData:
        return "stored"

    def begin_task(self, task: int, data: TrainingData) -> None:
        self.drawn: list[Samples] = []
        self.answers: Tensor | None = None
        if "samples" in self.memory and self.network.together:
            self.memory["samples"]["logits"] = self._widened(self.memory["samples"]["logits"])

    def before_step(self, batch: Batch) -> Batch:
        samples, count = self.memory.get("samples"), self.config.replay or len(batch.y)
        if samples:
            self.drawn = [draw(samples, count, self.generator) for _ in range(2)]
        return batch

    def loss(self, batch: Batch) -> Tensor:
        answers = self.logits(batch.x, batch.task)
        if self.answers is None:
            self.answers = answers.detach()
        loss = F.cross_entropy(answers, batch.y)
        if not self.drawn:
            return loss
        first, second = self.drawn
        if self.config.alpha:  # a pass would move random state and statistics, and fine-tuning has none
            loss = loss + self.config.alpha * self._moved(first)
        if self.config.beta:
            loss = loss + self.config.beta * F.cross_entropy(self.logits(second["x"], second["task"]), second["y"])
        return loss

    def after_step(self, batch: Batch) -> None:
        seen, count = int(self.memory.get("seen", 0)), len(batch.y)
        slots = reservoir_slots(seen, count, self.config.capacity, integer_below(self.generator))
        assert self.answers is not None
        new = {"x": batch.x, "y": batch.y, "task": tasks_of(batch), "logits": self.answers}
        self.memory["samples"] = put(self.memory.get("samples", {}), new, slots)
        self.memory["seen"] = torch.tensor(seen + count)
        self.drawn, self.answers = [], None

    def _widened(self, logits: Tensor) -> Tensor:
        """Return stored logits (m, k) with room for those of the task that begins, which stays empty."""
        classes = self.network.together * self.network.head(0).out_features
        return F.pad(logits, (0, classes - logits.shape[1]))

    def _moved(self, samples: Samples) -> Tensor:
        """Return the mean square of what the logits of samples changed by."""
        now, before = self.logits(samples["x"], samples["task"]), samples["logits"]
        if not self.network.together:
            return F.mse_loss(now, before)
        known = (samples["task"] + 1) * self.network.head(0).out_features  # (n,): so many logits there were
        there = torch.arange(now.shape[1], device=now.device) < known[:, None]
        return ((now - before).square() * there).sum() / there.sum()
