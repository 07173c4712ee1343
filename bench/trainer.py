"""The only training loop: tasks, epochs, batches, evaluation; from a stream and a method to the accuracy matrix."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from bench.activations import evaluating
from bench.core import Split, Task, Training
from bench.method import Method, TrainingData, slices
from bench.network import Network, steady_statistics
from bench.seeding import derive

Notify = Callable[[int, int], None]  # (task, epoch), 0-based, before the epoch
Rows = list[list[float | None]]  # of the accuracy matrix
Records = list[dict[str, Any]]  # one per task, see `learn`
Keep = Callable[[Rows, Records], None]  # after every task
Data = tuple[int, Tensor, Tensor]  # task, inputs, labels


class ForeignHeadError(RuntimeError):
    """A method changed the head of a task that is not being learnt."""


class Plateau:
    """The lineage's schedule (LT): cut the rate when the validation loss has not improved for `patience` epochs, and
    stop when it would fall below `lr_min`. An equal loss is no improvement."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.lr, self.best, self.left = training.lr, math.inf, training.patience

    def update(self, loss: float) -> tuple[bool, bool]:
        """After an epoch: whether the loss is the best so far, and whether to stop."""
        if loss < self.best:
            self.best, self.left = loss, self.training.patience
            return True, False
        self.left -= 1
        if self.training.patience == 0 or self.left > 0:
            return False, False
        self.lr, self.left = self.lr / self.training.factor, self.training.patience
        return False, self.lr < self.training.lr_min


def run_stream(
    network: Network,
    method: Method,
    tasks: Sequence[Task],
    training: Training,
    seed: int,
    notify: Notify = lambda task, epoch: None,
    first: int = 0,
    so_far: tuple[Sequence[Any], Sequence[Any]] = ((), ()),
    keep: Keep = lambda rows, records: None,
) -> tuple[Rows, Records]:
    """Learn the tasks in order; those before `first` count as learnt already, with `so_far` as their outcome.

    Returns R[i][j], the accuracy on task j after task i, None where not measured, and a record per task (`learn`).
    Seeds name the purpose and the task, never the method: every method meets the same batches and dropout masks, and
    no random state outlives a task.
    """
    device = next(network.parameters()).device
    tests = [_to(task.test, device, task.index) for task in tasks]
    ahead = len(network.heads) == 1  # a shared head has an answer for tasks still to come
    untrained = _measure(network, tests, training, seed, -1) if ahead and first == 0 else None
    seen: list[TrainingData] = []
    R, records = list(so_far[0]), list(so_far[1])
    for stage in [list(tasks)] if method.joint else [[task] for task in tasks]:
        t = stage[-1].index
        data = TrainingData(*_to(stage[-1].train, device, t), training.batch_size)
        if t >= first:
            if method.reads_old_data(method.config):
                data.grant(list(seen))
            records.append(learn(network, method, stage, data, training, seed, notify))
            if untrained is not None and len(records) == 1:
                records[0]["untrained"] = untrained  # what forward transfer is measured against
            row = _measure(network, [test for test in tests if test[0] <= t or ahead], training, seed, t)
            R.append(row + [None] * (len(tasks) - len(row)))
            keep(R, records)
        seen.append(data)
    return _square(R, len(tasks)), records


def learn(
    network: Network,
    method: Method,
    stage: Sequence[Task],
    data: TrainingData,
    training: Training,
    seed: int,
    notify: Notify,
) -> dict[str, Any]:
    """One task (or, jointly, all of them) with its hooks. Returns the record: seconds, epochs, trainable parameters,
    bytes of state, samples of earlier tasks read, and the method's own report."""
    t, device = data.task, next(network.parameters()).device
    old = data.earlier if method.reads_old_data(method.config) else []
    read_before = sum(d.samples_read for d in old)
    train = [_to(task.train, device, task.index) for task in stage]
    validation = [_to(task.validation, device, task.index) for task in stage]
    network.open([task.index for task in stage])
    network.statistics_frozen = stage[0].index > 0
    foreign = {n: p.detach().clone() for n, p in network.heads.named_parameters() if not p.requires_grad}
    method.generator.manual_seed(derive(seed, "method", t))
    clock = [_now(device)]
    method.begin_task(t, data)
    clock.append(_now(device))
    trainable = sum(p.numel() for p in method.parameters())
    best, epochs = train_task(network, method, train, validation, training, derive(seed, "train", t), notify)
    clock.append(_now(device))
    method.end_task(t, data)
    clock.append(_now(device))
    _demand_unchanged(network, foreign, t)
    kept = [*old, data] if method.reads_old_data(method.config) else []
    if not kept:
        data.close()
    return {
        "task": t,
        "epochs": epochs,
        "validation_loss": best if math.isfinite(best) else None,
        "trainable": trainable,
        "state_bytes": sum(v.nbytes for v in method.state().values()) + sum(d.nbytes for d in kept),
        "old_samples_read": sum(d.samples_read for d in old) - read_before,
        "seconds": {name: b - a for name, (a, b) in zip(("begin", "train", "end"), pairwise(clock), strict=True)},
        "report": method.report(),
    }


