"""What runs in a worker of Ray: a cell, told about while it runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from bench.core import Cell, Result, UserError
from bench.execution.events import CellFinished, Trouble
from bench.execution.runner import Resources, cell_events, demand_device, environment

BEAT = 10.0  # seconds between two signs of life


class Alive(NamedTuple):
    """A sign of life of the process in which a cell runs."""

    name: tuple[str, int]  # the key of the cell, and which attempt at it
    node: str
    process: int  # its number there


class NodeFault(NamedTuple):
    """A cell could not begin, for its node lacks something that another may have."""

    result: Result
    node: str


def remote_cell(cell: Cell, attempt: int, resources: Resources, queue: Any) -> Result | NodeFault:
    """Run a cell, and put what happens into the queue. Whatever a method prints goes nowhere: it would fill the disk
    with Ray's logs."""
    import ray

    sign = Alive((cell.key, attempt), ray.get_runtime_context().get_node_id(), os.getpid())
    with ExitStack() as stack:
        nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        stack.enter_context(redirect_stdout(nowhere))
        stack.enter_context(redirect_stderr(nowhere))
        stack.enter_context(beating(lambda: queue.put_nowait.remote(sign)))
        try:
            if resources.address:  # this node may not have what the driver's has
                demand_here(cell, resources)
        except UserError as error:
            facts = environment(resources, cell.precision)
            return NodeFault(Result(cell, error=str(error), environment=facts), sign.node)
        for event in cell_events(cell, resources):
            if isinstance(event, CellFinished):
                return event.result
            sent = queue.put_nowait.remote(event)
            if isinstance(event, Trouble):  # it is there before the result, or the queue is gone
                ray.wait([sent], timeout=5)
    raise AssertionError("a cell ends with its result")


@contextmanager
def beating(beat: Callable[[], object]) -> Iterator[None]:
    """Call `beat` at once and then again and again, from a thread beside what is done inside."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(BEAT):
            beat()

    beat()
    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def demand_here(cell: Cell, resources: Resources) -> None:
    """Raise `UserError` where this node lacks the GPU, the method's file, the benchmark's, or the data, which are made
    ready."""
    demand_device(resources.device)
    resources.catalog.method(cell.method)
    resources.catalog.benchmark(cell.benchmark, cell.options).prepare(resources.data)
