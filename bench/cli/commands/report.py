"""report: one HTML page of what has been run, with its figures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench.cli import options
from bench.cli.arguments import add_selection
from bench.cli.selection import select
from bench.config import require
from bench.core import Result
from bench.files import path_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which results, and where the page goes."""
    add_selection(parser, runs=False)
    where = "the page, a single file (default: OUT/report.html)"
    parser.add_argument("--to", type=path_of, metavar="FILE", help=where)
    formats = f"also each figure as a file in figures/ beside the page, of {','.join(options.FIGURE_FORMATS)}"
    parser.add_argument("--figures", metavar="F,G", help=formats)


def main(args: argparse.Namespace) -> int:
    """Write the page. Return the exit code."""
    chosen = options.pick_metrics(args.metric)
    formats = options.pick("figure format", args.figures, options.FIGURE_FORMATS) if args.figures is not None else []
    page = args.to or args.out / "report.html"
    require(not page.is_dir(), f"--to {page} is a folder: name a file in it, as in {page / 'report.html'}")
    kept, seeds, others, changed = select(args)
    from bench.analysis import report
    from bench.analysis.explorer.manifest import commands_behind

    pairs = report.with_gaps(kept, named_methods(args, kept), named_benchmarks(args))
    unsupported = report.inapplicable(pairs, args.catalog)
    commands = commands_behind(kept, args.out / "tables")
    options_of_table = {"more": others, "unsupported": unsupported, "changed": changed}
    report.write_report(page, pairs, seeds, chosen, commands, formats, args.out, **options_of_table)
    print(f"report: {page}")
    return 0


def named_methods(args: argparse.Namespace, results: Sequence[Result]) -> list[str]:
    """Return the methods that were named, so that what is missing of them is said; none where all were asked for."""
    there = dict.fromkeys(result.cell.method for result in results)
    return [] if args.methods == "all" else options.pick_methods(args.methods, args.catalog, there)


def named_benchmarks(args: argparse.Namespace) -> dict[str, str]:
    """Return the benchmarks that were named, each with the scenario in which it is missing where it has no result."""
    names = [] if args.bench in options.EVERYTHING else options.pick_benchmarks(args.bench, args.catalog)
    scenarios = {}
    for name in names:
        benchmark = args.catalog.benchmark(name)
        scenarios[name] = args.scenario if args.scenario in benchmark.scenarios else benchmark.scenario
    return scenarios
