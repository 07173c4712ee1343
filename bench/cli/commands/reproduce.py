"""reproduce: list the published tables that can be run here, or run one and show it beside the paper."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench import files
from bench.cli import options
from bench.cli.arguments import add_execution, add_out, add_resources, name_list
from bench.cli.commands import announce, tell, warn
from bench.cli.commands.run import learn, report_failures
from bench.cli.grid import Grid, demand_weights_of, look_up
from bench.config import known_as, require
from bench.core import Cell, Result
from bench.installation import program

if TYPE_CHECKING:
    from bench.analysis.papers.outcome import Reproduced
    from bench.analysis.papers.reproduction import Part, Reproduction, Wanted
    from bench.execution.runner import Resources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which table, which part of it, where and how."""
    add = parser.add_argument
    add("table", nargs="?", default="", metavar="PAPER:TABLE", help="without it, all tables are listed")
    add(
        "--methods",
        type=name_list,
        default="",
        metavar="A,B",
        help="only these, whether printed there or not; or all (default: its rows)",
    )
    add("--only", default="", metavar="BENCHMARK", help="only this benchmark of the table")
    add("--seeds", default="", metavar="LIST", help="as in 1,2,3 or 0-4 (default: the paper's)")
    add_out(parser)
    add_execution(parser)
    add_resources(parser)


def main(args: argparse.Namespace) -> int:
    """List the tables; or run what is missing of one, then print it beside the paper. Return the exit code."""
    from bench.analysis.papers import reproduction

    require(args.precision == "fp32", "papers are reproduced in fp32, as they were run: leave --precision out")
    require(args.epochs is None or args.epochs >= 1, f"--epochs must be at least 1, not {args.epochs}")
    resources = options.make_resources(args)
    if not args.table:
        unused = [name for name in ("methods", "only", "seeds", "epochs") if getattr(args, name)]
        require(not unused, f"--{(unused or [''])[0]} goes with a table, as in `{program()} reproduce PAPER:TABLE`")
        list_tables(args, resources)
        return 0
    table = reproduction.table_of(args.table)
    part = part_of(args, table)
    items = reproduction.wanted(table, part, args.catalog)
    require(bool(items), f"no row of {args.table} is about these methods and this benchmark")
    return run_missing(args, resources, table, part, items)


def part_of(args: argparse.Namespace, table: Reproduction) -> Part:
    """Return which part of the table is asked for. Raises `UserError`."""
    from bench.analysis.papers.reproduction import Part

    only = known_as(f"benchmark of {table.key} here", args.only, table.benchmarks) if args.only else ""
    methods = options.pick_methods(args.methods, args.catalog) if args.methods else []
    seeds = options.parse_seeds(args.seeds) if args.seeds else []
    return Part(tuple(methods), only, tuple(seeds), args.epochs)


def cells_in(items: Iterable[Wanted]) -> list[Cell]:
    """Return the cells of rows, each once: two rows may stand for the same method."""
    return list({cell.key: cell for item in items for cell in item.cells}.values())


def run_missing(
    args: argparse.Namespace, resources: Resources, table: Reproduction, part: Part, items: Sequence[Wanted]
) -> int:
    """Run what is missing, then print and write the table. Return the exit code."""
    from bench.execution.forecast import budget
    from bench.execution.grid import succeeded

    cells = cells_in(items)
    if not args.dry_run:
        args.catalog.import_methods(sorted({cell.method for cell in cells}))
        files.check_writable(args.out)
    grid = look_up(cells, args.out, succeeded)
    forecast = partial(budget.line, grid.pending, resources, args.executor, args.out)
    try:
        announce("cell", cells, grid.results, args.executor, resources, time=forecast)
        if args.dry_run:
            show_plan(args, items, grid)
            return 0
        if not resources.address:
            demand_weights_of(grid, resources)
        learn(grid, resources, args.executor, args.out, succeeded)
    except KeyboardInterrupt:
        print("interrupted: the same command continues", file=sys.stderr)
        return 130
    show_reproduction(args, table, part, items, grid)
    for result in grid.unsaved:
        tell(f"not saved: {result.cell}: free space in {args.out} and run it again")
    failed = [result for result in grid.results.values() if result.error]
    again = f"{program()} reproduce {args.table}, with the same options" if failed or grid.unsaved else ""
    return report_failures(failed, args.out, again)


