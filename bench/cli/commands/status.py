"""status: which grids are running in a results folder, and what is stored there."""

from __future__ import annotations

import argparse

from bench.cli.arguments import add_out
from bench.text import counted, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `status`."""
    add_out(parser)


def main(args: argparse.Namespace) -> int:
    """Print the grids that run, and the number of results. Return the exit code."""
    from bench.core import Result
    from bench.execution import status as journal
    from bench.execution import store

    alive = list(journal.grids(args.out))
    for process, note in alive:
        print("\n".join(map(printable, journal.describe_grid(process, note))))
    stored = sum(isinstance(found, Result) for found in store.load_all(args.out))  # no copy, and nothing damaged
    running = f"{len(alive) or 'no'} grid{'s are' if len(alive) > 1 else ' is'} running"
    print(f"{args.out}: {counted(stored, 'result')}, {running}")
    return 0
