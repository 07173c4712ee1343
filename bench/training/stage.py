"""A task, or jointly all of them, being learned: the method's hooks, epochs, batches, the schedule."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.core import Task, Training, UserError
from bench.nn.normalization import settle_statistics
from bench.seeding import derive
from bench.training.batches import random_batches
from bench.training.data import TrainingData
from bench.training.demands import finite
from bench.training.evaluation import Moved, Row, validation_loss
from bench.training.method import Method
from bench.training.scenario import Scenario
from bench.training.schedule import schedule_of
from bench.training.step import CapturedUpdate, Update, is_capturable, make_optimizer, tensors_of, training_step
from bench.training.surroundings import Stopwatch, now


class ForeignHeadError(RuntimeError):
    """A method changed the head of a task that is not being learned."""


class EpochBegun(NamedTuple):
    """An epoch of a task is about to begin, both counted from 0."""

    task: int
    epoch: int


class EpochDone(NamedTuple):
    """An epoch of a task has ended, both counted from 0."""

    task: int
    epoch: int
    loss: float  # the mean over its batches, penalty included
    validation_loss: float
    lr: float  # with which it was trained


@dataclass(frozen=True)
class TaskRecord:
    """What learning one task (or, jointly, all of them) took; stored with the result."""

    task: int
    epochs: int
    validation_loss: float | None  # the best
    trainable: int  # parameters
    state_bytes: int  # what the method carries to the next task beside the network, old data included
    stored: int  # samples of the stream in the method's memory
    samples_read: int  # by the method's hooks, of the task's own training data
    old_samples_read: int  # and of earlier tasks'
    seconds: dict[str, float]  # of "begin", "train" and "end"
    report: dict[str, Any]  # the method's own
    untrained: Row | None = None  # accuracies before any training, where a shared head has an answer
    seen: float | None = None  # in class-il: the accuracy over the test images of all tasks learned so far
    within: list[float] | None = None  # in class-il: the row of R, had the task of every image been told
    confusion: list[list[float]] | None = None  # in class-il, after the last: see `metrics.confusion_of_tasks`
    drift: Moved | None = None  # of a pre-trained network, after later tasks: see `evaluation.drift`

    def plain(self) -> dict[str, Any]:
        """Return the record as it is stored."""
        optional = [own.name for own in fields(self) if own.default is None]
        absent = [name for name in optional if getattr(self, name) is None]
        return {name: value for name, value in asdict(self).items() if name not in absent}


class Stage:
    """One task being learned, or jointly all of them."""

    def __init__(
        self,
        tasks: Sequence[Task],
        data: TrainingData,  # of the last of them
        method: Method,
        scenario: Scenario,
        training: Training,
        seed: int,
        captured: bool,
    ) -> None:
        self.network, self.method, self.training = scenario.network, method, training
        self.device, self.seed = next(scenario.network.parameters()).device, seed
        self.data, self.scenario = data, scenario
        self.task = data.task
        self.first = tasks[0].index
        train = [scenario.for_training(task.train, task.index, self.device) for task in tasks]
        self.train = scenario.in_batches(train)
        self.validation = [scenario.for_training(task.validation, task.index, self.device) for task in tasks]
        self.seconds: dict[str, float] = {}
        self.epochs, self.trainable, self.best = 0, 0, math.nan
        self.optimizer: torch.optim.Optimizer | None = None
        self.captured = captured
        self.update: Update | None = None

    def learn(self, untrained: Row | None) -> Generator[EpochBegun | EpochDone, None, TaskRecord]:
        """Call the hooks and train. Yield before and after every epoch, and return the record."""
        old = self.data.earlier if self.method.old_data(self.method.config) == "all" else []
        read_before = sum(part.samples_read for part in old)
        foreign = self._open()
        self.method.generator.manual_seed(derive(self.seed, "method", self.task))
        self._hook("begin_task")
        start = now(self.device)
        yield from self._optimize(derive(self.seed, "train", self.task))
        self.seconds["train"] = now(self.device) - start
        finite.demand_weights(self.network, f"after the training of task {self.task}")
        self.scenario.end(self.task)
        self._hook("end_task")
        finite.demand_memory(self.method, f"after task {self.task}")
        self._demand_unchanged(foreign)
        self._demand_untouched([*old, self.data])
        kept = [*old, self.data] if self.method.old_data(self.method.config) == "all" else []
        if not kept:
            self.data.close()
        state = self.method.state().values()
        return TaskRecord(
            task=self.task,
            epochs=self.epochs,
            validation_loss=self.best if math.isfinite(self.best) else None,
            trainable=self.trainable,
            state_bytes=sum(tensor.nbytes for tensor in state) + sum(part.nbytes for part in kept),
            stored=self.method.stored_samples(),
            samples_read=self.data.samples_read,
            old_samples_read=sum(part.samples_read for part in old) - read_before,
            seconds=self.seconds,
            report=self._report(),
            untrained=untrained,
        )

    def _open(self) -> dict[str, Tensor]:
        """Let learn what may learn. Return the heads that may not, as they are."""
        self.scenario.begin(self.first, self.task)
        self.network.open(self.scenario.learning_heads(self.first, self.task, self.method.trains_old_heads))
        self.network.statistics_frozen = self.first > 0
        named = self.network.heads.named_parameters()
        return {name: p.detach().clone() for name, p in named if not p.requires_grad}

    def _optimize(self, seed: int) -> Iterator[EpochBegun | EpochDone]:
        """Train until the schedule or the budget ends it; then go back to the best weights."""
        training, network = self.training, self.network
        torch.manual_seed(seed)  # dropout draws from the global generator
        self.generator = torch.Generator().manual_seed(seed)
        self.view_generator = torch.Generator().manual_seed(derive(seed, "views"))  # as many numbers for every method
        shuffled = training.eval_order == "shuffled"
        orders = torch.Generator().manual_seed(derive(seed, "validation")) if shuffled else None
        parameters = self.method.parameters()
        learning = tensors_of(parameters)
        self.trainable = sum(tensor.numel() for tensor in learning)
        if not learning:  # a method may find nothing left to learn with
            self.best = validation_loss(self.method, self.validation, training, math.inf, orders)
            if math.isnan(self.best):
                self._demand_finite(0.0, self.best, 0)
            return
        self.optimizer = make_optimizer(parameters, training)
        if self.captured and is_capturable(self.method, self.optimizer):
            self.update = CapturedUpdate(self.device)
        schedule = schedule_of(training)
        learnt = [*learning, *network.buffers()]
        snapshot = [tensor.detach().clone() for tensor in learnt]
        for epoch in range(training.epochs):
            yield EpochBegun(self.task, epoch)
            loss = self.train_epoch(epoch)
            self.epochs = epoch + 1
            if not network.statistics_frozen:
                settle_statistics(network, self.method.forward, self.train, training.batch_size)
            held_out = validation_loss(self.method, self.validation, training, loss, orders)
            self._demand_finite(loss, held_out, epoch)
            yield EpochDone(self.task, epoch, loss, held_out, schedule.lr)
            improved, stop = schedule.update(held_out)
            if improved:
                torch._foreach_copy_(snapshot, [tensor.detach() for tensor in learnt])
            if stop:
                break
            for group in self.optimizer.param_groups:
                group["lr"] = schedule.lr * group["lr_scale"]
        if training.restore_best:
            with torch.no_grad():
                torch._foreach_copy_(learnt, snapshot)
        self.best = schedule.best

    def train_epoch(self, epoch: int = 0) -> float:
        """Pass once over the training data in random batches. Return the mean loss, penalty included."""
        assert self.optimizer is not None
        self.network.train()
        losses, sizes = [], []
        for batch in random_batches(self.train, self.training.batch_size, self.generator, epoch):
            batch = batch._replace(x=self.network.training_images(batch.x, self.view_generator))
            losses.append(training_step(self.method, self.optimizer, batch, self.rho, self.update))
            sizes.append(len(batch.y))
        together = torch.stack(losses)
        return float(together @ torch.tensor(sizes).to(together)) / sum(sizes)  # the device is waited for here alone

    @property
    def rho(self) -> float:
        """Return the radius of SAM's ascent; 0 where the task is trained without."""
        sharp = self.training.sam == "all" or (self.training.sam == "first" and self.first == 0)
        return self.training.rho if sharp else 0.0

    def _demand_finite(self, loss: float, held_out: float, epoch: int) -> None:
        where = f"in task {self.task}, epoch {epoch}"
        if not math.isfinite(loss):
            cause = finite.odd_images(self.train) or finite.REMEDY
            raise FloatingPointError(f"the loss became {loss} {where}: {cause}")
        if not math.isfinite(held_out):
            cause = finite.likely_cause(self.network, self.validation)
            raise FloatingPointError(f"the validation loss became {held_out} {where}: {cause}")

    def _demand_unchanged(self, foreign: dict[str, Tensor]) -> None:
        for name, before in foreign.items():
            gap = float((self.network.heads.get_parameter(name).detach() - before).abs().max())
            if gap != 0:
                raise ForeignHeadError(f"task {self.task} changed another task's head: heads.{name} by up to {gap:.3g}")

    def _demand_untouched(self, read: Sequence[TrainingData]) -> None:
        """Raise `UserError` where the method wrote to images or labels: whoever reads them next would meet others."""
        tensors = [tensor for _, x, y in (*self.train, *self.validation) for tensor in (x, y)]
        if any(data.touched for data in read) or any(tensor._version for tensor in tensors):
            remedy = "work on a copy, such as x = x - mean where it says x -= mean"
            raise UserError(f"in task {self.task} the method writes to images or labels in their place: {remedy}")

    def _hook(self, name: str) -> None:
        """Call `begin_task` or `end_task`, and time it. What it leaves has to be finite."""
        where, short = f"{name} of task {self.task}", name.partition("_")[0]
        with finite.placed(self.network, self.train, where), Stopwatch(self.seconds, short, self.device):
            getattr(self.method, name)(self.task, self.data)
        finite.demand_weights(self.network, f"after {where}")

    def _report(self) -> dict[str, Any]:
        report = self.method.report()
        finite.demand_report(report, f"of task {self.task}")
        return report
