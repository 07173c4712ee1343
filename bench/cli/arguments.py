"""Options that several commands share, with their help; what they mean together is in `bench.cli.options`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TypeVar

from bench import installation
from bench.analysis.columns import METRICS, USUAL
from bench.cli.options import EVERYTHING, PROTOCOL
from bench.core import PRECISIONS, PROTOCOLS, SCENARIOS
from bench.files import path_of

T = TypeVar("T", int, float)
LIMIT = 2**31  # of numbers on the command line


def whole(text: str) -> int:
    """Return a whole number. Raises `ArgumentTypeError`, which names the option."""
    try:
        value = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number, or too large") from error
    return _within(value, text)


def finite(text: str) -> float:
    """Return a finite number. Raises `ArgumentTypeError`, which names the option."""
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no number") from error
    return _within(value, text)


def _within(value: T, text: str) -> T:
    if not -LIMIT < value < LIMIT:  # nor NaN
        raise argparse.ArgumentTypeError(f"'{text}' is too large or no number")
    return value


def name_list(text: str) -> str:
    """Return a list of names as it is, but for the words that stand for one, which are known in any case."""
    word = text.strip().lower()
    return word if word in (*EVERYTHING, "default") else text


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes: plugins, and where data sets are."""
    parser.add_argument("--version", action="version", version=f"{installation.NAME} {installation.release()}")
    parser.add_argument(
        "--plugin",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="your own methods or benchmarks: a file, a folder or an importable package.module",
    )
    parser.add_argument(
        "--data",
        type=path_of,
        default=os.environ.get("NESS_BENCH_DATA", "data"),
        metavar="DIR",
        help="data sets (default: $NESS_BENCH_DATA, else data in the working folder)",
    )


def add_out(parser: argparse.ArgumentParser, what: str = "results") -> None:
    """Add the folder of results."""
    where = f"{what} (default: results in the working folder)"
    parser.add_argument("--out", type=path_of, default=installation.results(), metavar="DIR", help=where)


def add_selection(parser: argparse.ArgumentParser, runs: bool) -> None:
    """Add which cells, and what to show of them; `runs` tells whether they are run, or looked for."""
    add = parser.add_argument
    whole = "default" if runs else "all"
    seeds = "0-2" if runs else None
    protocol = PROTOCOL if runs else "all"
    known = "; ".join(f"{name}: {what}" for name, what in PROTOCOLS.items())
    add(
        "--methods",
        type=name_list,
        default=whole,
        metavar="A,B",
        help="by name, or default, or all (default: %(default)s)",
    )
    has_data = " whose data is here or can be downloaded, or everything" if runs else ""
    which = f"by name, or default, or all{has_data} (default: %(default)s)"
    add("--bench", type=name_list, default=whole, metavar="A,B", help=which)
    add("--seeds", default=seeds, metavar="LIST", help=f"as in 1,2,3 or 0-4 (default: {seeds or 'all'})")
    add_out(parser)
    if not runs:
        add("--scenario", default="all", metavar="S", help=f"{', '.join(SCENARIOS)}, or all (default: all)")
        budget = "only runs of so many epochs a task; or recipe: of the recipe's budget (default: all)"
        add("--epochs", default="all", metavar="N", help=budget)
        add("--precision", default="all", metavar="P", help=f"{', '.join(PRECISIONS)}, or all (default: all)")
    add("--protocol", default=PROTOCOL if runs else None, metavar="P", help=f"{known}; or all (default: {protocol})")
    columns = f"columns, of {', '.join(METRICS)} (default: {','.join(USUAL)}; in class-il aia too)"
    add("--metric", metavar="A,B", help=columns)


def add_scenario(parser: argparse.ArgumentParser) -> None:
    """Add what is asked of the methods."""
    known = "; ".join(f"{name}: {what}" for name, what in SCENARIOS.items())
    add = parser.add_argument
    add("--scenario", default="", metavar="S", help=f"{known} (default: what each benchmark is made for)")


def add_execution(parser: argparse.ArgumentParser) -> None:
    """Add by what cells are run, and what a cell is given."""
    add = parser.add_argument
    add("--executor", default="serial", metavar="E", help="serial (default): one cell at a time; ray: several")
    add("--memory-per-cell", type=finite, metavar="GB", help="memory that Ray sets aside for a cell (default: none)")
    add("--ray-address", default="", metavar="A", help="auto or HOST:PORT of a Ray cluster (default: start one here)")
    add("--time-limit", type=finite, metavar="MIN", help="stop a cell after this many minutes (default: never)")
    loggers = "log curves while cells run, to tensorboard, wandb or mlflow; repeatable; files go to OUT/logs"
    add("--log", action="append", default=[], metavar="A,B", help=loggers)
    add("--no-checkpoint", action="store_true", help="save nothing between tasks: a killed cell starts over")


def add_resources(parser: argparse.ArgumentParser) -> None:
    """Add the budget of a task, and where and how."""
    add = parser.add_argument
    add("--epochs", type=whole, metavar="N", help="a budget other than the recipe's; the table will say so")
    add("--workers", type=whole, metavar="N", help="cells run at a time under ray (default: CPUs / threads)")
    add("--threads", type=whole, default=1, metavar="N", help="CPU threads of a cell (default: 1); affects rounding")
    add("--gpus-per-cell", type=finite, metavar="F", help="share of a GPU for a cell under ray (default: 1 on cuda)")
    add(
        "--device",
        default="auto",
        metavar="D",
        help="auto (default: cuda if there, else cpu), cpu, cuda, cuda:1, ... or mps",
    )
    known = "; ".join(f"{name}: {what}" for name, what in PRECISIONS.items())
    add("--precision", default="fp32", metavar="P", help=f"{known} (default: %(default)s)")
    add("--tf32", action="store_true", help="on a GPU, round factors to TF32: faster, but numbers change")
    add("--dry-run", action="store_true", help="list what would run, say how long it may take, and stop")
