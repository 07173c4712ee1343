"""NESS: learning in the null space (Pham, Vepakomma & Horváth, CPAL 2026, arXiv 2602.21919).

Before every task but the first, each layer's inputs X over all earlier tasks give a Gram XᵀX; the directions with
singular value σ <= θ span the space that earlier data hardly excites. The task trains ΔW = U Vᵀ, V a fixed
orthonormal basis of that space, and merges it. For earlier inputs ‖X ΔWᵀ‖_F <= σ_r ‖U‖_F <= θ ‖U‖_F (Eq. 7, summed
over inputs): `report` gives both sides, as measured.

Paper -> code: I_t X, U_t Vᵀ (r, d), V_t U = ups (o, r), ε₁ eps. V is what `attach_free` makes of the directions that
are not null: a rotation of the paper's singular vectors, which under SGD changes nothing.
As in the authors' code, not the paper: θ = ε Σσ ("nuclear"); the paper's ε‖X‖_F keeps no direction of the AlexNet.
As there, too, old images are passed in a row: where normalization takes the statistics of the batch, it matters that a
batch holds the end of one task and the start of the next. Elsewhere they are passed task by task, which is the same.
Departures: one pass for all layers; Grams and eigenvalues in float64, clamped at zero; merged at the task's end. The
update is always a parameter, so it stays in its space under any optimizer; with SGD it equals projecting gradients.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from bench.nn.activations import input_grams
from bench.nn.adapters import attach_free, merge
from bench.nn.normalization import takes_batch_statistics
from bench.nn.subspace import interference, null_basis
from bench.search_space import Log
from bench.settings import setting
from bench.training.data import TrainingData
from bench.training.method import Method, OldData


class NESS(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        eps: float = setting(
            1e-3,
            "ε: a direction is null if its singular value is at most eps times the norm of the inputs",
            above=0,
            search=Log(1e-4, 0.1),
        )
        threshold: Literal["nuclear", "frobenius"] = setting(
            "nuclear", "that norm: the authors' code, or the paper's Eq. 5"
        )
        memory: Literal["data", "gram"] = setting(
            "data", "keep old data and pass it again, or add up Grams as tasks end"
        )
        nan_policy: Literal["clamp", "freeze-layer"] = setting(
            "clamp", "negative rounding: to zero, or freeze the layer (authors' code)"
        )
        sources: Literal["all", "first"] = setting(
            "all", "the earlier tasks whose inputs count; first: as the authors' 5-Datasets"
        )

    protocols = {"sound": {"threshold": "frobenius"}}
    config: Config

    @classmethod
    def old_data(cls, config: Config) -> OldData:
        return "all" if config.memory == "data" else "none"

    def begin_task(self, task: int, data: TrainingData) -> None:
        self.numbers: dict[str, Any] = {}
        if task == 0:
            return
        self.grams = self._old_grams(data)
        null = {
            name: null_basis(gram, self.config.eps, self.config.threshold, self.config.nan_policy)
            for name, gram in self.grams.items()
        }
        self.before = {name: block.weight.clone() for name, block in self.network.blocks().items()}
        self.ups = attach_free(self.network, {name: split.rest for name, split in null.items()})
        self.numbers["rank"] = {name: split.basis.shape[1] for name, split in null.items()}
        self.thresholds = {name: split.threshold for name, split in null.items()}

    def end_task(self, task: int, data: TrainingData) -> None:
        if task > 0:
            merge(self.network)
            moved = {n: b.weight - self.before[n] for n, b in self.network.blocks().items() if n in self.ups}
            self.numbers["interference"] = {n: interference(d, self.grams[n]) for n, d in moved.items()}
            norms = {n: float(up.detach().norm()) for n, up in self.ups.items()}
            self.numbers["bound"] = {n: self.thresholds[n] * norm for n, norm in norms.items()}
        if self.config.memory == "gram" and (task == 0 or self.config.sources == "all"):
            self.memory = _add(self.memory, input_grams(self.network, data, task))

    def report(self) -> dict[str, Any]:
        return self.numbers

    def _old_grams(self, data: TrainingData) -> dict[str, Tensor]:
        if self.config.memory == "gram":
            return self.memory
        sources = data.earlier[: 1 if self.config.sources == "first" else None]
        if takes_batch_statistics(self.network):
            return input_grams(self.network, TrainingData.in_a_row(sources), sources[-1].task)
        grams: dict[str, Tensor] = {}
        for old in sources:
            grams = _add(grams, input_grams(self.network, old, old.task))
        return grams


def _add(total: dict[str, Tensor], grams: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: total[name] + gram if name in total else gram for name, gram in grams.items()}
