"""What methods cost in time, memory and arithmetic, beside fine-tuning, a bare PyTorch loop and the machine's limits.

On random images where the data is missing: ranks are then not the real ones. The bare loop has torch's own layers and
memory format, and the same batches. Every arm is a process of its own. Each trains an epoch a round, arms in turn, so
that a busy machine slows them alike, and ratios are taken within a round: first in the first task, then, when every
task before has had an epoch, in a later one.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from bench import files
from bench.execution.runner import Resources, environment, set_arithmetic
from bench.tools.profiling.arms import BARE, serve
from bench.tools.profiling.setting import Setting
from bench.training.surroundings import now

YARDSTICK = "finetune"
Times = dict[str, list[float]]  # seconds of an epoch, by arm and round
Pipes = list[Connection]  # to the copies of an arm, which run at the same time


class ArmError(Exception):
    """The process of an arm has ended."""


@contextmanager
def processes(arms: Sequence[str], setting: Setting) -> Iterator[dict[str, Pipes]]:
    """Yield the pipes to the copies of each arm, in processes that end with the block."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Pipes] = {arm: [] for arm in arms}
    for arm in pipes:
        for _ in range(setting.copies):
            pipe, other = context.Pipe()
            context.Process(target=serve, args=(other, arm, setting), daemon=True).start()
            other.close()  # so that its death is heard
            pipes[arm].append(pipe)
    try:
        yield pipes
    finally:
        for pipe in [pipe for copies in pipes.values() for pipe in copies]:
            with suppress(OSError):  # where the arm has died, and has said of what
                pipe.send("stop")
            pipe.close()


def ask(arm: str, copies: Pipes, order: str) -> list[Any]:
    """Return the answers of an arm's copies, all asked at once. Raises `ArmError` where one has died; it says itself of
    what."""
    try:
        for pipe in copies:
            pipe.send(order)
        return [pipe.recv() for pipe in copies]
    except (EOFError, OSError) as error:
        raise ArmError(f"the process of {arm} has ended; above it says why, unless the system killed it") from error


def measure_stage(pipes: dict[str, Pipes], rounds: int) -> tuple[dict[str, dict[str, Any]], Times]:
    """Return of the next stage what is known of each arm, made ready one after the other; and the seconds per arm and
    round, of its slowest copy. A first round is not counted."""
    facts = {arm: ask(arm, copies, "next")[0] for arm, copies in pipes.items()}
    seconds: Times = {arm: [] for arm in pipes}
    for _ in range(rounds + 1):
        for arm, copies in pipes.items():
            seconds[arm].append(max(ask(arm, copies, "run")))
    for arm, copies in pipes.items():
        facts[arm]["peak_bytes"] = max(ask(arm, copies, "peak"))
    return facts, {arm: own[1:] for arm, own in seconds.items()}


def machine(setting: Setting, repeats: int = 5) -> dict[str, float]:
    """Return what this machine can do: operations per second of a float32 matrix product, bytes per second of a
    copy."""
    set_arithmetic(Resources(threads=setting.threads))
    device = torch.device(setting.device)
    a, b = (torch.randn(2048, 2048, device=device) for _ in range(2))
    source = torch.zeros(2**26, device=device)
    target = torch.empty_like(source)
    best: dict[str, float] = {}
    for name, work, run in (
        ("flops_per_s", 2 * 2048**3, lambda: a @ b),
        ("bytes_per_s", 2 * source.nbytes, lambda: target.copy_(source)),
    ):
        for _ in range(repeats + 1):
            start = now(device)
            run()
            best[name] = max(best.get(name, 0.0), work / (now(device) - start))
    return best


