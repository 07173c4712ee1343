"""new and check: for authors of methods and benchmarks."""

from __future__ import annotations

import argparse
import os

from bench.tools import scaffold


def start_new(args: argparse.Namespace) -> int:
    """The files of a new method or benchmark, in the current folder."""
    print("\n".join(scaffold.main(args)))
    return 0


def check(args: argparse.Namespace) -> int:
    """The contract, check by check. Returns 1 if one fails."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from bench.tools import check as conformance

    passed = True
    for line, fine in conformance.report(args.what, args.plugin, args.data):
        print(line, flush=True)
        passed &= fine
    return 0 if passed else 1
