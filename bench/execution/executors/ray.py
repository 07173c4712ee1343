"""Cells in parallel with Ray, each in a process of its own."""

from __future__ import annotations

import math
import os
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.core import Cell, Result, UserError
from bench.execution.events import CellEvent, CellFinished, Idle
from bench.execution.executors.ray_cluster import connected
from bench.execution.executors.ray_watch import (
    FAREWELL,
    SILENCE,
    LifeWatch,
    NodeWatch,
    end_process,
    other_node,
    stopped_workers,
)
from bench.execution.executors.ray_worker import Alive, NodeFault, remote_cell
from bench.execution.machine.versions import commit
from bench.execution.runner import Resources, environment, time_limit_reached

PATIENCE = 0.2  # seconds between two looks at what has come in
GRACE = 300.0  # seconds that a process may take to come up, before its time is counted all the same
SILENT = "Silent"
LOST = {  # why a process was lost, by the name of Ray's error or of ours; any other is not tried again
    SILENT: f"it gave no sign of life for {SILENCE:.0f} seconds, as a stopped one does, and was killed",
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
    node: str = ""  # where it runs; empty until its process has said so
    process: int = 0  # its number there
    elsewhere: bool = False  # it is tried on this node because another one had a fault

    @property
    def name(self) -> tuple[str, int]:
        """Return what tells an attempt from all others: the key of its cell, and which attempt at it this is."""
        return self.cell.key, self.count

    def seen(self, sign: Alive) -> None:
        """Note where its process is, and since when."""
        self.node, self.process = sign.node, sign.process
        self.start = min(self.start, time.monotonic())


def on_ray(cells: Iterable[Cell | None], resources: Resources) -> Iterator[CellEvent]:
    """Run `workers` cells at a time, each in a process of its own with the CPUs and the GPU share it was granted.

    A process that is lost is started again `retries` times; an exception of the method is a result, and final. A Ray of
    our own that is lost is started again as often; after that, the cells that are left fail.
    """
    work = Work(iter(cells))
    for start in range(resources.retries + 1):
        try:
            with connected(resources) as (ray, shipped):
                yield from _turns(work, Pool(ray, shipped), resources)
        except UserError:
            if start == 0:
                raise
            break  # it was there, and does not come up again
        if math.isinf(work.lost_at) or resources.address:
            break
    yield from _rest(work, resources)


@dataclass
class Work:
    """The cells that are still to run."""

    cells: Iterator[Cell | None]
    again: list[Attempt] = field(default_factory=list)  # those whose process was lost
    more: bool = True
    lost_at: float = math.inf  # when Ray was seen to be lost

    def next(self) -> Attempt | None:
        """Return the next attempt to hand to Ray; None where none is free now, or none is left."""
        if self.again:
            return self.again.pop(0)
        cell = next(self.cells, END)
        self.more = cell is not END
        return Attempt(cell) if isinstance(cell, Cell) else None


def _turns(work: Work, pool: Pool, resources: Resources) -> Iterator[CellEvent]:
    """Hand out cells, and yield what comes back until all have ended or Ray is lost."""
    work.lost_at = math.inf
    while work.more or work.again or pool.running:
        while (work.more or work.again) and math.isinf(work.lost_at) and pool.has_room():
            attempt = work.next()
            if attempt is None:
                yield Idle()
                break
            pool.start(attempt)
        ended = pool.collect()
        yield from pool.heard
        pool.heard.clear()
        for attempt, outcome in ended:
            if outcome == "LocalRayletDiedError":
                work.lost_at = min(work.lost_at, time.monotonic())
            yield from _ended(attempt, outcome, work, pool, resources)
        if time.monotonic() - work.lost_at > FAREWELL:  # nobody will tell of those that ran
            work.again += [Attempt(attempt.cell, attempt.count + 1) for attempt in pool.running.values()]
            return
        if not pool.running and not math.isinf(work.lost_at):
            return


def _ended(
    attempt: Attempt, outcome: Result | NodeFault | str, work: Work, pool: Pool, resources: Resources
) -> Iterator[CellEvent]:
    """Yield the result of an attempt that has ended, unless its cell is tried again."""
    if isinstance(outcome, Result):
        yield CellFinished(outcome)
    elif isinstance(outcome, NodeFault):
        if not attempt.elsewhere and pool.start_elsewhere(attempt, outcome.node):
            return
        if pool.lost_a_node() and attempt.count <= resources.retries:  # with it may have gone what was missing
            work.again.append(Attempt(attempt.cell, attempt.count + 1))
            return
        yield CellFinished(outcome.result)
    elif outcome in LOST and attempt.count <= resources.retries and not attempt.overdue:
        work.again.append(Attempt(attempt.cell, attempt.count + 1))
    else:
        yield CellFinished(_failure(attempt, outcome, resources))


def _rest(work: Work, resources: Resources) -> Iterator[CellEvent]:
    """Fail what is left once Ray is lost for good; the same command runs it."""
    while work.more or work.again:
        attempt = work.next()
        if attempt is None and work.more:
            yield Idle()
            time.sleep(PATIENCE)
        if attempt:
            error = "not run, for Ray on this machine was lost and did not come up again; Ray's logs say why"
            facts = environment(resources, attempt.cell.precision)
            yield CellFinished(Result(attempt.cell, error=error, environment=facts))


END = object()


class Pool:
    """The cells that run now."""

    def __init__(self, ray: Any, resources: Resources) -> None:
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.ray, self.resources = ray, resources
        self.heard: list[CellEvent] = []  # from the processes, since the last look
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        options = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here}  # no other node takes it along
        self.queue: Any = Queue(actor_options=options).actor
        self.nodes, self.lives = NodeWatch(ray), LifeWatch()
        self.silent: set[tuple[str, int]] = set()  # names of attempts whose processes give no sign of life
        needs = {"num_cpus": resources.threads, "num_gpus": resources.gpus_per_cell}
        needs |= {"memory": resources.memory_per_cell} if resources.memory_per_cell else {}
        self.remote = ray.remote(max_retries=0, **needs)(remote_cell)
        self.running: dict[Any, Attempt] = {}

    def has_room(self) -> bool:
        """Whether another cell may start."""
        return len(self.running) < self.resources.workers

    def start(self, attempt: Attempt) -> None:
        """Hand a cell to Ray."""
        self._hand(self.remote, attempt)

    def _hand(self, remote: Any, attempt: Attempt) -> None:
        self.running[remote.remote(attempt.cell, attempt.count, self.resources, self.queue)] = attempt

    def start_elsewhere(self, attempt: Attempt, faulty: str) -> bool:
        """Hand a cell to another node than the faulty one. Return whether there is one with room for it."""
        node = other_node(self.ray.nodes(), faulty, self.resources)
        if node is None:
            return False
        there = self._on(node, self.remote, soft=True)
        self._hand(there, Attempt(attempt.cell, attempt.count, elsewhere=True))
        return True

    def _on(self, node: str, remote: Any, soft: bool) -> Any:
        """Return a remote function for this node; `soft`: for another one, where it is gone."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft))

    def lost_a_node(self) -> bool:
        """Whether a node of the cluster has died."""
        return not all(node["Alive"] for node in self.ray.nodes())

    def collect(self) -> list[tuple[Attempt, Result | NodeFault | str]]:
        """Return what has ended since the last look: results, or the name of Ray's error for a process that was
        lost."""
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
        ended = [(self.running.pop(reference), self._get(reference)) for reference in done]
        return ended + self._left_behind() + self._silenced()

    def _silenced(self) -> list[tuple[Attempt, str]]:
        """Give up the attempts whose process gives no sign of life, and have it killed where it runs: a stopped process
        cannot do what Ray asks of it."""
        lost = [reference for reference, attempt in self.running.items() if attempt.name in self.silent]
        for reference in lost:
            attempt = self.running[reference]
            self._on(attempt.node, self.ray.remote(num_cpus=0)(end_process), soft=False).remote(attempt.process)
        return [(self.running.pop(reference), SILENT) for reference in lost]

    def _left_behind(self) -> list[tuple[Attempt, str]]:
        """Give up the attempts whose node is dead: where the network was cut, Ray waits much longer."""
        if not self.resources.address:
            return []  # the only node is this machine
        nodes = {attempt.node for attempt in self.running.values() if attempt.node}
        gone = self.nodes.gone(nodes)
        lost = [reference for reference, attempt in self.running.items() if attempt.node in gone]
        return [(self.running.pop(reference), "NodeDiedError") for reference in lost]

    def _hear(self) -> None:
        """Collect how far the cells are, and whose processes are silent. A queue that was killed is started again, and
        no more than that is lost; while it is not there nobody waits for it."""
        self.silent = set()
        try:
            waiting = self.ray.get(self.queue.qsize.remote(), timeout=1)
            events = self.ray.get(self.queue.get_nowait_batch.remote(waiting), timeout=1)
        except self.ray.exceptions.RayError:  # one of them: that it took too long
            self.lives.unheard()
            return
        signs = {event.name: event for event in events if isinstance(event, Alive)}
        self.heard += [event for event in events if not isinstance(event, Alive)]
        running = {attempt.name: attempt for attempt in self.running.values()}
        for name in signs.keys() & running.keys():
            running[name].seen(signs[name])
        self.silent = self.lives.heard(set(signs), set(running))
        if not self.resources.address and self.lives.mute():
            self._end_stopped()

    def _end_stopped(self) -> None:
        """Kill the workers of a Ray of our own that are stopped and have never told their number, as one that was
        stopped before its cell began; Ray then tells of their death."""
        known = {attempt.process for attempt in self.running.values()}
        for process in stopped_workers(os.getpid()) - known:
            end_process(process)

    def _get(self, reference: Any) -> Result | NodeFault | str:
        try:
            result: Result | NodeFault = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            kind = type(error).__name__
            return kind if kind in LOST else traceback.format_exc()
        own = result.result if isinstance(result, NodeFault) else result
        own.environment = {**commit(), **own.environment}  # a worker on another node has no checkout
        return result


def _failure(attempt: Attempt, outcome: str, resources: Resources) -> Result:
    """Return the result of a cell that has none."""
    if attempt.overdue:
        line = time_limit_reached(resources)
    elif outcome in LOST:
        line = f"the worker was lost {attempt.count} times: {LOST[outcome]} ({outcome})"
    else:
        line = f"the worker could not run it: {outcome.strip().splitlines()[-1]}"
    facts = environment(resources, attempt.cell.precision)
    return Result(attempt.cell, error=line, traceback=outcome, environment=facts)
