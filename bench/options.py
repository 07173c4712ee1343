"""The options of the command line: from words to a checked request, before anything heavy is imported."""

from __future__ import annotations

import argparse
import math
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bench import registry, scaffold, store, tuned
from bench.config import nearest, parse, require
from bench.core import PROTOCOLS, UserError

if TYPE_CHECKING:
    from bench.core import Cell
    from bench.grid import Request
    from bench.tune import Search
    from bench.worker import Resources

PROTOCOL = "published"  # unless told otherwise
METRIC_NAMES = (
    "acc", "bwt", "forgetting", "la", "aia", "fwt", "intransigence", "state", "trainable", "old", "seconds"
)  # fmt: skip


class Once(argparse.Action):
    """An option with one value, which may not be given two different ones."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        given = vars(namespace).setdefault("_given", {})
        if given.setdefault(self.dest, values) != values:
            raise UserError(f"{option} is given twice, as {given[self.dest]} and as {values}: which one?")
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """Errors as one line."""

    def __init__(self, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        self.register("action", None, Once)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def make_parser(verb: str, about: str, benchmark: str, verbs: Sequence[str] = ()) -> Parser:
    """The options of a verb, one of `verbs`, with `about` above them; `benchmark` runs unless told otherwise."""
    raw = argparse.RawDescriptionHelpFormatter
    more = f"verbs: {', '.join(verbs)} (default: run); `python run_bench.py VERB --help` has the options of each"
    parser = Parser(f"run_bench.py {verb}", description=about, epilog=more, formatter_class=raw, allow_abbrev=False)
    add = parser.add_argument
    add(
        "--plugin",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="your own methods or benchmarks: a file, a folder or an importable package.module",
    )
    add(
        "--data",
        type=Path,
        default=Path(os.environ.get("NESS_BENCH_DATA", "data")),
        metavar="DIR",
        help="data sets (default: $NESS_BENCH_DATA, else data)",
    )
    if verb in ("run", "table", "report"):
        add_selection(add, verb == "run", benchmark)
    if verb == "run":
        add_execution(add)
    if verb == "status":
        add("--out", type=Path, default=registry.ROOT / "results", metavar="DIR", help="results (default: results)")
    if verb == "tune":
        add_tuning(add, benchmark)
        parser.set_defaults(executor="ray", recipe=None, set=[], no_checkpoint=True)
        parser.set_defaults(ray_address="", time_limit=None, memory_per_cell=None)
    if verb == "table":
        add_presentation(add)
    if verb == "report":
        add("--to", type=Path, metavar="FILE", help="the page; its figures go beside it (default: OUT/report.html)")
    if verb == "data":
        add("--bench", default="all", metavar="A,B", help="benchmarks by name, or all (default)")
        add(
            "--prepare", action="store_true", help="download, verify and convert what is not ready (default: only look)"
        )
    if verb == "list":
        add("--recipes", action="store_true", help="every setting with its source: the recipes, and all defaults")
        add("--bench", default="all", metavar="A,B", help="whose recipes, by name, or all (default)")
    if verb == "import":
        add_import(add)
    if verb == "new":
        scaffold.add_options(add)
    if verb == "check":
        add("what", nargs="+", metavar="PLUGIN", help="as for --plugin, or the name of a method or a benchmark")
    return parser


def add_selection(add: Callable[..., Any], runs: bool, benchmark: str) -> None:
    """Which cells, and what to show of them."""
    metrics = ", ".join(METRIC_NAMES)
    add("--methods", default="all", metavar="A,B", help="methods by name, or all (default)")
    add("--bench", default=benchmark if runs else "all", metavar="A,B", help="by name, or all (default: %(default)s)")
    add("--seeds", default="0-2" if runs else None, metavar="LIST", help="as in 1,2,3 or 0-4 (default: %(default)s)")
    add("--out", type=Path, default=registry.ROOT / "results", metavar="DIR", help="results (default: results)")
    known = "; ".join(f"{name}: {what}" for name, what in PROTOCOLS.items())
    protocol = PROTOCOL if runs else "all"
    add("--protocol", default=PROTOCOL if runs else None, metavar="P", help=f"{known}; or all (default: {protocol})")
    add("--metric", default="acc,bwt,state", metavar="A,B", help=f"columns, of {metrics} (default: %(default)s)")


def add_execution(add: Callable[..., Any]) -> None:
    """With which settings, where and how."""
    add("--set", action="append", default=[], metavar="M.FIELD=V", help="of a method, its training or a benchmark")
    add("--recipe", type=Path, metavar="FILE", help="settings as `tune` writes them; --set stands above them")
    add("--executor", default="serial", metavar="E", help="serial (default): a cell at a time; ray: several at a time")
    add_resources(add)
    add("--memory-per-cell", type=float, metavar="GB", help="memory that Ray sets aside for a cell (default: none)")
    add("--ray-address", default="", metavar="A", help="auto or HOST:PORT of a Ray cluster (default: start one here)")
    add("--time-limit", type=float, metavar="MIN", help="stop a cell after so many minutes (default: never)")
    add("--no-checkpoint", action="store_true", help="keep nothing between tasks: a killed cell starts anew")


def add_resources(add: Callable[..., Any]) -> None:
    """The budget of a task, and where and how."""
    add("--epochs", type=int, metavar="N", help="another budget than the recipe's; the table will say so")
    add("--workers", type=int, metavar="N", help="cells at a time under ray (default: CPUs / threads)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads of a cell (default: 1); sums depend on it")
    add("--gpus-per-cell", type=float, metavar="F", help="share of a GPU for a cell under ray (default: 1 on cuda)")
    add("--device", default="auto", metavar="D", help="auto (default), cpu or cuda")
    add("--dry-run", action="store_true", help="list what would run and stop")


def add_tuning(add: Callable[..., Any], benchmark: str) -> None:
    """What to search, and how far."""
    add("--methods", default="all", metavar="A,B", help="methods by name, or all (default)")
    add("--bench", default=benchmark, metavar="NAME", help="one benchmark (default: %(default)s)")
    add("--protocol", default=PROTOCOL, metavar="P", help="one protocol (default: %(default)s)")
    add("--trials", type=int, default=10, metavar="N", help="of each method, the recipe's own first (default: 10)")
    add("--tasks", type=int, metavar="N", help="judge by the first tasks of the stream (default: 3)")
    add("--seeds", default="100", metavar="LIST", help="of data and weights; none that a table uses (default: 100)")
    add("--search-seed", type=int, default=0, metavar="N", help="of the samples (default: 0)")
    add("--out", type=Path, default=registry.ROOT / "results", metavar="DIR", help="trials and recipe go to OUT/tune")
    add_resources(add)


def add_presentation(add: Callable[..., Any]) -> None:
    """How a table looks, and what is tested."""
    add("--format", default="md", metavar="F", help="md (default), latex or csv")
    add("--siunitx", action="store_true", help="LaTeX whose numbers are aligned by the siunitx package")
    add("--caption", default="", metavar="TEXT", help="text to put in front of the caption")
    add("--compare", metavar="METHOD", help="mark what differs from this row, and show the paired tests over seeds")
    add("--ranks", action="store_true", help="mean ranks over benchmarks, with their critical difference")
    add("--alpha", type=float, default=0.05, metavar="P", help="level of --compare and --ranks (default: %(default)s)")
    add("--tensorboard", type=Path, metavar="DIR", help="also write the results there as TensorBoard scalars")
    add("--paper", metavar="NAME", help=f"a paper's table beside ours, under one protocol (default: {PROTOCOL})")
    add("--paper-table", metavar="T", help="another table of --paper than its main ones, as in 'Table 6'")


def add_import(add: Callable[..., Any]) -> None:
    """An accuracy matrix computed elsewhere, and whose it is."""
    add("matrix", type=Path, metavar="matrix.csv", help="line i, column j: accuracy on task j after task i, in [0, 1]")
    add("--method", required=True, metavar="NAME", help="a name for its row; the row is marked as imported")
    add("--bench", required=True, metavar="NAME", help="the benchmark it was computed on")
    add("--seed", required=True, metavar="N", help="its seed")
    add("--percent", action="store_true", help="accuracies are in percent")
    add("--out", type=Path, default=registry.ROOT / "results", metavar="DIR", help="results (default: results)")


def make_request(args: argparse.Namespace) -> Request:
    """The names, seeds and settings of the command line, checked before anything heavy is imported."""
    methods = pick_methods(args.methods, args.plugin)
    protocols = pick("protocol", args.protocol, PROTOCOLS)
    known = registry.available("Benchmark", args.plugin)
    benchmarks = pick("benchmark", args.bench, known)
    if args.bench == "all":
        benchmarks = [name for name in known if registry.get_benchmark(name, args.plugin).in_all]
    seeds = parse_seeds(args.seeds)
    for option in ("epochs", "workers", "threads"):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            raise UserError(f"--{option} must be at least 1, not {getattr(args, option)}")
    settings = from_recipe(args, methods, benchmarks, protocols) if args.recipe else {}
    given: dict[str, dict[str, Any]] = {}
    for item in args.set:
        name, _, rest = item.partition(".")
        field, equals, value = rest.partition("=")
        if not (name and field and equals):
            raise UserError(f"--set takes METHOD.FIELD=VALUE or BENCHMARK.OPTION=VALUE, not '{item}'")
        own = given.setdefault(name, {})
        require(own.setdefault(field, parse(value)) == parse(value), f"--set {name}.{field} is given two values")
    for name, own in given.items():
        settings.setdefault(name, {}).update(own)
    for name in settings:
        if name not in (*methods, *benchmarks):
            raise nearest("method or benchmark in --set", name, (*methods, *benchmarks))
    from bench.grid import Request

    return Request(methods, benchmarks, seeds, args.epochs, settings, protocols)


def from_recipe(
    args: argparse.Namespace, methods: Sequence[str], benchmarks: Sequence[str], protocols: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """What `--recipe` sets for the methods and benchmarks of the request."""
    known = [*registry.available("Method", args.plugin), *registry.available("Benchmark", args.plugin)]
    found = tuned.read(args.recipe, benchmarks, protocols, [*known, *registry.variants(args.plugin)])
    return {name: table for name, table in found.items() if name in (*methods, *benchmarks)}


def make_search(args: argparse.Namespace, request: Request) -> Search:
    """How far `tune` searches, on one benchmark under one protocol."""
    for option, chosen in (("bench", request.benchmarks), ("protocol", request.protocols)):
        require(len(chosen) == 1, f"tune takes one --{option} at a time, not {','.join(chosen)}")
    require(args.trials >= 1, f"--trials must be at least 1, not {args.trials}")
    [name] = request.benchmarks
    there = registry.get_benchmark(name, args.plugin).num_tasks
    tasks = min(3, there) if args.tasks is None else args.tasks
    require(1 <= tasks <= there, f"--tasks must be between 1 and {there}, the tasks of {name}, not {tasks}")
    from bench.tune import Search

    return Search(args.trials, tasks, args.search_seed)


def make_resources(args: argparse.Namespace) -> Resources:
    """Where the cells run."""
    if args.executor not in ("serial", "ray"):
        raise nearest("executor", args.executor, ("serial", "ray"))
    if args.executor == "serial" and (args.workers or 1) > 1:
        raise UserError("--executor serial runs one cell at a time: use --executor ray with --workers")
    if args.device not in ("auto", "cpu", "cuda"):
        raise nearest("device", args.device, ("auto", "cpu", "cuda"))
    if args.ray_address and args.executor != "ray":
        raise UserError("--ray-address goes with --executor ray")
    if args.gpus_per_cell is not None and args.gpus_per_cell < 0:
        raise UserError(f"--gpus-per-cell must be at least 0, not {args.gpus_per_cell}")
    for option in ("memory_per_cell", "time_limit"):
        if (value := getattr(args, option)) is not None and not value > 0:
            raise UserError(f"--{option.replace('_', '-')} must be greater than 0, not {value:g}")
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
    import torch

    from bench.worker import Resources

    cuda = torch.cuda.is_available() or (args.device == "cuda" and bool(args.ray_address))  # the cluster will tell
    if args.device == "cuda" and not cuda:
        raise UserError("--device cuda: there is no CUDA device here; use --device cpu")
    device = "cuda" if cuda and args.device != "cpu" else "cpu"
    here = 0 if args.ray_address else max(1, (os.cpu_count() or 1) // args.threads)
    workers = 1 if args.executor == "serial" else args.workers or here
    if args.gpus_per_cell is not None and (args.gpus_per_cell > 0) != (device == "cuda"):
        raise UserError(f"--gpus-per-cell {args.gpus_per_cell} does not go with device {device}")
    share = (1.0 if device == "cuda" else 0.0) if args.gpus_per_cell is None else args.gpus_per_cell
    return Resources(
        args.data.resolve(), device, args.threads, workers, share,
        plugins=tuple(map(registry.locate, args.plugin)),
        checkpoints=None if args.no_checkpoint else store.checkpoints(args.out.resolve()),
        time_limit=60 * (args.time_limit or math.inf),
        address=args.ray_address,
        memory_per_cell=1e9 * (args.memory_per_cell or 0),
    )  # fmt: skip


def named(text: str) -> list[str]:
    """The names in a comma-separated list; none for all."""
    return [] if text == "all" else [name.strip() for name in text.split(",") if name.strip()]


def pick(what: str, text: str, known: Iterable[str]) -> list[str]:
    """Names from a comma-separated list, or all; each of them known, none twice."""
    known = list(known)
    chosen = known if text == "all" else named(text)
    for name in chosen:
        if name not in known:
            raise nearest(what, name, known)
    if not chosen:
        raise UserError(f"no {what} is named in '{text}'")
    return list(dict.fromkeys(chosen))


def pick_methods(text: str, plugins: Sequence[Path], others: Iterable[str] = ()) -> list[str]:
    """Methods, or `others`, from a comma-separated list; `all` leaves the variants that recipes define out."""
    known = [*registry.available("Method", plugins), *others]
    return pick("method", text, known if text == "all" else [*known, *registry.variants(plugins)])


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


def again(args: argparse.Namespace, request: Request, failed: Sequence[Cell]) -> str:
    """The command that runs these cells again, all of one request, and nothing else: what is done is not repeated."""
    methods = list(dict.fromkeys(cell.method for cell in failed))
    benchmarks = list(dict.fromkeys(cell.benchmark for cell in failed))
    settings = {k: v for k, v in request.settings.items() if k in (*methods, *benchmarks)}
    protocols = [p for p in request.protocols if any(cell.protocol == p for cell in failed)]
    seeds = sorted({cell.seed for cell in failed})
    from bench.grid import Request

    words = [command_line(Request(methods, benchmarks, seeds, request.epochs, settings, protocols))]
    usual = vars(make_parser("run", "", "").parse_args([]))
    for name in ("out", "data", "executor", "workers", "threads", "gpus_per_cell", "memory_per_cell", "ray_address",
                 "device", "time_limit"):  # fmt: skip
        if getattr(args, name) != usual[name]:
            words.append(f"--{name.replace('_', '-')} {shlex.quote(str(getattr(args, name)))}")
    words += [f"--plugin {shlex.quote(str(plugin))}" for plugin in args.plugin]
    return " ".join(words + (["--no-checkpoint"] if args.no_checkpoint else []))


def command_line(request: Request) -> str:
    """The command that asks for the same cells."""
    words = ["python run_bench.py", f"--methods {','.join(request.methods)}", f"--bench {','.join(request.benchmarks)}"]
    words.append(f"--seeds {','.join(map(str, request.seeds))}")
    words += [f"--protocol {','.join(request.protocols)}"] if list(request.protocols) != [PROTOCOL] else []
    words += [f"--epochs {request.epochs}"] if request.epochs else []
    return " ".join(
        words + [f"--set {shlex.quote(f'{m}.{k}={v}')}" for m, s in request.settings.items() for k, v in s.items()]
    )


def tune_line(request: Request, search: Search) -> str:
    """The command that makes the same search."""
    line = command_line(request).replace("run_bench.py", "run_bench.py tune", 1)
    return f"{line} --trials {search.trials} --tasks {search.tasks} --search-seed {search.seed}"
