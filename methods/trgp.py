"""TRGP: trust region gradient projection (Lin, Yang, Fan & Zhang, ICLR 2022, arXiv 2202.02931).

GPM with transfer. Before a task, layer by layer, those earlier tasks are trusted whose input space S_j, (d, k_j), holds
more than a share ε of the first gradient, ‖G S_j S_jᵀ‖ > ε ‖G‖, of the two with the largest. The task reuses their
frozen weights, scaled there by a trained Q_j, (k_j, k_j): W + Σ_j W S_j (Q_j - I) S_jᵀ. W learns with it, its gradient
freed of the span of M. A task is tested with its own Q; the task of every test image must be known.

Paper -> code: M memory[basis], S_j memory[space][j], Q memory[scale][task][block][j], ε_th energy, ε trust. Of the
directions of M and those left of the inputs, the strongest that hold ε_th of the energy are S; the new ones join M.
Departures: M is re-orthonormalized; thresholds stay below 1; Adam and weight decay, under which projecting gradients is
not projecting updates, are refused. As in the authors' code: the first task keeps the largest k *below* the energy;
input matrices are those of the unscaled network. Of its defects, settings under "published": the strongest new
direction never joins M; a layer is scaled only where the network's first layer, and the first of its own residual
block, are; on CIFAR-100 normalization goes on learning; on others the third task trusts the second one alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core import Benchmark, Training
from bench.nn.activations import evaluating
from bench.nn.network import blocks_of
from bench.nn.steering import Free, Scale, steered
from bench.nn.subspace import empty_basis, leading_basis, residual_gram, spectrum
from bench.search_space import Linear
from bench.settings import setting
from bench.training.data import TrainingData
from bench.training.method import Method
from bench.training.needs import TASK_ID
from bench.training.projection import Protection, inputs_to_protect, open_weights, projections, why_not_projected


class TRGP(Method):
    @dataclass(frozen=True)
    class Config(Protection, Method.Config):
        trust: float = setting(
            0.5, "ε: share of a gradient within an earlier space, to trust it", at_least=0, search=Linear(0.1, 0.9)
        )
        regions: int = setting(2, "earlier tasks that a layer may trust", at_least=1)
        probe: int = setting(125, "training samples of the gradient that decides it", at_least=1)
        unscaled: tuple[str, ...] = setting((), "layers that are never scaled, by a part of their path")
        new: Literal["all", "but-strongest"] = setting("all", "directions that join M; but-strongest: authors' code")
        gate: Literal["layer", "first"] = setting("layer", "first: scales nothing where a first layer is not scaled")
        third: Literal["best", "second"] = setting("best", "tasks that the third one may trust")
        normalization: Literal["frozen", "free"] = setting("frozen", "it and biases, after the first task")

    protocols = {"published": {"new": "but-strongest", "gate": "first"}, "sound": {"first_rule": "reach"}}
    needs = (TASK_ID,)
    by_default = False
    frees: Mapping[str, Free] = {}
    config: Config

    @classmethod
    def unsupported(cls, benchmark: Benchmark, training: Training) -> str | None:
        return why_not_projected(training)

    def begin_task(self, task: int, data: TrainingData) -> None:
        self.frees = {}
        self.own: dict[str, dict[str, nn.Parameter]] = {}
        if task == 0:
            return
        trusted = self._gated(self._trusted(task, data))
        if self.config.normalization == "frozen":
            open_weights(self.network)
        for name, tasks in trusted.items():
            spaces = {str(j): self.memory["space"][str(j)][name] for j in tasks}
            self.own[name] = {j: nn.Parameter(torch.eye(S.shape[1]).to(S)) for j, S in spaces.items()}
        self.memory.setdefault("scale", {})[str(task)] = self.own
        self.frees = {own.block.name: own.freed for own in projections(self.network, self.memory["basis"])}

    def parameters(self) -> list[Tensor]:
        return [*super().parameters(), *(Q for scales in self.own.values() for Q in scales.values())]

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        with steered(self.network, self._scales(int(task)), self.frees):
            return self.network(x, task)

    def end_task(self, task: int, data: TrainingData) -> None:
        for scales in self.own.values():
            scales.update({j: Q.detach() for j, Q in scales.items()})  # type: ignore[misc]
        bases, spaces = self.memory.setdefault("basis", {}), {}
        for name, (gram, energy) in inputs_to_protect(self.network, self.config, data, self.generator):
            if task == 0:
                bases[name] = space = leading_basis(gram, energy, self.config.first_rule)
            else:
                known = bases.get(name, empty_basis(gram))
                bases[name], space = _extended(known, gram, energy, self.config.new == "all")
            spaces[name] = space.float()
        self.memory.setdefault("space", {})[str(task)] = spaces

    def report(self) -> dict[str, dict[str, object]]:
        trusted = {name: [int(j) for j in scales] for name, scales in self.own.items()}
        return {"rank": {name: basis.shape[1] for name, basis in self.memory["basis"].items()}, "trusted": trusted}

    def _trusted(self, task: int, data: TrainingData) -> dict[str, list[int]]:
        """Return the earlier tasks that each weight block trusts, before the first step of a task."""
        x, y = data.sample(self.config.probe, self.generator)
        self.network.zero_grad()  # of what the last step of the task before has left
        with evaluating(self.network):
            F.cross_entropy(self.logits(x, task), y).backward()
        first = 1 if task == 2 and self.config.third == "second" else 0
        trusted = {}
        for name, block in self.network.blocks().items():
            spaces = [self.memory["space"][str(j)][name] for j in range(first, task)]
            chosen = _within(block.grad, spaces, self.config.trust, self.config.regions)
            if not any(part in name for part in self.config.unscaled):
                trusted[name] = [first + i for i in chosen]
        return trusted

    def _gated(self, trusted: Mapping[str, list[int]]) -> Mapping[str, list[int]]:
        """Return what remains scaled. Layers stand in one module with others of their residual block."""
        if self.config.gate == "layer":
            return trusted
        layers = self.network.layers()
        blocks = {path: [block.name for block in blocks_of(path, layer)] for path, layer in layers.items()}
        scaled = {path: any(trusted.get(name) for name in names) for path, names in blocks.items()}
        firsts: dict[str, str] = {}
        for path in layers:
            firsts.setdefault(path.rpartition(".")[0], path)
        start = next(iter(layers))
        through = [path for path in layers if scaled[start] and scaled[firsts[path.rpartition(".")[0]]]]
        return {name: trusted[name] for path in through for name in blocks[path] if name in trusted}

    def _scales(self, task: int) -> dict[str, list[Scale]]:
        """Return what scales the weights of a task, by block."""
        scales = self.memory.get("scale", {}).get(str(task), {})
        return {
            name: [_scale(self.memory["space"][j][name], Q) for j, Q in own.items()] for name, own in scales.items()
        }


def _within(grad: Tensor, spaces: Sequence[Tensor], trust: float, regions: int) -> list[int]:
    """Return which of the spaces (d, k) hold more than a share of a gradient (o, d), of those that hold most."""
    inside = [float((grad @ S).norm()) for S in spaces]
    best = sorted(range(len(spaces)), key=lambda i: -inside[i])[:regions]
    return sorted(i for i in best if inside[i] > trust * float(grad.norm()))


def _scale(S: Tensor, Q: Tensor) -> Scale:
    """Return the term W S (Q - I) Sᵀ of a scaled weight, from S (d, k) and Q (k, k)."""
    return Scale(S, Q - torch.eye(len(Q)).to(Q))


def _extended(basis: Tensor, gram: Tensor, energy: float, whole: bool) -> tuple[Tensor, Tensor]:
    """Return M after a task with Gram (d, d), without the strongest new direction unless `whole`, and the task's S."""
    k = basis.shape[1]
    known = ((gram @ basis) * basis).sum(0).clamp(min=0)
    values, vectors = spectrum(residual_gram(gram, basis))
    energies, order = torch.cat([known, values[: len(gram) - k]]).sort(descending=True, stable=True)
    before = energies.cumsum(0) - energies
    chosen = order[before < energy * gram.trace()]
    kept = chosen[chosen < k]
    new = vectors[:, : len(chosen) - len(kept)]
    new = torch.linalg.qr(new - basis @ (basis.T @ new)).Q  # keeps MᵀM = I over many tasks
    return torch.cat([basis, new if whole else new[:, 1:]], dim=1), torch.cat([basis[:, kept], new], dim=1)
