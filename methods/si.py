"""SI: synaptic intelligence (Zenke, Poole & Ganguli, ICML 2017, arXiv 1703.04200).

A parameter matters as much as the loss fell along its path: with g the gradient of the cross-entropy in a step and Δ
what the step changed, ω <- ω - g Δ. When a task ends, Ω <- max(0, Ω + ω / ((θ - θ*)² + ξ)), and θ* <- θ; later tasks
minimize CE + c Σ Ω (θ - θ*)² (Eqs. 3-5).

Paper -> code: c strength, ξ damping, ω path, Ω memory[omega], θ* memory[anchor]. The penalty's gradient is added to the
step's after g has been read, so that g is that of the cross-entropy alone, to the bit. As in the authors' code the
accumulated Ω is clamped, not each task's share. Departures: the benchmark's optimizer, where the authors take Adam;
heads of single tasks are left out; under SAM g is the gradient that moves the weights, the ascended one, and the
penalty's is taken where the weights are; where the best weights come back, θ is theirs and ω that of all steps, those
after them too, for the authors train a fixed time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.nn.penalties import add_gradient, held
from bench.search_space import Log
from bench.settings import setting
from bench.training.data import Batch, TrainingData
from bench.training.method import Method


class SI(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        strength: float = setting(1.0, "c", at_least=0, search=Log(0.01, 100))
        damping: float = setting(0.1, "ξ, added to the squared distance of a task", above=0, search=Log(1e-3, 1))

    by_default = False
    config: Config

    def begin_task(self, task: int, data: TrainingData) -> None:
        self.shared = self.network.shared_parameters()
        self.held = held(self.shared, self.memory.get("omega", {}), self.memory.get("anchor", {}))
        self.start = self._weights()
        self.path = {n: torch.zeros_like(p) for n, p in self.shared.items()}

    def edit_grads(self) -> None:
        self.before = self._weights()
        self.grads = {n: p.grad.clone() for n, p in self.shared.items() if p.grad is not None}
        add_gradient(self.held, self.config.strength)

    def after_step(self, batch: Batch) -> None:
        for name, grad in self.grads.items():
            self.path[name] -= grad * (self.shared[name].detach() - self.before[name])

    def end_task(self, task: int, data: TrainingData) -> None:
        omega, now = self.memory.get("omega", {}), self._weights()
        for name, path in self.path.items():
            own = path / ((now[name] - self.start[name]).square() + self.config.damping)
            omega = {**omega, name: (omega.get(name, 0.0) + own).clamp(min=0)}
        self.memory = {"omega": omega, "anchor": now}
        del self.shared, self.held, self.start, self.path

    def _weights(self) -> dict[str, Tensor]:
        """Return a copy of what tasks share, by name."""
        return {n: p.detach().clone() for n, p in self.network.shared_parameters().items()}
