"""Tasks of random images, for whoever measures time and not accuracy."""

from __future__ import annotations

import numpy as np

from bench.core import Benchmark, Split, Task


def random_task(benchmark: Benchmark, t: int, train: int, validation: int = 0, test: int = 0) -> Task:
    """Return a task of random images, float32 (n, *input_shape), so many in each split, with random labels (n,)."""
    generator = np.random.default_rng(t)

    def split(n: int) -> Split:
        x = generator.normal(size=(n, *benchmark.input_shape))
        y = generator.integers(0, benchmark.num_classes, n)
        return Split(x.astype(np.float32), y)

    return Task(t, (), split(train), split(validation), split(test))
