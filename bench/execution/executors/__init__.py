"""The executors: each runs the cells of a queue and yields what happens. Another one is a file of its own, and a line
here or an entry of `EXECUTORS` made from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping

from bench.core import Cell
from bench.execution.events import CellEvent
from bench.execution.executors.ray import on_ray
from bench.execution.executors.serial import run_serially
from bench.execution.runner import Resources

CellQueue = Iterable[Cell | None]  # None: no cell is free now, but one may come
Executor = Callable[[CellQueue, Resources], Iterator[CellEvent]]
EXECUTORS: MutableMapping[str, Executor] = {"serial": run_serially, "ray": on_ray}
