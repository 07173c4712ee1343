"""A-GEM: averaged gradient episodic memory (Chaudhry et al., ICLR 2019, arXiv 1812.00420).

A step may not raise the mean loss on samples of earlier tasks: with g the batch's gradient and r that of a random
reference batch from the memory, g is kept where gᵀr >= 0, else g <- g - (gᵀr / rᵀr) r (Eq. 11). The vectors run over
all parameters that learn, heads of earlier tasks among them, which so move in steps that were corrected.

Paper -> code: M memory[samples], m per_class, the reference batch's size reference. As in the authors' code the memory
of a class is a ring that every training sample enters, so that it ends with the last m of the last epoch ("ring");
"random" draws m of a class when its task ends. The reference batch passes without dropout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.nn.layers import without_dropout
from bench.nn.replay import Rings, Samples, draw, joined
from bench.search_space import Integers
from bench.settings import setting
from bench.training.data import Batch, TrainingData
from bench.training.method import Method, OldData


class AGEM(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        per_class: int = setting(13, "m, samples of each class of each task", at_least=1, search=Integers(1, 100))
        reference: int = setting(256, "samples of the reference batch, at most", at_least=1)
        fill: Literal["ring", "random"] = setting("random", "which samples of a class: its last ones, or any")

    protocols = {"published": {"fill": "ring"}, "class-il": {"logits": "seen"}}
    trains_old_heads = True
    by_default = False
    config: Config

    @classmethod
    def old_data(cls, config: Config) -> OldData:
        return "stored"

    def begin_task(self, task: int, data: TrainingData) -> None:
        self.rings = Rings(self.config.per_class)
        self.learning = self.parameters()

    def edit_grads(self) -> None:
        if "samples" not in self.memory:
            return
        old = draw(self.memory["samples"], self.config.reference, self.generator)
        with without_dropout(self.network):
            loss = F.cross_entropy(self.logits(old["x"], old["task"]), old["y"])
        reference = torch.autograd.grad(loss, self.learning, materialize_grads=True)
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.learning]
        for p, grad in zip(self.learning, corrected(own, reference), strict=True):
            p.grad = grad

    def after_step(self, batch: Batch) -> None:
        if self.config.fill == "ring":
            self.rings.add({"x": batch.x, "y": batch.y})

    def end_task(self, task: int, data: TrainingData) -> None:
        if self.config.fill == "random":
            x, y = data.sample(len(data), self.generator)
            self.rings.add({"x": x, "y": y})
        new: Samples = {**self.rings.samples, "task": torch.full_like(self.rings.samples["y"], task)}
        self.memory["samples"] = joined(self.memory.get("samples", {}), new)
        del self.rings, self.learning


def corrected(own: Sequence[Tensor], reference: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient nearest to `own` that has no negative product with `reference`, parameter by parameter."""
    product = torch.stack([torch.sum(g * r) for g, r in zip(own, reference, strict=True)]).sum()
    square = torch.stack([torch.sum(r * r) for r in reference]).sum()
    factor = torch.where(square > 0, product.clamp(max=0) / square, 0.0)
    return [g - factor * r for g, r in zip(own, reference, strict=True)]