def train_task(
    network: Network,
    method: Method,
    train: Sequence[Data],
    validation: Sequence[Data],
    training: Training,
    seed: int,
    notify: Notify,
) -> tuple[float, int]:
    """Optimise one task (or, jointly, several). Returns the best validation loss and the number of epochs."""
    t = train[-1][0]
    torch.manual_seed(seed)  # dropout draws from the global generator; run_cell keeps it from leaking out
    generator = torch.Generator().manual_seed(seed)
    parameters = method.parameters()
    orders = torch.Generator().manual_seed(derive(seed, "validation")) if training.eval_order == "shuffled" else None
    if not parameters:  # a method may find nothing left to learn with
        return _validation_loss(network, validation, training, math.nan, orders), 0
    optimizer = make_optimizer(parameters, training)
    sharp = training.sam == "all" or (training.sam == "first" and train[0][0] == 0)
    schedule = Plateau(training)
    learnt = [*parameters, *network.buffers()]
    snapshot = [p.detach().clone() for p in learnt]
    epoch = 0
    for epoch in range(training.epochs):
        notify(t, epoch)
        loss = train_epoch(network, method, optimizer, train, training, generator, sharp)
        if not network.statistics_frozen:
            settle_statistics(network, train, training.batch_size)
        validation_loss = _validation_loss(network, validation, training, loss, orders)
        if not (math.isfinite(loss) and math.isfinite(validation_loss)):
            raise FloatingPointError(f"the loss became {loss} in task {t}, epoch {epoch}: lower lr, or the penalty")
        improved, stop = schedule.update(validation_loss)
        if improved:
            torch._foreach_copy_(snapshot, [p.detach() for p in learnt])
        if stop:
            break
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr
    if training.restore_best:
        with torch.no_grad():
            torch._foreach_copy_(learnt, snapshot)
    return schedule.best, epoch + 1


def train_epoch(
    network: Network,
    method: Method,
    optimizer: torch.optim.Optimizer,
    train: Sequence[Data],
    training: Training,
    generator: torch.Generator,
    sharp: bool,
) -> float:
    """One pass over the training data in random batches. Returns the mean loss, penalty included."""
    network.train()
    total, n = torch.zeros((), device=train[0][1].device), 0
    for t, x, y in random_batches(train, training.batch_size, generator):
        total += training_step(network, method, optimizer, t, x, y, training.rho if sharp else 0.0) * len(y)
        n += len(y)
    return float(total) / n


@torch.no_grad()
def settle_statistics(network: Network, train: Sequence[Data], batch_size: int) -> None:
    """Where normalisation tracks statistics: those of the training data under the weights at hand, without dropout.

    What it tracks in training is measured behind dropout, whose outputs vary more than what evaluation will see (Li et
    al., CVPR 2019): on the AlexNet that costs a fifth of the accuracy. So they are averaged anew, over one pass.
    """
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not layers:
        return
    with evaluating(network):
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over batches
            layer.train()
        for t, x, y in train:
            for part in slices(len(y), batch_size):
                network(x[part], t)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def training_step(
    network: Network, method: Method, optimizer: torch.optim.Optimizer, t: int, x: Tensor, y: Tensor, rho: float
) -> Tensor:
    """One update from one batch, by SAM where rho > 0. Returns the loss, detached."""

    def backward() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x, t), y) + method.penalty()
        loss.backward()
        return loss.detach()

    loss = backward()
    if rho:
        learning = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        with perturbed(learning, rho), steady_statistics(network):
            backward()
    method.edit_grads()
    optimizer.step()
    return loss


