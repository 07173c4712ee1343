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
    """The command that runs these cells again, all of one request, and nothing else: what is done is not repeated."""
    methods = list(dict.fromkeys(cell.method for cell in failed))
    benchmarks = list(dict.fromkeys(cell.benchmark for cell in failed))
    settings = {k: v for k, v in request.settings.items() if k in (*methods, *benchmarks)}
    protocols = [p for p in request.protocols if any(cell.protocol == p for cell in failed)]
    seeds = sorted({cell.seed for cell in failed})
    part = replace(request, methods=methods, benchmarks=benchmarks, seeds=seeds, settings=settings, protocols=protocols)
    words = [command_line(part)]
    usual = vars(parser_of("run").parse_all([]))
    for name in ("out", "data", "executor", "workers", "threads", "gpus_per_cell", "memory_per_cell", "ray_address",
                 "device", "time_limit"):  # fmt: skip
        if getattr(args, name) != usual[name]:
            words.append(f"--{name.replace('_', '-')} {shlex.quote(str(getattr(args, name)))}")
    words += [f"--plugin {shlex.quote(str(plugin))}" for plugin in args.plugin]
    words += [f"--log {','.join(args.log)}"] if args.log else []
    flags = [f"--{name.replace('_', '-')}" for name in ("tf32", "no_checkpoint") if getattr(args, name)]
    return " ".join(words + flags)


def command_line(request: Request) -> str:
    """The command that asks for the same cells."""
    words = [program(), f"--methods {','.join(request.methods)}", f"--bench {','.join(request.benchmarks)}"]
    words.append(f"--seeds {','.join(spans(request.seeds, '-'))}")
    words += [f"--protocol {','.join(request.protocols)}"] if list(request.protocols) != [PROTOCOL] else []
    words += [f"--epochs {request.epochs}"] if request.epochs else []
    words += [f"--precision {request.precision}"] if request.precision != "fp32" else []
    words += [f"--scenario {request.scenario}"] if request.scenario else []
    return " ".join(
        words + [f"--set {shlex.quote(f'{m}.{k}={v}')}" for m, s in request.settings.items() for k, v in s.items()]
    )


def tune_line(request: Request, search: Search) -> str:
    """The command that makes the same search."""
    line = command_line(request).replace(program(), f"{program()} tune", 1)
    return f"{line} --trials {search.trials} --tasks {search.tasks} --search-seed {search.seed}"
