#!/usr/bin/env python3
"""NESS-Bench: methods x benchmarks x seeds, turned into a table.

  python run_bench.py                                        every method on the embedded digits, three seeds
  python run_bench.py --methods ness,gpm --bench all         a choice of methods on every benchmark
  python run_bench.py list                                   what there is
  python run_bench.py table --metric acc,bwt,forgetting      a table of what has been run

Finished cells (a method on a benchmark with a seed) are kept in the results folder and never run twice: the same
command again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bench import registry
from bench.config import nearest, parse
from bench.core import Cell, Result, UserError

if TYPE_CHECKING:
    from bench.display import Display
    from bench.grid import Request, Resources

VERBS = ("run", "list", "table")
METRIC_NAMES = ("acc", "bwt", "forgetting", "la", "aia", "state", "trainable", "old", "seconds")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, call, print. Returns the exit code: 0; 1 a cell failed; 2 a wrong request; 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if not words or words[0].startswith("-"):
            words.insert(0, "run")
        if words[0] not in VERBS:
            raise nearest("verb", words[0], VERBS)
        args = make_parser(words[0]).parse_args(words[1:])
        return {"run": run, "list": show_list, "table": show_table}[words[0]](args)
    except UserError as error:
        print(f"run_bench.py: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class Parser(argparse.ArgumentParser):
    """Errors as one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def make_parser(verb: str) -> Parser:
    """The options of a verb."""
    raw = argparse.RawDescriptionHelpFormatter
    verbs = "verbs: run (the default), list, table; `python run_bench.py VERB --help` has the options of each"
    parser = Parser(f"run_bench.py {verb}", description=__doc__, epilog=verbs, formatter_class=raw, allow_abbrev=False)
    add = parser.add_argument
    add(
        "--plugin",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="your own methods or benchmarks: a file, a folder",
    )
    add(
        "--data",
        type=Path,
        default=Path(os.environ.get("NESS_BENCH_DATA", "data")),
        metavar="DIR",
        help="data sets (default: $NESS_BENCH_DATA, else data)",
    )
    if verb != "list":
        add_selection(add, verb)
    if verb == "run":
        add_execution(add)
    if verb == "table":
        add("--format", default="md", metavar="F", help="md (default), latex or csv")
    return parser


def add_selection(add: Callable[..., Any], verb: str) -> None:
    """Which cells, and what to show of them."""
    runs = verb == "run"
    metrics = ", ".join(METRIC_NAMES)
    add("--methods", default="all", metavar="A,B", help="methods by name, or all (default)")
    add("--bench", default="digits" if runs else "all", metavar="A,B", help="by name, or all (default: %(default)s)")
    add("--seeds", default="0-2" if runs else None, metavar="LIST", help="as in 1,2,3 or 0-4 (default: %(default)s)")
    add("--out", type=Path, default=registry.ROOT / "results", metavar="DIR", help="results (default: results)")
    add("--metric", default="acc,bwt,state", metavar="A,B", help=f"columns, of {metrics} (default: %(default)s)")


def add_execution(add: Callable[..., Any]) -> None:
    """With which settings, where and how."""
    add("--set", action="append", default=[], metavar="M.FIELD=V", help="a setting of a method, as in ness.eps=0.0005")
    add("--epochs", type=int, metavar="N", help="another budget than the recipe's; the table will say so")
    add("--executor", default="serial", metavar="E", help="serial (default): a cell at a time; ray: several at a time")
    add("--workers", type=int, metavar="N", help="cells at a time under ray (default: CPUs / threads)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads of a cell (default: 1); sums depend on it")
    add("--gpus-per-cell", type=float, metavar="F", help="share of a GPU for a cell under ray (default: 1 on cuda)")
    add("--device", default="auto", metavar="D", help="auto (default), cpu or cuda")
    add("--dry-run", action="store_true", help="list the cells and stop")