class perturbed:  # noqa: N801  a context manager
    """SAM's ascent (Foret et al. 2021): inside, weights stand at w + rho g / ‖g‖, the norm over all of them."""

    def __init__(self, parameters: Sequence[Tensor], rho: float) -> None:
        grads = [p.grad for p in parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads]))
        self.parameters = list(parameters)
        self.saved = [p.detach().clone() for p in parameters]
        self.shift = [g * (rho / (norm + 1e-16)) for g in grads]

    @torch.no_grad()
    def __enter__(self) -> None:
        torch._foreach_add_(self.parameters, self.shift)

    @torch.no_grad()
    def __exit__(self, *error: object) -> None:
        torch._foreach_copy_(self.parameters, self.saved)  # w + e - e is not w in floating point


def make_optimizer(parameters: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
    """A fresh optimiser: no moment outlives its task."""
    decay = training.weight_decay
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=training.lr, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=training.lr, momentum=training.momentum, weight_decay=decay)


def random_batches(parts: Sequence[Data], size: int, generator: torch.Generator) -> Iterator[Data]:
    """All samples once, each batch from one task; with several tasks, their batches in random order."""
    batches = []
    for part, (_, _, y) in enumerate(parts):
        order = torch.randperm(len(y), generator=generator).to(y.device)
        batches += [(part, order[s]) for s in slices(len(y), size)]
    if len(parts) > 1:
        batches = [batches[i] for i in torch.randperm(len(batches), generator=generator)]
    for part, chosen in batches:
        t, x, y = parts[part]
        yield t, x[chosen], y[chosen]


@torch.no_grad()
def evaluate(network: Network, t: int, x: Tensor, y: Tensor, batch_size: int = 64) -> tuple[float, float]:
    """Mean loss and accuracy, in [0, 1], on task t, in evaluation mode, in the given order."""
    loss, correct = torch.zeros((), device=x.device), torch.zeros((), dtype=torch.long, device=x.device)
    with evaluating(network):
        for part in slices(len(y), batch_size):
            logits = network(x[part], t)
            loss += F.cross_entropy(logits, y[part], reduction="sum")
            correct += (logits.argmax(1) == y[part]).sum()
    return float(loss) / len(y), float(correct) / len(y)


def _measure(network: Network, tests: Sequence[Data], training: Training, seed: int, after: int) -> list[float | None]:
    """Accuracies, each the mean of `n_eval` passes in random orders, which where normalisation uses the test batch are
    part of the protocol: "fixed", the same after every task, or "shuffled", others each time."""
    row: list[float | None] = []
    for test in tests:
        words = ("evaluation", test[0]) if training.eval_order == "fixed" else ("evaluation", test[0], after)
        orders = torch.Generator().manual_seed(derive(seed, *words))
        passes = [evaluate(network, *_shuffled(test, orders), training.eval_batch_size) for _ in range(training.n_eval)]
        row.append(sum(accuracy for _, accuracy in passes) / len(passes))
    return row


def _validation_loss(
    network: Network, parts: Sequence[Data], training: Training, otherwise: float, orders: torch.Generator | None
) -> float:
    """Sample-weighted over tasks; the training loss where a benchmark has no validation data."""
    parts = [part for part in parts if len(part[2])]
    if not parts:
        return otherwise
    if orders is not None:
        parts = [_shuffled(part, orders) for part in parts]
    losses = [evaluate(network, *part, training.eval_batch_size)[0] * len(part[2]) for part in parts]
    return sum(losses) / sum(len(y) for _, _, y in parts)


def _demand_unchanged(network: Network, foreign: dict[str, Tensor], t: int) -> None:
    for name, before in foreign.items():
        gap = float((network.heads.get_parameter(name).detach() - before).abs().max())
        if gap != 0:
            raise ForeignHeadError(f"task {t} changed another task's head: heads.{name} by up to {gap:.3g}")


def _now(device: torch.device) -> float:
    """Seconds, once all work handed to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _to(split: Split, device: torch.device, t: int) -> Data:
    return t, torch.from_numpy(split.x).to(device), torch.from_numpy(split.y).to(device)


def _shuffled(data: Data, orders: torch.Generator) -> Data:
    t, x, y = data
    order = torch.randperm(len(y), generator=orders).to(y.device)
    return t, x[order], y[order]


def _square(R: Rows, num_tasks: int) -> Rows:
    """Joint training measures once, after everything: the rows before are empty."""
    empty: list[float | None] = [None] * num_tasks
    return [empty] * (num_tasks - len(R)) + R
