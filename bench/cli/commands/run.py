"""run: run the cells that are not done yet, then show the table of everything requested."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bench import files
from bench.analysis.columns import USUAL
from bench.analysis.labels import labels_of
from bench.catalog import changes
from bench.catalog.plan import demand_work, told_inapplicable
from bench.cli import options
from bench.cli.arguments import add_execution, add_resources, add_scenario, add_selection
from bench.cli.commands import announce, list_items, tell, warn, warn_if_slower
from bench.cli.grid import (
    Grid,
    by_benchmark,
    demand_weights_of,
    look_up,
    skip_without_data,
    without_benchmarks,
)
from bench.config import nearest
from bench.core import Cell, Result
from bench.files import path_of
from bench.stopping import Stopped
from bench.text import counted, for_terminal

if TYPE_CHECKING:
    from bench.catalog.plan import Request
    from bench.execution.runner import Resources

LONGEST = 100  # letters of the benchmarks in the name of a table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which cells, with which settings, where and how."""
    add_selection(parser, runs=True)
    add_scenario(parser)
    add = parser.add_argument
    add("--set", action="append", default=[], metavar="M.FIELD=V", help="of a method, its training or a benchmark")
    add("--recipe", type=path_of, metavar="FILE", help="settings as `tune` writes them; --set overrides them")
    add_execution(parser)
    add_resources(parser)
    add("--rerun", default="", metavar="WHICH", help="changed: run again what ran with other code or another recipe")


def main(args: argparse.Namespace) -> int:
    """Run what is not done yet, then print the table. Return the exit code."""
    chosen = options.pick_metrics(args.metric)
    request = options.make_request(args)
    plan = args.catalog.plan(request)  # what is wrong is told before more is imported
    demand_work(plan, request, args.catalog)
    from bench.execution import store

    resources = options.make_resources(args)
    if not args.dry_run:
        args.catalog.import_methods(request.methods)
        plan = args.catalog.plan(request)
        files.check_writable(args.out)
    if args.rerun not in ("", "changed"):
        raise nearest("--rerun", args.rerun, ["changed"])
    today = changes.Today(args.catalog)

    def answers(result: Result) -> bool:
        return result.error is None and not (args.rerun and today.changes(result.cell))

    grid = look_up(plan.cells, args.out, answers)
    try:
        if args.bench == "all" and not resources.address:  # what the nodes of a cluster have is not known here
            gone = skip_without_data(grid, resources, fetch=not args.dry_run)
            request, plan = without_benchmarks(request, plan, gone)
            demand_work(plan, request, args.catalog)
        for line in told_inapplicable(plan):
            tell(line)
        changed = tell_changes(grid, today)
        if grid.pending:
            warn_if_slower(request.precision, resources)
        if not (args.dry_run or resources.address):
            demand_weights_of(grid, resources)
        show_outlook(args, grid, resources)
        if args.dry_run:
            return 0
        learn(grid, resources, args.executor, args.out, answers)
    except KeyboardInterrupt as stop:
        found = [store.stored_result(cell, args.out) for cell in grid.cells]
        kept = sum(isinstance(result, Result) and not result.error for result in found)
        rest = len(grid.cells) - kept
        tell(f"interrupted: {counted(kept, 'cell')} kept; the same command runs the other {rest}")
        return stop.code if isinstance(stop, Stopped) else 130
    return show_results(args, request, grid, chosen, plan.not_applicable, changed)


def tell_changes(grid: Grid, today: changes.Today) -> dict[str, tuple[str, ...]]:
    """Return what has changed since the stored results were run, by key; warn where anything has."""
    changed = {key: today.changes(result.cell) for key, result in grid.results.items()}
    if stale := sum(map(bool, changed.values())):
        warn(f"the code or the recipe has changed since {stale} of the results: --rerun changed runs them again")
    return changed


def show_outlook(args: argparse.Namespace, grid: Grid, resources: Resources) -> None:
    """Print what is done and to run, and how long it may take; before a dry run's end, by benchmark and by cell."""
    from bench.execution.forecast import budget

    @cache
    def foreseen() -> budget.Forecast:
        return budget.foresee(grid.pending, resources, args.out)

    def time() -> str:
        return budget.describe_forecast(foreseen(), resources, args.executor) if grid.pending else ""

    announce("cell", grid.cells, grid.results, args.executor, resources, time)
    if args.dry_run:
        for line in by_benchmark(grid, foreseen(), resources):
            print(f"  {for_terminal(line)}")
        list_items(grid.cells, grid.results)


