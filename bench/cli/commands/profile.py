"""profile: what methods cost in time, memory and arithmetic, beside a bare PyTorch loop and the machine's limits."""

from __future__ import annotations

import argparse
import sys

from bench import files
from bench.catalog.plan import Request, told_inapplicable
from bench.cli import options
from bench.cli.arguments import add_scenario, name_list, whole
from bench.cli.commands import tell
from bench.config import known_as, require
from bench.core import SCENARIOS
from bench.execution import machine
from bench.files import path_of
from bench.tools.profiling.setting import Setting, cell_of

METHODS = "default"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to measure, and how often."""
    add = parser.add_argument
    add("--bench", type=name_list, default="default", metavar="NAME", help="one benchmark (default: %(default)s)")
    methods = "by name, or NAME:setting=value, or NAME:precision=bf16, or default (default: %(default)s)"
    add("--methods", type=name_list, default=METHODS, metavar="A,B", help=methods)
    add_scenario(parser)
    add("--samples", type=whole, default=4750, metavar="N", help="training images of a task, at most (default: 4750)")
    add("--rounds", type=whole, default=5, metavar="N", help="epochs of each arm, in turn (default: 5)")
    add("--task", type=whole, default=2, metavar="N", help="the task measured beside the first (default: 2)")
    add("--threads", type=whole, default=2, metavar="N", help="CPU threads (default: 2)")
    add("--device", default="cpu", metavar="D", help="cpu (default), cuda, cuda:1, ... or mps")
    add("--copies", type=whole, default=1, metavar="N", help="processes of each arm at the same time (default: 1)")
    add("--eager", action="store_true", help="on a GPU: launch each kernel of a step by itself, without CUDA graphs")
    add("--json", type=path_of, metavar="FILE", help="also write all numbers there")


def main(args: argparse.Namespace) -> int:
    """Measure, print a table, and write the numbers where that was asked for. Return the exit code."""
    benchmarks = options.pick_benchmarks(args.bench, args.catalog)
    require(len(benchmarks) == 1, f"profile takes one --bench at a time, not {','.join(benchmarks)}")
    for option in ("samples", "rounds", "threads", "copies"):
        require(getattr(args, option) >= 1, f"--{option} must be at least 1, not {getattr(args, option)}")
    args.scenario = known_as("scenario", args.scenario, SCENARIOS) if args.scenario else ""
    there = args.catalog.benchmark(benchmarks[0], scenario=args.scenario).num_tasks
    require(2 <= args.task <= there, f"--task must be between 2 and {there}, the tasks of {benchmarks[0]}")
    how = args.threads, machine.find_device(args.device), args.copies, args.eager, args.scenario
    setting = Setting(benchmarks[0], args.data, args.samples, args.task, *how, args.catalog)
    arms = _arms(args.methods, setting)
    if args.json:
        files.check_writable(args.json.resolve().parent, "--json")
    from bench.tools.profiling import profile

    try:
        numbers = profile.measure_arms(arms, setting, args.rounds)
    except profile.ArmError as error:
        print(f"profile: {error}", file=sys.stderr)
        return 1
    print(profile.profile_table(numbers))
    if args.json:
        profile.write_measurement(numbers, args.json)
    return 0


def _arms(methods: str, setting: Setting) -> list[str]:
    """Return the arms that were asked for; by default the methods by name that can be measured."""
    catalog = setting.catalog
    if methods != METHODS:
        arms = options.named(methods)
        for arm in arms:
            options.pick_methods(arm.split(":")[0], catalog)
            cell_of(arm, setting)
        return arms
    known = [name for name in options.pick_methods(METHODS, catalog) if catalog.declaration(name).stage == "task"]
    plan = catalog.plan(Request(known, [setting.benchmark], [1], scenario=setting.scenario))
    for line in told_inapplicable(plan):
        tell(line)
    return [cell.method for cell in plan.cells]
