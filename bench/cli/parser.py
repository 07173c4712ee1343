"""The options of every verb of the command line, with their help; what they mean together is in `bench.cli.options`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bench.catalog import registry
from bench.cli.options import FIGURE_FORMATS, METRIC_NAMES, PROTOCOL
from bench.core import PRECISIONS, PROTOCOLS, UserError
from bench.tools import scaffold


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
        add("--to", type=Path, metavar="FILE", help="the page, which holds its figures (default: OUT/report.html)")
        formats = ",".join(FIGURE_FORMATS)
        add("--figures", metavar="F,G", help=f"also each figure as a file in figures/ beside the page, of {formats}")
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
    whole = "default" if runs else "all"
    add("--methods", default=whole, metavar="A,B", help="by name, or default, or all (default: %(default)s)")
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
    add("--rerun", default="", metavar="WHICH", help="changed: run again what was run by other code or another recipe")
    add("--no-checkpoint", action="store_true", help="keep nothing between tasks: a killed cell starts anew")


def add_resources(add: Callable[..., Any]) -> None:
    """The budget of a task, and where and how."""
    add("--epochs", type=int, metavar="N", help="another budget than the recipe's; the table will say so")
    add("--workers", type=int, metavar="N", help="cells at a time under ray (default: CPUs / threads)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads of a cell (default: 1); sums depend on it")
    add("--gpus-per-cell", type=float, metavar="F", help="share of a GPU for a cell under ray (default: 1 on cuda)")
    add("--device", default="auto", metavar="D", help="auto (default), cpu or cuda")
    known = "; ".join(f"{name}: {what}" for name, what in PRECISIONS.items())
    add("--precision", default="fp32", metavar="P", help=f"{known} (default: %(default)s)")
    add("--tf32", action="store_true", help="on a GPU, round what is multiplied to TF32: other numbers, sooner")
    add("--dry-run", action="store_true", help="list what would run, say how long it may take, and stop")


def add_tuning(add: Callable[..., Any], benchmark: str) -> None:
    """What to search, and how far."""
    add("--methods", default="default", metavar="A,B", help="by name, or default, or all (default: %(default)s)")
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
    add("--paper", metavar="NAME", help=f"a paper's table beside our fp32 runs under a protocol (default: {PROTOCOL})")
    add("--paper-table", metavar="T", help="another table of --paper than its main ones, as in 'Table 6'")


def add_import(add: Callable[..., Any]) -> None:
    """An accuracy matrix computed elsewhere, and whose it is."""
    add("matrix", type=Path, metavar="matrix.csv", help="line i, column j: accuracy on task j after task i, in [0, 1]")
    add("--method", required=True, metavar="NAME", help="a name for its row; the row is marked as imported")
    add("--bench", required=True, metavar="NAME", help="the benchmark it was computed on")
    add("--seed", required=True, metavar="N", help="its seed")
    add("--percent", action="store_true", help="accuracies are in percent")
    add("--out", type=Path, default=registry.ROOT / "results", metavar="DIR", help="results (default: results)")
