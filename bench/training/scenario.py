"""What a scenario means: which heads answer and learn, how labels are numbered, and whether the task is told.

Under "task-il" and "class-il" every task has a head of its own, under "domain-il" and "task-il-shared" all tasks have
one, and under the latter a method may use the task of a test image. Tests of "class-il" are over the classes of all
tasks learned so far, whose logits stand one task after the other, and no task is told. Its training sees, by the
setting `logits`, those of a sample's own task alone ("current"), and is then that of "task-il" to the bit; or those of
all tasks so far, the one being learned included ("seen"): labels then count through the tasks, and every head so far
learns, for one softmax is over them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.core import TASK_KNOWN, Split, Training, UserError

if TYPE_CHECKING:  # a setting can be refused without torch
    import torch

    from bench.nn.network import Network
    from bench.training.data import Data, Mixed

CLASSES = "class-il"


def demand_setting(method: str, training: Training, scenario: str) -> None:
    """Raise `UserError` where training would see logits that are no part of a scenario."""
    if training.logits != "current" and scenario != CLASSES:
        raise UserError(f"{method}.logits = {training.logits} goes with --scenario {CLASSES}, not with {scenario}")


@dataclass(frozen=True)
class Scenario:
    """A scenario, one of SCENARIOS, as a network is trained and tested in it."""

    name: str
    logits: str  # as in `Training`
    network: Network

    @property
    def over_classes(self) -> bool:
        """Return whether a test is over the classes of all tasks learned so far."""
        return self.name == CLASSES

    @property
    def answers_ahead(self) -> bool:
        """Return whether the network has an answer for tasks that it has not learned: of a head that all tasks share,
        and where no method may answer by what it has of a task."""
        return self.network.shares_its_head and self.name not in TASK_KNOWN

    @property
    def _one_softmax(self) -> bool:
        return self.over_classes and self.logits == "seen"

    def begin(self, first: int, task: int) -> None:
        """Let the network give the logits that the training of a task, or of those from `first` on, sees."""
        self.network.together = task + 1 if self._one_softmax else 0
        self.network.old_heads = first if self._one_softmax else 0

    def end(self, task: int) -> None:
        """Let the head of a task that was trained be shared, where later tasks go on to learn it."""
        self.network.old_heads = task + 1 if self._one_softmax else 0

    @contextmanager
    def testing(self, task: int) -> Iterator[None]:
        """Inside, let the network give the logits that a test after a task looks at."""
        before = self.network.together
        if self.over_classes:
            self.network.together = task + 1
        try:
            yield
        finally:
            self.network.together = before

    def learning_heads(self, first: int, task: int, old_too: bool) -> list[int]:
        """Return the tasks whose heads learn, where those from `first` to `task` are learned; `old_too`: the method
        goes on with earlier ones."""
        start = 0 if old_too or self._one_softmax else first
        return list(range(start, task + 1))

    def for_training(self, split: Split, task: int, device: torch.device) -> Data:
        """Return a split of a task as it is learned: the task, inputs, and labels."""
        return self._on(device, split, task, self._one_softmax)

    def for_tests(self, split: Split, task: int, device: torch.device) -> Data:
        """Return a split of a task as it is tested: the task, inputs, and labels."""
        return self._on(device, split, task, self.over_classes)

    def _on(self, device: torch.device, split: Split, task: int, through: bool) -> Data:
        """Return the task, inputs and labels, which count `through` the tasks, or within each."""
        from bench.training.batches import on_device

        _, x, y = on_device(split, device, task)
        return task, x, (y + task * self.num_classes if through else y)

    @property
    def num_classes(self) -> int:
        """Return the number of classes of a task."""
        return self.network.head(0).out_features

    def in_batches(self, parts: Sequence[Data]) -> list[Mixed]:
        """Return the training data of tasks that are learned together: where one softmax is over them, as one, so that
        a batch has images of any."""
        from bench.training.batches import gathered

        return [gathered(parts)] if self._one_softmax and len(parts) > 1 else list(parts)
