"""CODE-CL: conceptor-based gradient projection (Apolinario, Choudhary & Roy, ICCV 2025, arXiv 2411.15235).

The conceptor of a layer's inputs X (n, d), C = R (R + α⁻² I)⁻¹ with R = XᵀX / n, has eigenvalues in [0, 1): how much
of a direction is taken. Later gradients lose that share of it, G <- G - G C; after a task C <- C OR B, B the conceptor
of its inputs. Where the new inputs overlap with the old, trace(C AND B) / trace(C) > ε, the task may scale what is
protected: it sees W + W U (A - I) Uᵀ, U the K leading directions of C AND B, A (K, K) trained and kept with the task.

Paper -> code: C memory[conceptor], U and A memory[U] and memory[A] by task, α aperture, K rank, ε overlap. From the
authors' code: B's aperture grows by tenths until B keeps a share of the inputs' norms; eigenvalues below floor count as
none, in C after the OR; where fewer than K directions are common, U is filled with others; biases and normalization are
frozen after the first task. Under "published" A starts at random, so that a task begins with a disturbed network, where
"identity" leaves it as it is; and in Linear layers - W U Uᵀ passes no gradient.
Departures: the best epoch is that of the loss, not the accuracy, and the rate follows the benchmark's schedule; a layer
is scaled if d > K, Linear ones too; after the last task C is updated as well. Weight decay and Adam would leave the
projected directions and are refused. Momentum adds up projected gradients, and SAM's ascent precedes the projection.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.core import Benchmark, Training
from bench.nn.activations import input_rows
from bench.nn.steering import Free, Scale, steered
from bench.nn.subspace import spectrum
from bench.search_space import Log
from bench.settings import setting
from bench.training.data import TrainingData
from bench.training.method import Method

LEAST, MOST = 1e-8, 1 - 1e-7  # between which the authors' code keeps eigenvalues
GROWTH = 1.1  # of the aperture, at a time
IN_RANGE = 1e-6  # an eigenvalue above it belongs to the range of a conceptor


class CODECL(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        aperture: float = setting(6.0, "α: how little energy makes a direction count", above=0, search=Log(1.0, 30.0))
        share: float = setting(0.95, "of the inputs' norms, kept by a new conceptor", at_least=0, at_most=0.999)
        rank: int = setting(80, "K, directions that a task may scale", at_least=1)
        overlap: float = setting(0.5, "ε, share of C in C AND B above which a layer is scaled", at_least=0, at_most=1)
        floor: float = setting(0.2, "eigenvalues below count as 0", at_least=0, below=1)
        samples: int = setting(125, "training samples drawn for a conceptor", at_least=1)
        start: Literal["identity", "random"] = setting("identity", "of A; random: uniform, as a new Linear layer's")
        detach: bool = setting(False, "in Linear layers, no gradient through - W U Uᵀ")

    version = 2  # 1: B lost its eigenvalues below the floor before the OR, too
    protocols = {"published": {"start": "random", "detach": True}}
    needs = ("task id at test",)
    by_default = False
    frees: Mapping[str, Free] = {}
    config: Config

    @classmethod
    def unsupported(cls, benchmark: Benchmark, training: Training) -> str | None:
        if training.optimizer != "sgd" or training.weight_decay:
            return "it projects gradients, and Adam or weight decay would leave their directions"
        return None

    def begin_task(self, task: int, data: TrainingData) -> None:
        self.frees = {}
        if task == 0:
            return
        self.network.freeze()
        for layer in self.network.layers().values():
            layer.weight.requires_grad_(True)
        blocks, frees = self.network.blocks(), {}
        for name, B in self._conceptors(task, data).items():
            C, B = self.memory["conceptor"][name], above(B, self.config.floor)
            both = conjunction(C, B)
            if len(both) > self.config.rank and both.trace() > self.config.overlap * C.trace():
                U = spectrum(both).vectors[:, : self.config.rank].to(blocks[name].weight)
                self.memory.setdefault("U", {}).setdefault(str(task), {})[name] = U
                self.memory.setdefault("A", {}).setdefault(str(task), {})[name] = nn.Parameter(self._start(U))
            frees[name] = partial(_freed, C.to(blocks[name].weight))
        self.frees = frees

    def parameters(self) -> list[Any]:
        latest = [A for scales in self.memory.get("A", {}).values() for A in scales.values()]
        return super().parameters() + [A for A in latest if A.requires_grad]

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        with steered(self.network, self._scales(int(task)), self.frees):
            return self.network(x, task)

    def end_task(self, task: int, data: TrainingData) -> None:
        scales = self.memory.get("A", {}).get(str(task), {})
        scales.update({name: A.detach() for name, A in scales.items()})
        kept = self.memory.setdefault("conceptor", {})
        for name, B in self._conceptors(task, data).items():
            kept[name] = above(disjunction(kept[name], B) if name in kept else B, self.config.floor)
        self.frees = {}

    def report(self) -> dict[str, Any]:
        capacity = {name: float(C.trace()) / len(C) for name, C in self.memory["conceptor"].items()}
        return {"capacity": capacity, "scaled": {task: list(own) for task, own in self.memory.get("U", {}).items()}}

    def _start(self, U: Tensor) -> Tensor:
        K = U.shape[1]
        if self.config.start == "identity":
            return torch.eye(K).to(U)
        return torch.empty(K, K).uniform_(-(K**-0.5), K**-0.5, generator=self.generator).to(U)

    def _conceptors(self, task: int, data: TrainingData) -> dict[str, Tensor]:
        """Return the conceptor of the task's inputs for every block, the network scaled as it is for the task."""
        x, _ = data.sample(self.config.samples, self.generator)
        with steered(self.network, self._scales(task), {}):
            return {
                name: conceptor(X, self.config.aperture, self.config.share)
                for name, X in input_rows(self.network, x, task)
            }

    def _scales(self, task: int) -> dict[str, list[Scale]]:
        """Return what scales the weights of a task, by block."""
        bases, scales = (self.memory.get(kind, {}).get(str(task), {}) for kind in ("U", "A"))
        layers = self.network.layers()
        detached = {name for name in bases if self.config.detach and isinstance(layers.get(name), nn.Linear)}
        return {name: _scaling(U, scales[name], name in detached) for name, U in bases.items()}


