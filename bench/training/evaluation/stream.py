"""The tests of a whole stream, after each of its tasks: a row of the accuracy matrix, and what class-il asks beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from bench.core import Task, Training, slices
from bench.metrics import confusion_of_tasks
from bench.nn.activations import evaluating
from bench.seeding import derive
from bench.training.batches import gathered
from bench.training.evaluation.accuracy import demand_numbers, measure
from bench.training.method import Method
from bench.training.scenario import Scenario

Row = list[float | None]  # of the accuracy matrix, (T,); None where not measured


class Measured(NamedTuple):
    """What was measured after a task."""

    row: Row
    seen: float | None = None  # in class-il: the accuracy over the test images of all tasks learned so far
    within: list[float] | None = None  # in class-il: the row, had the task of every image been told
    confusion: list[list[float]] | None = None  # in class-il, after the last task: see `metrics.confusion_of_tasks`


class StreamTests:
    """The test data of a stream, and how a network is tested on it."""

    def __init__(
        self, tasks: Sequence[Task], scenario: Scenario, training: Training, seed: int, device: torch.device
    ) -> None:
        self.scenario, self.training, self.seed = scenario, training, seed
        self.count = len(tasks)
        self.parts = [scenario.for_tests(task.test, task.index, device) for task in tasks]
        if scenario.over_classes:
            self.all = gathered(self.parts)
            self.parts = []

    def before_training(self, method: Method) -> Row | None:
        """Return the accuracies of a network that has learned nothing, where it has answers for every task."""
        if not self.scenario.answers_ahead:
            return None
        return measure(method, self.parts, self.training, self.seed, -1)

    def after(self, method: Method, t: int) -> Measured:
        """Return the accuracies after task t, on every task whose answers count.

        Raises `FloatingPointError` where logits hold NaN.
        """
        if self.scenario.over_classes:
            with self.scenario.testing(t):
                return self._over_classes(method, t)
        tests = [part for part in self.parts if self.scenario.answers_ahead or part[0] <= t]
        row = measure(method, tests, self.training, self.seed, t)
        return Measured(row + [None] * (self.count - len(row)))

    def _over_classes(self, method: Method, t: int) -> Measured:
        """Test on the images of all tasks up to t, in one random order: the company of a batch tells no task either."""
        tasks, _, y = self.all
        assert isinstance(tasks, torch.Tensor)
        count = int((tasks <= t).sum())  # those of the first tasks come first
        words = ("evaluation",) if self.training.eval_order == "fixed" else ("evaluation", t)
        orders = torch.Generator().manual_seed(derive(self.seed, *words))
        owners = tasks[:count]
        passes = [
            self._guesses(method, owners, torch.randperm(count, generator=orders), t)
            for _ in range(self.training.n_eval)
        ]
        guessed, told = torch.stack(passes).unbind(1)  # (n_eval, count) each
        right, within = ((found == y[:count]).double().mean(0) for found in (guessed, told))  # (count,) each
        row: Row = [float(right[owners == j].mean()) for j in range(t + 1)]
        row_within = [float(within[owners == j].mean()) for j in range(t + 1)]
        confusion = None
        if t == self.count - 1:
            taken = guessed // self.scenario.num_classes
            confusion = confusion_of_tasks(owners.expand_as(taken).cpu().numpy(), taken.cpu().numpy(), self.count)
        return Measured(row + [None] * (self.count - len(row)), float(right.mean()), row_within, confusion)

    @torch.no_grad()
    def _guesses(self, method: Method, owners: torch.Tensor, order: torch.Tensor, t: int) -> torch.Tensor:
        """Return the class of the largest logit, and that of the largest among the classes of an image's own task (n,),
        for each of the first images, (2, n), passed in an order (n,)."""
        _, x, y = self.all
        order, size = order.to(y.device), self.scenario.num_classes
        guesses = torch.empty(2, len(order), dtype=order.dtype, device=order.device)
        odd = torch.zeros((), dtype=torch.bool, device=y.device)
        with evaluating(method.network):
            for part in slices(len(order), self.training.eval_batch_size):
                chosen = order[part]
                logits = method.logits(method.network.test_images(x[chosen]), 0)  # no task is told
                odd |= logits.isnan().any()
                own = owners[chosen]
                by_task = logits.unflatten(1, (-1, size))  # (images, tasks, classes of a task)
                guesses[0, chosen] = logits.argmax(1)
                guesses[1, chosen] = own * size + by_task[torch.arange(len(own), device=own.device), own].argmax(1)
        demand_numbers(method.network, bool(odd), [(t, x[: len(order)], y[: len(order)])], t)
        return guesses
