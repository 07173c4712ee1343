"""From the words of the command line to a checked request, before anything heavy is imported."""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis.columns import METRICS
from bench.catalog.plan import MOST_SEEDS
from bench.cli.commands import tell
from bench.config import known_as, nearest, parse_value, require
from bench.core import PRECISIONS, PROTOCOLS, SCENARIOS, UserError
from bench.execution import machine, store
from bench.tools import tuned_recipe

if TYPE_CHECKING:
    from bench.catalog.catalog import Catalog
    from bench.catalog.plan import Request
    from bench.execution.runner import Resources
    from bench.tools.tuning_search import Search

PROTOCOL = "published"  # unless told otherwise
FIGURE_FORMATS = ("pdf", "png", "svg")
EVERYTHING = ("all", "everything")  # of --bench: for `run`, what has data, and what has none too


def make_request(args: argparse.Namespace) -> Request:
    """Return the names, seeds and settings of the command line, checked before anything heavy is imported."""
    methods = pick_methods(args.methods, args.catalog)
    protocols = pick("protocol", args.protocol, PROTOCOLS)
    benchmarks = pick_benchmarks(args.bench, args.catalog)
    if args.bench in EVERYTHING:
        benchmarks = [name for name in benchmarks if args.catalog.benchmark(name).in_all]
    args.scenario = known_as("scenario", args.scenario, SCENARIOS) if args.scenario else ""
    benchmarks = in_scenario(args, benchmarks)
    seeds = parse_seeds(args.seeds)
    args.precision = known_as("precision", args.precision, PRECISIONS)
    for option in ("epochs", "workers", "threads"):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            raise UserError(f"--{option} must be at least 1, not {getattr(args, option)}")
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))  # torch looks at it when it is imported
    settings = from_recipe(args, methods, benchmarks, protocols) if args.recipe else {}
    given: dict[str, dict[str, Any]] = {}
    for item in args.set:
        place, equals, value = item.partition("=")
        name, _, field = place.rpartition(".")  # the name of a variant may have a dot
        if not (name and field and equals):
            raise UserError(f"--set takes METHOD.FIELD=VALUE or BENCHMARK.OPTION=VALUE, not '{item}'")
        name = known_as("method or benchmark in --set", name, (*methods, *benchmarks))
        parsed = parse_value(value)
        own = given.setdefault(name, {})
        require(own.get(field, parsed) == parsed, f"--set {name}.{field} is given two values")
        own[field] = parsed
    origins = {(name, f): args.recipe for name, own in settings.items() for f in own if f not in given.get(name, {})}
    for name, own in given.items():
        settings.setdefault(name, {}).update(own)
    for name in settings:
        if name not in (*methods, *benchmarks):
            raise nearest("method or benchmark in --set", name, (*methods, *benchmarks))
    from bench.catalog.plan import Request

    return Request(methods, benchmarks, seeds, args.epochs, settings, protocols, args.precision, args.scenario, origins)


def in_scenario(args: argparse.Namespace, benchmarks: Sequence[str]) -> list[str]:
    """Return the benchmarks that have the scenario asked for, and tell which others `--bench all` leaves out. Raises
    `UserError` where one that was named has it not."""
    kept = []
    for name in benchmarks:
        own = args.catalog.benchmark(name).scenarios
        if not args.scenario or args.scenario in own:
            kept.append(name)
        elif args.bench in EVERYTHING:
            tell(f"skipped: {name}: it has no scenario {args.scenario}, only {' and '.join(own)}")
        else:
            args.catalog.benchmark(name, scenario=args.scenario)  # says what it has instead
    return kept


