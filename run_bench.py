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
  python run_bench.py report                                 one HTML page of what has been run, and its figures
  python run_bench.py new method NAME                        a file to start your own method from, and its test
  python run_bench.py check NAME.py                          what every method and benchmark must keep to, on yours
  python run_bench.py import matrix.csv --help               a row for an accuracy matrix computed elsewhere

Finished cells (a method on a benchmark with a seed) are kept in the results folder and never run twice: the same
command again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import options, registry, scaffold
from bench.config import nearest, require
from bench.core import PROTOCOLS, Result, UserError

if TYPE_CHECKING:
    from bench.grid import Request
    from bench.tables import Table
    from bench.tune import Outcome, Search, Trial
    from bench.worker import Resources

DEFAULT_BENCHMARK = "digits"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, call, print. Returns the exit code: 0; 1 a cell failed; 2 a wrong request; 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if not words or words[0].startswith("-"):
            words.insert(0, "run")
        if words[0] not in options.VERBS:
            raise nearest("verb", words[0], options.VERBS)
        args = options.make_parser(words[0], str(__doc__), DEFAULT_BENCHMARK).parse_args(words[1:])
        verbs = {"run": run, "list": show_list, "table": show_table, "report": write_report, "import": import_matrix}
        verbs |= {"new": start_new, "check": check, "status": status, "data": show_data, "tune": tune}
        return verbs[words[0]](args)
    except UserError as error:
        print(f"run_bench.py: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def start_new(args: argparse.Namespace) -> int:
    """The files of a new method or benchmark, in the current folder."""
    print("\n".join(scaffold.main(args)))
    return 0


def check(args: argparse.Namespace) -> int:
    """The contract, check by check. Returns 1 if one fails."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from bench import conformance

    passed = True
    for line, fine in conformance.report(args.what, args.plugin, args.data):
        print(line, flush=True)
        passed &= fine
    return 0 if passed else 1


def show_list(args: argparse.Namespace) -> int:
    """One line a method and a benchmark; or all their settings."""
    if args.recipes:
        from bench import settings

        chosen = options.pick("benchmark", args.bench, registry.available("Benchmark", args.plugin))
        print("\n\n".join(settings.describe(chosen, args.plugin)))
        return 0
    require(args.bench == "all", "list --bench goes with --recipes")
    methods = registry.available("Method", args.plugin)
    benchmarks = {n: registry.get_benchmark(n, args.plugin) for n in registry.available("Benchmark", args.plugin)}
    width = max(map(len, [*methods, *benchmarks]))
    print("methods")
    for name, path in methods.items():
        print(f"  {name:{width}}  {registry.summary(path)}")
    print("benchmarks")
    for name, path in registry.available("Benchmark", args.plugin).items():
        benchmark = benchmarks[name]
        facts = f"{benchmark.scenario}; {benchmark.num_tasks} tasks; data {benchmark.data_state(args.data)}"
        print(f"  {name:{width}}  {registry.summary(path)} [{facts}]")
    return 0


def show_data(args: argparse.Namespace) -> int:
    """The data of benchmarks, source by source. Returns 1 if some is corrupt or cannot be prepared."""
    names = options.pick("benchmark", args.bench, registry.available("Benchmark", args.plugin))
    from bench import inventory

    sound = True
    try:
        for line, fine in inventory.report(
            [registry.get_benchmark(n, args.plugin) for n in names], args.data, args.prepare
        ):
            print(line, flush=True)
            sound &= fine
    except KeyboardInterrupt:
        print("interrupted: what is prepared or downloaded is kept; the same command goes on", file=sys.stderr)
        return 130
    return 0 if sound else 1


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
    from bench import tables

    kept, seeds, current = select(args)
    streams = tables.streams(registry.get_benchmark(n, args.plugin) for n in {r.cell.benchmark for r in kept})
    pairs = [(result.cell, result) for result in kept]
    present(tables.summarise(pairs, chosen, seeds, more=current, streams=streams), chosen, args)
    if args.tensorboard:
        from bench.scalars import write_scalars

        count = write_scalars(kept, args.tensorboard)
        print(f"{count} runs written to {args.tensorboard}", file=sys.stderr)
    return 0


def show_paper(args: argparse.Namespace, chosen: Sequence[str]) -> int:
    """A paper's table beside our stored results, of which there may be none."""
    others = (args.compare, args.ranks, args.siunitx, args.tensorboard)
    require(not any(others), "--paper goes without --compare, --ranks, --siunitx and --tensorboard")
    protocols = options.pick("protocol", args.protocol or options.PROTOCOL, PROTOCOLS)
    require(len(protocols) == 1, f"--paper compares under one protocol, not {', '.join(protocols)}")
    from bench import paper, paper_table, render

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
    results = [r for r in current_results(args.out, args.plugin) if seeds is None or r.cell.seed in seeds]
    metrics = [name for name in chosen if name in paper.PRINTED]
    lines = paper.compare(rows, results, protocols[0], metrics, benchmarks, methods)
    listings = paper_table.listings(lines, protocols[0], args.format)
    print("\n\n".join(render.show_listing(listing, args.format) for listing in listings))
    return 0


def select(args: argparse.Namespace) -> tuple[list[Result], list[int], list[Result]]:
    """The stored results that were asked for, at least one; the seeds asked for; and all that is current."""
    seeds = options.parse_seeds(args.seeds) if args.seeds else None
    benchmarks = options.pick("benchmark", args.bench, registry.available("Benchmark", args.plugin))
    current = list(current_results(args.out, args.plugin))
    imported = [result.cell.method for result in current if result.cell.traits.get("imported")]
    methods = options.pick_methods(args.methods, args.plugin, imported)
    protocols = options.pick("protocol", args.protocol or "all", PROTOCOLS)
    if args.methods == "all":
        methods += registry.variants(args.plugin)
    kept = [
        result
        for result in current
        if result.cell.method in methods
        and result.cell.benchmark in benchmarks
        and (seeds is None or result.cell.seed in seeds)
        and (result.cell.protocol in protocols or result.cell.traits.get("imported"))
    ]
    if not kept:
        raise UserError(f"no results of these in {args.out}: run them first, as in `python run_bench.py`")
    return kept, seeds or sorted({result.cell.seed for result in kept}), current


def write_report(args: argparse.Namespace) -> int:
    """A page of stored results, and its figures."""
    chosen = options.pick("metric", args.metric, options.METRIC_NAMES)
    page = args.to or args.out / "report.html"
    require(not page.is_dir(), f"--to {page} is a folder: name a file in it, as in {page / 'report.html'}")
    kept, seeds, current = select(args)
    from bench import report, tables

    pairs = report.with_gaps(kept, options.named(args.methods), options.named(args.bench))
    unsupported = report.inapplicable(pairs, args.plugin)
    streams = tables.streams(registry.get_benchmark(n, args.plugin) for n in {c.benchmark for c, _ in pairs})
    commands = report.commands_behind(kept, args.out / "tables")
    report.write(page, pairs, seeds, chosen, streams, commands, more=current, unsupported=unsupported)
    print(f"report: {page}")
    return 0


def present(table: Table, chosen: Sequence[str], args: argparse.Namespace) -> None:
    """Print a table in the form asked for, then the comparisons and ranks asked for."""
    from bench import compare, render

    if args.caption:
        table = replace(table, caption=f"{args.caption.rstrip(' .')}. {table.caption}")
    table, listings = compare.examine(table, args.compare, chosen if args.ranks else (), args.alpha)
    main = render.to_latex(table, siunitx=True) if args.siunitx else render.FORMATS[args.format](table)
    print("\n\n".join([main, *(render.show_listing(listing, args.format) for listing in listings)]))


def import_matrix(args: argparse.Namespace) -> int:
    """Store an accuracy matrix that was computed elsewhere."""
    seeds = options.parse_seeds(args.seed)
    require(len(seeds) == 1, f"--seed takes one seed, not '{args.seed}'")
    benchmark = registry.get_benchmark(args.bench, args.plugin)
    from bench import foreign

    taken = registry.available("Method", args.plugin)
    path = foreign.import_matrix(args.matrix, args.method, benchmark, seeds[0], args.out, args.percent, taken)
    print(f"imported: {path}")
    return 0


def current_results(folder: Path, plugins: Sequence[Path]) -> Iterator[Result]:
    """The stored results that today's code and recipes would give; says how many were left aside, and why."""
    from bench import grid, store

    outdated = 0
    for found in store.load_all(folder):
        if isinstance(found, str):
            warn(found)
        elif grid.is_current(found.cell, plugins):
            yield found
        else:
            outdated += 1
    if outdated:
        warn(f"{outdated} results left aside: their method, benchmark or recipe is another now")


def run(args: argparse.Namespace) -> int:
    """Run what is not done yet, then print the table."""
    chosen = options.pick("metric", args.metric, options.METRIC_NAMES)
    request, resources = options.make_request(args), options.make_resources(args)
    from bench import grid, render, store, tables
    from bench.display import Display
    from bench.drive import drive

    cells, unsupported = grid.expand(request, args.plugin)
    if not args.dry_run:
        store.check_writable(args.out)
    results: dict[str, Result] = {}
    for cell in cells:
        found = store.stored(cell, args.out)
        if isinstance(found, str):
            warn(found)
        elif found is not None and found.error is None:
            results[cell.key] = found
    pending = [cell for cell in cells if cell.key not in results]
    how = f"{args.executor}, {resources.workers} at a time, {resources.device}, CPU threads each: {resources.threads}"
    print(f"{len(cells)} cells: {len(results)} done, {len(pending)} to run ({how})", flush=True)
    if args.dry_run:
        for cell in cells:
            print(f"  {'done  ' if cell.key in results else 'to run'}  {cell}")
        return 0
    try:
        with Display(len(pending)) as display:
            unsaved = drive(pending, results, resources, args.executor, args.out, display, warn) if pending else []
    except KeyboardInterrupt:
        rest = len(cells) - len(results)
        print(f"interrupted: {len(results)} cells are kept; the same command runs the other {rest}", file=sys.stderr)
        return 130
    pairs = [(cell, results.get(cell.key)) for cell in cells]
    streams = tables.streams(registry.get_benchmark(name, args.plugin) for name in request.benchmarks)
    table = tables.summarise(pairs, chosen, request.seeds, unsupported, streams=streams)
    stem = "-".join(request.benchmarks) + (f"-{request.epochs}epochs" if request.epochs else "")
    render.save(table, stem, options.command_line(request), [r for _, r in pairs if r], args.out / "tables")
    print(render.to_markdown(table))
    failed = [result for _, result in pairs if result and result.error]
    for result in unsaved:
        print(f"not saved: {result.cell}: make room in {args.out} and run it again", file=sys.stderr)
    lost = [*failed, *unsaved]
    return report_failures(failed, args.out, options.again(args, request, [r.cell for r in lost]) if lost else "")


def status(args: argparse.Namespace) -> int:
    """What grids are doing in a results folder, and what is there."""
    from bench import journal

    alive = list(journal.grids(args.out))
    for process, note in alive:
        print("\n".join(journal.describe(process, note)))
    stored = sum(1 for _ in args.out.glob("*/*/seed*-*.json"))
    print(f"{args.out}: {stored} results, {len(alive) or 'no'} grid{'s are' if len(alive) > 1 else ' is'} running")
    return 0


def tune(args: argparse.Namespace) -> int:
    """Search settings, print the trials, and write the best of each method as a recipe."""
    request = options.make_request(args)
    search, resources = options.make_search(args, request), options.make_resources(args)
    from bench import tune as tuner

    trials, left_out = tuner.plan(request, search, args.plugin)
    reasons = [f"{method} is not tuned: {reason}" for method, reason in left_out.items()]
    require(bool(trials), "; ".join(reasons))
    found = {trial.key: tuner.stored(trial, args.out) for trial in trials}
    outcomes = {key: outcome for key, outcome in found.items() if isinstance(outcome, tuner.Outcome) and outcome.final}
    for line in [*reasons, *(outcome for outcome in found.values() if isinstance(outcome, str))]:
        warn(line)
    pending = [trial for trial in trials if trial.key not in outcomes]
    how = f"Ray Tune, {resources.workers} at a time, {resources.device}, CPU threads each: {resources.threads}"
    print(f"{len(trials)} trials: {len(outcomes)} done, {len(pending)} to run ({how})", flush=True)
    if args.dry_run:
        for trial in trials:
            print(f"  {'done  ' if trial.key in outcomes else 'to run'}  {trial}")
        return 0
    try:
        outcomes |= run_trials(pending, resources, args.out)
    except KeyboardInterrupt:
        print("interrupted: finished trials are kept; the same command runs the others", file=sys.stderr)
        return 130
    return show_best([outcomes[trial.key] for trial in trials], request, search, args.out)


def run_trials(trials: Sequence[Trial], resources: Resources, out: Path) -> dict[str, Outcome]:
    """Outcomes by key; a line for each as it comes."""
    from bench import grid, store
    from bench import tune as tuner

    store.check_writable(out)
    outcomes: dict[str, Outcome] = {}

    def tell(outcome: Outcome) -> None:
        outcomes[outcome.trial.key] = outcome
        print(f"[{len(outcomes)}/{len(trials)}] {outcome}", file=sys.stderr, flush=True)

    if trials:
        for lost in grid.prepare([cell for trial in trials for cell in trial.cells], resources)[1]:
            raise UserError(str(lost.error))
        tuner.run(trials, resources, out, tell)
    return outcomes


def show_best(outcomes: Sequence[Outcome], request: Request, search: Search, out: Path) -> int:
    """Print the trials and write the recipe. Returns the exit code."""
    from bench import render, store, tuned
    from bench.worker import commit

    ranked = tuned.rank(outcomes)
    print("\n\n".join(render.show_listing(table, "md") for table in tuned.listings(ranked, request, search)))
    path = out / "tune" / f"{tuned.stem(request)}.toml"
    store.write_text(path, tuned.to_toml(ranked, request, search, options.tune_line(request, search), commit()))
    print(f"\nrecipe: {path}")
    failed = [outcome for outcome in outcomes if not outcome.final]
    for outcome in failed:
        print(f"failed: {outcome} (traceback in {out / outcome.trial.path})", file=sys.stderr)
    return 1 if failed else 0


def warn(message: str) -> None:
    """A line for a person; the work goes on."""
    print(f"warning: {message}", file=sys.stderr)


def report_failures(failed: Sequence[Result], out: Path, command: str) -> int:
    """One line for each cell that failed, and the command that runs just those again. Returns the exit code."""
    for result in failed:
        print(f"failed: {result.cell}: {result.error} (traceback in {out / result.cell.path})", file=sys.stderr)
    if command:
        print(f"to run just these again: {command}", file=sys.stderr)
    return 1 if command else 0


if __name__ == "__main__":
    sys.exit(main())
