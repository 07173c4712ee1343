"""In which orders test images are shown, which is part of the protocol."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bench.core import Training
from bench.nn.network import Network
from bench.training import evaluation
from bench.training.method import Method

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
