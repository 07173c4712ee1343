"""10-split CIFAR-100: ten tasks of ten classes, in natural order, AlexNet variant (Krizhevsky 2009; GPM, ICLR 2021).

As in the code of GPM and NESS: normalization by the constants of CIFAR-10, no augmentation; of every task's
5,000 training images the first 250 of a permutation by the run's seed are for validation, the same for every task.
"""

from pathlib import Path

import numpy as np

from bench.core import Benchmark, Split, Task
from bench.data.cifar import CIFAR100
from bench.data.source import Source, legacy_shuffle, normalise

MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)  # here and not in bench: the digest of a benchmark covers this file
STD = (63.0 / 255, 62.1 / 255, 66.7 / 255)


class SplitCIFAR100(Benchmark):
    scenarios = ("task-il", "class-il")
    num_tasks = 10
    num_classes = 10
    input_shape = (3, 32, 32)
    backbone = "alexnet"

    def sources(self) -> list[Source]:
        return [CIFAR100]

    def stream(self, seed: int, data: Path) -> list[Task]:
        train, test = CIFAR100.load_prepared(data)
        return [make_task(t, train, test, seed) for t in range(self.num_tasks)]


def make_task(t: int, train: Split, test: Split, seed: int) -> Task:
    """Return the classes 10t ... 10t + 9 as task t, their labels modulo ten."""
    own, own_test = (np.flatnonzero(split.y // 10 == t) for split in (train, test))
    order = own[legacy_shuffle(len(own), seed)]
    cut = int(0.05 * len(order))

    def take(split: Split, chosen: np.ndarray) -> Split:
        return Split(normalise(split.x[chosen], MEAN, STD), split.y[chosen] % 10)

    classes = tuple(str(c) for c in range(10 * t, 10 * t + 10))
    return Task(t, classes, take(train, order[cut:]), take(train, order[:cut]), take(test, own_test))
