"""check: test your methods and benchmarks against the contract that all of them keep."""

from __future__ import annotations

import argparse
import os

from bench.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the words of `check`."""
    what = "as for --plugin, or the name of a method or a benchmark"
    parser.add_argument("what", nargs="+", metavar="PLUGIN", help=what)


def main(args: argparse.Namespace) -> int:
    """Run the contract, check by check. Return 1 if one fails."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from bench.tools import check as conformance

    passed = True
    for line, fine in conformance.check_report(args.what, args.catalog, args.data):
        print(printable(line), flush=True)
        passed &= fine
    return 0 if passed else 1
