"""table: show what is in the results folder, with statistical comparisons."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.analysis.columns import USUAL
from bench.catalog import changes
from bench.cli import options
from bench.cli.arguments import add_selection, finite
from bench.cli.selection import budget_of, select, stored_results
from bench.config import known_as, require
from bench.core import PROTOCOLS
from bench.files import path_of
from bench.text import counted

if TYPE_CHECKING:
    from bench.analysis.table import Table

ROOM = "LaTeX no wider than this (default: 345, the text of a one-column article; of a two-column one: 469)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which results, how the table looks, and what is tested."""
    add_selection(parser, runs=False)
    add = parser.add_argument
    add("--format", default="md", metavar="F", help="md (default), latex or csv")
    add("--siunitx", action="store_true", help="LaTeX whose numbers are aligned by the siunitx package")
    add("--second", action="store_true", help="LaTeX whose second best numbers are underlined")
    add("--width", type=finite, default=345.0, metavar="PT", help=ROOM)
    add("--caption", default="", metavar="TEXT", help="text to put in front of the caption")
    add("--compare", metavar="METHOD", help="mark what differs from this row, and show the paired tests over seeds")
    add("--ranks", action="store_true", help="mean ranks over benchmarks, with their critical difference")
    add("--alpha", type=finite, default=0.05, metavar="P", help="level of --compare and --ranks (default: %(default)s)")
    add("--tensorboard", type=path_of, metavar="DIR", help="also write the results there as TensorBoard scalars")
    beside = f"a paper's table beside your fp32 runs under a protocol (default: {options.PROTOCOL})"
    add("--paper", metavar="NAME", help=beside)
    add("--paper-table", metavar="T", help="another table of --paper than its main ones, as in 'Table 6'")


def main(args: argparse.Namespace) -> int:
    """Print a table of stored results, and what may be said of it. Return the exit code."""
    chosen = options.pick_metrics(args.metric)
    from bench.analysis import render
    from bench.analysis import table as tables

    args.format = known_as("format", args.format, [form for form in render.FORMATS if form != render.TERMINAL])
    args.format = render.TERMINAL if args.format == "md" else args.format
    require(not args.siunitx or args.format == "latex", "--siunitx goes with --format latex")
    require(not args.second or args.format == "latex", "--second goes with --format latex")
    require(not (args.second and args.siunitx), "--second goes without --siunitx, whose columns underline nothing")
    require(args.width >= 200, f"--width must be at least 200 points, not {args.width:g}")
    require(0 < args.alpha < 1, f"--alpha is a probability between 0 and 1, not {args.alpha:g}")
    if args.paper:
        return show_paper(args, chosen)
    require(args.paper_table is None, "--paper-table goes with --paper")
    kept, seeds, others, changed = select(args)
    pairs = [(result.cell, result) for result in kept]
    show_table(tables.summarize(pairs, chosen, seeds, more=others, changed=changed), chosen, args)
    if args.tensorboard:
        from bench.analysis.tensorboard import write_scalars

        count = write_scalars(kept, args.tensorboard)
        print(f"{counted(count, 'run')} written to {args.tensorboard}", file=sys.stderr)
    return 0


def show_table(table: Table, chosen: Sequence[str] | None, args: argparse.Namespace) -> None:
    """Print a table in the form asked for, then the comparisons and ranks asked for."""
    from bench.analysis import compare, render

    if args.caption:
        table = replace(table, title=args.caption.rstrip(" ."))
    table, listings = compare.compare_and_rank(table, args.compare, (chosen or USUAL) if args.ranks else (), args.alpha)
    main = render.FORMATS[args.format](table)
    if args.format == "latex":
        main = render.to_latex(table, siunitx=args.siunitx, second=args.second, room=args.width)
    print("\n\n".join([main, *(render.show_listing(listing, args.format, args.width) for listing in listings)]))


def show_paper(args: argparse.Namespace, chosen: Sequence[str] | None) -> int:
    """Print a paper's table beside our stored results, of which there may be none. Return the exit code."""
    others = (args.compare, args.ranks, args.siunitx, args.tensorboard)
    require(not any(others), "--paper goes without --compare, --ranks, --siunitx and --tensorboard")
    require(args.precision.lower() in ("all", "fp32"), "--paper compares runs in fp32: leave --precision out")
    has_budget = budget_of(args.epochs)
    protocols = options.pick("protocol", args.protocol or options.PROTOCOL, PROTOCOLS)
    require(len(protocols) == 1, f"--paper compares under one protocol, not {', '.join(protocols)}")
    from bench.analysis import render
    from bench.analysis.papers import listing as paper_table
    from bench.analysis.papers import paper, published, side_by_side

    rows = published.rows_of(args.paper, args.paper_table)
    benchmarks = options.pick_benchmarks(args.bench, args.catalog)
    methods = options.pick_methods(args.methods, args.catalog)
    methods += args.catalog.variants() if args.methods == "all" else []
    if args.bench != "all":
        rows = [row for row in rows if row.here[0] in benchmarks]
    if args.methods != "all":
        rows = [row for row in rows if row.here[1] in methods]
    require(bool(rows), f"no line of that table of {args.paper} is about these benchmarks and methods")
    seeds = options.parse_seeds(args.seeds) if args.seeds else None
    everything = stored_results(args.out, changes.Today(args.catalog))
    asked = [r for r in everything if has_budget(r.cell) and (seeds is None or r.cell.seed in seeds)]
    results = [result for result in asked if "other" not in result.cell.traits]
    metrics = [name for name in chosen or published.PRINTED if name in published.PRINTED]
    lines = paper.beside_results(rows, results, protocols[0], metrics, benchmarks, methods)
    if args.format == "latex":
        print(side_by_side.paper_to_latex(lines, protocols[0], args.width))
        return 0
    listings = paper_table.listings(lines, protocols[0], args.format)
    print("\n\n".join(render.show_listing(listing, args.format) for listing in listings))
    return 0