def show_plan(args: argparse.Namespace, items: Sequence[Wanted], grid: Grid) -> None:
    """Print what each row of the table lacks, and how to come by data that is not there."""
    from bench.analysis import render
    from bench.analysis.compare import Listing

    rows = []
    for item in items:
        missing = [cell for cell in item.cells if cell.key not in grid.results]
        seeds = ", ".join(str(cell.seed) for cell in missing)
        lacks = item.reason or (f"seeds {seeds}" if missing else "nothing")
        done = f"{len(item.cells) - len(missing)} of {len(item.cells)}"
        rows.append([item.benchmark, item.method, item.here[1] or "--", done if item.cells else "--", lacks])
    header = ["benchmark", "method", "here", "cells done", "lacks"]
    print(render.show_listing(Listing(header, rows, "", left=5), render.TERMINAL))
    for name in dict.fromkeys(cell.benchmark for cell in grid.pending):
        for source in args.catalog.benchmark(name).sources():
            state = source.state(args.data)
            if state != "ready":
                print(f"data of {name}: {source.name} is {state}: {source.wanted(args.data)}")
        weights = args.catalog.benchmark(name).weights()
        if weights is not None and weights.place(args.data) is None:
            print(f"weights of {name}: {weights.name} is missing: {weights.wanted(args.data)}")


def show_reproduction(
    args: argparse.Namespace, table: Reproduction, part: Part, items: Sequence[Wanted], grid: Grid
) -> None:
    """Print the table beside the paper, and write it into OUT/reproduce."""
    from bench.analysis.papers.outcome import reproduced
    from bench.analysis.render import TERMINAL
    from bench.execution import store

    stored = [result for result in store.load_all(args.out) if isinstance(result, Result)]
    outcome = reproduced(table, items, grid.results, stored, part, args.catalog)
    print(f"{outcome.render(TERMINAL)}\n\n{outcome.tally}")
    stem = args.out / "reproduce" / table.key.replace(":", "-")
    try:
        write_reproduction(outcome, stem)
    except OSError as error:
        warn(f"the table was not written to {stem.parent}: {error.strerror}")


def write_reproduction(outcome: Reproduced, stem: Path) -> None:
    """Write the table as markdown, LaTeX and JSON. Raises OSError."""
    files.write_text(stem.with_suffix(".md"), f"{outcome.render('md')}\n\n{outcome.tally}\n")
    files.write_text(stem.with_suffix(".tex"), f"{outcome.render('latex')}\n\n% {outcome.tally}\n")
    files.write_text(stem.with_suffix(".json"), json.dumps(outcome.plain(), indent=1) + "\n")
    print(f"written: {stem}.md, .tex, .json", file=sys.stderr)


def list_tables(args: argparse.Namespace, resources: Resources) -> None:
    """Print every table that is known: what can be run here, what is done, and how long the rest may take."""
    from bench.analysis import render
    from bench.analysis.compare import Listing
    from bench.analysis.papers import reproduction
    from bench.execution.grid import succeeded

    rows, notes = [], []
    for key, table in reproduction.known().items():
        items = reproduction.wanted(table, reproduction.Part(), args.catalog)
        here = [item for item in items if item.cells]
        cells = cells_in(here)
        grid = look_up(cells, args.out, succeeded)
        done = f"{len(grid.results)} of {len(cells)}" if cells else "--"
        benchmarks = ", ".join(table.benchmarks) or "none here"
        left = time_left(grid.pending, resources, args)
        rows.append([key, ", ".join(table.about.table), benchmarks, f"{len(here)} of {len(items)}", done, left])
        notes += [f"{key}: {line}" for line in reproduction.reasons(items)]
    header = ["table", "in the paper", "benchmarks here", "rows that run", "cells done", "time left"]
    caption = "Time left: one cell at a time on this machine, from cells of the kind measured here or elsewhere."
    print(render.show_listing(Listing(header, rows, caption, left=3), render.TERMINAL))
    print("\n".join(["", "Rows that do not run here:", *notes]))
    spreads = [[s.benchmark, s.method, s.text] for s in reproduction.between_papers()]
    caption = "What papers print of the same method on the same benchmark (ACC), where they differ."
    listing = Listing(["benchmark", "method", "ACC"], spreads, caption, left=3)
    print(f"\n{render.show_listing(listing, render.TERMINAL)}")


def time_left(pending: Sequence[Cell], resources: Resources, args: argparse.Namespace) -> str:
    """Return how long cells may take, from those that were measured; no step is timed for it."""
    from bench.execution.forecast import budget
    from bench.execution.status import estimate

    if not pending:
        return "--"
    kinds: dict[tuple[str, str], list[Cell]] = {}  # whose cells take as long, and are looked up once
    for cell in pending:
        kinds.setdefault((cell.benchmark, cell.method), []).append(cell)
    known: list[float] = []
    for cells in kinds.values():
        guess = budget.measured(cells[0], resources, args.out)
        known += [guess.seconds] * len(cells) if guess else []
    if not known:
        return "unknown"
    part = f" for {len(known)} of them" if len(known) < len(pending) else ""
    return f"{estimate(sum(known))}{part}"
