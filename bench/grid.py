"""From a request to results: expand it into cells, run each, here or with Ray. The only file that imports Ray."""

from __future__ import annotations

import itertools
import logging
import os
import platform
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import registry
from bench.config import build, describe, names, nearest
from bench.core import PROTOCOLS, Cell, DataError, Result, Task, Training, UserError, fingerprint
from bench.seeding import derive

Progress = Callable[[Cell, int, int], None]  # (cell, task, epoch), before the epoch


@dataclass(frozen=True)
class Resources:
    """Where and with what cells run. None of it is part of a cell's identity."""

    data: Path = Path("data")
    device: str = "cpu"
    threads: int = 1  # CPU threads per cell: the same for every executor, for sums depend on it
    workers: int = 1
    gpus_per_cell: float = 0.0
    plugins: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Request:
    """What a user asks for: lists of names and seeds, and settings against the recipes."""

    methods: Sequence[str]
    benchmarks: Sequence[str]
    seeds: Sequence[int]
    epochs: int | None = None
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # method or benchmark -> field -> value
    protocols: Sequence[str] = ("published",)


def expand(request: Request, plugins: Sequence[Path] = ()) -> tuple[list[Cell], dict[tuple[str, str], str]]:
    """All cells of a request, fully resolved, and why a method does not apply, by (method, benchmark).

    A wrong name or value raises `UserError` here, before any work.
    """
    for name in request.settings:
        if name not in (*request.methods, *request.benchmarks):
            raise nearest("method or benchmark in --set", name, (*request.methods, *request.benchmarks))
    cells: list[Cell] = []
    unsupported: dict[tuple[str, str], str] = {}
    for benchmark, protocol, method in itertools.product(request.benchmarks, request.protocols, request.methods):
        try:
            cells += _cells_of(method, benchmark, protocol, request, plugins)
        except UnsupportedError as reason:
            unsupported[method, benchmark] = str(reason)
    return cells, unsupported


class UnsupportedError(Exception):
    """A method does not apply to a benchmark."""


def _cells_of(name: str, benchmark_name: str, protocol: str, request: Request, plugins: Sequence[Path]) -> list[Cell]:
    """The cells of one method on one benchmark under one protocol, a seed each."""
    method = registry.get_method(name, plugins)
    recipe = registry.recipe(benchmark_name, plugins)
    if "+" in name and name not in {**recipe, **recipe.get(protocol, {})}:
        raise UnsupportedError(f"its recipe has no table for {name}")
    bare = registry.get_benchmark(benchmark_name, plugins)
    changes = request.settings.get(benchmark_name, {})
    options, usual = (resolve_options(bare, recipe, user, protocol) for user in (changes, {}))
    benchmark = registry.get_benchmark(benchmark_name, plugins, options)
    user = dict(request.settings.get(name, {}))
    if request.epochs is not None:
        user.setdefault("epochs", request.epochs)
    training, config = resolve(name, method, recipe, user, protocol)
    if reason := method.unsupported(benchmark, training):
        raise UnsupportedError(reason)
    source = {
        "method": registry.digest("Method", name, plugins),
        "benchmark": registry.digest("Benchmark", benchmark_name, plugins),
    }
    traits = {"joint": method.joint, "reads_old_data": method.reads_old_data(config)}
    plain = resolve(name, method, recipe, {}, protocol)
    now, before = (asdict(t) | asdict(c) for t, c in ((training, config), plain))
    overrides = _changed(now, before) | _changed(options, usual, f"{benchmark_name}.")
    rest = (asdict(training), asdict(config), source, overrides, traits, options, protocol)
    return [Cell(benchmark_name, name, seed, *rest) for seed in request.seeds]