def show_list(args: argparse.Namespace) -> int:
    """One line a method and a benchmark."""
    methods = registry.available("Method", args.plugin)
    benchmarks = {n: registry.get_benchmark(n, args.plugin) for n in registry.available("Benchmark", args.plugin)}
    width = max(map(len, [*methods, *benchmarks]))
    print("methods")
    for name, path in methods.items():
        print(f"  {name:{width}}  {registry.summary(path)}")
    print("benchmarks")
    for name, path in registry.available("Benchmark", args.plugin).items():
        benchmark = benchmarks[name]
        facts = f"{benchmark.scenario}; {benchmark.num_tasks} tasks; data {benchmark.data_state(args.data)}"
        print(f"  {name:{width}}  {registry.summary(path)} [{facts}]")
    return 0


def show_table(args: argparse.Namespace) -> int:
    """A table of stored results."""
    chosen = pick("metric", args.metric, METRIC_NAMES)
    seeds = parse_seeds(args.seeds) if args.seeds else None
    methods = pick("method", args.methods, registry.available("Method", args.plugin))
    benchmarks = pick("benchmark", args.bench, registry.available("Benchmark", args.plugin))
    if args.format not in ("md", "latex", "csv"):
        raise nearest("format", args.format, ("md", "latex", "csv"))
    from bench import render, tables

    kept = [
        (result.cell, result)
        for result in current_results(args.out, args.plugin)
        if result.cell.method in methods
        and result.cell.benchmark in benchmarks
        and (seeds is None or result.cell.seed in seeds)
    ]
    if not kept:
        raise UserError(f"no results of these in {args.out}: run them first, as in `python run_bench.py`")
    print(render.FORMATS[args.format](tables.summarise(kept, chosen, seeds)))
    return 0


def current_results(folder: Path, plugins: Sequence[Path]) -> Iterator[Result]:
    """The stored results that today's code and recipes would give; says how many were left aside, and why."""
    from bench import grid, store

    outdated = 0
    for found in store.load_all(folder):
        if isinstance(found, str):
            warn(found)
        elif grid.is_current(found.cell, plugins):
            yield found
        else:
            outdated += 1
    if outdated:
        warn(f"{outdated} results left aside: their method, benchmark or recipe is another now")


def run(args: argparse.Namespace) -> int:
    """Run what is not done yet, then print the table."""
    chosen = pick("metric", args.metric, METRIC_NAMES)
    request, resources = make_request(args), make_resources(args)
    from bench import grid, render, store, tables
    from bench.display import Display

    cells, unsupported = grid.expand(request, args.plugin)
    if not args.dry_run:
        store.check_writable(args.out)
    results: dict[str, Result] = {}
    for cell in cells:
        found = store.stored(cell, args.out)
        if isinstance(found, str):
            warn(found)
        elif found is not None and found.error is None:
            results[cell.key] = found
    pending = [cell for cell in cells if cell.key not in results]
    how = f"{args.executor}, {resources.workers} at a time, {resources.device}, CPU threads each: {resources.threads}"
    print(f"{len(cells)} cells: {len(results)} done, {len(pending)} to run ({how})", flush=True)
    if args.dry_run:
        for cell in cells:
            print(f"  {'done  ' if cell.key in results else 'to run'}  {cell}")
        return 0
    try:
        with Display(len(pending)) as display:
            for result in execute(pending, resources, args.executor, display):
                store.save(result, args.out)
                results[result.cell.key] = result
                display.finished(result)
    except KeyboardInterrupt:
        rest = len(cells) - len(results)
        print(f"interrupted: {len(results)} cells are kept; the same command runs the other {rest}", file=sys.stderr)
        return 130
    pairs = [(cell, results.get(cell.key)) for cell in cells]
    table = tables.summarise(pairs, chosen, request.seeds, unsupported)
    stem = "-".join(request.benchmarks) + (f"-{request.epochs}epochs" if request.epochs else "")
    render.save(table, stem, command_line(request), [r for _, r in pairs if r], args.out / "tables")
    print(render.to_markdown(table))
    return report_failures([r for _, r in pairs if r and r.error], args.out)


def execute(cells: Sequence[Cell], resources: Resources, executor: str, display: Display) -> Iterator[Result]:
    """Results in the order in which they come, first those of cells without data."""
    from bench import grid

    ready, failed = grid.prepare(cells, resources)
    yield from failed
    if ready:
        yield from grid.EXECUTORS[executor](ready, resources, display.progress)


def warn(message: str) -> None:
    """A line for a person; the work goes on."""
    print(f"warning: {message}", file=sys.stderr)


