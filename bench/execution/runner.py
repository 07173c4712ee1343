"""One cell, from its request to its result, in whatever process it was given to."""

from __future__ import annotations

import ctypes
import json
import math
import os
import platform
import resource
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.catalog.catalog import Catalog
from bench.catalog.helpers import import_all_of
from bench.core import Cell, Result, Task, UserError
from bench.execution import machine
from bench.execution.events import CellEvent, CellFinished, CellStarted, EpochStarted
from bench.execution.machine.versions import commit, library, packages
from bench.same_data import fingerprint

if TYPE_CHECKING:
    from bench.training.evaluation import Row
    from bench.training.loop import Event, Session


@dataclass(frozen=True)
class Resources:
    """Where and with what cells run. None of it is part of a cell's identity."""

    data: Path = Path("data")
    device: str = "cpu"
    threads: int = 1  # CPU threads per cell: the same for every executor, for sums depend on it
    workers: int = 1  # cells at a time; 0: as many as a cluster has room for
    gpus_per_cell: float = 0.0
    catalog: Catalog = field(default_factory=Catalog)
    checkpoints: Path | None = None  # folder; None: a killed cell starts anew
    time_limit: float = math.inf  # seconds of a cell
    retries: int = 2  # of a cell whose process was lost
    address: str = ""  # of a running Ray cluster; empty: one of our own, on this machine
    memory_per_cell: float = 0.0  # bytes that Ray sets aside for a cell; 0: does not count them
    log: tuple[str, ...] = ()  # names of live loggers
    logs: Path = Path("logs")  # the folder of those that write files
    tf32: bool = False  # on a GPU, multiply numbers of 10 bits of mantissa: other numbers, sooner


class TimeLimitError(Exception):
    """A cell took longer than it was given."""


def time_limit_reached(resources: Resources) -> str:
    """Return what is said of a cell that took too long."""
    return f"stopped after {resources.time_limit / 60:g} minutes; a larger --time-limit continues from its checkpoint"


def run_cell(cell: Cell, resources: Resources, view: Callable[[list[Task]], list[Task]] | None = None) -> Result:
    """Run one cell to its end, on what `view` leaves of its stream. What goes wrong is in the result."""
    for event in cell_events(cell, resources, view):
        if isinstance(event, CellFinished):
            return event.result
    raise AssertionError("a cell ends with its result")


def cell_events(
    cell: Cell, resources: Resources, view: Callable[[list[Task]], list[Task]] | None = None
) -> Generator[CellEvent, None, None]:
    """Run one cell, and yield what happens; last its result. Never raises but on interruption: what goes wrong is in
    the result, with its traceback."""
    yield CellStarted(cell)
    try:
        work = Work(cell, resources)
    except (Exception, SystemExit) as error:
        yield CellFinished(_not_begun(cell, resources, error))
        return
    from bench.execution.loggers.live import Live
    from bench.training.stage import EpochBegun

    with Live(cell, resources.log, resources.logs) as live:
        try:
            for event in work.learn(view):
                yield from live.see(event, work.epochs_before)
                if isinstance(event, EpochBegun):
                    yield EpochStarted(cell, event.task, event.epoch)
            json.dumps(work.result.tasks)  # what cannot be stored fails here, and fails its cell alone
        except (Exception, SystemExit) as error:  # a method may call sys.exit
            work.fail(error)
        yield from live.end(failed=work.result.error is not None)
    try:
        work.finish()
    except (Exception, SystemExit) as error:
        work.fail(error)
    yield CellFinished(work.result)


def _not_begun(cell: Cell, resources: Resources, error: BaseException) -> Result:
    """Return the result of a cell whose process could not even be set up, such as on a GPU that answers no question."""
    facts = environment(replace(resources, device="cpu"), cell.precision) | {"device": resources.device}
    return Result(cell, error=_in_words(error, resources), traceback=traceback.format_exc(), environment=facts)


