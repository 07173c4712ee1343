"""HAT: hard attention to the task (Serrà et al., ICML 2018, arXiv 1801.01423).

Every unit (output channel, neuron) of a layer has a gate a = σ(s e), e an embedding that each task learns anew. Within
an epoch s rises from 1/s_max to s_max, at which a gate is open or shut; evaluation has s_max. What tasks have opened so
far, m = max over tasks of a, closes weights: G_ij <- G_ij (1 - min(m_i, m_j)), i the unit a weight leads to and j that
it comes from. L = CE + c Σ a (1 - m) / Σ (1 - m), so that a task takes few new units (Eqs. 1-6).

Paper -> code: e embeddings, s sharpness, s_max hardest, a memory[mask][task], m memory[used], c sparsity.
As in the authors' code: embeddings' gradients lose the factor of s (Eq. 6), the norm of all gradients is at most 10000,
embeddings stay within 6, masks are kept unrounded; "published" has the regularizer in the validation loss too.
Departures, for the networks here: a gate stands behind normalization and before ReLU, dropout and pooling, which is
the same as behind them; behind a residual block's sum too; normalization's own parameters count as biases. Old answers
stay where gates are open or shut to the last bit and every task has a head of its own, under SGD; a shared head has no
gates and stays free, and weight decay would move weights that are closed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.core import Benchmark, Training, UserError
from bench.nn.architectures import BasicBlock
from bench.nn.network import groups_of
from bench.search_space import Log
from bench.settings import setting
from bench.training.data import Batch, TrainingData
from bench.training.method import Method
from bench.training.needs import TASK_ID

BOUND, EXPONENT, NORM = 6.0, 50.0, 10_000.0  # of embeddings; of what cosh is taken of; of all gradients together


class HAT(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        sparsity: float = setting(0.75, "c, of the share of free units a task takes", at_least=0, search=Log(0.1, 4))
        hardest: float = setting(400.0, "s_max, of gates at the end of an epoch", at_least=1, search=Log(25, 800))
        validate_all: bool = setting(False, "whether the regularizer is part of the validation loss")

    protocols = {"published": {"validate_all": True}}
    needs = (TASK_ID,)
    by_default = False
    capturable = True
    config: Config

    @classmethod
    def unsupported(cls, benchmark: Benchmark, training: Training) -> str | None:
        if training.weight_decay:
            return "weight decay would move weights that earlier tasks have closed"
        return "it scales gradients, and Adam would undo that" if training.optimizer == "adam" else None

    def begin_task(self, task: int, data: TrainingData) -> None:
        self.samples, self.offset, self.epoch = len(data), 0, 0
        self.sharpness = torch.full((), 1 / self.config.hardest, device=next(self.network.parameters()).device)
        self.embeddings: dict[str, nn.Parameter] = {}
        self.keep: list[tuple[nn.Parameter, Tensor]] = []
        used = self.memory.get("used", {})
        for wire in _wires(self.network.backbone, "backbone", ""):
            module = self.network.get_submodule(wire.path)
            for p in module.parameters():
                if wire.after not in self.embeddings:
                    start = torch.empty(len(p)).normal_(generator=self.generator)
                    self.embeddings[wire.after] = nn.Parameter(start.to(p))
                if used:
                    self.keep.append((p, _keep(p, used[wire.after], used.get(wire.before), groups_of(module))))
        self.free = {gate: 1 - used.get(gate, torch.zeros_like(e)) for gate, e in self.embeddings.items()}

    def parameters(self) -> list[nn.Parameter]:
        return [*super().parameters(), *self.embeddings.values()]

    def before_step(self, batch: Batch) -> Batch:
        if batch.epoch != self.epoch:
            self.epoch, self.offset = batch.epoch, 0
        lowest = 1 / self.config.hardest
        self.sharpness.fill_(lowest + (self.config.hardest - lowest) * self.offset / self.samples)
        return batch

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        gates = self.memory.get("mask", {}).get(str(task))
        if gates is None:
            gates = self._gates(self.sharpness if self.network.training else self.config.hardest)
        return self.network(x, task, gates=gates)

    def penalty(self) -> Tensor:
        return self.config.sparsity * self._taken(self.sharpness)

    def validation_penalty(self) -> float:
        if not self.config.validate_all:
            return 0.0
        return self.config.sparsity * float(self._taken(self.config.hardest).detach())

    def edit_grads(self) -> None:
        for p, keep in self.keep:
            if p.grad is not None:
                p.grad.mul_(keep)
        for e in self.embeddings.values():
            if e.grad is not None:
                e.grad.mul_(compensation(e.detach(), self.sharpness, self.config.hardest))
        nn.utils.clip_grad_norm_(self.parameters(), NORM)

    def after_step(self, batch: Batch) -> None:
        self.offset += len(batch.y)
        for e in self.embeddings.values():
            e.data.clamp_(-BOUND, BOUND)

    def end_task(self, task: int, data: TrainingData) -> None:
        mask = {gate: a.detach() for gate, a in self._gates(self.config.hardest).items()}
        self.memory["mask"] = {**self.memory.get("mask", {}), str(task): mask}
        used = self.memory.get("used", mask)
        self.memory["used"] = {gate: torch.maximum(used[gate], a) for gate, a in mask.items()}
        del self.embeddings, self.keep, self.free

    def report(self) -> dict[str, dict[str, float]]:
        return {"used": {gate: float(m.mean()) for gate, m in self.memory["used"].items()}}

    def _gates(self, sharpness: Tensor | float) -> dict[str, Tensor]:
        return {gate: torch.sigmoid(sharpness * e) for gate, e in self.embeddings.items()}

    def _taken(self, sharpness: Tensor | float) -> Tensor:
        """Return the share of the free units, of all layers together, that the task's gates open."""
        gates = self._gates(sharpness)
        taken = torch.stack([(gates[gate] * free).sum() for gate, free in self.free.items()]).sum()
        return taken / torch.stack([free.sum() for free in self.free.values()]).sum().clamp(min=1e-12)


