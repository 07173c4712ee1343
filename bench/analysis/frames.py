"""Results as pandas frames. Accuracies are fractions, as they are stored; only tables speak of percent."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis import columns
from bench.catalog.catalog import Catalog
from bench.catalog.changes import Today
from bench.core import Result, UserError
from bench.execution import store

SCORES = [name for name, metric in columns.METRICS.items() if metric.quality and not metric.against_joint]
COSTS = {
    "state_bytes": columns.state_bytes,
    "trainable": columns.trainable,
    "old_samples_read": columns.old_samples_read,
    "stored": columns.stored,
    "seconds": columns.seconds,
}
TRAITS = ["joint", "reads_old_data", "replays", "imported"]
CELL = ["benchmark", "scenario", "protocol", "precision", "method", "settings", "seed", "key", "group"]


def load_results(path: str | Path = "results", catalog: Catalog | None = None) -> pd.DataFrame:
    """Return one row a cell: what it was, its metrics (NaN where undefined), its costs, its error or None.

    Costs are as `bench.analysis.columns` defines them, in bytes, parameters, samples and seconds; NaN where they were
    not recorded. Only rows of one `group` may be averaged: they differ in their seed alone. `changed` tells what has
    changed since the cell was run (code, recipe, version); it is empty where nothing has, or where the method is not
    known here.
    """
    today = Today(catalog or Catalog())
    names = [*CELL, *SCORES, *COSTS, "error", "epochs", *TRAITS, "changed"]
    return pd.DataFrame([_row(result, today) for result in _results(path)], columns=names)


def load_matrices(path: str | Path = "results") -> pd.DataFrame:
    """Return one row a measured entry of an accuracy matrix: `accuracy` on task `task` after task `after`, from 0."""
    rows = [
        {**_cell(result), "after": i, "task": j, "accuracy": accuracy}
        for result in _results(path)
        for i, row in enumerate(result.matrix)
        for j, accuracy in enumerate(row)
        if accuracy is not None
    ]
    return pd.DataFrame(rows, columns=[*CELL, "after", "task", "accuracy"])


def _results(path: str | Path) -> Iterator[Result]:
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"no results folder at {folder}")
    for found in store.load_all(folder):
        if isinstance(found, str):
            warnings.warn(found, stacklevel=3)
        else:
            yield found


def _cell(result: Result) -> dict[str, Any]:
    """`settings` is what the user changed, as in a table's row label; empty for the recipe's."""
    cell = result.cell
    return {
        "benchmark": cell.benchmark,
        "scenario": cell.scenario,
        "protocol": cell.protocol,
        "precision": cell.precision,
        "method": cell.method,
        "settings": ", ".join(f"{name}={value}" for name, (_, value) in cell.overrides.items()),
        "seed": cell.seed,
        "key": cell.key,
        "group": cell.group,
    }


def _row(result: Result, today: Today) -> dict[str, Any]:
    good = result.error is None
    return {
        **_cell(result),
        **({name: columns.METRICS[name].of(result) for name in SCORES} if good else {}),
        **{name: cost(result) for name, cost in COSTS.items()},
        "error": result.error,
        "epochs": result.cell.training.get("epochs"),
        **{trait: result.cell.traits.get(trait, False) for trait in TRAITS},
        "changed": ", ".join(today.changes(result.cell)),
    }
