"""Seconds of methods that never ran here, from a few training steps on random images, in a process of its own.

In a process of its own, because what is timed is an author's code: it may hang, crash or change what is global, and
none of that may reach the grid that runs next.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.config import make_settings
from bench.core import SHARED_HEAD, Benchmark, Cell, Task, Training
from bench.data.generated import random_task
from bench.data.source import one_line
from bench.execution.runner import Resources, keep_memory, set_arithmetic

if TYPE_CHECKING:
    from bench.training.loop import Session

FORWARD = 1 / 3  # of a training step: the passes forward and backward take about one and two parts
SHORT = 0.2  # seconds of steps that are enough to tell their mean
LONG = 1.0  # seconds of a first step after which there is no second


class Order(NamedTuple):
    """What to time: "pace" of a cell, or "speed" of its benchmark's network. The answer comes under `key`."""

    key: str
    what: str
    cell: Cell


Answer = dict[str, Any]  # numbers by name; or "error", in words


def calibrate(orders: Sequence[Order], resources: Resources, limit: float) -> dict[str, Answer]:
    """Return the answers, by key, that come within `limit` seconds. What kills the process has an error as its answer,
    and another process goes on."""
    end = time.monotonic() + limit
    answers: dict[str, Answer] = {}
    while (left := [order for order in orders if order.key not in answers]) and time.monotonic() < end:
        answers |= _ask(left, resources, end)
    return answers


def _ask(orders: Sequence[Order], resources: Resources, end: float) -> dict[str, Answer]:
    """Return the answers of one process, as long as it lives and time has not come to its end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, list(orders), resources), daemon=True)
    answers: dict[str, Answer] = {}
    process.start()
    theirs.close()  # so that its death is heard
    try:
        for order in orders:
            if not ours.poll(max(0.0, end - time.monotonic())):
                break
            answers[order.key] = ours.recv()
    except EOFError:
        answers[order.key] = {"error": "the process that timed it died"}
    finally:
        process.kill()
        process.join()
        ours.close()
    return answers


def _serve(pipe: Connection, orders: Sequence[Order], resources: Resources) -> None:
    """Answer the orders, in the process, one after the other. What an author's code prints goes nowhere."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it will end it
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    set_arithmetic(resources)
    keep_memory()
    for _, what, cell in orders:
        try:
            answer: Answer = (pace if what == "pace" else speed)(cell, resources)
        except (Exception, SystemExit) as error:  # whatever an author's code does, the grid will show it in full
            answer = {"error": f"{type(error).__name__}: {one_line(error)}"}
        pipe.send(answer)


def pace(cell: Cell, resources: Resources) -> Answer:
    """Return the seconds of one epoch of every task, "epoch", and of all that is no epoch, "rest": hooks, evaluation.

    They are those of a cell with as many images as its benchmark has. A step counts at least what one of fine-tuning
    takes: on a few random images a method may find less to learn with than on real ones.
    """
    benchmark = resources.catalog.benchmark(cell.benchmark, cell.options, cell.scenario)
    training = make_settings(Training, cell.training, cell.method)
    joint = bool(cell.traits.get("joint"))
    images = sizes(benchmark, cell.seed, resources.data)
    plain = step_seconds(Bare.of(cell), resources, resources.device, bf16=False)
    little = learn_little(cell, resources, 1 if plain > SHORT / 10 else 16)
    step = max(plain, little.train / little.steps)
    tasks = benchmark.num_tasks
    steps = math.ceil(images.train / training.batch_size)
    validation = math.ceil(images.validation / training.eval_batch_size)
    test = math.ceil(images.test / training.eval_batch_size)
    if joint:
        evaluated = float(tasks)
        hooks = little.hooks
    else:
        evaluated = tasks * (tasks + 1) / 2 if benchmark.scenario != "domain-il" else tasks**2
        hooks = in_hooks(little, step / training.batch_size, images.train, tasks)
    epoch = tasks * (steps + FORWARD * validation) * step
    batches = evaluated * training.n_eval * test
    return {"epoch": epoch, "rest": FORWARD * batches * step + hooks}


class Sizes(NamedTuple):
    """Images of a task, in the mean over tasks."""

    train: float
    validation: float
    test: float


def sizes(benchmark: Benchmark, seed: int, data: Path) -> Sizes:
    """Return how many images a task has: as the sources say, validation included in training; else as its stream has.

    Every task of a shared head has all images of a source.
    """
    sources = benchmark.sources()
    if sources:
        share = len(sources) if benchmark.scenario in SHARED_HEAD else benchmark.num_tasks
        train = sum(source.num_train for source in sources)
        test = sum(source.num_test for source in sources)
        return Sizes(train / share, 0, test / share)
    tasks = benchmark.stream(seed, data)
    train = sum(len(task.train) for task in tasks)
    validation = sum(len(task.validation) for task in tasks)
    test = sum(len(task.test) for task in tasks)
    return Sizes(train / len(tasks), validation / len(tasks), test / len(tasks))


