"""Search settings with Ray Tune: as many trials for every method, judged by validation data alone.

A trial is a setting of a method, run on the first tasks of a benchmark with each task's validation split in the place
of its test split: test data does not enter. Trial 0 has the recipe's own settings, so the best is never worse on this
data; the others are random samples of the method's space. They depend on the seed of the search, the benchmark and the
method alone: they are the same on every machine and under every version of Ray, and more trials go on with a search.
Each trial that ends is a file of its own, so that the same command repeats none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import files, metrics
from bench.analysis.columns import percent
from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.config import require
from bench.core import Cell, Result, Task, Training
from bench.execution import decoding
from bench.execution.executors import ray_cluster as cluster
from bench.execution.runner import Resources, run_cell
from bench.seeding import derive
from bench.settings import space_of


@dataclass(frozen=True)
class Search:
    """How far to search: the same for every method."""

    trials: int = 10  # of each method, the recipe's own settings among them
    tasks: int = 3  # the first of the stream
    seed: int = 0  # of the samples


@dataclass(frozen=True)
class Trial:
    """A setting of a method; number 0 is the recipe's own."""

    number: int
    settings: dict[str, Any]  # of what is searched
    cells: tuple[Cell, ...]  # one per seed, all else resolved
    tasks: int

    @property
    def method(self) -> str:
        return self.cells[0].method

    @property
    def key(self) -> str:
        """Return the identity of a trial, as a cell's: it covers all that decides the outcome."""
        words = json.dumps([self.tasks, *(cell.key for cell in self.cells)])
        return hashlib.sha256(words.encode()).hexdigest()[:12]

    @property
    def path(self) -> Path:
        """Return the path of the outcome, relative to the results folder."""
        return Path("tune") / self.cells[0].benchmark / self.method / f"{self.key}.json"

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.method}, {'the recipe' if self.number == 0 else f'trial {self.number}'} ({settings})"


@dataclass(frozen=True)
class Outcome:
    """What came of a trial."""

    trial: Trial
    accuracies: tuple[float, ...] = ()  # per seed: mean over the tasks after the last of them, on validation data
    error: str | None = None  # one line
    seconds: float = 0.0

    @property
    def score(self) -> float:
        """Return what is to be maximised; NaN where the trial failed."""
        return math.nan if self.error else float(np.mean(self.accuracies))

    @property
    def diverged(self) -> bool:
        return (self.error or "").startswith(FloatingPointError.__name__)

    @property
    def final(self) -> bool:
        """Whether it would come out the same again: what failed by accident is tried again by the next command."""
        return self.error is None or self.diverged

    def __str__(self) -> str:
        outcome = self.error or f"{percent(self.score):.2f}"
        return f"{self.trial}: {outcome}, {self.seconds:.1f} s"


def plan(request: Request, search: Search, catalog: Catalog) -> tuple[list[Trial], dict[str, str]]:
    """Return the trials of a search on one benchmark, recipes first, and why a method is not searched, by method."""
    trials: list[Trial] = []
    left_out: dict[str, str] = {}
    for name in request.methods:
        own = replace(request, methods=[name])
        usual, unsupported = catalog.plan(own)
        if catalog.declaration(name).stage == "all":
            left_out[name] = "it trains on all tasks at once, an upper bound and not a competitor"
        elif unsupported:
            [left_out[name]] = unsupported.values()
        else:
            trials += _trials_of(name, usual, own, search, catalog)
    return sorted(trials, key=lambda trial: trial.number), left_out


def _trials_of(name: str, usual: Sequence[Cell], request: Request, search: Search, catalog: Catalog) -> list[Trial]:
    space = space_of(Training, catalog.declaration(name).Config)
    recipe = {**usual[0].training, **usual[0].config}
    trials = [Trial(0, {field: recipe[field] for field in space}, tuple(usual), search.tasks)]
    generator = np.random.default_rng(derive("search", search.seed, usual[0].benchmark, name))
    for number in range(1, search.trials):
        settings = {field: values.sample(generator) for field, values in space.items()}
        own = {**request.settings.get(name, {}), **settings}
        user = {**request.settings, name: own}
        cells, unsupported = catalog.plan(replace(request, settings=user))
        reason = "; ".join(unsupported.values())
        require(not reason, f"the space of {name} holds settings with which it does not apply, {settings}: {reason}")
        trials.append(Trial(number, settings, tuple(cells), search.tasks))
    return trials


