"""What a stream has to be before anything is learned from it: as its benchmark promises, and such that it can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from bench.core import Benchmark, Split, Task, UserError
from bench.training.scenario import CLASSES

PARTS = ("train", "validation", "test")


def demand_network(benchmark: Benchmark) -> None:
    """Raise `UserError` unless a benchmark says how its network is made, with a head that can be wrong; a backbone's
    name is looked up there."""
    if not benchmark.backbone and type(benchmark).own_backbone is Benchmark.own_backbone:
        raise UserError(f"{benchmark.name} names no backbone, and has no own_backbone() either")
    if benchmark.num_classes < 2:
        reason = "a head of one output is right whatever it has learned"
        raise UserError(f"{benchmark.name} has num_classes = {benchmark.num_classes}, but {reason}")


def demand_stream(benchmark: Benchmark, stream: object) -> None:
    """Raise `UserError` unless a stream has as many tasks as its benchmark promises, in order. Reads no image."""
    for complaint in _disorder(benchmark, stream):
        raise UserError(f"{benchmark.name}: {complaint}")


def demand_splits(benchmark: Benchmark, tasks: Sequence[Task]) -> None:
    """Raise `UserError` unless the images and labels of tasks are what their benchmark promises, and can be learned."""
    for complaint in chain(_misshapen(benchmark, tasks), _unlearnable(tasks, benchmark.num_classes)):
        raise UserError(f"{benchmark.name}: {complaint}")


def demand_learnable(tasks: Sequence[Task], num_classes: int) -> None:
    """Raise `UserError` unless tasks follow one another, have images to learn from and to be tested on, and labels that
    are outputs of a head: a loss passes over label -100 in silence, and there is no mean over nothing."""
    for complaint in _unlearnable(tasks, num_classes):
        raise UserError(complaint)


def _disorder(benchmark: Benchmark, stream: object) -> Iterator[str]:
    if not isinstance(stream, list | tuple) or not all(isinstance(task, Task) for task in stream):
        yield "its stream() gives no list of tasks"
        return
    if len(stream) != benchmark.num_tasks:
        yield f"its stream has {len(stream)} tasks, but num_tasks = {benchmark.num_tasks}"
    yield from _out_of_order(stream)
    if benchmark.scenario == CLASSES:
        yield from _shared_classes(stream)


def _shared_classes(stream: Sequence[Task]) -> Iterator[str]:
    """Yield which class two tasks have: over all classes it would have two right answers."""
    owners: dict[str, int] = {}
    for task in stream:
        for name in task.classes:
            if name in owners:
                yield f"in {CLASSES} a class is of one task, but '{name}' is of tasks {owners[name]} and {task.index}"
            owners[name] = task.index


def _misshapen(benchmark: Benchmark, tasks: Sequence[Task]) -> Iterator[str]:
    for task in tasks:
        for part in PARTS:
            yield from _malformed(getattr(task, part), _named(task, part), *stored_form(benchmark))


def stored_form(benchmark: Benchmark) -> tuple[tuple[int, ...], type[np.generic]]:
    """Return the shape and the type of an image in a benchmark's stream."""
    if benchmark.views:
        return benchmark.views.stored, np.uint8
    return benchmark.input_shape, np.float32


def _malformed(split: Split, name: str, shape: tuple[int, ...], kind_of_x: type[np.generic]) -> Iterator[str]:
    for what, array, kind in (("inputs", split.x, kind_of_x), ("labels", split.y, np.int64)):
        if not isinstance(array, np.ndarray) or array.dtype != kind:
            found = getattr(array, "dtype", type(array).__name__)
            yield f"{name} has {what} of type {found}, not numpy's {kind.__name__}"
            return
    wanted = (split.y.size, *shape)
    if split.x.shape != wanted or split.y.ndim != 1:
        yield f"{name} has inputs {split.x.shape} and labels {split.y.shape}; inputs would be {wanted}"
    elif split.x.size and not _finite(split.x):
        odd = ~np.isfinite(split.x.reshape(len(split.x), -1)).all(axis=1)
        yield f"{name} has {int(odd.sum())} images that are not finite, number {int(odd.argmax())} first: mend the data"


def _finite(x: np.ndarray) -> bool:
    """Return whether all numbers are finite, without an array of as many answers."""
    return bool(np.isfinite(x.min()) and np.isfinite(x.max()))  # either is NaN where one number is


def _out_of_order(tasks: Sequence[Task]) -> Iterator[str]:
    indices = [task.index for task in tasks]
    if indices != list(range(len(tasks))):
        yield f"tasks are in the order {indices}, not from 0 to {len(tasks) - 1}"


def _unlearnable(tasks: Sequence[Task], num_classes: int) -> Iterator[str]:
    yield from _out_of_order(tasks)
    for task in tasks:
        for part in PARTS:
            split, name = getattr(task, part), _named(task, part)
            if len(split):
                yield from _foreign_labels(split.y, name, num_classes)
            elif part != "validation":  # a benchmark may go without
                yield f"{name} is empty"


def _foreign_labels(y: np.ndarray, name: str, num_classes: int) -> Iterator[str]:
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= num_classes:
        yield f"{name} has labels from {low} to {high}; within a task they count from 0 to {num_classes - 1}"


def _named(task: Task, part: str) -> str:
    return f"the {part} split of task {task.index}"