class Little(NamedTuple):
    """What learning a task of few images took."""

    steps: int
    train: float  # seconds
    hooks: float  # seconds of `begin_task` and `end_task`
    samples: int  # of the task
    read: int  # samples of the task that the hooks read
    old: int  # samples of earlier tasks
    old_read: int  # of these, how many the hooks read


def learn_little(cell: Cell, resources: Resources, batches: int) -> Little:
    """Learn an epoch of two tasks of so many batches of random images. Return what the second took, or jointly both.

    A rate of almost nothing keeps the loss finite, whatever the labels, and takes as long as any other.
    """
    cell = replace(cell, training={**cell.training, "epochs": 1, "lr": 1e-9})
    benchmark = resources.catalog.benchmark(cell.benchmark, cell.options, cell.scenario)
    size = batches * cell.training["batch_size"]
    tasks = [random_task(benchmark, t, size, test=2) for t in range(min(2, benchmark.num_tasks))]
    record = _session(cell, resources, tasks).run()[1][-1]
    stages = 1 if cell.traits.get("joint") else len(tasks)
    hooks = record.seconds["begin"] + record.seconds["end"]
    old = size * (stages - 1)
    steps = batches * len(tasks) // stages
    return Little(steps, record.seconds["train"], hooks, size, record.samples_read, old, record.old_samples_read)


def _session(cell: Cell, resources: Resources, tasks: list[Task]) -> Session:
    """Return the session of a cell, on tasks that are not its own; its stream may not be there."""
    from bench.execution.session import session_of

    return session_of(cell, resources.catalog, resources.data, resources.device, tasks)


def in_hooks(little: Little, each: float, samples: float, tasks: int) -> float:
    """Return the seconds of hooks over `tasks` tasks of so many samples.

    They are a fixed part, and `each` second for a sample that hooks read: about what a training step takes for it. The
    shares of a task's own samples and of earlier ones that they read are those of the little task.
    """
    fixed = max(0.0, little.hooks - each * (little.read + little.old_read))
    own_share = little.read / little.samples
    old_share = little.old_read / little.old if little.old else 0.0
    own = own_share * samples * tasks
    old = old_share * samples * tasks * (tasks - 1) / 2
    return tasks * fixed + each * (own + old)


def speed(cell: Cell, resources: Resources) -> Answer:
    """Return how long a training step of the bare network takes in bfloat16, "bf16", and on a GPU, "gpu".

    Both as a share of the float32 step here. None for what does not run, and for a GPU that is not there or is used.
    """
    import torch

    net = Bare.of(cell)
    here = step_seconds(net, resources, resources.device, bf16=False)
    others = {"bf16": (resources.device, True)}
    if resources.device == "cpu" and torch.cuda.is_available():
        others["gpu"] = ("cuda", False)
    answer: Answer = {"bf16": None, "gpu": None}
    for name, (device, bf16) in others.items():
        try:
            answer[name] = step_seconds(net, resources, device, bf16) / here
        except RuntimeError:  # of PyTorch: a layer without such arithmetic, or no memory
            continue
    return answer


class Bare(NamedTuple):
    """What the step of fine-tuning depends on, of a cell."""

    benchmark: str
    options: str  # JSON
    batch_size: int
    bn_mode: str

    @classmethod
    def of(cls, cell: Cell) -> Bare:
        options = json.dumps(cell.options, sort_keys=True)
        return cls(cell.benchmark, options, cell.training["batch_size"], cell.training["bn_mode"])


@cache
def step_seconds(net: Bare, resources: Resources, device: str, bf16: bool) -> float:
    """Return the mean seconds of a step of fine-tuning on random images, after a first one that makes things ready."""
    import torch

    from bench.nn import architectures
    from bench.training.loop import Session
    from bench.training.method import Method
    from bench.training.surroundings import now

    benchmark = resources.catalog.benchmark(net.benchmark, json.loads(net.options))
    training, place = Training(lr=1e-9, batch_size=net.batch_size), torch.device(device)
    network = architectures.build(benchmark, net.bn_mode).to(place)
    network.precision = "bf16" if bf16 else "fp32"
    session = Session(network, Method(network), [random_task(benchmark, 0, net.batch_size, test=2)], training, seed=0)
    next(session.events())  # all is ready for an epoch, which is a step
    stage = session.stage
    assert stage is not None

    def run() -> float:
        start = now(place)
        stage.train_epoch()
        return now(place) - start

    first, times = run(), list[float]()
    while first < LONG and (not times or sum(times) < SHORT):
        times.append(run())
    return sum(times) / len(times) if times else first