def blind(tasks: Sequence[Task], first: int) -> list[Task]:
    """Return the first tasks, with validation data in the place of test data."""
    require(all(len(task.validation) for task in tasks[:first]), "there is no validation data to judge a trial by")
    return [replace(task, test=task.validation) for task in tasks[:first]]


def attempt(trial: Trial, resources: Resources, folder: Path) -> Outcome:
    """Run a trial and store it. What goes wrong in it is in the outcome."""
    view = partial(blind, first=trial.tasks)
    return _save(trial, [run_cell(cell, resources, view=view) for cell in trial.cells], folder)


def _save(trial: Trial, results: Sequence[Result], folder: Path) -> Outcome:
    record = {"settings": trial.settings, "tasks": trial.tasks, "results": [asdict(result) for result in results]}
    files.write_text(folder / trial.path, decoding.seal(record))
    return _outcome(trial, results)


def stored_outcome(trial: Trial, folder: Path) -> Outcome | str | None:
    """Return the outcome of a trial if there is one; a warning if its file cannot be used."""
    path = folder / trial.path
    if not os.path.lexists(path):
        return None
    try:
        results = _read(path)
        if [result.cell.key for result in results] != [cell.key for cell in trial.cells]:
            raise ValueError("it holds other cells than the trial has")
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}; the trial runs again"
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        return f"{path} is damaged: {reason}; the trial runs again"
    if any(result.cell.source != cell.source for result, cell in zip(results, trial.cells, strict=True)):
        return f"{path}: the code or the recipe has changed since; the trial runs again"
    return _outcome(trial, results)


def _read(path: Path) -> list[Result]:
    """Return the results that a file of a trial holds. Raises OSError and ValueError."""
    files.demand_file(path)
    record = decoding.unseal(path.read_bytes())
    stored = record.get("results")
    if not isinstance(stored, list):
        raise ValueError("it holds no results")
    return [decoding.result_of(raw) for raw in stored]


def _outcome(trial: Trial, results: Sequence[Result]) -> Outcome:
    seconds = sum(result.environment.get("seconds", 0.0) for result in results)
    errors = [result.error for result in results if result.error]
    if errors:
        return Outcome(trial, (), errors[0], seconds)
    accuracies = tuple(metrics.acc(result.R) for result in results)
    return Outcome(trial, accuracies, None, seconds)


LOST = "the worker was lost: it was killed, or ran out of memory"
SILENCE = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the old reporter keeps to `verbose`
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our files are the record
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is a KeyboardInterrupt, as everywhere
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def run_trials(trials: Sequence[Trial], resources: Resources, folder: Path, tell: Callable[[Outcome], None]) -> None:
    """Run trials under Ray Tune, `workers` at a time; each is stored by its worker, then told of here."""
    os.environ.update(SILENCE)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures are told of
    planned, out = list(trials), folder.resolve()
    with cluster.connected(resources), tempfile.TemporaryDirectory() as scratch:
        from ray import tune

        def train(config: dict[str, int]) -> dict[str, float]:
            return {"score": attempt(planned[config["number"]], resources, out).score}

        class Tell(tune.Callback):
            def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                outcome = stored_outcome(planned[trial.config["number"]], out)
                assert isinstance(outcome, Outcome)
                tell(outcome)

            def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                own = planned[trial.config["number"]]
                tell(_save(own, [Result(cell, error=LOST) for cell in own.cells], out))

        tune.Tuner(
            tune.with_resources(train, {"cpu": resources.threads, "gpu": resources.gpus_per_cell}),
            param_space={"number": tune.grid_search(list(range(len(planned))))},
            tune_config=tune.TuneConfig(max_concurrent_trials=resources.workers, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=scratch, verbose=0, callbacks=[Tell()]),
        ).fit()
