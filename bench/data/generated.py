"""Tasks of random images, for whoever measures time and not accuracy."""

from __future__ import annotations

import numpy as np

from bench.core import Benchmark, Split, Task


def random_task(benchmark: Benchmark, t: int, train: int, validation: int = 0, test: int = 0) -> Task:
    """Return a task of random images, as the benchmark has them, so many in each split, with random labels (n,)."""
    generator = np.random.default_rng(t)

    def images(n: int) -> np.ndarray:
        if benchmark.views:
            return generator.integers(0, 256, (n, *benchmark.views.stored), np.uint8)
        return generator.normal(size=(n, *benchmark.input_shape)).astype(np.float32)

    def split(n: int) -> Split:
        return Split(images(n), generator.integers(0, benchmark.num_classes, n))

    return Task(t, (), split(train), split(validation), split(test))
