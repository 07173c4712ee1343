"""FS-DGPM: flat minima and a soft projection memory (Deng et al., NeurIPS 2021, arXiv 2110.04593).

A buffer holds samples of all tasks; a layer has a basis V (d, k) of its inputs, made anew from the buffer after every
task, and importances λ in [0, 1]^k. A step on a batch: with each of its halves in turn the weights ascend by η₁ h, h
the gradient there, of matrices its component h V diag(λ) Vᵀ alone; the loss L is the mean, over both ascents, of that
of the batch and as many samples of the buffer, and goes back through the ascents ("second order": through h too). λ
takes a step of SGD on L, then λ <- sigmoid(10 λ). G, clipped, becomes G - G V diag(λ) Vᵀ, and SGD follows it.

Paper -> code: V memory["basis"][block], λ soft[block], η₁ ascent, η₂ soft_lr, τ energy + energy_step * task.
As in the authors' code: the step of η₁ is clamped to ±2, normalization and heads of single tasks are never projected;
sigmoid(10 λ), which tends to 0.99995 from whatever λ > 0, so that the projection is a full one. Under "published" λ
learns in a task's first step alone, for its optimizer goes on with a parameter that has been replaced.
Departures: τ stays below 1; η₁, η₂ and the momentum stay when the rate falls, where the code divides and drops them; a
batch of fewer than four samples is not halved; a shared head is projected, as any layer.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core import Benchmark, Training
from bench.nn.activations import input_grams
from bench.nn.network import blocks_of
from bench.nn.precision import compute
from bench.nn.replay import draw, integer_below, put, reservoir_slots
from bench.nn.subspace import energy_schedule, leading_basis
from bench.search_space import Integers, Linear, Log
from bench.settings import setting
from bench.training.data import Batch, TrainingData, tasks_of
from bench.training.method import Method, OldData


class FSDGPM(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        capacity: int = setting(1000, "samples in the buffer", at_least=1, search=Integers(10, 5000))
        energy: float = setting(
            0.97, "τ, the share of input energy in a basis", above=0, at_most=1, search=Linear(0.9, 0.995)
        )
        energy_step: float = setting(0.003, "added to it with every task", search=Linear(0.0, 0.01))
        samples: int = setting(125, "of the buffer, that bases are made of", at_least=1)
        ascent: float = setting(0.001, "η₁, the rate of the ascent", at_least=0, search=Log(1e-4, 0.1))
        soft_lr: float = setting(0.01, "η₂, the rate of λ", at_least=0)
        soft: Literal["every-step", "first-step"] = setting("every-step", "of a task, in which λ learns")
        second_order: bool = setting(True, "differentiate the ascent")
        freeze_rest: bool = setting(False, "what is no weight matrix learns in the first task alone")
        clip: float = setting(2.0, "of gradients: their norm, all of them together, at most", above=0)

    protocols = {
        "published": {"momentum": 0.9, "soft": "first-step"},
        "sound": {"momentum": 0.9},
        "class-il": {"logits": "seen"},
    }
    trains_old_heads = True
    by_default = False
    config: Config

    @classmethod
    def unsupported(cls, benchmark: Benchmark, training: Training) -> str | None:
        if training.optimizer != "sgd" or training.weight_decay:
            return "it projects gradients, which only the steps of SGD without weight decay follow"
        return "it is sharpness-aware by itself, without sam" if training.sam != "none" else None

    @classmethod
    def old_data(cls, config: Config) -> OldData:
        return "stored"

    def begin_task(self, task: int, data: TrainingData) -> None:
        blocks = self.network.blocks()
        if task > 0 and self.config.freeze_rest:
            for parameter in self.network.shared_parameters().values():
                parameter.requires_grad_(any(parameter is block.layer.weight for block in blocks.values()))
        self.bases = {name: V.to(blocks[name].weight) for name, V in self.memory.get("basis", {}).items()}
        self.soft = {name: V.new_ones(V.shape[1], requires_grad=True) for name, V in self.bases.items()}
        self.momenta = {name: torch.zeros_like(soft) for name, soft in self.soft.items()}
        self.soft_lr = torch.tensor(self.config.soft_lr, device=next(self.network.parameters()).device)

    def before_step(self, batch: Batch) -> Batch:
        self.own = len(batch.y)
        samples = self.memory.get("samples")
        if not samples:
            return batch
        old = draw(samples, self.own, self.generator)
        x, y = torch.cat([batch.x, old["x"]]), torch.cat([batch.y, old["y"]])
        return batch._replace(x=x, y=y, task=torch.cat([tasks_of(batch), old["task"]]))

    def loss(self, batch: Batch) -> Tensor:
        weights: dict[str, Tensor] = {n: p for n, p in self.network.named_parameters() if p.requires_grad}
        halves = 2 if self.own > 3 else 1  # normalization is undefined on one sample
        current = [part[: self.own].chunk(halves) for part in (batch.x, batch.y, tasks_of(batch))]
        losses = []
        for x, y, task in zip(*current, strict=True):
            weights = self._ascended(weights, Batch(x, y, task))
            losses.append(self._loss_at(weights, batch))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def edit_grads(self) -> None:
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        nn.utils.clip_grad_norm_(self.soft.values(), self.config.clip)
        for name, soft in self.soft.items():
            self.momenta[name].mul_(0.9).add_(soft.grad)
            soft.copy_(torch.sigmoid(10 * (soft - self.soft_lr * self.momenta[name])))
            soft.grad = None
        if self.config.soft == "first-step":
            self.soft_lr.zero_()
        for name, block in self.network.blocks().items():
            if name in self.bases:
                block.grad.sub_(self._inside(name, block.grad))

    def after_step(self, batch: Batch) -> None:
        if batch.epoch > 0:
            return
        seen, count = int(self.memory.get("seen", 0)), len(batch.y)
        slots = reservoir_slots(seen, count, self.config.capacity, integer_below(self.generator))
        new = {"x": batch.x, "y": batch.y, "task": tasks_of(batch)}
        self.memory["samples"] = put(self.memory.get("samples", {}), new, slots)
        self.memory["seen"] = torch.tensor(seen + count)

    def end_task(self, task: int, data: TrainingData) -> None:
        some = draw(self.memory["samples"], self.config.samples, self.generator)
        energy = energy_schedule(self.config.energy, self.config.energy_step, task)
        grams = input_grams(self.network, [(some["x"], some["y"])], task)
        self.memory["basis"] = {name: leading_basis(gram, energy, "reach") for name, gram in grams.items()}
        self.ranks = {name: basis.shape[1] for name, basis in self.memory["basis"].items()}

    def report(self) -> dict[str, dict[str, int]]:
        return {"rank": self.ranks}

    def _loss_at(self, weights: dict[str, Tensor], batch: Batch) -> Tensor:
        def forward(x: Tensor, task: int | Tensor) -> Tensor:
            return self.network(x, task, weights=weights)

        return F.cross_entropy(compute(forward, self.network.precision, batch.x, batch.task), batch.y)

    def _ascended(self, weights: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the weights after a step up the loss of a batch."""
        loss, order = self._loss_at(weights, batch), self.config.second_order
        grads = torch.autograd.grad(loss, list(weights.values()), create_graph=order, materialize_grads=True)
        steps = dict(zip(weights, grads, strict=True))
        for path, layer in self.network.layers().items():
            blocks, step = blocks_of(path, layer), steps[f"{path}.weight"]
            parts = zip(blocks, step.flatten(1).chunk(len(blocks)), strict=True)
            steps[f"{path}.weight"] = torch.cat([self._inside(b.name, part) for b, part in parts]).view_as(step)
        return {name: weight + self.config.ascent * steps[name].clamp(-2, 2) for name, weight in weights.items()}

    def _inside(self, name: str, rows: Tensor) -> Tensor:
        """Return the component of rows (o, d) in the span of a block's basis, weighted by λ; all where it has none."""
        if name not in self.bases:
            return rows
        V = self.bases[name]
        return (rows @ V * self.soft[name]) @ V.T