def _scaling(U: Tensor, A: Tensor, detached: bool) -> list[Scale]:
    """Return the term W U (A - I) Uᵀ, or W U A Uᵀ and one without a gradient, - W U Uᵀ."""
    identity = torch.eye(len(A)).to(A)
    if detached:
        return [Scale(U, A), Scale(U, -identity, learnt=False)]
    return [Scale(U, A - identity)]


def _freed(C: Tensor, rows: Tensor) -> Tensor:
    """Return rows (n, d), of a gradient or of inputs, without the share that C takes of each direction."""
    return rows - rows @ C


def conceptor(rows: Tensor, aperture: float, share: float = 0.0) -> Tensor:
    """Return R (R + α⁻² I)⁻¹ of rows X (n, d), R = XᵀX / n: float64 (d, d).

    α grows by tenths until Σ‖C x‖ over the rows is a given share of Σ‖x‖.
    """
    rows = rows.double()
    values, vectors = spectrum(rows.T @ rows / len(rows))
    squares = (rows @ vectors).square()
    values = values / (values + aperture**-2)
    wanted = share * squares.sum(1).sqrt().sum()
    while (squares @ values.square()).sqrt().sum() < wanted:
        values = (values / (values + GROWTH**-2 * (1 - values))).clamp(LEAST, MOST)
    return (vectors * values) @ vectors.T


def above(C: Tensor, floor: float) -> Tensor:
    """Return a conceptor without its eigenvalues below `floor`."""
    values, vectors = spectrum(C)
    return (vectors * torch.where(values < floor, 0.0, values)) @ vectors.T


def conjunction(C: Tensor, B: Tensor) -> Tensor:
    """Return C AND B, which is (C⁺ + B⁺ - I)⁻¹ where their ranges meet, and next to 0 elsewhere (Jaeger 2014)."""
    identity = torch.eye(len(C)).to(C)
    outside, inverses = torch.zeros_like(C), -identity
    for values, vectors in (spectrum(C), spectrum(B)):
        inside = values > IN_RANGE
        outside = outside + vectors[:, ~inside] @ vectors[:, ~inside].T
        inverses = inverses + (vectors[:, inside] / values[inside]) @ vectors[:, inside].T
    overlap, axes = torch.linalg.eigh(outside)
    common = axes[:, overlap < IN_RANGE]
    values, vectors = torch.linalg.eigh(common.T @ inverses @ common)
    vectors = common @ vectors
    return LEAST * identity + (vectors * (1 / values - LEAST).clamp(0, MOST - LEAST)) @ vectors.T


def disjunction(C: Tensor, B: Tensor) -> Tensor:
    """Return C OR B = NOT (NOT C AND NOT B), with NOT C = I - C."""
    identity = torch.eye(len(C)).to(C)
    return identity - conjunction(identity - C, identity - B)
