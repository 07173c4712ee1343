"""report: one HTML page of what has been run, with its figures."""

from __future__ import annotations

import argparse

from bench.analysis.columns import METRICS
from bench.cli import options
from bench.cli.arguments import add_selection
from bench.cli.selection import select
from bench.config import require
from bench.files import path_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which results, and where the page goes."""
    add_selection(parser, runs=False)
    where = "the page, which holds all it shows (default: OUT/report.html)"
    parser.add_argument("--to", type=path_of, metavar="FILE", help=where)
    formats = f"also each figure as a file in figures/ beside the page, of {','.join(options.FIGURE_FORMATS)}"
    parser.add_argument("--figures", metavar="F,G", help=formats)


def main(args: argparse.Namespace) -> int:
    """Write the page. Return the exit code."""
    chosen = options.pick("metric", args.metric, METRICS)
    formats = options.pick("figure format", args.figures, options.FIGURE_FORMATS) if args.figures is not None else []
    page = args.to or args.out / "report.html"
    require(not page.is_dir(), f"--to {page} is a folder: name a file in it, as in {page / 'report.html'}")
    kept, seeds, others, changed = select(args)
    from bench.analysis import report
    from bench.analysis import table as tables
    from bench.analysis.explorer.manifest import commands_behind

    pairs = report.with_gaps(kept, options.named(args.methods), options.named(args.bench))
    unsupported = report.inapplicable(pairs, args.catalog)
    streams = tables.streams(args.catalog.benchmark(n) for n in {c.benchmark for c, _ in pairs})
    commands = commands_behind(kept, args.out / "tables")
    options_of_table = {"more": others, "unsupported": unsupported, "changed": changed}
    report.write_report(page, pairs, seeds, chosen, streams, commands, formats, args.out, **options_of_table)
    print(f"report: {page}")
    return 0
