"""list: the available methods and benchmarks, or all their settings."""

from __future__ import annotations

import argparse

from bench.catalog import discovery
from bench.cli import options
from bench.cli.arguments import name_list
from bench.config import require
from bench.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `list`."""
    what = "every setting with its source: the recipes, and all defaults"
    parser.add_argument("--recipes", action="store_true", help=what)
    parser.add_argument(
        "--bench", type=name_list, default="all", metavar="A,B", help="whose recipes, by name, or all (default)"
    )


def main(args: argparse.Namespace) -> int:
    """Print a line for each method and each benchmark; or their settings. Return the exit code."""
    if args.recipes:
        from bench.catalog import describe

        chosen = options.pick_benchmarks(args.bench, args.catalog)
        print("\n\n".join(describe.describe_recipes(chosen, args.catalog)))
        return 0
    require(args.bench == "all", "list --bench goes with --recipes")
    methods, benchmarks = args.catalog.available("Method"), args.catalog.available("Benchmark")
    width = max(map(len, [*methods, *benchmarks]))
    print("methods")
    for name, path in methods.items():
        print(f"  {name:{width}}  {printable(discovery.summary(path))}")
    print("benchmarks")
    for name, path in benchmarks.items():
        benchmark = args.catalog.benchmark(name)
        facts = f"{', '.join(benchmark.scenarios)}; {benchmark.num_tasks} tasks; data {benchmark.data_state(args.data)}"
        print(f"  {name:{width}}  {printable(discovery.summary(path))} [{facts}]")
    return 0
