"""Permuted digits: five tasks of ten classes, each with its own order of pixels; one shared head (domain-incremental).

The small sibling of permuted MNIST (Goodfellow et al. 2014) on scikit-learn's digits: no download. All tasks hold the
same images, split as in `digits`; no task has the natural order. Permutations come from the run's seed.
"""

from pathlib import Path

import numpy as np

from bench.core import Benchmark, Split, Task


class PermutedDigits(Benchmark):
    scenario = "domain-il"
    scenarios = ("domain-il", "task-il-shared")
    num_tasks = 5
    num_classes = 10
    input_shape = (64,)
    backbone = "mlp"

    def stream(self, seed: int, data: Path) -> list[Task]:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        learn, test = train_test_split(np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=seed)
        train, validation = train_test_split(learn, test_size=1 / 7, stratify=labels[learn], random_state=seed)
        generator = np.random.default_rng(seed)
        tasks = []
        for t in range(self.num_tasks):
            pixels = generator.permutation(64)
            x = (images[:, pixels] / 16).astype(np.float32)
            parts = [Split(x[own], labels[own].astype(np.int64)) for own in (train, validation, test)]
            classes = tuple(str(c) for c in range(10))
            tasks.append(Task(t, classes, *parts))
        return tasks
