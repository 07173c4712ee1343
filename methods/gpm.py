"""GPM: gradient projection memory (Saha, Garg & Roy, ICLR 2021, arXiv 2103.09762).

A layer's update lies in the span of its inputs. After a task, the leading directions of its input matrix R, (d, n),
join an orthonormal basis M; later gradients are freed of their component in span(M): G <- G - G M Mᵀ.

Paper -> code: M memory[block], ε_th energy, R Rᵀ gram. The basis comes from eigenvectors of R Rᵀ, the same as the
left singular vectors of R. Departures: evaluation mode is set explicitly; thresholds stay below 1; the basis is
re-orthonormalised. As in the authors' code, not the paper: the first task keeps the largest k *below* the energy.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from bench.activations import input_grams
from bench.config import require
from bench.core import Benchmark, Training
from bench.method import Method, TrainingData
from bench.space import Linear
from bench.subspace import empty_basis, energy_schedule, extend_basis, leading_basis, project_out


class GPM(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        energy: float = 0.97  # share of a layer's input energy to protect after the first task, in (0, 1)
        layer_energies: tuple[float, ...] = ()  # the same layer by layer, in layer order; empty: energy for all
        energy_step: float = 0.003  # added to it with every task
        samples: int = 125  # training samples drawn for the input matrix
        layer_samples: tuple[int, ...] = ()  # of these, how many each layer uses, in layer order; empty: all
        first_rule: Literal["below", "reach"] = "below"  # first task: the authors' code, or the paper

        space = {"energy": Linear(0.9, 0.995), "energy_step": Linear(0.0, 0.01)}

        def __post_init__(self) -> None:
            for energy in (self.energy, *self.layer_energies):
                require(0 < energy <= 1, f"energy must be in (0, 1], not {energy}")
            require(min(self.samples, *self.layer_samples, 1) > 0, "samples and layer_samples must be at least 1")

    protocols = {"sound": {"first_rule": "reach"}}
    config: Config

    @classmethod
    def unsupported(cls, benchmark: Benchmark, training: Training) -> str | None:
        leaks = training.optimizer != "sgd" or training.weight_decay > 0
        return "its updates leave the free space under Adam or weight decay" if leaks else None

    def begin_task(self, task: int, data: TrainingData) -> None:
        if task > 0:
            self.network.freeze_all_but_weights()
        dtype = next(self.network.parameters()).dtype
        self.bases: dict[str, Tensor] = {name: basis.to(dtype) for name, basis in self.memory.items()}
        self.blocks = self.network.blocks()

    def edit_grads(self) -> None:
        for name, basis in self.bases.items():
            self.blocks[name].grad.copy_(project_out(self.blocks[name].grad, basis))

    def end_task(self, task: int, data: TrainingData) -> None:
        layers = self.network.layers()
        for name in ("layer_samples", "layer_energies"):
            count = len(getattr(self.config, name))
            require(count in (0, len(layers)), f"{name} has {count} numbers for {len(layers)} layers")
        rows = dict(zip(layers, self.config.layer_samples, strict=False))
        energies = dict(zip(layers.values(), self.config.layer_energies, strict=False))
        batch = data.sample(self.config.samples, self.generator)
        for name, gram in input_grams(self.network, [batch], task, rows).items():
            start = energies.get(self.blocks[name].layer, self.config.energy)
            energy = energy_schedule(start, self.config.energy_step, task)
            if task == 0:
                self.memory[name] = leading_basis(gram, energy, self.config.first_rule)
            else:
                self.memory[name] = extend_basis(self.memory.get(name, empty_basis(gram)), gram, energy)

    def report(self) -> dict[str, dict[str, int]]:
        return {"rank": {name: basis.shape[1] for name, basis in self.memory.items()}}
