"""Results as pandas frames. Accuracies are fractions, as they are stored; only tables speak of percent."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench import grid, store
from bench.core import Result, UserError
from bench.tables import METRICS

SCORES = [name for name, metric in METRICS.items() if metric.quality and not metric.against_joint]
CELL = ["benchmark", "protocol", "precision", "method", "settings", "seed", "key"]


def load_results(
    path: str | Path = "results", plugins: Sequence[str | Path] = (), outdated: bool = False
) -> pd.DataFrame:
    """One row a cell: what it was, its metrics (NaN where undefined), its costs, its error or None.

    Left aside, with a warning that counts them, are results whose method, benchmark or recipe has changed since, or is
    found only with `plugins`; `outdated` keeps them.
    """
    columns = [*CELL, *SCORES, "state_bytes", "trainable", "old_samples_read", "seconds", "error"]
    columns += ["epochs", "joint", "reads_old_data", "imported"]
    return pd.DataFrame([_row(result) for result in _results(path, plugins, outdated)], columns=columns)


def load_matrices(
    path: str | Path = "results", plugins: Sequence[str | Path] = (), outdated: bool = False
) -> pd.DataFrame:
    """One row a measured entry of an accuracy matrix: `accuracy` on task `task` after task `after`, both from 0."""
    rows = [
        {**_cell(result), "after": i, "task": j, "accuracy": accuracy}
        for result in _results(path, plugins, outdated)
        for i, row in enumerate(result.matrix)
        for j, accuracy in enumerate(row)
        if accuracy is not None
    ]
    return pd.DataFrame(rows, columns=[*CELL, "after", "task", "accuracy"])


def _results(path: str | Path, plugins: Sequence[str | Path], outdated: bool) -> Iterator[Result]:
    folder, left = Path(path), 0
    if not folder.is_dir():
        raise UserError(f"no results folder at {folder}")
    for found in store.load_all(folder):
        if isinstance(found, str):
            warnings.warn(found, stacklevel=3)
        elif outdated or grid.is_current(found.cell, [Path(p) for p in plugins]):
            yield found
        else:
            left += 1
    if left:
        warnings.warn(f"{left} results left aside: their method, benchmark or recipe is another now", stacklevel=3)


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
    }


def _row(result: Result) -> dict[str, Any]:
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
    }
