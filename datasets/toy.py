"""A toy stream of random tensors: three tasks of two well-parted classes, for tests (no download)."""

from pathlib import Path

import numpy as np

from bench.core import Benchmark, Split, Task


class Toy(Benchmark):
    num_tasks = 3
    num_classes = 2
    input_shape = (1, 6, 6)
    backbone = "convnet"
    in_all = False

    def stream(self, seed: int, data: Path) -> list[Task]:
        generator = np.random.default_rng(seed)

        def split(centres: np.ndarray, n: int) -> Split:
            y = np.arange(n) % 2
            noise = generator.normal(size=(n, *self.input_shape))
            return Split((centres[y] + 0.5 * noise).astype(np.float32), y.astype(np.int64))

        tasks = []
        for t in range(self.num_tasks):
            centres = generator.normal(size=(2, *self.input_shape))
            tasks.append(Task(t, (f"{t}a", f"{t}b"), split(centres, 48), split(centres, 16), split(centres, 40)))
        return tasks
