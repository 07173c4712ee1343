"""Loss and accuracy on a task, by logits as the network gives them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core import Training, slices
from bench.nn.activations import evaluating
from bench.nn.network import Network
from bench.seeding import derive
from bench.training.data import Data
from bench.training.demands.finite import likely_cause
from bench.training.method import Method


@torch.no_grad()
def evaluate(method: Method, t: int, x: Tensor, y: Tensor, batch_size: int = 64) -> tuple[float, float]:
    """Return the mean loss and the accuracy, in [0, 1], on task t, in evaluation mode, in the given order.

    x are images as they are stored, (n, c, h, w) or (n, *input_shape), and y (n,), int64, which logit is right of each.
    A method whose network has a single head is told the task, rather than 0, where the scenario makes it known.
    """
    told = t if method.network.task_known or not method.network.shares_its_head else 0
    loss = torch.zeros((), device=x.device)
    correct = torch.zeros((), dtype=torch.long, device=x.device)
    with evaluating(method.network):
        for part in slices(len(y), batch_size):
            images = method.network.test_images(x[part])
            logits = method.logits(images, told)
            loss += F.cross_entropy(logits, y[part], reduction="sum")
            correct += (logits.argmax(1) == y[part]).sum()
    return float(loss) / len(y), float(correct) / len(y)


def measure(method: Method, tests: Sequence[Data], training: Training, seed: int, after: int) -> list[float | None]:
    """Return accuracies, each the mean of `n_eval` passes in random orders.

    Where normalization uses the test batch, orders are part of the protocol: "fixed", the same after every task, or
    "shuffled", others each time. Raises `FloatingPointError` where logits hold NaN.
    """
    row: list[float | None] = []
    for test in tests:
        task, _, _ = test
        words = ("evaluation", task) if training.eval_order == "fixed" else ("evaluation", task, after)
        orders = torch.Generator().manual_seed(derive(seed, *words))
        passes = [evaluate(method, *_shuffled(test, orders), training.eval_batch_size) for _ in range(training.n_eval)]
        odd = any(math.isnan(loss) for loss, _ in passes)  # as it is where one logit of one image is
        demand_numbers(method.network, odd, [test], after)
        row.append(sum(accuracy for _, accuracy in passes) / len(passes))
    return row


def demand_numbers(network: Network, odd: bool, tests: Sequence[Data], after: int) -> None:
    """Raise `FloatingPointError` where logits on test images were `odd`: no numbers."""
    if not odd:
        return
    when = f"after task {after}" if after >= 0 else "before any training"
    where = f"on the test images of task {tests[0][0]}, {when}"
    raise FloatingPointError(f"logits hold NaN {where}: {likely_cause(network, tests)}")


def validation_loss(
    method: Method, parts: Sequence[Data], training: Training, otherwise: float, orders: torch.Generator | None
) -> float:
    """Return the mean loss over the samples of all parts and what the method adds to it; `otherwise` where a benchmark
    has no validation data."""
    parts = [part for part in parts if len(part[2])]
    if not parts:
        return otherwise
    if orders is not None:
        parts = [_shuffled(part, orders) for part in parts]
    losses = []
    for t, x, y in parts:
        loss, _ = evaluate(method, t, x, y, training.eval_batch_size)
        losses.append(loss * len(y))
    samples = sum(len(y) for _, _, y in parts)
    return sum(losses) / samples + method.validation_penalty()


def _shuffled(data: Data, orders: torch.Generator) -> Data:
    """Return the data of a task in another order."""
    t, x, y = data
    order = torch.randperm(len(y), generator=orders).to(y.device)
    return t, x[order], y[order]