def from_recipe(
    args: argparse.Namespace, methods: Sequence[str], benchmarks: Sequence[str], protocols: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return what `--recipe` sets for the methods and benchmarks of the request."""
    known = [*args.catalog.available("Method"), *args.catalog.available("Benchmark")]
    found = tuned_recipe.read_user_recipe(
        args.recipe, benchmarks, protocols, args.scenario, [*known, *args.catalog.variants()]
    )
    return {name: table for name, table in found.items() if name in (*methods, *benchmarks)}


def make_search(args: argparse.Namespace, request: Request) -> Search:
    """Return how far `tune` searches, on one benchmark under one protocol."""
    for option, chosen in (("bench", request.benchmarks), ("protocol", request.protocols)):
        require(len(chosen) == 1, f"tune takes one --{option} at a time, not {','.join(chosen)}")
    require(args.trials >= 1, f"--trials must be at least 1, not {args.trials}")
    [name] = request.benchmarks
    there = args.catalog.benchmark(name).num_tasks
    tasks = min(3, there) if args.tasks is None else args.tasks
    require(1 <= tasks <= there, f"--tasks must be between 1 and {there}, the tasks of {name}, not {tasks}")
    from bench.tools.tuning_search import Search

    return Search(args.trials, tasks, args.search_seed)


def make_resources(args: argparse.Namespace) -> Resources:
    """Return where the cells run."""
    from bench.execution.executors import EXECUTORS

    args.executor = known_as("executor", args.executor, EXECUTORS)
    if args.executor == "serial" and (args.workers or 1) > 1:
        raise UserError("--executor serial runs one cell at a time: use --executor ray with --workers")
    args.device = args.device.lower()
    if args.ray_address and args.executor != "ray":
        raise UserError("--ray-address goes with --executor ray")
    if args.gpus_per_cell is not None and args.gpus_per_cell < 0:
        raise UserError(f"--gpus-per-cell must be at least 0, not {args.gpus_per_cell}")
    for option in ("memory_per_cell", "time_limit"):
        if (value := getattr(args, option)) is not None and not value > 0:
            raise UserError(f"--{option.replace('_', '-')} must be greater than 0, not {value:g}")
    from bench.execution.runner import Resources

    device = device_of_cells(args)
    here = 0 if args.ray_address else max(1, (os.cpu_count() or 1) // args.threads)
    workers = 1 if args.executor == "serial" else args.workers or here
    if args.gpus_per_cell is not None and (args.gpus_per_cell > 0) != machine.is_cuda(device):
        raise UserError(f"--gpus-per-cell {args.gpus_per_cell} does not go with device {device}")
    share = float(machine.is_cuda(device)) if args.gpus_per_cell is None else args.gpus_per_cell
    return Resources(
        args.data.resolve(), device, args.threads, workers, share,
        catalog=args.catalog,
        checkpoints=None if args.no_checkpoint else store.checkpoints(args.out.resolve()),
        time_limit=60 * (args.time_limit or math.inf),
        address=args.ray_address,
        memory_per_cell=1e9 * (args.memory_per_cell or 0),
        log=pick_loggers(args.log),
        logs=args.out.resolve() / "logs",
        tf32=args.tf32,
    )  # fmt: skip


def device_of_cells(args: argparse.Namespace) -> str:
    """Return the device of the cells. Raises `UserError` where it is not here, or does not go with Ray."""
    if args.device == "cuda" and args.ray_address:
        return "cuda"  # the cluster will tell
    device = machine.find_device(args.device)
    if args.executor == "ray" and ":" in device:
        remedy = f"set CUDA_VISIBLE_DEVICES={device.partition(':')[2]} and take --device cuda"
        raise UserError(f"--device {device} goes with --executor serial, for Ray hands out GPUs itself: {remedy}")
    if args.ray_address and device == "mps":
        raise UserError("--device mps is of this machine, and goes without --ray-address")
    return device


def pick_loggers(texts: Sequence[str]) -> tuple[str, ...]:
    """Return live loggers from comma-separated lists. Raises `UserError` where one is not known, or not installed."""
    from bench.execution.loggers import LOGGERS

    names = dict.fromkeys(name for text in texts for name in pick("logger", text, LOGGERS))
    for name in names:
        package = LOGGERS[name].needs
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--log {name} needs {package}: pip install {package}")
    return tuple(names)


def named(text: str) -> list[str]:
    """Return the names in a comma-separated list; none for all."""
    return [] if text in EVERYTHING else [name.strip() for name in text.split(",") if name.strip()]


def pick(what: str, text: str, known: Iterable[str]) -> list[str]:
    """Names from a comma-separated list, or all; each of them known, none twice."""
    known = list(known)
    whole = text.strip().lower() == "all"
    chosen = known if whole else [known_as(what, name, known) for name in named(text)]
    if not chosen:
        raise UserError(f"no {what} is named in '{text}'")
    return list(dict.fromkeys(chosen))


def pick_metrics(text: str | None) -> list[str] | None:
    """Return metrics from a comma-separated list; None for what is usual where none was given."""
    return None if text is None else pick("metric", text, METRICS)


def pick_methods(text: str, catalog: Catalog, others: Iterable[str] = ()) -> list[str]:
    """Return methods, or `others`, from a comma-separated list.

    `all` leaves the variants that recipes define out, `default` also what runs only where it is named.
    """
    known = [*catalog.available("Method"), *others]
    if text == "default":
        return [name for name in known if catalog.declaration(name).by_default]
    if text != "all":
        known += catalog.variants()
        _demand_plugin("method", text, known)
    return pick("method", text, known)


def pick_benchmarks(text: str, catalog: Catalog) -> list[str]:
    """Return benchmarks from a comma-separated list; `default` are those that run where none is named.

    Here `everything` means `all`; what `all` leaves out for want of data is the business of `run`.
    """
    known = catalog.available("Benchmark")
    if text == "default":
        return [name for name in known if catalog.benchmark(name).by_default]
    _demand_plugin("benchmark", text, known)
    return pick("benchmark", "all" if text in EVERYTHING else text, known)


def _demand_plugin(what: str, text: str, known: Iterable[str]) -> None:
    """Raise `UserError` where a name is that of a file here, which was not named as a plugin."""
    unnamed = {path.stem for path in Path().glob("*.py")}.difference(known)
    for name in named(text):
        if name in unnamed:
            raise UserError(f"unknown {what} '{name}': for {name}.py, add --plugin {name}.py")


def parse_seeds(text: str, option: str = "--seeds") -> list[int]:
    """Seeds from a list like 1,2,3 or 0-4 or both, as `option` was given."""
    seeds: list[int] = []
    for part in text.split(","):
        seeds += _span(part.strip(), text, option)
        require(len(seeds) <= MOST_SEEDS, f"{option} '{text}': at most {MOST_SEEDS:,} seeds")
    repeated = [seed for seed, count in Counter(seeds).items() if count > 1]
    require(not repeated, f"{option} '{text}' repeats seed {(repeated or [0])[0]}")
    return seeds


def _span(part: str, text: str, option: str) -> range:
    """Return the seeds of one part of a list, such as 7 or 0-4."""
    first, dash, last = part.partition("-")
    ends = (first, last) if dash else (first, first)
    if not all(end.isdecimal() for end in ends):
        which = f"'{text}'" if part == text.strip() else f"'{part}' in '{text}'"
        raise UserError(f"{option} takes a list like 1,2,3 or 0-4, not {which}")
    require(all(len(end) <= 10 for end in ends), f"{option} '{text}': seeds are below 2**32")
    low, high = map(int, ends)
    require(low <= high, f"{option} '{text}': {part} runs backwards; write {high}-{low}")
    require(high < 2**32, f"{option} '{text}': seeds are below 2**32, and {high} is not")
    return range(low, high + 1)
