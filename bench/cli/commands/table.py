"""table, report and import: what is in the results folder, and what may be said of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.catalog import identity, registry
from bench.cli import options
from bench.cli.commands import warn
from bench.config import nearest, require
from bench.core import PROTOCOLS, Result, UserError

if TYPE_CHECKING:
    from bench.analysis.table import Table


def show_table(args: argparse.Namespace) -> int:
    """A table of stored results, and what may be said of it."""
    chosen = options.pick("metric", args.metric, options.METRIC_NAMES)
    if args.format not in ("md", "latex", "csv"):
        raise nearest("format", args.format, ("md", "latex", "csv"))
    require(not args.siunitx or args.format == "latex", "--siunitx goes with --format latex")
    require(0 < args.alpha < 1, f"--alpha is a probability between 0 and 1, not {args.alpha:g}")
    if args.paper:
        return show_paper(args, chosen)
    require(args.paper_table is None, "--paper-table goes with --paper")
    from bench.analysis import table as tables

    kept, seeds, others, changed = select(args)
    streams = tables.streams(registry.get_benchmark(n, args.plugin) for n in {r.cell.benchmark for r in kept})
    pairs = [(result.cell, result) for result in kept]
    present(tables.summarise(pairs, chosen, seeds, more=others, streams=streams, changed=changed), chosen, args)
    if args.tensorboard:
        from bench.analysis.tensorboard import write_scalars

        count = write_scalars(kept, args.tensorboard)
        print(f"{count} runs written to {args.tensorboard}", file=sys.stderr)
    return 0


def present(table: Table, chosen: Sequence[str], args: argparse.Namespace) -> None:
    """Print a table in the form asked for, then the comparisons and ranks asked for."""
    from bench.analysis import compare, render

    if args.caption:
        table = replace(table, caption=f"{args.caption.rstrip(' .')}. {table.caption}")
    table, listings = compare.examine(table, args.compare, chosen if args.ranks else (), args.alpha)
    main = render.to_latex(table, siunitx=True) if args.siunitx else render.FORMATS[args.format](table)
    print("\n\n".join([main, *(render.show_listing(listing, args.format) for listing in listings)]))


def show_paper(args: argparse.Namespace, chosen: Sequence[str]) -> int:
    """A paper's table beside our stored results, of which there may be none."""
    others = (args.compare, args.ranks, args.siunitx, args.tensorboard)
    require(not any(others), "--paper goes without --compare, --ranks, --siunitx and --tensorboard")
    protocols = options.pick("protocol", args.protocol or options.PROTOCOL, PROTOCOLS)
    require(len(protocols) == 1, f"--paper compares under one protocol, not {', '.join(protocols)}")
    from bench.analysis import render
    from bench.analysis.papers import listing as paper_table
    from bench.analysis.papers import paper

    rows = paper.read(args.paper, args.paper_table)
    benchmarks = options.pick("benchmark", args.bench, registry.available("Benchmark", args.plugin))
    methods = options.pick_methods(args.methods, args.plugin)
    methods += registry.variants(args.plugin) if args.methods == "all" else []
    rows = [
        row
        for row in rows
        if (args.bench == "all" or row.here[0] in benchmarks) and (args.methods == "all" or row.here[1] in methods)
    ]
    require(bool(rows), f"no line of that table of {args.paper} is about these benchmarks and methods")
    seeds = options.parse_seeds(args.seeds) if args.seeds else None
    everything = stored_results(args.out, identity.Today(args.plugin))
    results = [r for r in everything if (seeds is None or r.cell.seed in seeds) and "other" not in r.cell.traits]
    metrics = [name for name in chosen if name in paper.PRINTED]
    lines = paper.compare(rows, results, protocols[0], metrics, benchmarks, methods)
    listings = paper_table.listings(lines, protocols[0], args.format)
    print("\n\n".join(render.show_listing(listing, args.format) for listing in listings))
    return 0


