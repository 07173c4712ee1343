"""Which stored results a table or a report is made of."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench import installation
from bench.analysis.labels import labels_of
from bench.catalog import changes
from bench.cli import options
from bench.cli.commands import warn
from bench.config import require
from bench.core import PRECISIONS, PROTOCOLS, SCENARIOS, Cell, Result, UserError
from bench.installation import program


class Selection(NamedTuple):
    """What a table or a report is made of."""

    results: list[Result]  # those that were asked for, at least one
    seeds: list[int] | None  # asked for; None for all that there are
    everything: list[Result]  # all that is stored
    changed: dict[str, tuple[str, ...]]  # what has changed since a result was run, by the key of its cell


def select(args: argparse.Namespace) -> Selection:
    """Return the stored results that were asked for. Raises `UserError` where there are none."""
    seeds = options.parse_seeds(args.seeds) if args.seeds else None
    benchmarks = options.pick_benchmarks(args.bench, args.catalog)
    today = changes.Today(args.catalog)
    stored = stored_results(args.out, today)
    imported = [result.cell.method for result in stored if result.cell.traits.get("imported")]
    methods = options.pick_methods(args.methods, args.catalog, imported)
    protocols = options.pick("protocol", args.protocol or "all", PROTOCOLS)
    scenarios = options.pick("scenario", args.scenario, SCENARIOS)
    has_budget = budget_of(args.epochs)
    precisions = options.pick("precision", args.precision, PRECISIONS)
    if args.methods == "all":
        methods += args.catalog.variants()

    def asked_for(cell: Cell) -> bool:
        named = cell.method in methods and cell.benchmark in benchmarks
        under = cell.protocol in protocols or cell.traits.get("imported", False)
        alike = cell.scenario in scenarios and cell.precision in precisions and has_budget(cell)
        return named and under and alike and (seeds is None or cell.seed in seeds)

    kept = [result for result in stored if asked_for(result.cell)]
    if not kept:
        raise UserError(
            f"no results of these in {args.out}: run them first, as in `{program()}`{where_published(args)}"
        )
    changed = {result.cell.key: today.changes(result.cell) for result in kept}
    return Selection(kept, seeds, stored, changed)


def budget_of(text: str) -> Callable[[Cell], bool]:
    """Return what tells whether a cell has the budget that `--epochs` asks for."""
    word = text.strip().lower()
    if word == "all":
        return lambda cell: True
    if word == "recipe":
        return lambda cell: "epochs" not in cell.overrides
    whole = word.isdecimal() and len(word) < 10 and int(word) > 0
    require(whole, f"--epochs takes a number of epochs, at least 1, or recipe, or all, not '{text}'")
    return lambda cell: cell.training.get("epochs") == int(word)


def where_published(args: argparse.Namespace) -> str:
    """Return how to show the results that come with a checkout, where there are some and others were looked for."""
    folder = installation.published()
    if folder is None or args.out.resolve() == folder:
        return ""
    here = Path.cwd()
    place = folder.relative_to(here) if folder.is_relative_to(here) else folder
    apart = " --to report.html" if args.command == "report" else ""  # not among what the repository keeps
    return f"; those that come with the suite: `{program()} {args.command} --out {shlex.quote(str(place))}{apart}`"


def stored_results(folder: Path, today: changes.Today) -> list[Result]:
    """Return all stored results, those apart that may not be averaged; warn of files that cannot be read, and of
    results whose method or benchmark is unknown."""
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
    return changes.tell_apart(found, labels_of, today)
