"""import: a row for an accuracy matrix that was computed elsewhere."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from bench.catalog.catalog import RESERVED
from bench.cli import options
from bench.cli.arguments import add_out
from bench.config import known_as, parse_value, require
from bench.core import PROTOCOLS, SCENARIOS
from bench.files import path_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the matrix, and whose it is."""
    add = parser.add_argument
    add(
        "matrix",
        type=path_of,
        metavar="matrix.csv",
        help="line i, column j: accuracy on task j after task i, in [0, 1]",
    )
    add("--method", required=True, metavar="NAME", help="a name for its row; the row is marked as imported")
    add("--bench", required=True, metavar="NAME", help="the benchmark it was computed on")
    add("--seed", required=True, metavar="N", help="its seed")
    add("--scenario", default="", metavar="S", help="what it was computed in (default: what the benchmark is made for)")
    add("--set", action="append", default=[], metavar="OPTION=V", help="of the benchmark, such as tasks=20")
    column = f"the protocol whose column it belongs in: {', '.join(PROTOCOLS)} (default: %(default)s)"
    add("--protocol", default=options.PROTOCOL, metavar="P", help=column)
    add("--epochs", type=int, metavar="N", help="of a task, at most, for the table's notes")
    add("--percent", action="store_true", help="accuracies are in percent")
    zeros = "whether zeros above the diagonal, or lines of zeros before the last, are measured or unmeasured"
    add("--zeros", default="", metavar="WHAT", help=zeros)
    add("--transpose", action="store_true", help="line i, column j: accuracy on task i after task j")
    add_out(parser)


def main(args: argparse.Namespace) -> int:
    """Store the matrix as a result. Return the exit code."""
    seeds = options.parse_seeds(args.seed, "--seed")
    require(len(seeds) == 1, f"--seed takes one seed, not '{args.seed}'")
    scenario = known_as("scenario", args.scenario, SCENARIOS) if args.scenario else ""
    benchmark = args.catalog.benchmark(args.bench, options_in(args.set, args.bench), scenario)
    from bench.execution import imported as foreign

    taken = [*args.catalog.available("Method"), *RESERVED]
    reading = foreign.Reading(args.percent, args.zeros, args.transpose)
    conditions = foreign.Conditions(known_as("protocol", args.protocol, PROTOCOLS), args.epochs)
    path = foreign.import_matrix(args.matrix, args.method, benchmark, seeds[0], args.out, reading, taken, conditions)
    print(f"imported: {path}")
    return 0


def options_in(texts: Sequence[str], benchmark: str) -> dict[str, Any]:
    """Return the options of a benchmark in texts such as "tasks=20" or "benchmark.tasks=20"."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.removeprefix(f"{benchmark}.")
        require(bool(name and equals), f"--set takes OPTION=VALUE, not '{text}'")
        found[name] = parse_value(value)
    return found