def resolve(
    name: str, method: Any, recipe: Mapping[str, Any], user: Mapping[str, Any], protocol: str = "published"
) -> tuple[Training, Any]:
    """Settings of a method: defaults, what it and the trainer do under the protocol, the recipe's [training] and
    [name], the same under [protocol], then the user's. A variant's table stands after its method's."""
    known = names(Training) | names(method.Config)
    for field_name in user:
        if field_name not in known:
            wrong = str(nearest(f"setting of {name}", field_name, known)).split("known:")[0]
            own_fields = describe(method.Config) or "none of its own"
            raise UserError(f"{wrong}{name} has {own_fields}; its training has {describe(Training)}")
    merged = {**Training.protocols[protocol], **method.protocols.get(protocol, {})}
    for tables in (recipe, recipe.get(protocol, {})):
        for table in dict.fromkeys(("training", name.partition("+")[0], name)):
            merged |= tables.get(table, {})
    merged |= user
    own = {k: v for k, v in merged.items() if k in names(method.Config)}
    return build(Training, {k: v for k, v in merged.items() if k not in own}, name), build(method.Config, own, name)


def resolve_options(
    benchmark: Any, recipe: Mapping[str, Any], user: Mapping[str, Any], protocol: str
) -> dict[str, Any]:
    """Options of a benchmark's data: defaults, its protocol's, the recipe's [benchmark], the user's."""
    usual = benchmark.protocols.get(protocol, {}), recipe.get("benchmark", {}), recipe.get(protocol, {})
    merged = {**usual[0], **usual[1], **usual[2].get("benchmark", {}), **user}
    return asdict(build(benchmark.Config, merged, benchmark.name))