def learn(grid: Grid, resources: Resources, executor: str, folder: Path, answers: Callable[[Result], bool]) -> None:
    """Run what is pending, and show how it goes."""
    if not grid.pending:
        return
    from bench.cli.progress import Display
    from bench.execution.events import CellFinished, CellFound, Trouble, Unsaved
    from bench.execution.grid import run_grid

    pending, done = grid.pending, list(grid.results.values())
    events = run_grid(pending, done, resources, executor, folder, answers)
    with Display(len(pending)) as display, closing(events):
        for event in events:
            if isinstance(event, CellFinished | CellFound):
                grid.results[event.result.cell.key] = event.result
            elif isinstance(event, Trouble):
                warn(event.text)
            elif isinstance(event, Unsaved):
                grid.unsaved.append(event.result)
            display.show(event)


def show_results(
    args: argparse.Namespace,
    request: Request,
    grid: Grid,
    chosen: Sequence[str] | None,
    unsupported: dict[tuple[str, str], str],
    changed: dict[str, tuple[str, ...]],
) -> int:
    """Print and save the table, and tell what failed. Return the exit code."""
    from bench.analysis import render
    from bench.analysis import table as tables
    from bench.cli import command_line

    apart = changes.data_apart(grid.results.values(), labels_of)
    results = {result.cell.key: result for result in apart}
    pairs: list[tuple[Cell, Result | None]] = []
    for cell in grid.cells:
        result = results.get(cell.key)
        pairs.append((result.cell if result else cell, result))
    reasons = {}
    for (method, name), why in unsupported.items():
        scenario = args.catalog.benchmark(name, scenario=request.scenario).scenario
        reasons[method, tables.stream_label(name, scenario)] = why
    table = tables.summarize(pairs, chosen, request.seeds, reasons, changed=changed)
    stem = name_of_table(request, grid.cells, chosen)
    print(render.to_terminal(table))
    try:
        found = [result for _, result in pairs if result]
        render.save_table(table, stem, command_line.command_line(request), found, args.out / "tables")
    except OSError as error:
        warn(f"the table was not saved in {args.out / 'tables'}: {error.strerror}")
    failed = [result for _, result in pairs if result and result.error]
    for result in grid.unsaved:
        tell(f"not saved: {result.cell}: free space in {args.out}, or make it writable")
    lost = [*failed, *grid.unsaved]
    return report_failures(failed, args.out, command_line.again(args, request, [r.cell for r in lost]) if lost else "")


def name_of_table(request: Request, cells: Sequence[Cell], chosen: Sequence[str] | None) -> str:
    """Return what the files of a table are called: what a person looks for, and a digest of all its cells and columns,
    so that no other grid takes their place."""
    names = "-".join(request.benchmarks)
    facts = [names if len(names) <= LONGEST else f"{len(request.benchmarks)}-benchmarks"]
    facts += [f"{request.epochs}epochs"] if request.epochs else []
    facts += request.protocols if list(request.protocols) != [options.PROTOCOL] else []
    facts += [request.precision] if request.precision != "fp32" else []
    facts += [request.scenario] if request.scenario else []
    content = "\n".join([*sorted(cell.key for cell in cells), *(chosen or USUAL)])
    return "-".join([*facts, hashlib.sha256(content.encode()).hexdigest()[:8]])


def report_failures(failed: Sequence[Result], out: Path, command: str) -> int:
    """Print a line for each error, and the command that runs just the cells that failed again. Return the exit code."""
    alike: dict[str, list[Result]] = {}
    for result in failed:
        alike.setdefault(str(result.error), []).append(result)
    for error, results in alike.items():
        which = f"{results[0].cell}" + (f" and {len(results) - 1} more" if len(results) > 1 else "")
        where = f" (traceback in {out / results[0].cell.path})" if results[0].traceback else ""
        tell(f"failed: {which}: {error}{where}")
    if command:
        print(f"to run just these again: {command}", file=sys.stderr)
    return 1 if command else 0