def over(seconds: Times, arm: str, yardstick: str) -> dict[str, float]:
    """Return the median, the lowest and the highest of an arm's seconds over a yardstick's in the same round."""
    ratios = [a / b for a, b in zip(seconds[arm], seconds[yardstick], strict=True)]
    return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def describe_arm(arm: str, facts: dict[str, Any], seconds: Times, rates: dict[str, float]) -> dict[str, Any]:
    """Return all that is known of an arm in one stage."""
    records = facts.get("records", [])
    last = records[-1] if records else None
    hooks = last.seconds if last else {}
    hooks_in_epochs = None
    if hooks:
        hooks_in_epochs = (hooks["begin"] + hooks["end"]) / statistics.median(seconds[YARDSTICK])
    by_arithmetic = facts["flops"] / rates["flops_per_s"]
    by_memory = facts["bytes"] / rates["bytes_per_s"]
    floor = max(by_arithmetic, by_memory) * facts["steps"]
    return {
        "epoch_s": statistics.median(seconds[arm]),
        "over_finetune": over(seconds, arm, YARDSTICK),
        "over_bare": over(seconds, arm, BARE),
        "floor_s": floor,
        "gflop_per_step": facts["flops"] / 1e9,
        "begin_s": hooks.get("begin"),
        "end_s": hooks.get("end"),
        "hooks_in_finetune_epochs": hooks_in_epochs,
        "state_bytes": last.state_bytes if last else None,
        "peak_bytes": facts["peak_bytes"],
        "seconds_by_task": [record.seconds for record in records],  # begin, an epoch with its validation, end
    }


def profile_table(numbers: dict[str, Any]) -> str:
    """Return a measurement for a terminal: a line per arm, and under what conditions."""
    first, later, task = numbers["first"], numbers["later"], numbers["task"]
    rows = []
    for arm, row in later.items():
        spread = row["over_finetune"]
        rows.append({
            "arm": arm,
            "task 1 [s]": first[arm]["epoch_s"],
            "/ ft": first[arm]["over_finetune"]["median"],
            f"task {task} [s]": row["epoch_s"],
            "/ ft ": spread["median"],
            "range": f"{spread['low']:.2f}-{spread['high']:.2f}",
            "/ bare": row["over_bare"]["median"],
            "floor [s]": row["floor_s"],
            "GFLOP": row["gflop_per_step"],
            "begin [s]": row["begin_s"],
            "end [s]": row["end_s"],
            "both / ft": row["hooks_in_finetune_epochs"],
            "state [MB]": None if row["state_bytes"] is None else row["state_bytes"] / 1e6,
            "peak [GB]": row["peak_bytes"] / 1e9,
        })  # fmt: skip
    facts, rates = numbers["environment"], numbers["machine"]
    conditions = [
        f"{numbers['benchmark']} in {numbers['scenario']}, {numbers['images']}",
        f"{numbers['rounds']} rounds",
        f"{facts['threads']} threads on {facts['device']}{unusual_conditions(numbers)}",
        f"torch {facts['packages']['torch']}",
        f"{rates['flops_per_s'] / 1e9:.0f} GFLOP/s, {rates['bytes_per_s'] / 1e9:.1f} GB/s",
    ]
    return tabulate(rows, headers="keys", floatfmt=".2f") + "\n" + "; ".join(conditions)


def unusual_conditions(numbers: dict[str, Any]) -> str:
    """Return in words what is unusual of a measurement: copies at once, steps that are not captured."""
    copies = f", {numbers['copies']} copies of each arm at once" if numbers["copies"] > 1 else ""
    return copies + (", without CUDA graphs" if numbers["eager"] else "")


def measure_arms(arms: Sequence[str], setting: Setting, rounds: int) -> dict[str, Any]:
    """Return the whole measurement, as it is written."""
    rates = machine(setting)
    every = list(dict.fromkeys([BARE, YARDSTICK, *arms]))
    with processes(every, setting) as pipes:
        facts, seconds = zip(*(measure_stage(pipes, rounds) for _ in range(2)), strict=True)
    stages = []
    for known, times in zip(facts, seconds, strict=True):
        stages.append({arm: describe_arm(arm, known[arm], times, rates) for arm in times})
    return {
        "benchmark": setting.benchmark,
        "scenario": setting.catalog.benchmark(setting.benchmark, scenario=setting.scenario).scenario,
        "images": f"{setting.samples} a task, {facts[0][BARE]['images']}",
        "rounds": rounds,
        "copies": setting.copies,
        "eager": setting.eager,
        "task": setting.later,
        "machine": rates,
        "environment": environment(Resources(device=setting.device, threads=setting.threads)),
        "first": stages[0],
        "later": stages[1],
        "seconds": {"first": seconds[0], "later": seconds[1]},
    }


def write_measurement(numbers: dict[str, Any], path: Path) -> None:
    """Write a measurement as JSON."""
    files.write_text(path, json.dumps(numbers, indent=1) + "\n")
