#!/usr/bin/env python3
"""NESS-Bench: methods x benchmarks x seeds, turned into a table.

  python run_bench.py                                        every method on the embedded digits, three seeds
  python run_bench.py --methods ness,gpm --bench all         a choice of methods on every benchmark
  python run_bench.py status                                 how far a grid is that runs in another terminal
  python run_bench.py tune                                   better settings, chosen on validation data
  python run_bench.py list                                   what there is; with --recipes, every setting and its source
  python run_bench.py data --prepare                         download and prepare the data of all benchmarks
  python run_bench.py table --metric acc,bwt,forgetting      a table of what has been run
  python run_bench.py table --paper NAME                     a paper's published table beside ours
  python run_bench.py report                                 one HTML page of what has been run, with its figures
  python run_bench.py new method NAME                        a file to start your own method from, and its test
  python run_bench.py check NAME.py                          what every method and benchmark must keep to, on yours
  python run_bench.py import matrix.csv --help               a row for an accuracy matrix computed elsewhere

Finished cells (a method on a benchmark with a seed) are kept in the results folder and never run twice: the same
command again goes on where it stopped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from bench.cli import parser
from bench.config import nearest
from bench.core import UserError

DEFAULT_BENCHMARK = "digits"
VERBS = {  # the function of each, in bench.cli.commands; imported only when it is called
    "run": "run.run",
    "status": "look.status",
    "tune": "tune.tune",
    "list": "look.show_list",
    "data": "look.show_data",
    "table": "table.show_table",
    "report": "table.write_report",
    "import": "table.import_matrix",
    "new": "author.start_new",
    "check": "author.check",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, call, print. Returns the exit code: 0; 1 a cell failed; 2 a wrong request; 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if not words or words[0].startswith("-"):
            words.insert(0, "run")
        if words[0] not in VERBS:
            raise nearest("verb", words[0], VERBS)
        args = parser.make_parser(words[0], str(__doc__), DEFAULT_BENCHMARK, list(VERBS)).parse_args(words[1:])
        module, function = VERBS[words[0]].split(".")
        code: int = getattr(import_module(f"bench.cli.commands.{module}"), function)(args)
        return code
    except UserError as error:
        print(f"run_bench.py: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
