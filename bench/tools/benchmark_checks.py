"""The contract of a benchmark, as checks that anybody's must pass. Each takes a name and raises AssertionError.

`data` is the folder of data sets. A docstring says what its check protects from.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch

from bench.catalog import recipes
from bench.catalog.catalog import Catalog
from bench.core import PROTOCOLS, Benchmark, Split, Task
from bench.nn import architectures
from bench.training.demands.contract import demand_network, demand_splits, demand_stream, stored_form
from bench.training.loop import Session
from bench.training.method import Method
from bench.training.scenario import CLASSES

BUILT_IN = Catalog()
HERE = Path()
PARTS = ("train", "validation", "test")
FEW = 64  # images of a task that are enough to see training run


def stream(name: str, catalog: Catalog, data: Path, seed: int = 0) -> list[Task]:
    """Return the tasks, from a benchmark made anew."""
    benchmark = catalog.benchmark(name)
    benchmark.prepare(data)
    return benchmark.stream(seed, data)


def splits(tasks: Sequence[Task]) -> Iterator[tuple[str, Split]]:
    """Yield all splits, each with its place in words."""
    for task in tasks:
        yield from ((f"{part} of task {task.index}", split) for part, split in _parts(task))


def _parts(task: Task) -> Iterator[tuple[str, Split]]:
    yield from ((part, getattr(task, part)) for part in PARTS)


def tasks_are_in_order(name: str, catalog: Catalog = BUILT_IN, data: Path = HERE) -> None:
    """The matrix has a row per task: their number and their order are as promised."""
    benchmark = catalog.benchmark(name)
    indices = [task.index for task in stream(name, catalog, data)]
    assert indices == list(range(benchmark.num_tasks)), f"tasks {indices}, but num_tasks = {benchmark.num_tasks}"
    assert isinstance(benchmark.data_state(data), str), "data_state() is no text"


def arrays_fit(name: str, catalog: Catalog = BUILT_IN, data: Path = HERE) -> None:
    """Inputs are finite, of the promised shape and float32, or uint8 where the network's are made of them, and labels
    int64: nothing is cast, or broken, on the way."""
    shape, kind = stored_form(catalog.benchmark(name))
    for where, split in splits(stream(name, catalog, data)):
        assert split.x.dtype == kind, f"{where}: inputs are {split.x.dtype}, not {kind.__name__}"
        assert split.y.dtype == np.int64, f"{where}: labels are {split.y.dtype}, not int64"
        wanted = (len(split.y), *shape)
        assert split.x.shape == wanted, f"{where}: inputs have shape {split.x.shape}, not {wanted}"
        assert np.isfinite(split.x).all(), f"{where}: {int((~np.isfinite(split.x)).sum())} inputs are not finite"


def labels_are_local(name: str, catalog: Catalog = BUILT_IN, data: Path = HERE) -> None:
    """A head has an output per class of its task: labels count from 0, and every class is learned and tested. Tasks may
    have unequal numbers of classes, and the largest as many as a head has outputs; a task of one is never wrong."""
    outputs = catalog.benchmark(name).num_classes
    tasks = stream(name, catalog, data)
    for task in tasks:
        count = len(task.classes)
        assert count > 1, f"task {task.index} has {count} classes: every answer is right, whatever was learned"
        for part, split in _parts(task):
            labels = sorted(set(split.y.tolist()))
            if labels or part != "validation":  # a benchmark may go without validation
                where = f"{part} of task {task.index}"
                assert labels == list(range(count)), f"{where}: labels are {labels}, not 0 to {count - 1}"
    most = max(len(task.classes) for task in tasks)
    assert most == outputs, f"tasks have up to {most} classes, but num_classes = {outputs}"


def stream_depends_on_seed_alone(name: str, catalog: Catalog = BUILT_IN, data: Path = HERE) -> None:
    """All methods meet the same stream, today and tomorrow; another seed gives another one, unless the benchmark
    declares that there is but one."""
    streams = []
    for seed, salt in ((3, 1), (3, 2), (4, 1)):
        random.seed(salt)
        np.random.seed(salt)  # noqa: NPY002
        torch.manual_seed(salt)
        streams.append(list(splits(stream(name, catalog, data, seed))))
    first, again, other = streams
    for (where, split), (_, twin) in zip(first, again, strict=True):
        assert _equal(split, twin), f"{where} differs between two calls with the same seed"
    same = all(_equal(a, b) for (_, a), (_, b) in zip(first, other, strict=True))
    if catalog.benchmark(name).same_for_every_seed:
        assert same, "it declares same_for_every_seed, but another seed gives another stream"
    else:
        assert not same, "the seed has no effect; where that is meant, declare same_for_every_seed = True"


def _equal(a: Split, b: Split) -> bool:
    return np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)


def splits_are_disjoint(name: str, catalog: Catalog = BUILT_IN, data: Path = HERE) -> None:
    """No image of a test is among those that were learned from, or that chose the weights."""
    for task in stream(name, catalog, data):
        images = {part: _bytes_of_images(split) for part, split in _parts(task)}
        if any(len(set(found)) < 0.99 * len(found) for found in images.values()):
            continue  # where images repeat within a split, a shared one proves nothing
        for a, b in (("train", "test"), ("validation", "test"), ("train", "validation")):
            shared = len(set(images[a]) & set(images[b]))
            assert shared <= 0.01 * len(images[b]), f"task {task.index}: {shared} images of {b} are also in {a}"


def _bytes_of_images(split: Split) -> list[bytes]:
    return [image.tobytes() for image in split.x]


def recipe_is_valid(name: str, catalog: Catalog = BUILT_IN, data: Path = HERE) -> None:
    """Every setting of the recipe exists and has its type; a misspelled one would leave a default in its place."""
    recipe = catalog.recipe(name)  # refuses a table that means nothing
    methods = [*catalog.available("Method"), *catalog.variants()]
    for protocol, scenario in product(PROTOCOLS, catalog.benchmark(name).scenarios):
        recipes.resolve_options(catalog.benchmark(name, scenario=scenario), recipe, {}, protocol)
        for method in methods:
            recipes.resolve(method, catalog.method(method), recipe, {}, protocol, scenario)


def classes_are_of_one_task(name: str, catalog: Catalog = BUILT_IN, data: Path = HERE) -> None:
    """Over all classes an image has one right answer: in class-il no class is of two tasks."""
    if CLASSES in catalog.benchmark(name).scenarios:
        demand_stream(catalog.benchmark(name, scenario=CLASSES), stream(name, catalog, data))


def fine_tuning_runs(name: str, catalog: Catalog = BUILT_IN, data: Path = HERE) -> None:
    """The network takes the inputs and gives an answer per class: a few images of two tasks train for an epoch, in
    every scenario."""
    few = []
    for task in stream(name, catalog, data)[:2]:
        train, validation, test = (Split(split.x[:FEW], split.y[:FEW]) for _, split in _parts(task))
        few.append(Task(task.index, task.classes, train, validation, test))
    for scenario in catalog.benchmark(name).scenarios:
        _train(catalog.benchmark(name, scenario=scenario), few, catalog)


def _train(benchmark: Benchmark, few: Sequence[Task], catalog: Catalog) -> None:
    """Train a few images for an epoch by fine-tuning."""
    demand_network(benchmark)
    demand_splits(benchmark, few)
    recipe = catalog.recipe(benchmark.name)
    training, _ = recipes.resolve(benchmark.name, Method, recipe, {"epochs": 1}, scenario=benchmark.scenario)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = architectures.build(benchmark)
    R, _ = Session(network, Method(network), few, training, 0, benchmark.scenario).run()
    assert all(a is None or 0 <= a <= 1 for row in R for a in row), f"accuracies out of [0, 1]: {R}"


CHECKS: tuple[Callable[..., None], ...] = (
    tasks_are_in_order,
    arrays_fit,
    labels_are_local,
    stream_depends_on_seed_alone,
    splits_are_disjoint,
    classes_are_of_one_task,
    recipe_is_valid,
    fine_tuning_runs,
)