class Work:
    """A cell that is being run: its result as it grows, its checkpoint, its time."""

    def __init__(self, cell: Cell, resources: Resources) -> None:
        from bench.execution.checkpoint import Checkpoint

        set_arithmetic(resources)
        keep_memory()
        self.cell, self.resources = cell, resources
        facts = environment(resources, cell.precision)
        self.result = Result(cell, environment={**facts, "cpu": machine.cpu()})
        folder = resources.checkpoints  # on another node there may be no results folder to keep them in
        own = {**facts, "source": cell.source}  # an edited method does not go on from what it was before
        self.checkpoint = Checkpoint(folder, cell, own) if folder and folder.parent.is_dir() else None
        self.start, self.before, self.epochs_before = time.perf_counter(), 0.0, 0  # before: until a checkpoint

    def learn(self, view: Callable[[list[Task]], list[Task]] | None) -> Iterator[Event]:
        """Learn the stream, from where a checkpoint left it. Yield what happens, a task once it is saved."""
        from bench.execution.session import session_of
        from bench.training.loop import TaskDone, square

        demand_device(self.resources.device)
        warm_up(self.resources.device)
        import_all_of(self.resources.catalog.path("Benchmark", self.cell.benchmark))
        self.start = time.perf_counter()  # what a process does once is no part of a cell's time
        reset_peak(self.resources.device)
        session = session_of(self.cell, self.resources.catalog, self.resources.data, self.resources.device, view)
        self.result.environment["data"] = fingerprint(session.tasks)
        rows, records = self._resume(session)
        for event in session.events(first=len(records)):
            if isinstance(event, TaskDone):
                rows.append(event.row)
                records.append(event.record.plain())
                if self.checkpoint and len(rows) < len(session.tasks) and session.method.stage == "task":
                    self.checkpoint.save(session, rows, records, self.seconds)
            yield event
        self.result.matrix, self.result.tasks = square(rows, len(session.tasks)), records

    def _resume(self, session: Session) -> tuple[list[Row], list[dict[str, Any]]]:
        if self.checkpoint is None:
            return [], []
        rows, records, self.before = self.checkpoint.load(session)
        if records:
            self.result.environment["resumed_after"] = len(records)
            self.epochs_before = sum(record["epochs"] for record in records)
        return rows, records

    @property
    def seconds(self) -> float:
        """Return the seconds spent on the cell so far, before its checkpoint too."""
        return self.before + time.perf_counter() - self.start

    def fail(self, error: BaseException) -> None:
        """Note an error, with its traceback, in the place of what was learned."""
        self.result.error, self.result.traceback = _in_words(error, self.resources), traceback.format_exc()
        self.result.matrix, self.result.tasks = [], []
        if self.checkpoint and not isinstance(error, TimeLimitError):
            self.checkpoint.remove()  # it would fail there again

    def finish(self) -> None:
        """Note what it took in the result."""
        if self.checkpoint and self.checkpoint.trouble:
            self.result.environment["checkpoint"] = self.checkpoint.trouble
        self.result.environment["seconds"] = self.seconds
        self.result.environment["process_peak_bytes"] = measure_peak_bytes(self.resources.device)


def demand_device(device: str) -> None:
    """Raise `UserError` where the GPU that this process was given is not there."""
    if not machine.is_cuda(device):
        return
    import torch

    if not torch.cuda.is_available():
        given = os.environ.get("CUDA_VISIBLE_DEVICES", "any")
        remedy = "compare `nvidia-smi` there with the GPUs that Ray was told of, or use --device cpu"
        raise UserError(f"PyTorch finds no GPU where the cell runs (CUDA_VISIBLE_DEVICES: {given}): {remedy}")


def reset_peak(device: str) -> None:
    """Count a GPU's memory anew."""
    if machine.is_cuda(device):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def set_arithmetic(resources: Resources) -> None:
    """Set what else than the code decides the bits: threads, precision, and the choice of algorithms on a GPU."""
    import torch

    torch.set_num_threads(resources.threads)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = resources.tf32  # PyTorch's own default is to allow it, in convolutions
    torch.set_float32_matmul_precision("high" if resources.tf32 else "highest")


@cache
def keep_memory() -> None:
    """Let glibc keep what a batch frees for the next one. Else the kernel takes it and maps it anew, page by page,
    which can take a fifth of an epoch. Other C libraries stay as they are."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, as high as it goes
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


@cache
def warm_up(device: str) -> None:
    """Have PyTorch import what it imports with its first optimizer, and make the device ready."""
    import torch

    weight = torch.nn.Parameter(torch.zeros(1, device=device))
    torch.optim.SGD([weight], lr=0.1)


def measure_peak_bytes(device: str) -> int:
    """Return the memory used at most: of a GPU of CUDA, or by this process, in a serial run's earlier cells too. A GPU
    of Apple's has no memory of its own."""
    if machine.is_cuda(device):
        import torch

        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes, of what the system counts in
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _in_words(error: BaseException, resources: Resources) -> str:
    """Return an error on one line; and, where memory has run out, what to change."""
    if isinstance(error, UserError | TimeLimitError):
        return str(error)
    text = f"{type(error).__name__}: {error}"
    if type(error).__name__ == "OutOfMemoryError":  # of torch.cuda, known without importing torch
        remedy = "fewer --workers, a larger --gpus-per-cell" if resources.workers > 1 else "another GPU"
        return f"{text.splitlines()[0]}; the GPU's memory is used up: try {remedy}, or a smaller batch_size by --set"
    return text


def environment(resources: Resources, precision: str = "fp32") -> dict[str, Any]:
    """Return what a number may depend on: code, versions, machine, arithmetic. No path and no host name is in it."""
    return {
        **commit(),
        "library": library(),
        "python": platform.python_version(),
        "packages": packages(),
        "platform": platform.machine(),
        "device": machine.device_name(resources.device),
        "threads": resources.threads,
        "tf32": resources.tf32,
        "precision": precision,
    }
