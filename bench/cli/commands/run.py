"""run: what is not done yet, then the table of all that was asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.catalog import identity, registry
from bench.cli import options
from bench.cli.commands import announce, warn, warn_if_slower
from bench.config import nearest
from bench.core import Result


def run(args: argparse.Namespace) -> int:
    """Run what is not done yet, then print the table."""
    chosen = options.pick("metric", args.metric, options.METRIC_NAMES)
    request = options.make_request(args)
    from bench.catalog import plan

    cells, unsupported = plan.expand(request, args.plugin)  # what is wrong is told before more is imported
    from bench.analysis import render
    from bench.analysis import table as tables
    from bench.cli import command_line
    from bench.execution import budget, store

    resources = options.make_resources(args)
    if not args.dry_run:
        registry.import_methods(request.methods, args.plugin)
        cells, unsupported = plan.expand(request, args.plugin)
        store.check_writable(args.out)
    if args.rerun not in ("", "changed"):
        raise nearest("--rerun", args.rerun, ["changed"])
    today = identity.Today(args.plugin)

    def answers(result: Result) -> bool:
        return result.error is None and not (args.rerun and today.changes(result.cell))

    results: dict[str, Result] = {}
    for cell in cells:
        found = store.stored(cell, args.out)
        if isinstance(found, str):
            warn(found)
        elif found is not None and answers(found):
            results[cell.key] = found
    changed = {key: today.changes(result.cell) for key, result in results.items()}
    if stale := sum(map(bool, changed.values())):
        warn(f"the code or the recipe has changed since {stale} of the results: --rerun changed runs them again")
    pending = [cell for cell in cells if cell.key not in results]
    if pending:
        warn_if_slower(request.precision, resources)
    try:
        forecast = partial(budget.line, pending, resources, args.executor, args.out)
        announce("cells", cells, results, args.executor, resources, listed=args.dry_run, time=forecast)
        if args.dry_run:
            return 0
        from bench.cli.progress import Display
        from bench.execution.drive import drive

        with Display(len(pending)) as display:
            unsaved = (
                drive(pending, results, resources, args.executor, args.out, display, warn, answers) if pending else []
            )
    except KeyboardInterrupt:
        kept = sum(isinstance(found := store.stored(cell, args.out), Result) and not found.error for cell in cells)
        rest = len(cells) - kept
        print(f"interrupted: {kept} cells are kept; the same command runs the other {rest}", file=sys.stderr)
        return 130
    pairs = [(cell, results.get(cell.key)) for cell in cells]
    streams = tables.streams(registry.get_benchmark(name, args.plugin) for name in request.benchmarks)
    table = tables.summarise(pairs, chosen, request.seeds, unsupported, streams=streams, changed=changed)
    facts = [f"{request.epochs}epochs"] if request.epochs else []
    facts += request.protocols if list(request.protocols) != [options.PROTOCOL] else []
    facts += [request.precision] if request.precision != "fp32" else []
    stem = "-".join([*request.benchmarks, *facts])
    print(render.to_markdown(table))
    try:
        render.save(table, stem, command_line.command_line(request), [r for _, r in pairs if r], args.out / "tables")
    except OSError as error:
        warn(f"the table was not saved in {args.out / 'tables'}: {error.strerror}")
    failed = [result for _, result in pairs if result and result.error]
    for result in unsaved:
        print(f"not saved: {result.cell}: make room in {args.out} and run it again", file=sys.stderr)
    lost = [*failed, *unsaved]
    return report_failures(failed, args.out, command_line.again(args, request, [r.cell for r in lost]) if lost else "")


def report_failures(failed: Sequence[Result], out: Path, command: str) -> int:
    """One line for each error, and the command that runs just the cells that failed again. Returns the exit code."""
    alike: dict[str, list[Result]] = {}
    for result in failed:
        alike.setdefault(str(result.error), []).append(result)
    for error, results in alike.items():
        which = f"{results[0].cell}" + (f" and {len(results) - 1} more" if len(results) > 1 else "")
        where = f" (traceback in {out / results[0].cell.path})" if results[0].traceback else ""
        print(f"failed: {which}: {error}{where}", file=sys.stderr)
    if command:
        print(f"to run just these again: {command}", file=sys.stderr)
    return 1 if command else 0
