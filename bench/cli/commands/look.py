"""list, data and status: what there is, what is missing, and what is going on."""

from __future__ import annotations

import argparse
import sys

from bench.catalog import registry
from bench.cli import options
from bench.config import require


def show_list(args: argparse.Namespace) -> int:
    """One line a method and a benchmark; or all their settings."""
    if args.recipes:
        from bench.catalog import settings

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
    from bench.data import inventory

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


def status(args: argparse.Namespace) -> int:
    """What grids are doing in a results folder, and what is there."""
    from bench.execution import status as journal

    alive = list(journal.grids(args.out))
    for process, note in alive:
        print("\n".join(journal.describe(process, note)))
    stored = sum(1 for _ in args.out.glob("*/*/seed*-*.json"))
    print(f"{args.out}: {stored} results, {len(alive) or 'no'} grid{'s are' if len(alive) > 1 else ' is'} running")
    return 0
