"""tune: search settings, and write the best of each method as a recipe."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench import files
from bench.cli import options
from bench.cli.arguments import add_out, add_resources, add_scenario, name_list, whole
from bench.cli.commands import announce, list_items, tell, warn, warn_if_slower
from bench.config import require
from bench.core import UserError

if TYPE_CHECKING:
    from bench.catalog.plan import Request
    from bench.execution.runner import Resources
    from bench.tools.tuning_search import Outcome, Search, Trial


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to search, and how far."""
    add = parser.add_argument
    add(
        "--methods",
        type=name_list,
        default="default",
        metavar="A,B",
        help="by name, or default, or all (default: %(default)s)",
    )
    add("--bench", type=name_list, default="default", metavar="NAME", help="one benchmark (default: %(default)s)")
    add("--protocol", default=options.PROTOCOL, metavar="P", help="one protocol (default: %(default)s)")
    add_scenario(parser)
    add("--trials", type=whole, default=10, metavar="N", help="of each method, the recipe's own first (default: 10)")
    add("--tasks", type=whole, metavar="N", help="judge by the first tasks of the stream (default: 3)")
    add("--seeds", default="100", metavar="LIST", help="of data and weights; not those of any table (default: 100)")
    add("--search-seed", type=whole, default=0, metavar="N", help="of the samples (default: 0)")
    add_out(parser, "trials and recipe go to OUT/tune")
    add_resources(parser)
    parser.set_defaults(executor="ray", recipe=None, set=[], log=[], no_checkpoint=True)
    parser.set_defaults(ray_address="", time_limit=None, memory_per_cell=None)


def main(args: argparse.Namespace) -> int:
    """Search settings, print the trials, and write the best of each method as a recipe."""
    request = options.make_request(args)
    search, resources = options.make_search(args, request), options.make_resources(args)
    from bench.tools import tuning_search as tuner

    if not args.dry_run:
        args.catalog.import_methods(request.methods)
    trials, left_out = tuner.plan(request, search, args.catalog)
    reasons = [f"{method} is not tuned: {reason}" for method, reason in left_out.items()]
    require(bool(trials), "; ".join(reasons))
    found = {trial.key: tuner.stored_outcome(trial, args.out) for trial in trials}
    outcomes = {key: outcome for key, outcome in found.items() if isinstance(outcome, tuner.Outcome) and outcome.final}
    for line in [*reasons, *(outcome for outcome in found.values() if isinstance(outcome, str))]:
        warn(line)
    pending = [trial for trial in trials if trial.key not in outcomes]
    if pending:
        warn_if_slower(request.precision, resources)
    announce("trial", trials, outcomes, "Ray Tune", resources)
    if args.dry_run:
        list_items(trials, outcomes)
        return 0
    try:
        outcomes |= run_pending(pending, resources, args.out)
    except KeyboardInterrupt:
        print("interrupted: finished trials are kept; the same command runs the others", file=sys.stderr)
        return 130
    return show_best([outcomes[trial.key] for trial in trials], request, search, args.out)


def run_pending(trials: Sequence[Trial], resources: Resources, out: Path) -> dict[str, Outcome]:
    """Outcomes by key; a line for each as it comes."""
    from bench.execution import grid
    from bench.tools import tuning_search as tuner

    files.check_writable(out)
    outcomes: dict[str, Outcome] = {}

    def keep(outcome: Outcome) -> None:
        outcomes[outcome.trial.key] = outcome
        tell(f"[{len(outcomes)}/{len(trials)}] {outcome}")

    if trials:
        for lost in grid.prepare([cell for trial in trials for cell in trial.cells], resources)[1]:
            raise UserError(str(lost.error))
        tuner.run_trials(trials, resources, out, keep)
    return outcomes


def show_best(outcomes: Sequence[Outcome], request: Request, search: Search, out: Path) -> int:
    """Print the trials and write the recipe. Returns the exit code."""
    from bench.analysis import render
    from bench.cli import command_line
    from bench.execution.machine.versions import commit
    from bench.tools import tuned_recipe

    ranked = tuned_recipe.rank_outcomes(outcomes)
    listings = tuned_recipe.trial_listings(ranked, request, search)
    print("\n\n".join(render.show_listing(listing, render.TERMINAL) for listing in listings))
    path = out / "tune" / f"{tuned_recipe.stem(request)}.toml"
    files.write_text(
        path, tuned_recipe.to_toml(ranked, request, search, command_line.tune_line(request, search), commit())
    )
    print(f"\nrecipe: {path}")
    failed = [outcome for outcome in outcomes if not outcome.final]
    for outcome in failed:
        tell(f"failed: {outcome} (traceback in {out / outcome.trial.path})")
    return 1 if failed else 0
