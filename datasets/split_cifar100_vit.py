"""Split CIFAR-100 for a pre-trained ViT-B/16: ten tasks of ten classes or twenty of five (Krizhevsky 2009; InfLoRA).

As in the code of InfLoRA (Liang & Li, CVPR 2024): classes in natural order, so that seeds change weights and batches
alone; no validation images; a linear classifier with bias for every task; a random part of each training image and half
of them mirrored, test images whole, 224 x 224; pixels in [0, 1] and no further normalized, though the backbone was
trained on [-1, 1]. The backbone is frozen but for projections of its attention, keys and values unless asked otherwise.
Departures: views are made of a batch at once and not rounded to 256 levels in between.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.core import Benchmark, Split, Task, Views
from bench.data.cifar import CIFAR100
from bench.data.source import Source
from bench.data.weights import AUGREG_IN21K, Weights
from bench.settings import setting


class SplitCIFAR100ViT(Benchmark):
    @dataclass(frozen=True)
    class Config(Benchmark.Config):
        tasks: Literal[10, 20] = setting(10, "of ten classes each, or of five")
        adapted: Literal["kv", "qv", "qkv"] = setting("kv", "projections of the attention that may learn")

    scenarios = ("class-il", "task-il")
    input_shape = (3, 224, 224)
    views = Views(stored=(3, 32, 32), side=224, resized=224)
    backbone = "vit_base_patch16_224"
    head_bias = True
    offers = ("pretrained", "attention")
    same_for_every_seed = True

    @property
    def num_tasks(self) -> int:  # type: ignore[override]  # an option decides
        return int(self.config.tasks)

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        return 100 // self.num_tasks

    def sources(self) -> list[Source]:
        return [CIFAR100]

    def weights(self) -> Weights:
        return AUGREG_IN21K

    def backbone_options(self) -> Mapping[str, Any]:
        return {"adapted": self.config.adapted}

    def stream(self, seed: int, data: Path) -> list[Task]:
        train, test = CIFAR100.load_prepared(data)
        return [make_task(t, self.num_classes, train, test) for t in range(self.num_tasks)]


def make_task(t: int, size: int, train: Split, test: Split) -> Task:
    """Return the t-th `size` classes as task t; a label counts from the first of them."""
    first = t * size

    def take(split: Split) -> Split:
        own = split.y // size == t
        images = np.ascontiguousarray(split.x[own].transpose(0, 3, 1, 2))
        return Split(images, split.y[own] - first)

    none = Split(np.empty((0, 3, 32, 32), np.uint8), np.empty(0, np.int64))
    classes = tuple(str(c) for c in range(first, first + size))
    return Task(t, classes, take(train), none, take(test))
