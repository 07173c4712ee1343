"""new: the files of a method or a benchmark of your own, in the current folder."""

from __future__ import annotations

import argparse

from bench.tools import scaffold


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the words of `new`."""
    parser.add_argument("kind", metavar="KIND", help="method or benchmark")
    what = "an identifier: NAME.py and test_NAME.py are written to the current folder"
    parser.add_argument("name", metavar="NAME", help=what)


def main(args: argparse.Namespace) -> int:
    """Write the files, and tell what to do with them. Return the exit code."""
    print("\n".join(scaffold.write_extension(args.kind, args.name, args.catalog)))
    return 0
