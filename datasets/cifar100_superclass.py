"""CIFAR-100 by superclass: twenty tasks of five classes, LeNet variant (Krizhevsky 2009; Yoon et al. 2020; GPM, 2021).

Per task 2,500 training images, of which the first 125 of a permutation are for validation, and 500 for the test; no
augmentation. The published form is that of GPM's code: images are not normalized, their color planes are read as if
they were pixels, and the validation images are the same in every run, so this stream does not depend on the seed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bench.core import Benchmark, Split, Task
from bench.data.cifar import CIFAR100
from bench.data.source import Source, legacy_shuffle, normalise
from bench.settings import setting

MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)  # of CIFAR-10, as in the code of GPM and NESS
STD = (63.0 / 255, 62.1 / 255, 66.7 / 255)
GROUPS = (  # fine labels of a superclass
    (4, 30, 55, 72, 95),  # aquatic mammals
    (1, 32, 67, 73, 91),  # fish
    (54, 62, 70, 82, 92),  # flowers
    (9, 10, 16, 28, 61),  # food containers
    (0, 51, 53, 57, 83),  # fruit and vegetables
    (22, 39, 40, 86, 87),  # household electrical devices
    (5, 20, 25, 84, 94),  # household furniture
    (6, 7, 14, 18, 24),  # insects
    (3, 42, 43, 88, 97),  # large carnivores
    (12, 17, 37, 68, 76),  # large man-made outdoor things
    (23, 33, 49, 60, 71),  # large natural outdoor scenes
    (15, 19, 21, 31, 38),  # large omnivores and herbivores
    (34, 63, 64, 66, 75),  # medium-sized mammals
    (26, 45, 77, 79, 99),  # non-insect invertebrates
    (2, 11, 35, 46, 98),  # people
    (27, 29, 44, 78, 93),  # reptiles
    (36, 50, 65, 74, 80),  # small mammals
    (47, 52, 56, 59, 96),  # trees
    (8, 13, 48, 58, 90),  # vehicles 1
    (41, 69, 81, 85, 89),  # vehicles 2
)
ORDERS = (  # of superclasses, as they are learned (Yoon et al. 2020)
    tuple(range(20)),
    (15, 12, 5, 9, 7, 16, 18, 17, 1, 0, 3, 8, 11, 14, 10, 6, 2, 4, 13, 19),
    (17, 1, 19, 18, 12, 7, 6, 0, 11, 15, 10, 5, 13, 3, 9, 16, 4, 14, 2, 8),
    (11, 9, 6, 5, 12, 4, 0, 10, 13, 7, 14, 3, 15, 16, 8, 1, 2, 19, 18, 17),
    (6, 14, 0, 11, 12, 17, 13, 4, 9, 1, 7, 19, 8, 10, 3, 15, 18, 5, 2, 16),
)


class CIFAR100Superclass(Benchmark):
    @dataclass(frozen=True)
    class Config(Benchmark.Config):
        order: Literal[0, 1, 2, 3, 4] = setting(0, "of the tasks: natural, or one of Yoon et al.'s four")
        layout: Literal["correct", "scrambled"] = setting(
            "correct", "color planes, or these read as pixels (GPM's code)"
        )
        normalised: bool = setting(True, "by the constants of CIFAR-10, or only scaled to [0, 1]")
        validation: Literal["seed", "fixed"] = setting("seed", "drawn by the run's seed, or the same in every run")

    protocols = {"published": {"layout": "scrambled", "normalised": False, "validation": "fixed"}}
    scenarios = ("task-il", "class-il")
    num_tasks = 20
    num_classes = 5
    input_shape = (3, 32, 32)
    backbone = "lenet"

    def sources(self) -> list[Source]:
        return [CIFAR100]

    def stream(self, seed: int, data: Path) -> list[Task]:
        train, test = CIFAR100.load_prepared(data)
        groups = [GROUPS[superclass] for superclass in ORDERS[self.config.order]]
        seed = seed if self.config.validation == "seed" else 0
        return [self._task(t, group, train, test, seed) for t, group in enumerate(groups)]

    def _task(self, t: int, group: tuple[int, ...], train: Split, test: Split, seed: int) -> Task:
        """Return the classes of `group`, (5,), as a task; a label is the place in it."""
        own = np.flatnonzero(np.isin(train.y, group))
        own_test = np.flatnonzero(np.isin(test.y, group))
        order = own[legacy_shuffle(len(own), seed)]
        cut = int(0.05 * len(order))

        def take(split: Split, chosen: np.ndarray) -> Split:
            images = self._images(split.x[chosen])
            labels = np.searchsorted(group, split.y[chosen])
            return Split(images, labels)

        classes = tuple(str(c) for c in group)
        return Task(t, classes, take(train, order[cut:]), take(train, order[:cut]), take(test, own_test))

    def _images(self, x: np.ndarray) -> np.ndarray:
        """Return images, uint8 (n, 32, 32, 3), as the network gets them, float32 (n, 3, 32, 32)."""
        if self.config.layout == "scrambled":
            x = scramble(x)
        if self.config.normalised:
            return normalise(x, MEAN, STD)
        return normalise(x, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def scramble(x: np.ndarray) -> np.ndarray:
    """Return images (n, 32, 32, 3) whose bytes, stored plane by plane in the archive, are read pixel by pixel."""
    planes = x.transpose(0, 3, 1, 2)
    return planes.reshape(x.shape)
