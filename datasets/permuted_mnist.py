"""Permuted MNIST: ten tasks of ten digits, each with its own order of pixels, one shared head (domain-incremental).

As in GPM's code (Saha et al. 2021; the stream is Goodfellow et al.'s, 2014): normalized, then permuted; no task has the
natural order; of 60,000 training images a tenth is for validation, the same for every task. The run's seed decides
the order of the ten permutations, and a permutation follows from its number and its place. GPM's code caches permuted
images by number alone, so that it gives a second seed the permutations of the first one, which is not done here.
The stream takes 2.2 GB of memory.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bench.core import Benchmark, Split, Task
from bench.data.mnist import MNIST
from bench.data.source import Source, legacy_shuffle, normalise
from bench.settings import setting

MEAN, STD = (0.1307,), (0.3081,)


class PermutedMNIST(Benchmark):
    @dataclass(frozen=True)
    class Config(Benchmark.Config):
        validation: Literal["seed", "first"] = setting(
            "seed", "drawn by the run's seed, or the first tenth (GPM's code)"
        )

    protocols = {"published": {"validation": "first"}}
    scenario = "domain-il"
    scenarios = ("domain-il", "task-il-shared")
    num_tasks = 10
    num_classes = 10
    input_shape = (784,)
    backbone = "mlp"

    def sources(self) -> list[Source]:
        return [MNIST]

    def stream(self, seed: int, data: Path) -> list[Task]:
        learn, test = (Split(flatten(split.x), split.y) for split in MNIST.load_prepared(data))
        n = len(learn)
        order = legacy_shuffle(n, seed) if self.config.validation == "seed" else np.arange(n)
        validation, train = (Split(learn.x[own], learn.y[own]) for own in np.split(order, [n // 10]))
        tasks = []
        for t, number in enumerate(legacy_shuffle(self.num_tasks, seed)):
            pixels = legacy_shuffle(784, 100 * int(number) + t)
            parts = (Split(permute(split.x, pixels), split.y) for split in (train, validation, test))
            tasks.append(Task(t, tuple(map(str, range(10))), *parts))
        return tasks


def permute(x: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return rows (n, 784) whose position k has their value at pixels[k]; unlike x[:, pixels], they are contiguous."""
    return np.take(x, pixels, axis=1)


def flatten(images: np.ndarray) -> np.ndarray:
    """Return images, uint8 (n, 28, 28), normalized, as rows, float32 (n, 784)."""
    return normalise(images[..., None], MEAN, STD).reshape(len(images), -1)
