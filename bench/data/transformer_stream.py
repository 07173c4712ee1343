"""Streams on which InfLoRA (Liang & Li, CVPR 2024) and others after it train a ViT-B/16 that comes pre-trained.

As in InfLoRA's code: tasks of equally many classes in the source's order, so that seeds change weights and batches
alone; no validation images; a linear classifier with bias for every task. The backbone is frozen but for projections of
its attention, keys and values unless asked otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from bench.core import Benchmark, Split, Task
from bench.data.source import Source
from bench.data.weights import AUGREG_IN21K, Weights
from bench.settings import setting


class TransformerStream(Benchmark):
    """A source cut into tasks. A subclass names the source and its classes, and says how many tasks there may be."""

    @dataclass(frozen=True)
    class Config(Benchmark.Config):
        tasks: int = setting(10, "of equally many classes")
        adapted: Literal["kv", "qv", "qkv"] = setting("kv", "projections of the attention that may learn")

    source: ClassVar[Source]
    classes: ClassVar[Sequence[str]]
    config: Config
    scenarios = ("class-il", "task-il")
    input_shape = (3, 224, 224)
    backbone = "vit_base_patch16_224"
    head_bias = True
    offers = ("pretrained", "attention")
    same_for_every_seed = True

    @property
    def num_tasks(self) -> int:  # type: ignore[override]  # an option decides
        return self.config.tasks

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        return len(self.classes) // self.num_tasks

    def sources(self) -> list[Source]:
        return [self.source]

    def weights(self) -> Weights:
        return AUGREG_IN21K

    def backbone_options(self) -> Mapping[str, Any]:
        return {"adapted": self.config.adapted}

    def stream(self, seed: int, data: Path) -> list[Task]:
        train, test = self.source.load_prepared(data)
        return [self._task(t, train, test) for t in range(self.num_tasks)]

    def _task(self, t: int, train: Split, test: Split) -> Task:
        """Return the t-th `num_classes` classes as task t; a label counts from the first of them."""
        first, size = t * self.num_classes, self.num_classes
        classes = tuple(self.classes[first : first + size])
        none = Split(train.x[:0].transpose(0, 3, 1, 2), train.y[:0])
        return Task(t, classes, take(train, first, size), none, take(test, first, size))


def take(split: Split, first: int, size: int) -> Split:
    """Return the images of `size` classes from the `first` on: where they follow one another, without a copy."""
    places = np.flatnonzero((split.y >= first) & (split.y < first + size))
    start, end = int(places[0]), int(places[-1]) + 1
    own = slice(start, end) if end - start == len(places) else places
    return Split(split.x[own].transpose(0, 3, 1, 2), split.y[own] - first)
