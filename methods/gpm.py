"""GPM: gradient projection memory (Saha, Garg & Roy, ICLR 2021, arXiv 2103.09762).

A layer's update lies in the span of its inputs. After a task, the leading directions of its input matrix R, (d, n),
join an orthonormal basis M; later gradients are freed of their component in span(M): G <- G - G M Mᵀ. Here the update
is a parameter that has no such component: under SGD the same, and on wide layers much cheaper.

Paper -> code: M memory[block], ε_th energy, R Rᵀ gram. The basis comes from eigenvectors of R Rᵀ, the same as the
left singular vectors of R. Departures: evaluation mode is set explicitly; thresholds stay below 1; the basis is
re-orthonormalized; weight decay, Adam and SAM act on the update alone, which so stays in the free space.
As in the authors' code, not the paper: the first task keeps the largest k *below* the energy.
"""

from dataclasses import dataclass
from typing import Literal

from bench.config import require
from bench.nn.activations import input_grams
from bench.nn.adapters import attach_free, merge
from bench.nn.subspace import empty_basis, energy_schedule, extend_basis, leading_basis
from bench.search_space import Linear
from bench.settings import setting
from bench.training.data import TrainingData
from bench.training.method import Method


class GPM(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        energy: float = setting(
            0.97,
            "share of a layer's input energy to protect after the first task",
            above=0,
            at_most=1,
            search=Linear(0.9, 0.995),
        )
        layer_energies: tuple[float, ...] = setting(
            (), "the same layer by layer, in layer order; empty: energy for all", above=0, at_most=1
        )
        energy_step: float = setting(0.003, "added to it with every task", search=Linear(0.0, 0.01))
        samples: int = setting(125, "training samples drawn for the input matrix", at_least=1)
        layer_samples: tuple[int, ...] = setting(
            (), "of these, how many each layer uses, in layer order; empty: all", at_least=1
        )
        first_rule: Literal["below", "reach"] = setting("below", "first task: the authors' code, or the paper")

    protocols = {"sound": {"first_rule": "reach"}}
    config: Config

    def begin_task(self, task: int, data: TrainingData) -> None:
        if task > 0:
            attach_free(self.network, self.memory)

    def end_task(self, task: int, data: TrainingData) -> None:
        merge(self.network)
        layers, blocks = self.network.layers(), self.network.blocks()
        for name in ("layer_samples", "layer_energies"):
            count = len(getattr(self.config, name))
            require(count in (0, len(layers)), f"{name} has {count} numbers for {len(layers)} layers")
        rows = dict(zip(layers, self.config.layer_samples, strict=False))
        energies = dict(zip(layers.values(), self.config.layer_energies, strict=False))
        batch = data.sample(self.config.samples, self.generator)
        for name, gram in input_grams(self.network, [batch], task, rows).items():
            start = energies.get(blocks[name].layer, self.config.energy)
            energy = energy_schedule(start, self.config.energy_step, task)
            if task == 0:
                self.memory[name] = leading_basis(gram, energy, self.config.first_rule)
            else:
                self.memory[name] = extend_basis(self.memory.get(name, empty_basis(gram)), gram, energy)

    def report(self) -> dict[str, dict[str, int]]:
        return {"rank": {name: basis.shape[1] for name, basis in self.memory.items()}}
