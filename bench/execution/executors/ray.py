"""Cells in parallel with Ray: a Ray of our own on this machine, or a cluster that is running."""

from __future__ import annotations

import logging
import math
import os
import shutil
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench import installation
from bench.catalog import discovery
from bench.catalog.catalog import Catalog
from bench.config import require
from bench.core import Cell, Result, UserError
from bench.execution.events import CellEvent, CellFinished, CellStarted, Idle
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


@contextmanager
def connected(resources: Resources) -> Iterator[tuple[Any, Resources]]:
    """Ray, and the resources as its workers see them. Raises `UserError` where it cannot be had, or would never run a
    cell."""
    import ray

    with ExitStack() as stack:
        nowhere = stack.enter_context(Path(os.devnull).open("w"))
        stack.enter_context(redirect_stdout(nowhere))  # where Ray tells of every worker it has lost
        if resources.address:
            shipped, where = _ship(resources, Path(stack.enter_context(tempfile.TemporaryDirectory())))
            require(ray.is_initialized() or _reachable(resources.address), _unreachable(resources.address))
            options = {"address": resources.address, "runtime_env": where}
        else:
            shipped, options = resources, _own(resources)
        stack.callback(ray.shutdown)
        _start(ray, options)
        room = _room(ray, resources)
        yield ray, replace(shipped, workers=min(resources.workers or room, room))  # more would wait inside Ray


def _own(resources: Resources) -> dict[str, Any]:
    """How a Ray of our own is started: on this machine's code, with room for the workers and no more."""
    variables = {"OMP_NUM_THREADS": str(resources.threads), "PYTHONPATH": os.pathsep.join(sys.path)}
    return {
        "address": "local",
        "num_cpus": resources.threads * resources.workers,
        "include_dashboard": False,
        "object_store_memory": 100_000_000,  # results are small
        "runtime_env": {"env_vars": variables},
    }


def _start(ray: Any, options: dict[str, Any], tries: int = 3) -> None:
    for left in reversed(range(tries)):
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
            return
        except Exception as error:  # Ray raises whatever it met
            ray.shutdown()
            text = " ".join(str(error).split())
            if "ersion mismatch" in text:
                raise UserError(f"the cluster at {options['address']} runs other versions: {text}") from error
            if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
                remedy = "set RAY_TMPDIR to a folder that can be written"
                raise UserError(f"Ray cannot start: {error}; {remedy}") from error
            if options["address"] != "local" or not left:  # a busy machine may need another try
                raise UserError(f"Ray cannot start: {type(error).__name__}: {text}; see {_hint(options)}") from error


def _hint(options: dict[str, Any]) -> str:
    return "`ray status`" if options["address"] != "local" else "--executor serial, which needs no Ray"


def _reachable(address: str) -> bool:
    """Whether something listens there; Ray itself would try for a minute."""
    if address == "auto":
        return True
    host, colon, port = address.rpartition(":")
    require(bool(host and colon and port.isdecimal()), f"--ray-address is auto or HOST:PORT, not '{address}'")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def _unreachable(address: str) -> str:
    return f"no Ray cluster at {address}: start one with `ray start --head`, or leave --ray-address out"


def _room(ray: Any, resources: Resources) -> int:
    """How many cells fit. Raises `UserError` where no node could ever hold one: Ray would wait for it for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    asked = {"CPU": resources.threads, "GPU": resources.gpus_per_cell, "memory": resources.memory_per_cell}
    for what, amount in asked.items():
        most = max((node.get(what, 0.0) for node in nodes), default=0.0)
        if amount > most:
            unit = "bytes of " if what == "memory" else ""
            raise UserError(f"a cell asks for {amount:g} {unit}{what}, and the largest node of Ray has {most:g}")
    room = sum(min(int(node.get(what, 0.0) / amount) for what, amount in asked.items() if amount) for node in nodes)
    wishes = ", ".join(f"{amount:g} {what}" for what, amount in asked.items() if amount)
    require(room > 0, f"no node of Ray has {wishes} together, which a cell asks for")
    return room


def _ship(resources: Resources, folder: Path) -> tuple[Resources, dict[str, Any]]:
    """Copy the code, plugins included, to a folder that Ray hands to every node. Returns the resources with plugins by
    their paths there, and the runtime environment."""
    parts = [installation.PACKAGE, *map(installation.extensions, discovery.FOLDERS.values())]
    for part in parts:
        if part.parent != installation.PACKAGE:  # in a wheel, the extensions lie inside the package
            shutil.copytree(part, folder / part.name, ignore=shutil.ignore_patterns("__pycache__"))
    plugins = tuple(_ship_plugin(plugin, folder, n) for n, plugin in enumerate(resources.catalog.plugins))
    where = {"working_dir": str(folder), "env_vars": {"OMP_NUM_THREADS": str(resources.threads)}}
    return replace(resources, catalog=Catalog(plugins)), where


def _ship_plugin(plugin: Path, folder: Path, n: int) -> Path:
    """A file or folder goes to `plugins/<n>`; a module of a package takes the whole package along, importable."""
    top = plugin
    while (top.parent / "__init__.py").exists():
        top = top.parent
    place = folder if (top / "__init__.py").exists() else folder / "plugins" / str(n)
    if top.is_dir():
        shutil.copytree(top, place / top.name, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        place.mkdir(parents=True)
        shutil.copy(top, place)
        if top.with_suffix(".toml").exists():
            shutil.copy(top.with_suffix(".toml"), place)
    return (place / top.name / plugin.relative_to(top)).relative_to(folder)
