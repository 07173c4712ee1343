"""Adam-NSCL: Adam in the null space of the features' covariance (Wang, Li, Sun & Xu, CVPR 2021, arXiv 2103.07113).

A layer's covariance C = Σ XᵀX, (d, d), uncentered, adds up the inputs X of all tasks; B (d, k) are its eigenvectors
with λ <= a λ_min. From the second task on a step of Adam, u, becomes u B Bᵀ: the step is projected, not the gradient,
which Adam scales element by element. Moments see the raw gradient, weight decay included. What is no weight matrix
(of normalization, biases) takes Adam's step and is held by EWC: strength Σ F (θ - θ*)² over tasks, as one quadratic.

Paper -> code: C memory["covariance"][block], a ratio, F memory["importance"], θ* memory["anchor"]. As in the authors'
code, under "published": a row of X is the mean over a batch, so that C has few of them and depends on the batch size
("batch-means"); B Bᵀ is divided by its norm √k, another rate for every layer; F is that of the label predicted.
Departures: at least one direction is free, and λ_min counts as at least `floor` λ_max, about what rounding in the
authors' float32 leaves (in float64 the λ_min of inputs that are always zero is zero); a shared head is a layer as any,
where their heads take ten times the rate and no projection; ε is added to Adam's bias-corrected root, as torch has it;
images are not augmented; weights are chosen, and rates fall, as for the other methods. With torch >= 2 the authors'
code finds no gradients and so projects nothing: not so here.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.nn.activations import evaluating, input_grams, mean_inputs
from bench.nn.grams import unfold_inputs
from bench.nn.network import Network, blocks_of
from bench.nn.subspace import spectrum
from bench.search_space import Log
from bench.settings import setting
from bench.training.data import Batch, TrainingData
from bench.training.method import Method


class AdamNSCL(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        ratio: float = setting(10.0, "a, of λ and λ_min where a direction is null", at_least=1, search=Log(1, 1e4))
        floor: float = setting(1e-7, "what λ_min counts as at least, in units of λ_max", at_least=0)
        rows: Literal["samples", "batch-means"] = setting("samples", "of X: all inputs, or the mean of each batch")
        scaled: bool = setting(False, "divide B Bᵀ by its Frobenius norm")
        labels: Literal["true", "predicted"] = setting("true", "of F")
        strength: float = setting(100.0, "of EWC on what is no weight matrix", at_least=0)
        later_rate: float = setting(0.5, "of weight matrices after the first task, in units of lr", above=0)
        head_rate: float = setting(10.0, "of the head", unit="lr", above=0)
        other_rate: float = setting(5.0, "of what is neither", unit="lr", above=0)

    protocols = {
        "published": {"optimizer": "adam", "rows": "batch-means", "scaled": True, "labels": "predicted"},
        "sound": {"optimizer": "adam"},
    }
    by_default = False
    config: Config

    def begin_task(self, task: int, data: TrainingData) -> None:
        self.later = task > 0
        words = self.config.ratio, self.config.floor, self.config.scaled
        blocks = self.network.blocks()
        covariances = self.memory.get("covariance", {})
        self.projectors = {n: null_projector(C, *words).to(blocks[n].weight) for n, C in covariances.items()}

    def parameters(self) -> list[Any]:
        matrices = [layer.weight for layer in self.network.layers().values()]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "lr_scale": self.config.later_rate if self.later else 1.0},
            {"params": list(self.others().values()), "lr_scale": self.config.other_rate},
        ]
        known = {id(p) for group in groups for p in group["params"]}
        heads = [p for p in super().parameters() if id(p) not in known]
        groups.append({"params": heads, "lr_scale": self.config.head_rate, "weight_decay": 0.0})
        return [group for group in groups if group["params"]]

    def others(self) -> dict[str, Tensor]:
        """Return what tasks share beside weight matrices, by name."""
        matrices = [layer.weight for layer in self.network.layers().values()]
        return {n: p for n, p in self.network.shared_parameters().items() if all(p is not m for m in matrices)}

    def penalty(self) -> Tensor | float:
        total: Tensor | float = 0.0
        for name, importance in self.memory.get("importance", {}).items():
            moved = self.others()[name] - self.memory["anchor"][name]
            total = total + self.config.strength * (importance * moved.square()).sum()
        return total

    def edit_grads(self) -> None:
        blocks = self.network.blocks()
        self.before = {name: blocks[name].weight.clone() for name in self.projectors}

    def after_step(self, batch: Batch) -> None:
        blocks = self.network.blocks()
        for name, projector in self.projectors.items():
            before, weight = self.before[name], blocks[name].weight
            weight.copy_(before + (weight - before) @ projector)

    def end_task(self, task: int, data: TrainingData) -> None:
        self.projectors, self.before = {}, {}
        new = mean_grams(self.network, data) if self.config.rows == "batch-means" else None
        old = self.memory.get("covariance", {})
        grams = input_grams(self.network, data, task) if new is None else new
        self.memory["covariance"] = {name: old.get(name, 0) + gram for name, gram in grams.items()}
        self._anchor(data)

    def _anchor(self, data: TrainingData) -> None:
        """Add this task's importance, and move the anchor so that one quadratic has the gradient of all tasks'."""
        importances = self.memory.setdefault("importance", {})
        anchors = self.memory.setdefault("anchor", {})
        for name, new in self._importance(data).items():
            own = self.others()[name].detach()
            total = importances.get(name, 0) + new
            share = torch.where(total > 0, new / total, 1.0)
            importances[name], anchors[name] = total, torch.lerp(anchors.get(name, own), own, share)

    def _importance(self, data: TrainingData) -> dict[str, Tensor]:
        """F: the squared gradient of a batch's mean loss, times its samples, mean over batches."""
        others = self.others()
        totals = {name: torch.zeros_like(p) for name, p in others.items()}
        batches = 0
        for x, y in data if others else ():
            with evaluating(self.network):
                answers = self.network(x, data.task)
            labels = y if self.config.labels == "true" else answers.argmax(1)
            grads = torch.autograd.grad(F.cross_entropy(answers, labels), list(others.values()), materialize_grads=True)
            for total, grad in zip(totals.values(), grads, strict=True):
                total += len(y) * grad.square()
            batches += 1
        return {name: total / batches for name, total in totals.items()}


@torch.no_grad()
def mean_grams(network: Network, data: TrainingData) -> dict[str, Tensor]:
    """Return XᵀX by block, float64 (d, d), the rows of X from inputs that are means over a batch."""
    grams: dict[str, Tensor] = {}
    for x, _ in data:
        with evaluating(network), mean_inputs(network) as means:
            network(x, data.task)
        for path, mean in means.items():
            layer = network.layers()[path]
            for block, rows in zip(blocks_of(path, layer), unfold_inputs(layer, mean).double(), strict=True):
                grams[block.name] = grams.get(block.name, 0) + rows.T @ rows
    return grams


def null_projector(covariance: Tensor, ratio: float, floor: float, scaled: bool) -> Tensor:
    """Return B Bᵀ (d, d), B the eigenvectors (d, k) with λ <= ratio max(λ_min, floor λ_max), k >= 1; or B Bᵀ / √k."""
    values, vectors = spectrum(covariance)
    least = torch.maximum(values[-1], floor * values[0])
    k = max(int((values <= ratio * least).sum()), 1)
    basis = vectors[:, len(values) - k :]
    return basis @ basis.T / (k**0.5 if scaled else 1.0)
