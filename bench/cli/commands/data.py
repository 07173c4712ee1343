"""data: what every benchmark reads, whether it is present and intact, and how to get what is missing."""

from __future__ import annotations

import argparse
import sys

from bench.cli import options
from bench.cli.arguments import name_list


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `data`."""
    parser.add_argument(
        "--bench", type=name_list, default="all", metavar="A,B", help="benchmarks by name, or all (default)"
    )
    what = "download, verify and convert what is not ready (default: only report)"
    parser.add_argument("--prepare", action="store_true", help=what)


def main(args: argparse.Namespace) -> int:
    """Tell of the data, source by source. Return 1 if some is corrupt or cannot be prepared."""
    names = options.pick_benchmarks(args.bench, args.catalog)
    from bench.data import inventory

    sound = True
    try:
        for line, fine in inventory.data_report([args.catalog.benchmark(n) for n in names], args.data, args.prepare):
            print(line, flush=True)
            sound &= fine
    except KeyboardInterrupt:
        print("interrupted: what is prepared or downloaded is kept; the same command continues", file=sys.stderr)
        return 130
    return 0 if sound else 1