def write_report(args: argparse.Namespace) -> int:
    """A page of stored results, with its figures."""
    chosen = options.pick("metric", args.metric, options.METRIC_NAMES)
    formats = options.pick("figure format", args.figures, options.FIGURE_FORMATS) if args.figures is not None else []
    page = args.to or args.out / "report.html"
    require(not page.is_dir(), f"--to {page} is a folder: name a file in it, as in {page / 'report.html'}")
    kept, seeds, others, changed = select(args)
    from bench.analysis import report
    from bench.analysis import table as tables

    pairs = report.with_gaps(kept, options.named(args.methods), options.named(args.bench))
    unsupported = report.inapplicable(pairs, args.plugin)
    streams = tables.streams(registry.get_benchmark(n, args.plugin) for n in {c.benchmark for c, _ in pairs})
    commands = report.commands_behind(kept, args.out / "tables")
    options_of_table = {"more": others, "unsupported": unsupported, "changed": changed}
    report.write(page, pairs, seeds, chosen, streams, commands, formats, **options_of_table)
    print(f"report: {page}")
    return 0


class Selection(NamedTuple):
    """What a table or a report is made of."""

    results: list[Result]  # those that were asked for, at least one
    seeds: list[int]  # asked for
    everything: list[Result]  # all that is stored
    changed: dict[str, tuple[str, ...]]  # what has changed since a result was run, by the key of its cell


def select(args: argparse.Namespace) -> Selection:
    """The stored results that were asked for. Raises `UserError` where there are none."""
    seeds = options.parse_seeds(args.seeds) if args.seeds else None
    benchmarks = options.pick("benchmark", args.bench, registry.available("Benchmark", args.plugin))
    today = identity.Today(args.plugin)
    stored = stored_results(args.out, today)
    imported = [result.cell.method for result in stored if result.cell.traits.get("imported")]
    methods = options.pick_methods(args.methods, args.plugin, imported)
    protocols = options.pick("protocol", args.protocol or "all", PROTOCOLS)
    if args.methods == "all":
        methods += registry.variants(args.plugin)
    kept = [
        result
        for result in stored
        if result.cell.method in methods
        and result.cell.benchmark in benchmarks
        and (seeds is None or result.cell.seed in seeds)
        and (result.cell.protocol in protocols or result.cell.traits.get("imported"))
    ]
    if not kept:
        raise UserError(f"no results of these in {args.out}: run them first, as in `python run_bench.py`")
    changed = {result.cell.key: today.changes(result.cell) for result in kept}
    return Selection(kept, seeds or sorted({result.cell.seed for result in kept}), stored, changed)


def stored_results(folder: Path, today: identity.Today) -> list[Result]:
    """All stored results, those apart that may not be averaged; warns of files that cannot be read, and of results
    whose method or benchmark is unknown."""
    from bench.analysis import table as tables
    from bench.execution import store

    found: list[Result] = []
    unknown: dict[str, None] = {}
    for result in store.load_all(folder):
        if isinstance(result, str):
            warn(result)
        elif today.knows(result.cell):
            found.append(result)
        else:
            unknown[f"{result.cell.method} on {result.cell.benchmark}"] = None
    if unknown:
        warn(f"left aside, unknown here without their --plugin: {', '.join(unknown)}")
    return identity.tell_apart(found, lambda cell: (tables.row_label(cell), tables.column_label(cell)), today)


def import_matrix(args: argparse.Namespace) -> int:
    """Store an accuracy matrix that was computed elsewhere."""
    seeds = options.parse_seeds(args.seed)
    require(len(seeds) == 1, f"--seed takes one seed, not '{args.seed}'")
    benchmark = registry.get_benchmark(args.bench, args.plugin)
    from bench.execution import imported as foreign

    taken = registry.available("Method", args.plugin)
    path = foreign.import_matrix(args.matrix, args.method, benchmark, seeds[0], args.out, args.percent, taken)
    print(f"imported: {path}")
    return 0
