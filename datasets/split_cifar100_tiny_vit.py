"""Second half of CIFAR-100 on a small pre-trained ViT: ten tasks of five classes, as InfLoRA (Liang & Li, CVPR 2024).

The vision transformer comes with the suite and has learned labels 0 to 49 (see `bench/tools/pretrain.py`); the stream
is labels 50 to 99 in natural order, so that nothing it asks for was seen before. As in InfLoRA's code: a head with a
bias for every task, no validation, classes in the same order for every seed, which decides weights and batches alone.
Pixels are scaled to [-1, 1], as in pre-training; no augmentation. Of a class's 500 training images the first 200 are
learned from, so that a cell takes minutes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.core import Benchmark, Settings, Split, Task
from bench.data.cifar import CIFAR100
from bench.data.source import Source, normalise
from bench.data.weights import Weights
from bench.installation import PACKAGE
from bench.settings import setting

WEIGHTS = Weights(
    name="tiny_vit.safetensors",
    megabytes=0.94,
    sha256="84ac8eacb6e315d03e838498b6d77538993c31ca3717a7dae65e705ff2581dd2",
    bundled=PACKAGE / "nn" / "architectures" / "tiny_vit.safetensors",
)
FIRST, SIZE = 50, 5  # the label with which the stream begins, and how many a task has
MEAN = STD = (0.5, 0.5, 0.5)


class SplitCIFAR100TinyViT(Benchmark):
    @dataclass(frozen=True)
    class Config(Settings):
        adapted: Literal["kv", "qv", "qkv"] = setting("kv", "the projections of every block's attention that may learn")
        per_class: int = setting(200, "training images of a class, the first ones of 500", at_least=1, at_most=500)

    config: Config
    scenarios = ("class-il", "task-il")
    num_tasks = 10
    num_classes = SIZE
    input_shape = (3, 32, 32)
    backbone = "tiny_vit"
    head_bias = True
    same_for_every_seed = True
    offers = ("pretrained", "attention")

    def sources(self) -> list[Source]:
        return [CIFAR100]

    def backbone_options(self) -> Mapping[str, Any]:
        return {"adapted": self.config.adapted}

    def weights(self) -> Weights:
        return WEIGHTS

    def stream(self, seed: int, data: Path) -> list[Task]:
        train, test = CIFAR100.load_prepared(data)
        return [make_task(t, train, test, self.config.per_class) for t in range(self.num_tasks)]


def make_task(t: int, train: Split, test: Split, per_class: int) -> Task:
    """Return the next five labels as task t, counted from 0, with the first training images of each."""
    labels = range(FIRST + SIZE * t, FIRST + SIZE * (t + 1))

    def take(split: Split, chosen: np.ndarray) -> Split:
        return Split(normalise(split.x[chosen], MEAN, STD), split.y[chosen] - labels.start)

    learnt = np.concatenate([np.flatnonzero(train.y == label)[:per_class] for label in labels])
    tested = np.flatnonzero(np.isin(test.y, labels))
    return Task(t, tuple(map(str, labels)), take(train, learnt), take(train, learnt[:0]), take(test, tested))