def report_failures(failed: Sequence[Result], out: Path) -> int:
    """One line for each cell that failed. Returns the exit code."""
    for result in failed:
        print(f"failed: {result.cell}: {result.error} (traceback in {out / result.cell.path})", file=sys.stderr)
    return 1 if failed else 0


def command_line(request: Request) -> str:
    """The command that asks for the same cells."""
    words = ["python run_bench.py", f"--methods {','.join(request.methods)}", f"--bench {','.join(request.benchmarks)}"]
    words.append(f"--seeds {','.join(map(str, request.seeds))}")
    words += [f"--epochs {request.epochs}"] if request.epochs else []
    return " ".join(words + [f"--set {m}.{k}={v}" for m, s in request.settings.items() for k, v in s.items()])


def make_request(args: argparse.Namespace) -> Request:
    """The names, seeds and settings of the command line, checked before anything heavy is imported."""
    methods = pick("method", args.methods, registry.available("Method", args.plugin))
    known = registry.available("Benchmark", args.plugin)
    benchmarks = pick("benchmark", args.bench, known)
    if args.bench == "all":
        benchmarks = [name for name in known if registry.get_benchmark(name, args.plugin).in_all]
    seeds = parse_seeds(args.seeds)
    for option in ("epochs", "workers", "threads"):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            raise UserError(f"--{option} must be at least 1, not {getattr(args, option)}")
    settings: dict[str, dict[str, Any]] = {}
    for item in args.set:
        name, _, rest = item.partition(".")
        field, equals, value = rest.partition("=")
        if not (name and field and equals):
            raise UserError(f"--set takes METHOD.FIELD=VALUE, as in ness.eps=0.0005, not '{item}'")
        settings.setdefault(name, {})[field] = parse(value)
    for name in settings:
        if name not in methods:
            raise nearest("method in --set", name, methods)
    from bench.grid import Request

    return Request(methods, benchmarks, seeds, args.epochs, settings)


def make_resources(args: argparse.Namespace) -> Resources:
    """Where the cells run."""
    if args.executor not in ("serial", "ray"):
        raise nearest("executor", args.executor, ("serial", "ray"))
    if args.executor == "serial" and (args.workers or 1) > 1:
        raise UserError("--executor serial runs one cell at a time: use --executor ray with --workers")
    if args.device not in ("auto", "cpu", "cuda"):
        raise nearest("device", args.device, ("auto", "cpu", "cuda"))
    if args.gpus_per_cell is not None and args.gpus_per_cell < 0:
        raise UserError(f"--gpus-per-cell must be at least 0, not {args.gpus_per_cell}")
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
    import torch

    from bench.grid import Resources

    cuda = torch.cuda.is_available()
    if args.device == "cuda" and not cuda:
        raise UserError("--device cuda: there is no CUDA device here; use --device cpu")
    device = "cuda" if cuda and args.device != "cpu" else "cpu"
    workers = 1 if args.executor == "serial" else args.workers or max(1, (os.cpu_count() or 1) // args.threads)
    share = (1.0 if device == "cuda" else 0.0) if args.gpus_per_cell is None else args.gpus_per_cell
    return Resources(args.data.resolve(), device, args.threads, workers, share, tuple(p.resolve() for p in args.plugin))


def pick(what: str, text: str, known: Iterable[str]) -> list[str]:
    """Names from a comma-separated list, or all; each of them known, none twice."""
    known = list(known)
    chosen = known if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    for name in chosen:
        if name not in known:
            raise nearest(what, name, known)
    if not chosen:
        raise UserError(f"no {what} is named in '{text}'")
    return list(dict.fromkeys(chosen))


def parse_seeds(text: str) -> list[int]:
    """Seeds from a list like 1,2,3 or 0-4 or both."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f"--seeds takes a list like 1,2,3 or 0-4, not '{text}'")
        span = range(int(first), int(last if dash else first) + 1)
        if span.stop > 2**32 or len(span) > 10_000:
            raise UserError(f"--seeds '{text}': seeds are below 2**32, and at most 10,000 of them")
        seeds += span
    if not seeds or len(set(seeds)) != len(seeds):
        raise UserError(f"--seeds '{text}' {'repeats a seed' if seeds else 'is empty'}")
    return seeds


if __name__ == "__main__":
    sys.exit(main())
