"""What `profile` times: an epoch of a method inside the suite, or of the loop anybody would write."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bench.config import make_settings
from bench.core import Benchmark, DataError, Split, Task, Training
from bench.data.generated import random_task
from bench.execution.runner import Resources, keep_memory, measure_peak_bytes, set_arithmetic
from bench.execution.session import session_of
from bench.nn import architectures
from bench.nn.layers import Dropout, LocalResponseNorm
from bench.tools.profiling.setting import Setting, cell_of
from bench.training.batches import on_device
from bench.training.data import Batch
from bench.training.loop import Session, TaskDone
from bench.training.stage import TaskRecord
from bench.training.step import tensors_of, training_step
from bench.training.surroundings import now

BARE = "bare loop"
Stage = tuple[Callable[[], object], dict[str, Any]]  # trains an epoch, and what else is known of it


def serve(pipe: Connection, name: str, setting: Setting) -> None:
    """Live in a process: at "next" make the next stage ready and tell what is known of it, at "run" train an epoch and
    tell its seconds, at "peak" tell the bytes of memory used at most, and end at "stop"."""
    device = torch.device(setting.device)
    set_arithmetic(Resources(threads=setting.threads))
    if name != BARE:
        keep_memory()  # as `run_cell` does
    stages = bare_loop(setting) if name == BARE else harness(name, setting)
    epoch: Callable[[], object]
    for order in iter(pipe.recv, "stop"):
        if order == "next":
            epoch, facts = next(stages)
            pipe.send(facts)
        elif order == "peak":
            pipe.send(measure_peak_bytes(setting.device))
        else:
            start = now(device)
            epoch()
            pipe.send(now(device) - start)


def harness(name: str, setting: Setting) -> Iterator[Stage]:
    """Yield a method in the suite: an epoch of its first task, and of a later one."""
    cell = cell_of(name, setting)
    _, tasks, _ = tasks_to_measure(setting)
    for t in (0, setting.later - 1):
        session = session_of(cell, setting.catalog, device=setting.device, tasks=tasks[: t + 1])
        session.captured = not setting.eager
        records = learn_before(session, t) if t else []
        next(session.events(first=t))  # all is ready for an epoch of the task
        stage, training = session.stage, session.training
        assert stage is not None and stage.optimizer is not None
        _, x, y = stage.train[0]
        images = session.network.test_images(x[: training.batch_size])
        batch = Batch(images, y[: training.batch_size], t)
        step = partial(training_step, session.method, stage.optimizer, batch, stage.rho)
        session.network.train()
        weights, learning = list(session.network.parameters()), tensors_of(session.method.parameters())
        facts = arithmetic(step, weights, learning, _moments(training))
        facts |= {"steps": -(-len(y) // training.batch_size), "records": records}
        yield stage.train_epoch, facts


def _moments(training: Training) -> int:
    """Return how many numbers an optimizer reads and writes for each parameter, beside weight and gradient."""
    if training.optimizer == "adam":
        return 4
    return 2 if training.momentum else 0


def learn_before(session: Session, t: int) -> list[TaskRecord]:
    """Learn the tasks, task t the last of them; then go back to where task t began. Return the records of all."""
    records = []
    for event in session.events():
        if not isinstance(event, TaskDone):
            continue
        records.append(event.record)
        if event.record.task == t - 1:
            kept = copy.deepcopy(session.network.state_dict()), session.method.state()
    session.network.load_state_dict(kept[0])
    session.method.load_state(kept[1])
    return records


def bare_loop(setting: Setting) -> Iterator[Stage]:
    """Yield one epoch of the loop anybody would write, of either task: torch's own layers, in its usual memory
    format."""
    training = make_settings(Training, setting.catalog.recipe(setting.benchmark)["training"], setting.benchmark)
    benchmark, tasks, source = tasks_to_measure(setting)
    for t in (0, setting.later - 1):
        network = architectures.build(benchmark)
        model = nn.Sequential(plain(network.backbone), network.head(t)).to(setting.device)
        optimizer = torch.optim.SGD(model.parameters(), lr=training.lr)
        _, x, y = on_device(tasks[t].train, torch.device(setting.device), t)

        images = network.test_images

        def step(
            batch: Tensor,
            x: Tensor = x,
            y: Tensor = y,
            images: Callable[[Tensor], Tensor] = images,
            model: nn.Module = model,
            opt: Any = optimizer,
        ) -> None:
            opt.zero_grad()
            F.cross_entropy(model(images(x[batch])), y[batch]).backward()
            opt.step()

        def epoch(n: int = len(y), step: Callable[[Tensor], None] = step, model: nn.Module = model) -> None:
            model.train()
            for batch in torch.randperm(n, device=setting.device).split(training.batch_size):
                step(batch)

        learning = list(model.parameters())
        facts = arithmetic(partial(step, torch.arange(min(training.batch_size, len(y)))), learning, learning, 0)
        yield epoch, facts | {"steps": -(-len(y) // training.batch_size), "images": source}


def plain(module: nn.Module) -> nn.Module:
    """Return the module with torch's own layers in the place of ours."""
    for path, layer in list(module.named_modules()):
        if isinstance(layer, Dropout):
            module.set_submodule(path, nn.Dropout(layer.p))
        if isinstance(layer, LocalResponseNorm):
            module.set_submodule(path, nn.LocalResponseNorm(layer.size, layer.alpha, layer.beta, layer.k))
    return module


def arithmetic(step: Callable[[], object], read: list[Any], trained: list[Any], moments: int) -> dict[str, Any]:
    """Return what a training step cannot do without: its floating-point operations, as counted by PyTorch in matrix
    products and convolutions; and bytes to and from memory: weights read forward and backward, gradients written and
    read, parameters and `moments` numbers for each read or written by the optimizer."""
    with FlopCounterMode(display=False) as counter:
        step()
    used = sum(parameter.numel() for parameter in read)
    own = sum(parameter.numel() for parameter in trained)
    numbers = 2 * used + (4 + moments) * own
    return {"flops": counter.get_total_flops(), "bytes": 4 * numbers}


def tasks_to_measure(setting: Setting) -> tuple[Benchmark, list[Task], str]:
    """Return the tasks up to the later one, cut to so many training images, and what they are made of."""
    benchmark = setting.catalog.benchmark(setting.benchmark, scenario=setting.scenario)
    try:
        tasks, source = benchmark.stream(1, setting.data)[: setting.later], "real images"
    except DataError:
        tasks, source = [random_task(benchmark, t, 4750, 250, 64) for t in range(setting.later)], "random images"
    n = setting.samples
    cut = [Task(t.index, t.classes, Split(t.train.x[:n], t.train.y[:n]), t.validation, t.test) for t in tasks]
    return benchmark, cut, source
