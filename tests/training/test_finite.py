"""A number that is none fails its cell, wherever it appears, and says task, place and likely cause on one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_loop import small, tasks_of, trained
from torch import Tensor, nn

from bench.core import Task
from bench.nn.activations import input_grams
from bench.nn.network import Network
from bench.nn.subspace import null_basis, spectrum
from bench.tools.trial import Run
from bench.training.demands import finite
from bench.training.method import Method

NAN, INFINITY = float("nan"), float("inf")


@contextmanager
def failing(*words: str) -> Iterator[None]:
    """Inside, a number that is none is told in one line with these words in it."""
    with pytest.raises(FloatingPointError) as caught:
        yield
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def spoil(network: Network, value: float = NAN) -> None:
    """Make one weight of the backbone something else."""
    with torch.no_grad():
        next(network.backbone.parameters()).view(-1)[0] = value


@pytest.mark.parametrize("value", [NAN, INFINITY])
@pytest.mark.parametrize(("hook", "task"), [("end_task", 1), ("begin_task", 0)])
def test_a_weight_after_a_hook(value: float, hook: str, task: int) -> None:
    class Spoils(Method):
        def end_task(self, task, data):
            if hook == "end_task" and task == 1:
                spoil(self.network, value)

        def begin_task(self, task, data):
            if hook == "begin_task":
                spoil(self.network, value)

    with failing(f"backbone.weight is not finite after {hook} of task {task}: lower lr"):
        trained(Spoils(small()), tasks_of(32, 8), epochs=1)


def test_a_weight_after_the_last_step_of_training_that_no_loss_shows() -> None:
    class Late(Method):
        def after_step(self, batch):
            if batch.progress == 1:
                spoil(self.network)

    with failing("backbone.weight is not finite after the training of task 0"):
        trained(Late(small()), tasks_of(32, 0), epochs=1, batch_size=16)
    with failing("the validation loss became nan in task 0, epoch 0: backbone.weight is not finite, lower lr"):
        trained(Late(small()), tasks_of(32, 8), epochs=1, batch_size=16)


def test_a_buffer_may_hold_infinity_as_masks_do_but_not_nan() -> None:
    class Notes(Method):
        value = INFINITY

        def end_task(self, task, data):
            self.network.backbone.register_buffer("mask", torch.tensor([self.value]))

    trained(Notes(small()), tasks_of(32, 8), epochs=1)
    Notes.value = NAN
    with failing("backbone.mask is not finite after end_task of task 0"):
        trained(Notes(small()), tasks_of(32, 8), epochs=1)


class Blinded(Method):
    """A method whose logits hold one NaN: in evaluation, of one task, from one evaluation of so many images on."""

    task, images = 0, 0

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        logits = super().forward(x, task)
        if not self.network.training and task == self.task and len(x) == self.images:
            logits[-1, 0] = NAN
        return logits


@pytest.mark.parametrize("task", [0, 1])
def test_one_logit_at_test(task: int) -> None:
    method = Blinded(small())
    method.task, method.images = task, 20
    cause = "images and weights are finite, so lower lr, or the penalty, or look at the method's forward"
    with failing(f"logits hold NaN on the test images of task {task}, after task {task}: {cause}"):
        trained(method, tasks_of(32, 8), epochs=1)


def test_one_logit_before_any_training() -> None:
    method = Blinded(Network(nn.Linear(4, 6, bias=False), 6, 2, 1))
    method.images = 20
    with failing("on the test images of task 0, before any training"):
        trained(method, tasks_of(32, 8), scenario="domain-il", epochs=1)


def test_one_logit_at_validation_is_not_told_as_a_loss_of_training() -> None:
    method = Blinded(small())
    method.task, method.images = 1, 8
    with failing("the validation loss became nan in task 1, epoch 0: images and weights are finite"):
        trained(method, tasks_of(32, 8), epochs=2)


def test_validation_where_nothing_is_left_to_learn_with() -> None:
    method = Blinded(small())
    method.images = 8
    method.parameters = list  # type: ignore[method-assign]
    with failing("the validation loss became nan in task 0"):
        trained(method, tasks_of(32, 8), epochs=2)


def test_a_penalty_on_validation_data() -> None:
    class Charges(Method):
        def validation_penalty(self):
            return NAN

    with failing("the validation loss became nan in task 0, epoch 0"):
        trained(Charges(small()), tasks_of(32, 8), epochs=2)


def test_logits_that_are_shut_out_by_minus_infinity_are_no_error() -> None:
    class Masks(Method):
        def forward(self, x, task):
            return super().forward(x, task) + torch.tensor([0.0, 0.0, -INFINITY])

    torch.manual_seed(0)
    R, _ = trained(Masks(Network(nn.Linear(4, 6, bias=False), 6, 3, 2)), tasks_of(32, 8), epochs=30, lr=0.1)
    assert R[1][1] is not None and R[1][1] > 0.5


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("value", [NAN, INFINITY])
def test_one_image_is_the_cause_that_is_told(part: str, value: float) -> None:
    tasks = tasks_of(32, 8)
    split = getattr(tasks[1], part)
    split.x[3, 1] = value
    with failing(f"1 of {len(split)} images of task 1 are not finite, mend the data"):
        trained(Method(small()), tasks, epochs=1)


def large_images(task: Task) -> Task:
    """Images whose numbers are finite and whose squares are not."""
    return replace(task, train=replace(task.train, x=task.train.x * np.float32(1e22)))


@pytest.mark.parametrize("name", ["inflora", "ness", "gpm", "olora", "trgp"])
def test_grams_that_overflow(name: str) -> None:
    """They were an error of LAPACK, that eigh did not converge; or, by the size of the matrix, an answer."""
    run = Run(name, epochs=1, lr=1e-30)
    run.tasks = [large_images(task) for task in run.tasks]
    with failing("_task of task ", "the inputs of backbone.conv1 are not finite"):
        run.learn()


def test_the_layer_of_a_gram_is_named() -> None:
    x = torch.zeros(4, 4)
    x[2, 1] = INFINITY
    with failing("the inputs of backbone are not finite"):
        input_grams(small(), [(x, torch.zeros(4))], 0)


@pytest.mark.parametrize("decompose", [spectrum, lambda gram: null_basis(gram, 0.1)])
def test_a_decomposition_of_what_is_no_number(decompose: Callable[[Tensor], object]) -> None:
    gram = torch.eye(3)
    decompose(gram)
    gram[0, 2] = gram[2, 0] = NAN
    with failing("a matrix (3, 3) to be decomposed is not finite"):
        decompose(gram)


def test_algebra_of_a_methods_own() -> None:
    """LAPACK's error of NaN gets its place; one of its own kind, such as of a singular matrix, keeps
    its name."""

    class Solves(Method):
        matrix = torch.full((2, 2), NAN)

        def end_task(self, task, data):
            (torch.linalg.svd if self.matrix.isnan().any() else torch.linalg.inv)(self.matrix)

    with failing("end_task of task 0: linalg.svd", "images and weights are finite"):
        trained(Solves(small()), tasks_of(32, 8), epochs=1)
    Solves.matrix = torch.zeros(2, 2)
    with pytest.raises(torch.linalg.LinAlgError, match=r"^end_task of task 0: .*singular"):
        trained(Solves(small()), tasks_of(32, 8), epochs=1)


def test_what_is_carried_to_the_next_task() -> None:
    class Carries(Method):
        def end_task(self, task, data):
            self.memory["bounds"] = {"top": torch.tensor([INFINITY]), "own": torch.tensor([1.0, NAN if task else 2.0])}

    with failing("the method's memory bounds/own holds NaN after task 1"):
        trained(Carries(small()), tasks_of(32, 8), epochs=1)


@pytest.mark.parametrize("value", [NAN, -INFINITY])
def test_what_is_reported(value: float) -> None:
    class Reports(Method):
        def report(self):
            return {"rank": {"fc1": 3}, "bound": {"fc1": [0.5, value]}}

    with failing(f"the method's report says bound.fc1.1 = {value} of task 0"):
        trained(Reports(small()), tasks_of(32, 8), epochs=1)


def test_nothing_is_asked_within_epochs_that_go_well(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    look = finite.odd_weight
    monkeypatch.setattr(finite, "odd_weight", lambda network: asked.append(network) or look(network))
    for name in ("odd_images", "likely_cause"):
        monkeypatch.setattr(finite, name, lambda *_: pytest.fail("nothing went wrong"))
    for epochs in (1, 4):
        asked.clear()
        trained(Method(small()), tasks_of(32, 8), epochs=epochs)
        assert len(asked) == 2 * 3, "before training, after it and after the task, of two tasks"


def test_the_cell_fails_and_no_accuracy_stands_in_the_table(
    command: Callable[..., Any], plugin: Callable[..., Path], tmp_path: Path
) -> None:
    """It was ACC 50.00 ± 0.00."""
    body = "def end_task(self, task, data):\n    if task == 2:\n        self.network.backbone.conv1.weight.data.fill_("
    path = plugin("late", f"{body}float('nan'))")
    words = ("--plugin", path, "--methods", "late", "--bench", "toy", "--seeds", "0", "--executor", "serial")
    answer = command(*words, "--epochs", 1, "--out", tmp_path / "out")
    assert answer.code == 1 and "| failed |" in answer.out
    said = (
        "failed: late on toy, seed 0: FloatingPointError: backbone.conv1.weight is not finite after end_task of task 2"
    )
    assert said in answer.err
