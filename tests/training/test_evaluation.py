"""In which orders test images are shown, which is part of the protocol."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.core import Split, Task, Training
from bench.nn.network import Network
from bench.training import evaluation
from bench.training.loop import Session
from bench.training.method import Method
from bench.training.scenario import Scenario

N = 40


class Notes(Method):
    """A method that notes images in the order in which they are shown; the image i is the number i."""

    def logits(self, x: Tensor, task: int) -> Tensor:
        before = getattr(self, "shown", [])
        self.shown: list[int] = before + [int(i) for i in x.flatten()]
        return super().logits(x, task)


def orders(how: str, after: int = 0, seed: int = 0, passes: int = 2) -> list[list[int]]:
    """Return the order of every pass over two tasks' test images, as `measure` shows them after a task."""
    method = Notes(Network(nn.Linear(1, 2, bias=False), 2, 2, 2))
    x = torch.arange(N).float()[:, None]
    y = torch.zeros(N, dtype=torch.long)
    tests = [(t, x, y) for t in range(2)]
    training = Training(eval_order=how, n_eval=passes, eval_batch_size=16)
    assert len(evaluation.measure(method, tests, training, seed, after)) == 2
    starts = range(0, len(method.shown), N)
    return [method.shown[i : i + N] for i in starts]


def different(found: list[list[int]]) -> int:
    return len({tuple(order) for order in found})


@pytest.mark.parametrize("how", ["fixed", "shuffled"])
def test_every_pass_over_a_task_shows_each_image_once_in_an_order_of_its_own(how: str) -> None:
    found = orders(how, passes=3)
    assert [sorted(order) for order in found] == [list(range(N))] * 6
    assert different(found) == 6
    assert list(range(N)) not in found
    assert orders(how, passes=3) == found
    assert different([*found, *orders(how, seed=1, passes=3)]) == 12


def test_shuffled_orders_are_others_after_every_task_and_fixed_ones_the_same() -> None:
    shuffled = [orders("shuffled", after) for after in range(3)]
    assert different([order for found in shuffled for order in found]) == 3 * 4
    assert orders("shuffled", 2) == shuffled[2], "a cell that is resumed meets them again"
    assert orders("fixed", 0) == orders("fixed", 1) == orders("fixed", 2)


def numbered(*counts: int) -> list[Task]:
    """Return tasks of so many images, which are the numbers from 0 on through all tasks."""
    parts = np.split(np.arange(sum(counts), dtype=np.float32)[:, None], np.cumsum(counts)[:-1])
    splits = [Split(x, np.zeros(len(x), dtype=np.int64)) for x in parts]
    return [Task(t, (), split, split, split) for t, split in enumerate(splits)]


def orders_over_classes(how: str, after: int) -> list[list[int]]:
    """Return the order of every pass over all test images of tasks up to one, N in number whichever it is."""
    method = Notes(Network(nn.Linear(1, 2, bias=False), 2, 2, 2))
    training = Training(eval_order=how, n_eval=2, eval_batch_size=16)
    tasks = numbered(N, 1) if after == 0 else numbered(N // 2, N // 2)
    scenario = Scenario("class-il", "current", method.network)
    evaluation.StreamTests(tasks, scenario, training, 0, torch.device("cpu")).after(method, after)
    return [method.shown[:N], method.shown[N:]]


def test_over_all_classes_too() -> None:
    shuffled, fixed = ([orders_over_classes(how, after) for after in range(2)] for how in ("shuffled", "fixed"))
    assert all(sorted(order) == list(range(N)) for found in shuffled + fixed for order in found)
    assert different([order for found in shuffled for order in found]) == 2 * 2
    assert fixed[0] == fixed[1] and different(fixed[0]) == 2


@pytest.mark.parametrize("how", ["fixed", "shuffled"])
def test_validation_images_are_shown_in_orders_of_their_own_where_orders_are_shuffled(how: str) -> None:
    """Normalization by the batch makes the loss by which epochs are compared one of the order, too."""

    class Watched(Notes):
        def logits(self, x: Tensor, task: int) -> Tensor:
            return super(Notes, self).logits(x, task) if self.network.training else super().logits(x, task)

    method = Watched(Network(nn.Linear(1, 2, bias=False), 2, 2, 1))
    training = Training(eval_order=how, epochs=3, lr=1e-6, n_eval=1)
    Session(method.network, method, numbered(N), training, 0).run()
    epochs = [method.shown[i * N : (i + 1) * N] for i in range(3)]
    assert all(sorted(order) == list(range(N)) for order in epochs)
    if how == "fixed":
        assert epochs == [list(range(N))] * 3
    else:
        assert different([*epochs, list(range(N))]) == 4
