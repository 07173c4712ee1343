"""The only training loop: tasks, epochs, batches; from a stream and a method to the accuracy matrix."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core import Split, Task, Training, slices
from bench.nn.network import Network
from bench.nn.normalization import settle_statistics, steady_statistics
from bench.nn.precision import logits
from bench.seeding import derive
from bench.training.evaluation import Data, measure, validation_loss
from bench.training.method import Method, TrainingData

Notify = Callable[[int, int], None]  # (task, epoch), 0-based, before the epoch
Rows = list[list[float | None]]  # of the accuracy matrix
Records = list[dict[str, Any]]  # one per task, see `learn`
Keep = Callable[[Rows, Records], None]  # after every task


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
    tests = [on_device(task.test, device, task.index) for task in tasks]
    ahead = len(network.heads) == 1  # a shared head has an answer for tasks still to come
    untrained = measure(network, tests, training, seed, -1) if ahead and first == 0 else None
    reads_old = method.reads_old_data(method.config)
    seen: list[TrainingData] = []
    R, records = list(so_far[0]), list(so_far[1])
    for stage in [list(tasks)] if method.joint else [[task] for task in tasks]:
        t = stage[-1].index
        data = TrainingData(*on_device(stage[-1].train, device, t), training.batch_size)
        if t >= first:
            if reads_old:
                data.grant(list(seen))
            records.append(learn(network, method, stage, data, training, seed, notify))
            if untrained is not None and len(records) == 1:
                records[0]["untrained"] = untrained  # what forward transfer is measured against
            row = measure(network, [test for test in tests if test[0] <= t or ahead], training, seed, t)
            R.append(row + [None] * (len(tasks) - len(row)))
            keep(R, records)
        if reads_old:
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
    train = [on_device(task.train, device, task.index) for task in stage]
    validation = [on_device(task.validation, device, task.index) for task in stage]
    network.open([task.index for task in stage])
    network.statistics_frozen = stage[0].index > 0
    foreign = {n: p.detach().clone() for n, p in network.heads.named_parameters() if not p.requires_grad}
    method.generator.manual_seed(derive(seed, "method", t))
    clock = [now(device)]
    method.begin_task(t, data)
    clock.append(now(device))
    trainable = sum(p.numel() for p in method.parameters())
    best, epochs = train_task(network, method, train, validation, training, derive(seed, "train", t), notify)
    clock.append(now(device))
    method.end_task(t, data)
    clock.append(now(device))
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
        return validation_loss(network, validation, training, math.nan, orders), 0
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
        held_out = validation_loss(network, validation, training, loss, orders)
        if not (math.isfinite(loss) and math.isfinite(held_out)):
            raise FloatingPointError(f"the loss became {loss} in task {t}, epoch {epoch}: lower lr, or the penalty")
        improved, stop = schedule.update(held_out)
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
    losses, sizes = [], []
    for t, x, y in random_batches(train, training.batch_size, generator):
        losses.append(training_step(network, method, optimizer, t, x, y, training.rho if sharp else 0.0))
        sizes.append(len(y))
    together = torch.stack(losses)
    return float(together @ torch.tensor(sizes).to(together)) / sum(sizes)  # the device is waited for here alone


def training_step(
    network: Network, method: Method, optimizer: torch.optim.Optimizer, t: int, x: Tensor, y: Tensor, rho: float
) -> Tensor:
    """One update from one batch, by SAM where rho > 0. Returns the loss, detached.

    A small network's step is as long as its Python: what a method leaves as it is in the base class is passed over.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def backward() -> Tensor:
        for parameter in parameters:
            parameter.grad = None
        loss = F.cross_entropy(logits(network, x, t), y)
        penalty = method.penalty()
        if isinstance(penalty, Tensor) or penalty != 0:
            loss = loss + penalty
        loss.backward()
        return loss.detach()

    loss = backward()
    if rho:
        learning = [p for p in parameters if p.grad is not None]
        with perturbed(learning, rho), steady_statistics(network):
            backward()
    if type(method).edit_grads is not Method.edit_grads:
        method.edit_grads()
        _demand_layout(parameters)
    _step(optimizer)
    return loss


def _step(optimizer: torch.optim.Optimizer) -> None:
    """An optimiser's step, without the wrapper that tells torch's profiler of it and takes as long as the step itself
    of a small network."""
    step = type(optimizer).step
    getattr(step, "__wrapped__", step)(optimizer)


def _demand_layout(parameters: Sequence[Tensor]) -> None:
    """Bring gradients into the memory layout of their parameters: a method may have put a transpose there, and fused
    optimisers do not look at strides."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
            parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)


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
    """A fresh optimiser: no moment outlives its task. Fused, it reads every parameter once a step."""
    plain = all(p.is_contiguous() for p in parameters)  # fused, strides are not looked at
    settings: dict[str, Any] = {"lr": training.lr, "weight_decay": training.weight_decay, "fused": plain}
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, **settings)
    optimizer = torch.optim.SGD(parameters, momentum=training.momentum, **settings)
    if training.momentum:  # made beforehand: fused, it cannot do so for a head whose first batch comes later
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def random_batches(parts: Sequence[Data], size: int, generator: torch.Generator) -> Iterator[Data]:
    """All samples once, each batch from one task; with several tasks, their batches in random order."""
    orders = [torch.randperm(len(y), generator=generator).to(y.device) for _, _, y in parts]
    if len(parts) == 1:
        yield from _batches(parts[0], orders[0], size)
        return
    batches = [(part, order[s]) for part, order in enumerate(orders) for s in slices(len(order), size)]
    for i in torch.randperm(len(batches), generator=generator).tolist():
        part, chosen = batches[i]
        t, x, y = parts[part]
        yield t, x[chosen], y[chosen]


GATHERED = 2**20  # numbers, about, that are copied into their order at a time


def _batches(data: Data, order: Tensor, size: int) -> Iterator[Data]:
    """The batches of one task in a given order. Small ones are gathered many at a time."""
    t, x, y = data
    parts = slices(len(order), size)
    several = max(1, GATHERED // (size * x[0].numel()))
    for i in range(0, len(parts), several):
        group = parts[i : i + several]
        start = group[0].start
        chosen = order[start : group[-1].stop]
        xs, ys = x[chosen], y[chosen]
        for part in group:
            own = slice(part.start - start, part.stop - start)
            yield t, xs[own], ys[own]


def _demand_unchanged(network: Network, foreign: dict[str, Tensor], t: int) -> None:
    for name, before in foreign.items():
        gap = float((network.heads.get_parameter(name).detach() - before).abs().max())
        if gap != 0:
            raise ForeignHeadError(f"task {t} changed another task's head: heads.{name} by up to {gap:.3g}")


def now(device: torch.device) -> float:
    """Seconds, once all work handed to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def on_device(split: Split, device: torch.device, t: int) -> Data:
    """A split of task t, as the loop takes it."""
    return t, torch.from_numpy(split.x).to(device), torch.from_numpy(split.y).to(device)


def _square(R: Rows, num_tasks: int) -> Rows:
    """Joint training measures once, after everything: the rows before are empty."""
    empty: list[float | None] = [None] * num_tasks
    return [empty] * (num_tasks - len(R)) + R
