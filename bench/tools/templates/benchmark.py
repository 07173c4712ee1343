"""MyBenchmark: four tasks, each of which tells stripes of two directions apart (made up, no download).

The first line above is what `python run_bench.py list` shows. Then say where the data is from (paper, URL, licence),
how it is split and how it is scaled. Training settings, with their sources, stand in `my_benchmark.toml`.
"""

from pathlib import Path

import numpy as np

from bench.core import Benchmark, Split, Task


class MyBenchmark(Benchmark):
    scenario = "task-il"  # a head per task; "domain-il": one head for all, whose tasks have the same classes
    num_tasks = 4
    num_classes = 2  # of a task
    input_shape = (1, 12, 12)
    backbone = "convnet"  # a name in `bench/nn/architectures`; or leave it out and define own_backbone(self)

    def stream(self, seed: int, data: Path) -> list[Task]:
        """The tasks in the order of learning. Depends on `seed` alone; files, if any, are in the folder `data`."""
        generator = np.random.default_rng(seed)  # never numpy's global generator
        angles = generator.permutation(np.pi * np.arange(8) / 8).reshape(self.num_tasks, self.num_classes)
        rows, columns = np.mgrid[:12, :12]

        def split(task: int, n: int) -> Split:
            y = np.arange(n) % self.num_classes  # int64, local to the task: 0 .. num_classes - 1
            angle = angles[task][y][:, None, None]
            phase = generator.uniform(0, 2 * np.pi, (n, 1, 1))
            stripes = np.sin(1.5 * (rows * np.cos(angle) + columns * np.sin(angle)) + phase)
            x = stripes + 0.3 * generator.normal(size=stripes.shape)
            return Split(x.astype(np.float32).reshape(n, *self.input_shape), y)

        return [
            Task(t, tuple(f"{angle:.2f} rad" for angle in angles[t]), split(t, 200), split(t, 50), split(t, 100))
            for t in range(self.num_tasks)
        ]

    # A benchmark with data to fetch names it (as `datasets/split_cifar100.py`; `bench/data/source.py` has the tools):
    #   sources(self)    a list of bench.data.source.Source; `python run_bench.py data --prepare` then gets them ready
