"""MyMethod: stay near the weights that the last task ended with (L2 regularization, a baseline of EWC).

The loss of a task is its cross-entropy + strength * Σ (θ - θ*)², θ* the shared weights after the task before.

The first line above is what `python run_bench.py list` shows. Then say whose method it is (paper, venue, year, URL),
what the paper's symbols are called below, and where you depart from it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.search_space import Log
from bench.settings import setting
from bench.training.data import TrainingData
from bench.training.method import Method


class MyMethod(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        # Default, meaning, bounds, and where `tune` searches: `--set my_method.strength=1`, or [my_method] in a recipe.
        strength: float = setting(0.1, "of the pull, per squared distance", at_least=0, search=Log(1e-3, 10))

    config: Config

    def penalty(self) -> Tensor | float:
        """Every step, added to the loss."""
        pulls = [
            (parameter - self.memory[name]).square().sum()
            for name, parameter in self.network.shared_parameters().items()
            if name in self.memory  # empty in the first task
        ]
        return self.config.strength * torch.stack(pulls).sum() if pulls else 0.0

    def end_task(self, task: int, data: TrainingData) -> None:
        """After training; `for x, y in data` goes through the task's batches once more, should you need them."""
        # What later tasks need stands in `memory`: tensors by name, saved, resumed and counted as the method's state.
        shared = self.network.shared_parameters()  # all but the heads of single tasks
        self.memory = {name: parameter.detach().clone() for name, parameter in shared.items()}

    # More hooks, each of them optional; `bench/training/method.py` has them all:
    #   begin_task(self, task, data)       before training: freeze or attach; `bench.nn.adapters` has an adapter
    #   parameters(self)                   what the optimizer updates, parameters of your own included
    #   before_step(self, batch)           the batch to train on: mix replayed samples in; `bench.nn.replay` has buffers
    #   forward(self, x, task)             the logits, in training and evaluation: gate layers, replace weights
    #   edit_grads(self)                   between backward and step: change gradients in place
    #   after_step(self, batch)            after every step: fill a buffer, add up a path
    #   old_data(cls, config)              a classmethod: "stored" or "all", where it uses earlier tasks' samples
