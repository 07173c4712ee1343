"""A toy stream of random tensors under one shared head: two well-separated classes, in three orders of pixels.

It is for tests, as `toy` is, on a network with what the other lacks: normalization, biases, groups and dropout
(no download).
"""

from pathlib import Path

import numpy as np

from bench.core import Benchmark, Split, Task


class ToyShared(Benchmark):
    scenario = "domain-il"
    num_tasks = 3
    num_classes = 2
    input_shape = (2, 6, 6)
    backbone = "groupnet"
    in_all = False

    def stream(self, seed: int, data: Path) -> list[Task]:
        generator = np.random.default_rng(seed)
        centers = generator.normal(size=(2, 72))

        def split(order: np.ndarray, n: int) -> Split:
            y = np.arange(n) % 2
            noise = generator.normal(size=(n, 72))
            x = (centers[y] + 0.5 * noise)[:, order]
            images = x.astype(np.float32).reshape(n, *self.input_shape)
            return Split(images, y.astype(np.int64))

        tasks = []
        for t in range(self.num_tasks):
            order = generator.permutation(72)
            tasks.append(Task(t, ("a", "b"), split(order, 48), split(order, 16), split(order, 40)))
        return tasks