def _changed(now: Mapping[str, Any], before: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What differs from the recipe: name -> [the recipe's value, the user's]."""
    return {f"{prefix}{name}": [before[name], value] for name, value in now.items() if value != before[name]}


def is_current(cell: Cell, plugins: Sequence[Path] = ()) -> bool:
    """Whether the same request, made today, is the same cell: neither code nor recipe has changed since.

    An imported matrix depends on neither.
    """
    if cell.traits.get("imported"):
        return True
    settings: dict[str, dict[str, Any]] = {cell.method: {}, cell.benchmark: {}}
    for name, (_, user) in cell.overrides.items():
        of, dot, option = name.partition(".")
        settings[of if dot else cell.method][option if dot else name] = user
    if cell.protocol not in PROTOCOLS:
        return False
    request = Request([cell.method], [cell.benchmark], [cell.seed], None, settings, [cell.protocol])
    try:
        cells, _ = expand(request, plugins)
    except UserError:
        return False
    return [c.key for c in cells] == [cell.key]


def run_cell(
    cell: Cell,
    resources: Resources,
    progress: Progress = lambda cell, task, epoch: None,
    view: Callable[[list[Task]], list[Task]] = lambda tasks: tasks,
) -> Result:
    """Run one cell, on what `view` leaves of its stream. Never raises but on interruption: what goes wrong is in the
    result, with its traceback."""
    import torch

    from bench import backbones
    from bench.trainer import run_stream

    torch.set_num_threads(resources.threads)
    device = torch.device(resources.device)
    cuda = device.type == "cuda"
    result = Result(cell, environment=_environment(resources))
    start = time.perf_counter()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    try:
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
            torch.backends.cudnn.deterministic = True
            benchmark = registry.get_benchmark(cell.benchmark, resources.plugins, cell.options)
            method_class = registry.get_method(cell.method, resources.plugins)
            tasks = view(benchmark.stream(cell.seed, resources.data))
            result.environment["data"] = fingerprint(tasks)
            seed = derive(cell.benchmark, cell.seed)
            torch.manual_seed(derive(seed, "weights"))
            network = backbones.build(benchmark, cell.training["bn_mode"]).to(device)
            config = build(method_class.Config, cell.config, cell.method)
            method = method_class(network, config, torch.Generator())
            training = build(Training, cell.training, cell.method)
            result.matrix, result.tasks = run_stream(
                network, method, tasks, training, seed, lambda t, e: progress(cell, t, e)
            )
    except Exception as error:
        result.error = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        result.traceback = traceback.format_exc()
    result.environment["seconds"] = time.perf_counter() - start
    result.environment["process_peak_bytes"] = (  # of the process: a serial run's earlier cells count too
        torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return result


def prepare(cells: Sequence[Cell], resources: Resources) -> tuple[list[Cell], list[Result]]:
    """Get the data of every benchmark ready, once. Returns the cells that can run, and failures for the others."""
    failures: dict[str, DataError] = {}
    wanted = {_stream_of(cell): cell for cell in cells}
    for stream, cell in wanted.items():
        try:
            registry.get_benchmark(cell.benchmark, resources.plugins, cell.options).prepare(resources.data)
        except DataError as error:
            failures[stream] = error
    facts = _environment(resources)
    lost = [cell for cell in cells if _stream_of(cell) in failures]
    failed = [Result(cell, error=str(failures[_stream_of(cell)]), environment=facts) for cell in lost]
    return [cell for cell in cells if _stream_of(cell) not in failures], failed


def _stream_of(cell: Cell) -> str:
    """A benchmark with its options: what its data depend on, the seed aside."""
    return f"{cell.benchmark} {sorted(cell.options.items())}"


def serial(cells: Sequence[Cell], resources: Resources, progress: Progress) -> Iterator[Result]:
    """One cell after the other, in this process."""
    for cell in cells:
        yield run_cell(cell, resources, progress)


def on_ray(cells: Sequence[Cell], resources: Resources, progress: Progress) -> Iterator[Result]:
    """`workers` cells at a time, each in a process of its own with the CPUs and the GPU share it was granted."""
    ray = start_ray(resources)
    from ray.util.queue import Queue

    try:
        queue = Queue(actor_options={"num_cpus": 1})
        remote = ray.remote(num_cpus=resources.threads, num_gpus=resources.gpus_per_cell, max_retries=0)(_remote_cell)
        running: dict[Any, Cell] = {}
        waiting = list(cells)
        while running or waiting:
            while waiting and len(running) < resources.workers:
                cell = waiting.pop(0)
                running[remote.remote(cell, resources, queue)] = cell
            done, _ = ray.wait(list(running), timeout=0.2)
            for cell, task, epoch in queue.get_nowait_batch(queue.qsize()):
                progress(cell, task, epoch)
            for reference in done:
                yield _collect(ray, reference, running.pop(reference), resources)
    finally:
        ray.shutdown()


def start_ray(resources: Resources) -> Any:
    """Ray on this machine, silent, with CPUs for `workers` cells at a time and one to spare. Returns the module."""
    import ray

    environment = {"OMP_NUM_THREADS": str(resources.threads), "PYTHONPATH": os.pathsep.join(sys.path)}
    ray.init(
        address="local",
        num_cpus=resources.threads * resources.workers + 1,  # one for the queue of progress
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": environment},
    )
    return ray


def _remote_cell(cell: Cell, resources: Resources, queue: Any) -> Result:
    return run_cell(cell, resources, lambda cell, task, epoch: queue.put((cell, task, epoch)))


def _collect(ray: Any, reference: Any, cell: Cell, resources: Resources) -> Result:
    """The result of a remote cell; a worker that died is that cell's error."""
    try:
        result: Result = ray.get(reference)
        return result
    except ray.exceptions.RayError as error:
        line = f"the worker was lost: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
        return Result(cell, error=line, traceback=traceback.format_exc(), environment=_environment(resources))


EXECUTORS = {"serial": serial, "ray": on_ray}


def _environment(resources: Resources) -> dict[str, Any]:
    """What a number may depend on beside its cell: code, versions, machine. No path, no host name."""
    return {
        **commit(),
        "python": platform.python_version(),
        "packages": {p: _version(p) for p in ("numpy", "torch", "torchvision", "scikit-learn")},
        "platform": platform.machine(),
        "device": _device_name(resources.device),
        "threads": resources.threads,
    }


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


def _device_name(device: str) -> str:
    if device != "cuda":
        return device
    import torch

    return torch.cuda.get_device_name()
