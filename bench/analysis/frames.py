"""Results as pandas frames. Accuracies are fractions, as they are stored; only tables speak of percent."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis.table import METRICS
from bench.catalog.identity import Today
from bench.core import Result, UserError
from bench.execution import store

SCORES = [name for name, metric in METRICS.items() if metric.quality and not metric.against_joint]
CELL = ["benchmark", "protocol", "precision", "method", "settings", "seed", "key", "group"]


def load_results(path: str | Path = "results", plugins: Sequence[str | Path] = ()) -> pd.DataFrame:
    """One row a cell: what it was, its metrics (NaN where undefined), its costs, its error or None.

    Only rows of one `group` may be averaged: they differ in their seed alone. `changed` tells what has changed since
    the cell was run (code, recipe, version); it is empty where nothing has, or where the method is not known here.
    """
    today = Today([Path(plugin) for plugin in plugins])
    columns = [*CELL, *SCORES, "state_bytes", "trainable", "old_samples_read", "seconds", "error"]
    columns += ["epochs", "joint", "reads_old_data", "imported", "changed"]
    return pd.DataFrame([_row(result, today) for result in _results(path)], columns=columns)


def load_matrices(path: str | Path = "results") -> pd.DataFrame:
    """One row a measured entry of an accuracy matrix: `accuracy` on task `task` after task `after`, both from 0."""
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
        "protocol": cell.protocol,
        "precision": cell.precision,
        "method": cell.method,
        "settings": ", ".join(f"{name}={value}" for name, (_, value) in cell.overrides.items()),
        "seed": cell.seed,
        "key": cell.key,
        "group": cell.group,
    }


def _row(result: Result, today: Today) -> dict[str, Any]:
    last = result.tasks[-1] if result.tasks else {}
    good = result.error is None
    return {
        **_cell(result),
        **({name: METRICS[name].of(result) for name in SCORES} if good else {}),
        "state_bytes": last.get("state_bytes"),
        "trainable": last.get("trainable"),
        "old_samples_read": sum(task["old_samples_read"] for task in result.tasks) if result.tasks else None,
        "seconds": result.environment.get("seconds"),
        "error": result.error,
        "epochs": result.cell.training.get("epochs"),
        **{trait: result.cell.traits.get(trait, False) for trait in ("joint", "reads_old_data", "imported")},
        "changed": ", ".join(today.changes(result.cell)),
    }
