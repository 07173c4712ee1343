"""OWM: orthogonal weights modification (Zeng, Chen, Cui & Yu, Nature Machine Intelligence 2019, arXiv 1810.01256).

A layer has a matrix P, (d, d), at first the identity, that multiplies its gradient: G <- G P. An input r (1, d) shrinks
it, P <- P - k kᵀ / (α + r k) with k = P rᵀ, so that P = (I + Σ rᵀr / α)⁻¹: the smaller α, the less later steps change
the layer's outputs on r. P is never reset, and shrinks on the inputs of the running task too.

Paper -> code: P memory["P"][block], α alpha. Schedules of α: as in the authors' network for CIFAR-10, r the patches of
the image that is the batch's mean, α falls within a task by powers of ten, others for each layer ("decay"); as in their
MLP, it stays ("constant"). "task" is van de Ven's variant (GMvandeVen/continual-learning): P is fixed within a task,
(I + A / α)⁻¹, A memory["A"] the mean over tasks of the inputs' second moment, of a convolution summed over places.
Departures: what is no weight matrix (biases, normalization) is frozen after the first task; heads of single tasks are
free; the rank-one updates of a batch are made at once, in float64; α falls over `span` epochs, whenever a task ends;
no choice of weights by the test set; in MLPs too gradients are clipped, as in their CNN, and the loss has no
10⁻³ Σ ‖W‖, as it has in their MLP. Momentum, where a recipe has it, sums gradients of earlier, larger P.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from bench.config import require
from bench.core import Benchmark, Training
from bench.nn.activations import input_grams, mean_inputs
from bench.nn.grams import unfold_inputs
from bench.nn.network import blocks_of
from bench.nn.steering import Free, steered
from bench.nn.subspace import spectrum
from bench.search_space import Log
from bench.settings import setting
from bench.training.data import Batch, TrainingData
from bench.training.method import Method


class OWM(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        schedule: Literal["decay", "constant", "task"] = setting("task", "of P: by batch, α falling or not; or by task")
        alpha: float = setting(0.01, "α, at the start of a task", above=0, search=Log(1e-4, 10))
        powers: tuple[float, ...] = setting(
            (5.0, 4.0, 2.0, 1.0),
            "of ten that α falls by, of convolutions, the first Linear layer, the second, and later ones",
            at_least=0,
        )
        span: int = setting(25, "epochs in which it does", at_least=1)
        patch_stride: int = setting(0, "of the patches of an image; 0: as the layer has it", at_least=0)
        clip: float = setting(10.0, "the norm of all projected gradients, at most", above=0)

    protocols = {"published": {"schedule": "decay", "alpha": 1.0, "patch_stride": 2}}
    by_default = False
    config: Config

    @classmethod
    def unsupported(cls, benchmark: Benchmark, training: Training) -> str | None:
        if training.optimizer != "sgd" or training.weight_decay:
            return "it projects gradients, which only the steps of SGD without weight decay follow"
        if benchmark.backbone:
            return None
        from bench.nn.layers import unknown_layer

        kind = unknown_layer(benchmark.own_backbone)
        return f"it knows Linear and Conv2d layers, not {kind}" if kind else None

    def begin_task(self, task: int, data: TrainingData) -> None:
        blocks = self.network.blocks()
        if task > 0:
            self.network.freeze()
            for block in blocks.values():
                block.layer.weight.requires_grad_(True)
        if self.config.schedule == "task":
            moments = self.memory.get("A", {})
            self.P = {name: shrunk(A, self.config.alpha).to(blocks[name].weight) for name, A in moments.items()}
            return
        require(len(self.config.powers) > 0, "powers names no power")
        self.progress = torch.zeros((), dtype=torch.float64, device=next(self.network.parameters()).device)
        eyes = {name: torch.eye(block.weight.shape[1]) for name, block in blocks.items()}
        self.P = self.memory.setdefault("P", {name: eye.to(self.progress) for name, eye in eyes.items()})

    def before_step(self, batch: Batch) -> Batch:
        if self.config.schedule == "decay":
            self.progress.fill_(min((batch.epoch + batch.progress) / self.config.span, 1.0))
        return batch

    def loss(self, batch: Batch) -> Tensor:
        with steered(self.network, {}, self.frees()):
            if self.config.schedule == "task":
                return super().loss(batch)
            with mean_inputs(self.network) as seen:
                loss = super().loss(batch)
        if not self.network.ascends:
            self._see(seen)
        return loss

    def edit_grads(self) -> None:
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)

    def end_task(self, task: int, data: TrainingData) -> None:
        if self.config.schedule != "task":
            for P in self.P.values():
                P.copy_((P + P.T) / 2)  # rounding would add up
            return
        means = self.memory.setdefault("A", {})
        for name, gram in input_grams(self.network, data, task).items():
            before = means.get(name, torch.zeros_like(gram))
            means[name] = before + (gram / len(data) - before) / (task + 1)

    def alphas(self) -> dict[str, Tensor]:
        """Return α as it is now, by layer."""
        found, place = {}, 0
        last = len(self.config.powers) - 1
        for path, layer in self.network.layers().items():
            linear = isinstance(layer, nn.Linear)
            place += linear
            power = self.config.powers[min(place, last) if linear else 0]
            found[path] = self.config.alpha * 10 ** (-power * self.progress)
        return found

    def frees(self) -> dict[str, Free]:
        """Return what multiplies gradients, with P as it is when they are computed, by block."""
        return {name: partial(self._freed, name) for name in self.P}

    def _freed(self, name: str, rows: Tensor) -> Tensor:
        return rows @ self.P[name].to(rows)

    def _see(self, seen: Mapping[str, Tensor]) -> None:
        """Shrink every P on the means of a batch."""
        alphas = self.alphas()
        for path, mean in seen.items():
            layer = self.network.layers()[path]
            if self.config.patch_stride and isinstance(layer, nn.Conv2d):
                layer = copy(layer)
                layer.stride = (self.config.patch_stride, self.config.patch_stride)
            for block, rows in zip(blocks_of(path, layer), unfold_inputs(layer, mean), strict=True):
                shrink(self.P[block.name], rows.double(), alphas[path])


def shrink(P: Tensor, rows: Tensor, alpha: Tensor | float) -> None:
    """Make P (d, d) what rank-one updates by each of some rows R (n, d) make of it: (P⁻¹ + RᵀR / α)⁻¹, in place.

    That is P - P Rᵀ (α I + R P Rᵀ)⁻¹ R P; of more than d rows, the triangle of their QR decomposition has the same
    RᵀR.
    """
    if len(rows) > rows.shape[1]:
        rows = torch.linalg.qr(rows, mode="r").R
    met = rows @ P
    core = met @ rows.T + alpha * torch.eye(len(rows)).to(P)
    half = torch.linalg.solve_triangular(torch.linalg.cholesky_ex(core).L, met, upper=False)
    P.addmm_(half.T, half, alpha=-1)


def shrunk(A: Tensor, alpha: float) -> Tensor:
    """(I + A / α)⁻¹, of a symmetric positive matrix (d, d)."""
    values, vectors = spectrum(A)
    return (vectors * (alpha / (values + alpha))) @ vectors.T
