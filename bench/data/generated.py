"""Tasks of random images, for whoever measures time and not accuracy."""

from __future__ import annotations

import numpy as np

from bench.core import Benchmark, Split, Task


def random_task(benchmark: Benchmark, t: int, train: int, validation: int = 0, test: int = 0) -> Task:
    """A task of random images of the benchmark's shape, so many in each split, with random labels."""
    generator = np.random.default_rng(t)

    def split(n: int) -> Split:
        x = generator.normal(size=(n, *benchmark.input_shape)).astype(np.float32)
        return Split(x, generator.integers(0, benchmark.num_classes, n))

    return Task(t, (), split(train), split(validation), split(test))