def compensation(e: Tensor, sharpness: Tensor | float, hardest: float) -> Tensor:
    """Return what makes of an embedding's gradient at some sharpness that of a gate σ(e), times s_max."""
    sharp = torch.cosh((sharpness * e).clamp(-EXPONENT, EXPONENT))
    return hardest / sharpness * (sharp + 1) / (torch.cosh(e) + 1)


class _Wire(NamedTuple):
    """A module with parameters, and the gates before it and after it, by the path of the module whose output they
    multiply; no gate stands before the first layer, nor matters before normalization."""

    path: str
    before: str
    after: str


def _wires(module: nn.Module, path: str, before: str) -> Iterator[_Wire]:
    """Yield the wires of a backbone, layer by layer. Raise `UserError` where none are known."""
    if isinstance(module, BasicBlock):
        inside = f"{path}.bn1"
        yield from (_Wire(f"{path}.conv1", before, inside), _Wire(inside, "", inside))
        yield from (_Wire(f"{path}.conv2", inside, path), _Wire(f"{path}.bn2", "", path))
        yield from (_Wire(f"{path}.shortcut.{n}", before, path) for n in range(len(module.shortcut)))
        return
    if not isinstance(module, nn.Sequential):
        raise UserError(f"hat knows no gate for {path}, a {type(module).__name__}")
    children = [(f"{path}.{name}", child) for name, child in module.named_children() if _matters(child)]
    for (inner, child), (following, norm) in pairwise([*children, ("", nn.Identity())]):
        if isinstance(child, nn.Linear | nn.Conv2d):
            wires = [_Wire(inner, before, following if isinstance(norm, _BatchNorm) else inner)]
        elif isinstance(child, _BatchNorm) and inner == before:
            wires = [_Wire(inner, "", inner)]
        else:
            wires = list(_wires(child, inner, before))
        yield from wires
        before = wires[-1].after


def _matters(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) or any(True for _ in module.parameters())


def _keep(p: Tensor, after: Tensor, before: Tensor | None, groups: int) -> Tensor:
    """Return the share of a parameter's gradient that earlier tasks leave, in a shape that broadcasts to it."""
    closed = after.view(-1, *[1] * (p.dim() - 1))
    if p.dim() > 1 and before is not None:
        inputs = before.repeat_interleave(p.shape[1] * groups // len(before))  # after a flattening, several a channel
        least = torch.minimum(after.view(groups, -1, 1), inputs.view(groups, 1, -1))
        closed = least.reshape(*p.shape[:2], *[1] * (p.dim() - 2))
    return 1 - closed
