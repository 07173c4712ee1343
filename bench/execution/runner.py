"""One cell, from its request to its result, in whatever process it was given to."""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import platform
import resource
import subprocess
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.catalog import registry
from bench.config import build
from bench.core import Cell, Result, Task, Training, UserError, fingerprint
from bench.execution import machine
from bench.seeding import derive

if TYPE_CHECKING:
    from bench.nn.network import Network
    from bench.training.loop import Records, Rows
    from bench.training.method import Method

Progress = Callable[[Cell, int, int], None]  # (cell, task, epoch), before the epoch


@dataclass(frozen=True)
class Resources:
    """Where and with what cells run. None of it is part of a cell's identity."""

    data: Path = Path("data")
    device: str = "cpu"
    threads: int = 1  # CPU threads per cell: the same for every executor, for sums depend on it
    workers: int = 1  # cells at a time; 0: as many as a cluster has room for
    gpus_per_cell: float = 0.0
    plugins: tuple[Path, ...] = ()
    checkpoints: Path | None = None  # folder; None: a killed cell starts anew
    time_limit: float = math.inf  # seconds of a cell
    retries: int = 2  # of a cell whose process was lost
    address: str = ""  # of a running Ray cluster; empty: one of our own, on this machine
    memory_per_cell: float = 0.0  # bytes that Ray sets aside for a cell; 0: does not count them
    tf32: bool = False  # on a GPU, multiply numbers of 10 bits of mantissa: other numbers, sooner


class TimeLimitError(Exception):
    """A cell took longer than it was given."""


def time_limit_reached(resources: Resources) -> str:
    """Said of a cell that took too long."""
    return f"stopped after {resources.time_limit / 60:g} minutes; a larger --time-limit goes on from its checkpoint"


def run_cell(
    cell: Cell,
    resources: Resources,
    progress: Progress = lambda cell, task, epoch: None,
    view: Callable[[list[Task]], list[Task]] = lambda tasks: tasks,
) -> Result:
    """Run one cell, on what `view` leaves of its stream. Never raises but on interruption: what goes wrong is in the
    result, with its traceback."""
    import torch

    from bench.execution.checkpoint import Checkpoint
    from bench.training.loop import run_stream

    set_arithmetic(resources)
    keep_memory()
    cuda = resources.device == "cuda"
    facts = environment(resources, cell.precision)
    result = Result(cell, environment={**facts, "cpu": machine.cpu()})
    folder = resources.checkpoints  # on another node there may be no results folder to keep them in
    own = {**facts, "source": cell.source}  # an edited method does not go on from what it was before
    checkpoint = Checkpoint(folder, cell, own) if folder and folder.parent.is_dir() else None
    start, before = time.perf_counter(), 0.0
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    try:
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
            network, method, tasks, training = _made(cell, resources, view)
            result.environment["data"] = fingerprint(tasks)
            rows: Rows = []
            records: Records = []
            if checkpoint:
                rows, records, before = checkpoint.load(network, method)
                result.environment |= {"resumed_after": len(records)} if records else {}

            def keep(rows: Rows, records: Records) -> None:
                if checkpoint and len(rows) < len(tasks) and not method.joint:
                    checkpoint.save(network, method, rows, records, before + time.perf_counter() - start)

            result.matrix, result.tasks = run_stream(
                network, method, tasks, training, derive(cell.benchmark, cell.seed), lambda t, e: progress(cell, t, e),
                first=len(records), so_far=(rows, records), keep=keep,
            )  # fmt: skip
            json.dumps(result.tasks)  # what cannot be stored fails here, and fails its cell alone
    except (Exception, SystemExit) as error:  # a method may call sys.exit
        result.error, result.traceback = _in_words(error, resources), traceback.format_exc()
        result.matrix, result.tasks = [], []
        if checkpoint and not isinstance(error, TimeLimitError):
            checkpoint.remove()  # it would fail there again
    if checkpoint and checkpoint.trouble:
        result.environment["checkpoint"] = checkpoint.trouble
    result.environment["seconds"] = before + time.perf_counter() - start
    result.environment["process_peak_bytes"] = peak_bytes(resources.device)
    return result


def set_arithmetic(resources: Resources) -> None:
    """What else than the code decides the bits: threads, precision, and the choice of algorithms on a GPU."""
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


def _made(
    cell: Cell, resources: Resources, view: Callable[[list[Task]], list[Task]]
) -> tuple[Network, Method, list[Task], Training]:
    """What a cell asks for. The weights depend on benchmark and seed alone: they are the same for every method."""
    import torch

    from bench.nn import architectures

    benchmark = registry.get_benchmark(cell.benchmark, resources.plugins, cell.options)
    method_class = registry.get_method(cell.method, resources.plugins)
    tasks = view(benchmark.stream(cell.seed, resources.data))
    torch.manual_seed(derive(derive(cell.benchmark, cell.seed), "weights"))
    network = architectures.build(benchmark, cell.training["bn_mode"]).to(resources.device)
    network.precision = cell.precision
    method = method_class(network, build(method_class.Config, cell.config, cell.method), torch.Generator())
    return network, method, tasks, build(Training, cell.training, cell.method)


def peak_bytes(device: str) -> int:
    """Memory used at most: of the GPU, or by this process, in a serial run's earlier cells too."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _in_words(error: BaseException, resources: Resources) -> str:
    """An error on one line; and, where memory has run out, what to change."""
    if isinstance(error, UserError | TimeLimitError):
        return str(error)
    text = f"{type(error).__name__}: {error}"
    if type(error).__name__ == "OutOfMemoryError":  # of torch.cuda, known without importing torch
        remedy = "fewer --workers, a larger --gpus-per-cell" if resources.workers > 1 else "another GPU"
        return f"{text.splitlines()[0]}; the GPU's memory is used up: try {remedy}, or a smaller batch_size by --set"
    return text


def environment(resources: Resources, precision: str = "fp32") -> dict[str, Any]:
    """What a number may depend on: code, versions, machine, arithmetic. No path, no host name."""
    return {
        **commit(),
        "library": library(),
        "python": platform.python_version(),
        "packages": {p: _version(p) for p in ("numpy", "torch", "torchvision", "scikit-learn")},
        "platform": platform.machine(),
        "device": device_name(resources.device),
        "threads": resources.threads,
        "tf32": resources.tf32,
        "precision": precision,
    }


@cache
def library() -> str:
    """Digest of every file of the library, 12 hex digits: it tells what a commit does not, such as local changes."""
    digest, folder = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def commit() -> dict[str, Any]:
    """The commit of this checkout and whether tracked code differs from it; empty outside a checkout."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=registry.ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        code = ("bench", "methods", "datasets", "run_bench.py")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", *code))}
    except (OSError, subprocess.CalledProcessError):
        return {}


def device_name(device: str) -> str:
    """What a device is called: "cpu", or the model of the GPU."""
    if device != "cuda":
        return device
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else device
