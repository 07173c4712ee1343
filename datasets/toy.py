"""A toy stream of random tensors: three tasks of two well-separated classes, for tests (no download)."""

from pathlib import Path

import numpy as np

from bench.core import Benchmark, Split, Task


class Toy(Benchmark):
    scenarios = ("task-il", "class-il")
    num_tasks = 3
    num_classes = 2
    input_shape = (1, 6, 6)
    backbone = "convnet"
    in_all = False

    def stream(self, seed: int, data: Path) -> list[Task]:
        generator = np.random.default_rng(seed)

        def split(centers: np.ndarray, n: int) -> Split:
            y = np.arange(n) % 2
            noise = generator.normal(size=(n, *self.input_shape))
            x = centers[y] + 0.5 * noise
            return Split(x.astype(np.float32), y.astype(np.int64))

        tasks = []
        for t in range(self.num_tasks):
            centers = generator.normal(size=(2, *self.input_shape))
            classes = f"{t}a", f"{t}b"
            tasks.append(Task(t, classes, split(centers, 48), split(centers, 16), split(centers, 40)))
        return tasks
