"""How long a grid may take, said before it runs: a guess in words, which never changes what runs.

The time of a cell comes from results of its kind, measured on this machine or else on another, or from a calibration:
timed steps, kept in the results folder, so that nothing is timed twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from bench import files, installation
from bench.core import Cell, Result
from bench.execution import machine, store
from bench.execution.forecast.calibration import Answer, Order, calibrate
from bench.execution.runner import Resources
from bench.execution.status import duration, estimate

LIMIT = 20.0  # seconds that all calibrations of a grid may take
RAY = 10.0  # seconds that a Ray of our own takes to start and to stop
RECENT = 20  # results of a method on a benchmark, at most, that are looked at: the newest
WAITING = "not calibrated yet: the same command continues with it"
HERE, ELSEWHERE, CALIBRATED = "measured here", "measured elsewhere", "calibrated"


class Guess(NamedTuple):
    """Seconds of a cell, where they come from, and whether it may well end sooner."""

    seconds: float
    source: str
    at_most: bool


@dataclass
class Forecast:
    """What is known of the time of the cells of a grid."""

    guesses: list[tuple[Cell, Guess]] = field(default_factory=list)
    unknown: dict[str, list[str]] = field(default_factory=dict)  # why: methods and benchmarks
    speeds: dict[str, Answer] = field(default_factory=dict)  # of a benchmark's network, see `calibration.speed`

    @property
    def seconds(self) -> list[float]:
        return [guess.seconds for _, guess in self.guesses]

    def with_speed(self, name: str) -> float | None:
        """Return the seconds of all cells in "bf16" or on the "gpu"; None where that was not timed for every
        benchmark."""
        times = []
        for cell, guess in self.guesses:
            factor = self.speeds.get(cell.benchmark, {}).get(name)
            if not factor:
                return None
            times.append(factor * guess.seconds)
        return sum(times)


def line(cells: Sequence[Cell], resources: Resources, executor: str, out: Path) -> str:
    """Return in words how long the cells may take, and what workers, bfloat16 or a GPU would make of it."""
    return describe_forecast(foresee(cells, resources, out), resources, executor) if cells else ""


def foresee(cells: Sequence[Cell], resources: Resources, out: Path) -> Forecast:
    """Look for the time of each kind of cell: measured here, measured elsewhere, calibrated, in this order."""
    kinds: dict[str, list[Cell]] = {}
    for cell in cells:
        kinds.setdefault(replace(cell, seed=0).key, []).append(cell)
    guesses = {kind: measured(same[0], resources, out) for kind, same in kinds.items()}
    answers = calibrations([kinds[kind][0] for kind, guess in guesses.items() if guess is None], resources, out)
    forecast = Forecast()
    for kind, same in kinds.items():
        cell, guess = same[0], guesses[kind]
        forecast.speeds[cell.benchmark] = answers.get(key_of("speed", cell, resources), {})
        answer = answers.get(key_of("pace", cell, resources), {"error": WAITING})
        if guess is None and "error" in answer:
            forecast.unknown.setdefault(answer["error"], []).append(f"{cell.method} on {cell.benchmark}")
            continue
        forecast.guesses += [(each, guess or _by_pace(cell, answer)) for each in same]
    return forecast


def measured(cell: Cell, resources: Resources, out: Path) -> Guess | None:
    """Return the mean time of results of this kind; of another number of epochs only where there are no others."""
    folders = [out, *filter(None, [installation.published()])]
    alike = [result for folder in folders for result in _recent(folder, cell, resources)]
    here = [result for result in alike if result.environment.get("cpu") == machine.cpu()]
    results, source = (here, HERE) if here else (alike, ELSEWHERE)
    epochs = cell.training["epochs"]
    same = [result for result in results if result.cell.training["epochs"] == epochs]
    if same:
        return Guess(fmean(result.environment["seconds"] for result in same), source, False)
    if results:
        return Guess(fmean(_scaled(result, epochs) for result in results), source, _may_stop(cell))
    return None


def _recent(folder: Path, cell: Cell, resources: Resources) -> Iterator[Result]:
    """Yield the newest results of the method on the benchmark that took what the cell takes, epochs aside."""
    paths = sorted((folder / cell.benchmark / cell.method).glob("seed*-*.json"), key=_age)
    for path in paths[:RECENT]:
        with suppress(ValueError, OSError):  # a damaged file; whoever needs it will tell
            result = store.load_result(path)
            if _alike(result, cell, resources):
                yield result


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:  # it was replaced just now
        return 0.0


def _alike(result: Result, cell: Cell, resources: Resources) -> bool:
    """Whether a result came about by the same work on the same kind of device; the protocol makes little of it."""
    facts, other = result.environment, result.cell
    if result.error or "seconds" not in facts or not all("seconds" in task for task in result.tasks):
        return False
    asked = (machine.device_name(resources.device), resources.threads, resources.tf32, cell.precision)
    ran = (facts.get("device"), facts.get("threads"), facts.get("tf32", False), other.precision)
    return asked == ran and _work(cell) == _work(other) and "epochs" in other.training


def _work(cell: Cell) -> tuple[object, ...]:
    """Return what a step of the cell is made of."""
    return cell.training.get("batch_size"), cell.training.get("sam"), _changes(cell)


def _changes(cell: Cell) -> str:
    """Return what was changed of the recipe, but for the epochs and the order of tasks, which takes no time."""
    left_out = ("epochs", f"{cell.benchmark}.order")
    changes = {name: value for name, (_, value) in cell.overrides.items() if name not in left_out}
    return json.dumps(changes, sort_keys=True)


def _scaled(result: Result, epochs: int) -> float:
    """Return the seconds that a result would have taken with so many epochs a task."""
    training = sum(task["seconds"]["train"] for task in result.tasks)
    ran = sum(task["epochs"] for task in result.tasks)
    wanted = epochs * len(result.tasks)
    more = wanted / max(ran, 1) - 1
    return float(result.environment["seconds"]) + training * more


def _by_pace(cell: Cell, answer: Answer) -> Guess:
    return Guess(answer["rest"] + answer["epoch"] * cell.training["epochs"], CALIBRATED, _may_stop(cell))


def _may_stop(cell: Cell) -> bool:
    """Whether training may end before its last epoch."""
    return bool(cell.training["patience"]) and cell.training.get("lr_schedule", "plateau") == "plateau"


def calibrations(cells: Sequence[Cell], resources: Resources, out: Path) -> dict[str, Answer]:
    """Return all calibrations of this machine that are known, by key, and make those of `cells` that are wanting.

    Those without an error are kept in the results folder. On a cluster none are made: it is another machine.
    """
    path = out / ".calibration.json"
    known = _read(path)
    orders: dict[str, Order] = {}
    by_method = sorted(cells, key=lambda cell: cell.method)  # some of every benchmark
    for what, cell in product(("pace", "speed"), by_method):
        key = key_of(what, cell, resources)
        if key not in known:
            orders[key] = Order(key, what, cell)
    if not orders or LIMIT <= 0 or resources.address:
        return known
    new = calibrate(list(orders.values()), resources, LIMIT)
    known |= {key: answer for key, answer in new.items() if "error" not in answer}  # an error is worth another try
    with suppress(OSError):  # a folder that cannot be written is told by the run itself
        files.write_text(path, json.dumps(known, indent=1) + "\n")
    return {**known, **new}


def _read(path: Path) -> dict[str, Answer]:
    try:
        found: dict[str, Answer] = json.loads(path.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError):
        return {}


def key_of(what: str, cell: Cell, resources: Resources) -> str:
    """Return the name of a calibration: all that its numbers depend on."""
    identity = asdict(replace(cell, seed=0, overrides={}, training={**cell.training, "epochs": 0}))
    if what == "speed":
        identity = {name: identity[name] for name in ("benchmark", "options")}
        identity |= {"code": cell.source["benchmark"], "batch_size": cell.training["batch_size"]}
    device = (resources.device, machine.device_name(resources.device), resources.threads, resources.tf32)
    facts = (what, machine.cpu(), *device, metadata.version("torch"))
    return hashlib.sha256(json.dumps([identity, facts], sort_keys=True).encode()).hexdigest()[:12]


def describe_forecast(forecast: Forecast, resources: Resources, executor: str) -> str:
    """Return a forecast in words, on one line."""
    unknown = [_unknown(why, pairs) for why, pairs in forecast.unknown.items()]
    if not forecast.guesses:
        return "; ".join(["time unknown", *unknown])
    how = [_workers(forecast, resources, executor), _bf16(forecast, resources), _gpu(forecast, resources)]
    return "; ".join([_total(forecast, resources, executor), *filter(None, how), *unknown])


def describe_part(forecast: Forecast, benchmark: str) -> str:
    """Return the time of the cells on one benchmark in words, one after the other."""
    guesses = [guess for cell, guess in forecast.guesses if cell.benchmark == benchmark]
    names = [pair for pairs in forecast.unknown.values() for pair in pairs]
    unknown = [pair.partition(" on ")[0] for pair in names if pair.endswith(f" on {benchmark}")]
    if not guesses:
        return "time unknown"
    words = "at most" if any(guess.at_most for guess in guesses) else "about"
    without = f", without {', '.join(unknown)}" if unknown else ""
    return f"{estimate(sum(guess.seconds for guess in guesses), words)}{without}"


def _total(forecast: Forecast, resources: Resources, executor: str) -> str:
    """Return in words the time of the grid as it was asked for, and what that rests on."""
    sources = Counter(guess.source for _, guess in forecast.guesses)
    rests = (
        ", ".join(f"{count} {source}" for source, count in sources.items()) if len(sources) > 1 else "".join(sources)
    )
    some = f" for {len(forecast.guesses)} of them" if forecast.unknown else ""
    words = "at most" if any(guess.at_most for _, guess in forecast.guesses) else "about"
    seconds = sum(forecast.seconds)
    if executor == "ray" and resources.workers:
        seconds = shared(forecast.seconds, resources.workers)
    alone = " of one worker's time" if not resources.workers else ""
    return f"{estimate(seconds, words)}{alone}{some} ({rests})"


def shared(seconds: Sequence[float], workers: int) -> float:
    """Return the seconds of cells under Ray at best: as if workers never waited nor slowed each other down."""
    return max(sum(seconds) / workers, max(seconds)) + RAY


def _workers(forecast: Forecast, resources: Resources, executor: str) -> str:
    """Return in words what the other executor would make of it."""
    if executor == "ray":
        return f"one at a time {duration(sum(forecast.seconds))}" if resources.workers > 1 else ""
    fit = min((os.cpu_count() or 1) // resources.threads, len(forecast.guesses))
    if resources.device != "cpu" or fit < 2:
        return ""
    return f"with --executor ray --workers {fit} at best {duration(shared(forecast.seconds, fit))}"


def _bf16(forecast: Forecast, resources: Resources) -> str:
    seconds = forecast.with_speed("bf16")
    if seconds is not None:
        return f"steps in bf16 would make it {duration(seconds)}"
    if resources.device == "cpu" and not machine.has_bf16():
        return "no bf16 instructions in this CPU"
    return "bf16 was not timed"


def _gpu(forecast: Forecast, resources: Resources) -> str:
    if resources.device != "cpu" or resources.address:
        return ""
    seconds = forecast.with_speed("gpu")
    if seconds is not None:
        return f"on the GPU {duration(seconds)}"
    return "there is a GPU: --device cuda" if machine.has_cuda() else "no GPU here"


def _unknown(why: str, pairs: Sequence[str]) -> str:
    more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
    return f"unknown: {', '.join(pairs[:3])}{more} ({why})"
