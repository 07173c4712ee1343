"""Driving what runs by its events, as the command line does; and a network that several tests drive."""

from collections.abc import Callable, Iterable

import torch

from bench.catalog.catalog import Catalog
from bench.core import Cell, Result
from bench.execution import executors, runner
from bench.execution.events import CellFinished, EpochStarted
from bench.nn import architectures
from bench.nn.network import Network


def watched(cell: Cell, resources: runner.Resources, look: Callable[[Cell, int, int], object]) -> Result:
    """The result of a cell; before every epoch `look` is told cell, task and epoch."""
    for event in runner.cell_events(cell, resources):
        if isinstance(event, EpochStarted):
            look(*event)
        if isinstance(event, CellFinished):
            return event.result
    raise AssertionError("no result")


def executed(executor: str, cells: Iterable[Cell], resources: runner.Resources) -> list[Result]:
    """The results that an executor yields, in the order in which cells end."""
    events = executors.EXECUTORS[executor](cells, resources)
    return [event.result for event in events if isinstance(event, CellFinished)]


def frozen_network() -> Network:
    """The AlexNet with normalization that keeps running statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return architectures.build(Catalog().benchmark("split_cifar100"), "running-frozen")
