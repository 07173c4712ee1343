"""A request in words again: the command that asks for the same, or for just a part of it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.catalog.plan import Request
from bench.cli.main import parser_of
from bench.cli.options import PROTOCOL
from bench.core import Cell
from bench.installation import program
from bench.text import spans

if TYPE_CHECKING:
    from bench.tools.tuning_search import Search


def again(args: argparse.Namespace, request: Request, failed: Sequence[Cell]) -> str:
    """Return the command that runs these cells again, all of one request, and nothing else: what is done is not
    repeated."""
    methods = list(dict.fromkeys(cell.method for cell in failed))
    benchmarks = list(dict.fromkeys(cell.benchmark for cell in failed))
    settings = {k: v for k, v in request.settings.items() if k in (*methods, *benchmarks)}
    used = {cell.protocol for cell in failed}
    protocols = [protocol for protocol in request.protocols if protocol in used]
    seeds = sorted({cell.seed for cell in failed})
    part = replace(request, methods=methods, benchmarks=benchmarks, seeds=seeds, settings=settings, protocols=protocols)
    words = [command_line(part)]
    usual = vars(parser_of("run").parse_all([]))
    for name in ("out", "data", "executor", "workers", "threads", "gpus_per_cell", "memory_per_cell", "ray_address",
                 "device", "time_limit"):  # fmt: skip
        value = getattr(args, name)
        if value != usual[name]:
            words.append(f"{_option(name)} {shlex.quote(str(value))}")
    words += [f"--plugin {shlex.quote(str(plugin))}" for plugin in args.plugin]
    if args.log:
        words.append(f"--log {','.join(args.log)}")
    words += [_option(name) for name in ("tf32", "no_checkpoint") if getattr(args, name)]
    return " ".join(words)


def _option(name: str) -> str:
    """Return an option as it is typed, by its name in the namespace of `argparse`."""
    return f"--{name.replace('_', '-')}"


def command_line(request: Request) -> str:
    """Return the command that asks for the same cells."""
    words = [program(), f"--methods {','.join(request.methods)}", f"--bench {','.join(request.benchmarks)}"]
    words.append(f"--seeds {','.join(spans(request.seeds, '-'))}")
    if list(request.protocols) != [PROTOCOL]:
        words.append(f"--protocol {','.join(request.protocols)}")
    if request.epochs:
        words.append(f"--epochs {request.epochs}")
    if request.precision != "fp32":
        words.append(f"--precision {request.precision}")
    if request.scenario:
        words.append(f"--scenario {request.scenario}")
    for owner, settings in request.settings.items():
        for name, value in settings.items():
            setting = f"{owner}.{name}={value}"
            words.append(f"--set {shlex.quote(setting)}")
    return " ".join(words)


def tune_line(request: Request, search: Search) -> str:
    """Return the command that makes the same search."""
    line = command_line(request).replace(program(), f"{program()} tune", 1)
    return f"{line} --trials {search.trials} --tasks {search.tasks} --search-seed {search.seed}"
