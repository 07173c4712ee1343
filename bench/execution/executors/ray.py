"""Cells in parallel with Ray, each in a process of its own."""

from __future__ import annotations

import math
import os
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.core import Cell, Result, UserError
from bench.execution.events import CellEvent, CellFinished, CellStarted, Idle
from bench.execution.executors.ray_cluster import connected
from bench.execution.runner import Resources, cell_events, commit, environment, time_limit_reached

PATIENCE = 0.2  # seconds between two looks at what has come in
GRACE = 300.0  # seconds that a process may take to come up, before its time is counted all the same
LOST = {  # why a process was lost, by the name of Ray's error; any other is not tried again
    "WorkerCrashedError": "its process died",
    "OutOfMemoryError": "the machine ran out of memory and its process was killed; fewer --workers leave more to each",
    "NodeDiedError": "its node was lost",
    "LocalRayletDiedError": "Ray on its node was lost",
    "ObjectLostError": "its result was lost on the way",
    "OwnerDiedError": "its result was lost on the way",
    "TaskCancelledError": "it was cancelled",
}


@dataclass
class Attempt:
    """A cell in the hands of Ray."""

    cell: Cell
    count: int = 1
    handed: float = field(default_factory=time.monotonic)  # monotonic, for the clock of the wall may jump
    start: float = math.inf  # once its process is up
    overdue: bool = False


def on_ray(cells: Iterable[Cell | None], resources: Resources) -> Iterator[CellEvent]:
    """Run `workers` cells at a time, each in a process of its own with the CPUs and the GPU share it was granted.

    A process that is lost is started again `retries` times; an exception of the method is a result, and final.
    """
    with connected(resources) as (ray, shipped):
        pool = Pool(ray, shipped)
        handed = iter(cells)
        again: list[Attempt] = []
        more = True
        while more or again or pool.running:
            while (more or again) and pool.has_room():
                if again:
                    pool.start(again.pop(0))
                    continue
                cell = next(handed, END)
                more = cell is not END
                if not isinstance(cell, Cell):
                    yield Idle()
                    break  # no more, or none that is free now
                pool.start(Attempt(cell))
            ended = pool.collect()
            yield from pool.heard
            pool.heard.clear()
            for attempt, outcome in ended:
                if isinstance(outcome, Result):
                    yield CellFinished(outcome)
                elif outcome in LOST and attempt.count <= resources.retries and not attempt.overdue:
                    again.append(Attempt(attempt.cell, attempt.count + 1))
                else:
                    yield CellFinished(_failure(attempt, outcome, resources))


END = object()


class Pool:
    """The cells that run now."""

    def __init__(self, ray: Any, resources: Resources) -> None:
        from ray.util.queue import Queue

        self.ray, self.resources = ray, resources
        self.heard: list[CellEvent] = []  # from the processes, since the last look
        self.queue: Any = Queue(actor_options={"num_cpus": 0, "max_restarts": -1}).actor
        needs = {"num_cpus": resources.threads, "num_gpus": resources.gpus_per_cell}
        needs |= {"memory": resources.memory_per_cell} if resources.memory_per_cell else {}
        self.remote = ray.remote(max_retries=0, **needs)(_remote_cell)
        self.running: dict[Any, Attempt] = {}

    def has_room(self) -> bool:
        """Whether another cell may start."""
        return len(self.running) < self.resources.workers

    def start(self, attempt: Attempt) -> None:
        """Hand a cell to Ray."""
        self.running[self.remote.remote(attempt.cell, self.resources, self.queue)] = attempt

    def collect(self) -> list[tuple[Attempt, Result | str]]:
        """What has ended since the last look: results, or the name of Ray's error for a process that was lost."""
        if not self.running:
            time.sleep(PATIENCE)
            return []
        done, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=PATIENCE)
        self._hear()
        for reference, attempt in self.running.items():
            start = min(attempt.start, attempt.handed + GRACE)
            if time.monotonic() - start > self.resources.time_limit and not attempt.overdue:
                attempt.overdue = True
                self.ray.cancel(reference, force=True)
        return [(self.running.pop(reference), self._get(reference)) for reference in done]

    def _hear(self) -> None:
        """Collect how far the cells are. A queue that was killed is started again, and no more than that is lost; while
        it is not there nobody waits for it."""
        try:
            waiting = self.ray.get(self.queue.qsize.remote(), timeout=1)
            events = self.ray.get(self.queue.get_nowait_batch.remote(waiting), timeout=1)
        except self.ray.exceptions.RayError:  # one of them: that it took too long
            return
        self.heard += events
        started = {event.cell.key for event in events if isinstance(event, CellStarted)}
        for attempt in self.running.values():
            if attempt.cell.key in started:
                attempt.start = time.monotonic()

    def _get(self, reference: Any) -> Result | str:
        try:
            result: Result = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            kind = type(error).__name__
            return kind if kind in LOST else traceback.format_exc()
        result.environment = {**commit(), **result.environment}  # a worker on another node has no checkout
        return result


def _failure(attempt: Attempt, outcome: str, resources: Resources) -> Result:
    """The result of a cell that has none."""
    if attempt.overdue:
        line = time_limit_reached(resources)
    elif outcome in LOST:
        line = f"the worker was lost {attempt.count} times: {LOST[outcome]} ({outcome})"
    else:
        line = f"the worker could not run it: {outcome.strip().splitlines()[-1]}"
    facts = environment(resources, attempt.cell.precision)
    return Result(attempt.cell, error=line, traceback=outcome, environment=facts)


def _remote_cell(cell: Cell, resources: Resources, queue: Any) -> Result:
    """In the worker. Whatever a method prints goes nowhere: it would fill the disk with Ray's logs."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            if resources.address:  # this node may not have the data that the driver's has
                resources.catalog.benchmark(cell.benchmark, cell.options).prepare(resources.data)
        except UserError as error:
            return Result(cell, error=str(error), environment=environment(resources, cell.precision))
        for event in cell_events(cell, resources):
            if isinstance(event, CellFinished):
                return event.result
            queue.put_nowait.remote(event)
    raise AssertionError("a cell ends with its result")
