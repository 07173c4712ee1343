"""The one assembly: from a cell to the session that learns it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from bench.catalog.catalog import Catalog
from bench.config import make_settings
from bench.core import Cell, Task, Training
from bench.nn import architectures
from bench.seeding import derive
from bench.training.demands.contract import demand_network, demand_splits, demand_stream
from bench.training.loop import Session

View = Callable[[list[Task]], list[Task]]  # what of a stream is learned


def session_of(
    cell: Cell,
    catalog: Catalog,
    data: Path = Path(),
    device: str = "cpu",
    tasks: list[Task] | View | None = None,
) -> Session:
    """Return what a cell asks for, ready to learn its stream, what a view leaves of it, or other tasks.

    Weights depend on benchmark and seed alone, or come from the benchmark's file: they are the same for every method. A
    benchmark is held to its contract, and tasks to what it promises, before anything is built. Raises `UserError`.
    """
    benchmark = catalog.benchmark(cell.benchmark, cell.options, cell.scenario)
    demand_network(benchmark)
    method_class = catalog.method(cell.method)
    weights = benchmark.weights()
    file = weights.find(data) if weights else None
    if not isinstance(tasks, list):
        stream = benchmark.stream(cell.seed, data)
        demand_stream(benchmark, stream)
        tasks = tasks(stream) if tasks else stream
    demand_splits(benchmark, tasks)  # what a view leaves out, such as test data, is not looked at
    seed = derive(cell.benchmark, cell.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        network = architectures.build(benchmark, cell.training["bn_mode"], file).to(device)
        network.precision = cell.precision
        method = method_class(network, make_settings(method_class.Config, cell.config, cell.method), torch.Generator())
    training = make_settings(Training, cell.training, cell.method)
    return Session(network, method, tasks, training, seed, cell.scenario)
