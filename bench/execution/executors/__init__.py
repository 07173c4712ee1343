"""The executors: each runs cells and yields their results as they come.

An executor takes the cells (None among them means that none is free now), the resources and a function that is told of
every epoch. Another one is a file of its own and a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from bench.core import Cell, Result
from bench.execution.executors.ray import on_ray
from bench.execution.executors.serial import run_serially
from bench.execution.runner import Progress, Resources

Executor = Callable[[Iterable[Cell | None], Resources, Progress], Iterator[Result]]
EXECUTORS: Mapping[str, Executor] = {"serial": run_serially, "ray": on_ray}
