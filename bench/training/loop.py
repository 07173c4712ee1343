"""The only training loop: from a stream and a method to the accuracy matrix, one stage after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from bench.core import Task, Training
from bench.nn.activations import demand_own_gradients
from bench.nn.network import Network
from bench.training.data import TrainingData
from bench.training.demands.contract import demand_learnable
from bench.training.demands.matrices import SAMPLES, fault_of
from bench.training.evaluation import Drift, Row, StreamTests
from bench.training.method import Method
from bench.training.needs import demand_float64, takes_layers_for_matrices, takes_samples_apart
from bench.training.scenario import Scenario
from bench.training.stage import EpochBegun, EpochDone, Stage, TaskRecord
from bench.training.surroundings import Randomness


class TaskDone(NamedTuple):
    """A task has been learned, and every task whose answers count has been tested."""

    row: Row
    record: TaskRecord


Event = EpochBegun | EpochDone | TaskDone


@dataclass
class Session:
    """A cell in the making: the place where network, method, tasks, training and seed meet.

    Tasks that cannot be learned raise `UserError` at once; a number that is none, `FloatingPointError` where it is
    seen. Seeds name the purpose and the task, never the method: every method meets the same batches and dropout masks.
    No random state outlives a task.
    """

    network: Network
    method: Method
    tasks: Sequence[Task]
    training: Training
    seed: int
    scenario: str = "task-il"  # one of SCENARIOS; a network with one head is in one of SHARED_HEAD
    captured: bool = True  # on a GPU: whether steps are replayed as a CUDA graph, where the method allows it
    stage: Stage | None = None  # the one being learned

    def __post_init__(self) -> None:
        demand_learnable(self.tasks, self.network.head(0).out_features)
        demand_float64(type(self.method), self.device.type)

    def events(self, first: int = 0) -> Iterator[Event]:
        """Learn the tasks in order, those before `first` counting as learned already; yield what happens.

        Whoever drives it may stop, save, or drive other sessions in between: torch's global random state inside is the
        session's own, and outside it is what it was.
        """
        inside = self._learn(first)
        own = Randomness(self.device)
        while True:
            outside = Randomness(self.device)
            own.restore()
            try:
                event = next(inside)
            except StopIteration:
                return
            finally:
                own = Randomness(self.device)
                outside.restore()
            yield event

    def run(self, first: int = 0) -> tuple[list[Row], list[TaskRecord]]:
        """Learn to the end. Return the accuracy matrix, whose rows before `first` are empty, and a record a task."""
        done = [event for event in self.events(first) if isinstance(event, TaskDone)]
        return square([event.row for event in done], len(self.tasks)), [event.record for event in done]

    @property
    def device(self) -> torch.device:
        """Return the device that the network's weights are on, and to which the data of a task are copied."""
        return next(self.network.parameters()).device

    def _learn(self, first: int) -> Iterator[Event]:
        method, seed = self.method, self.seed
        self._look_at_layers(self.tasks[first:])
        scenario = Scenario(self.scenario, self.training.logits, self.network)
        tests = StreamTests(self.tasks, scenario, self.training, seed, self.device)
        untrained = tests.before_training(method) if first == 0 else None
        reads_old = method.old_data(method.config) == "all"
        seen: list[TrainingData] = []
        for tasks in [list(self.tasks)] if method.stage == "all" else [[task] for task in self.tasks]:
            t = tasks[-1].index
            split = scenario.for_training(tasks[-1].train, t, self.device)
            data = TrainingData(*split, self.training.batch_size, self.network)
            if t >= first:
                if reads_old:
                    data.grant(list(seen))
                self.stage = Stage(tasks, data, method, scenario, self.training, seed, self.captured)
                earlier = [task for task in self.tasks if task.index < tasks[0].index]
                drift = Drift(self.network, earlier) if self.network.pretrained and earlier else None
                record = yield from self.stage.learn(untrained)
                untrained = None
                measured = tests.after(method, t)
                record = replace(record, seen=measured.seen, within=measured.within, confusion=measured.confusion)
                yield TaskDone(measured.row, replace(record, drift=drift.measured() if drift else None))
            if reads_old:
                seen.append(data)

    def _look_at_layers(self, tasks: Sequence[Task]) -> None:
        """Raise `UserError` where the method takes layers for matrices that are something else, or for gradients of a
        sample what is none. For another method nothing is passed, and the network refuses later what can be seen
        without."""
        concerned = takes_layers_for_matrices(type(self.method))
        apart = takes_samples_apart(type(self.method), self.method.config)
        for task in tasks[:1]:
            x = torch.from_numpy(task.train.x[: SAMPLES if concerned or apart else 0]).to(self.device)
            x = self.network.test_images(x)
            self.network.fault = fault_of(self.network, x if concerned else x[:0], task.index)
            if concerned:
                self.network.layers()
            if apart:
                demand_own_gradients(self.network, x, task.index)


def square(rows: Sequence[Row], num_tasks: int) -> list[Row]:
    """Return the accuracy matrix: joint training measures once, after everything, and the rows before are empty."""
    empty: Row = [None] * num_tasks
    return [empty] * (num_tasks - len(rows)) + list(rows)
