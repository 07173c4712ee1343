"""What the page's script draws, as plain numbers: curves, matrices, costs, and differences between methods.

Accuracies are in percent, costs in the units of their labels; a number that is missing is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from bench.analysis import stats
from bench.analysis.columns import METRICS, curve, percent
from bench.analysis.compare import FEWEST_BENCHMARKS, common_differences, ranked
from bench.analysis.figures import plots
from bench.analysis.figures.figure import Runs, sd
from bench.analysis.figures.matrices import mean_confusion, mean_matrix
from bench.analysis.figures.reported import reported
from bench.analysis.table import Entry, Table
from bench.core import Result
from bench.seeding import derive

Numbers = Sequence[Any]  # nested lists of floats and None
PRICES: dict[str, Callable[[Result], float]] = {
    **{label.replace("\n", " "): cost for label, cost in plots.COSTS.items()},
    "BWT (points)": METRICS["bwt"].of,
}
MORE_IS_BETTER = ("BWT (points)",)  # of the PRICES


def charts_of(runs: Runs, table: Table) -> dict[str, Any]:
    """Return what is drawn of a benchmark under a budget: its rows that have a result, and their differences.

    `table` holds every row on every benchmark; the `style` of a row is its place there, so that it looks alike on all.
    """
    rows = [_row(runs, row, table) for row in runs.present()]
    return {"rows": rows, "differences": differences(runs, table)}


def _row(runs: Runs, row: str, table: Table) -> dict[str, Any]:
    """Return the numbers of one row."""
    results = runs.results[row]
    matrices = percent(np.array([result.R for result in results]))  # (n, T, T)
    return {
        "name": row,
        "n": len(results),
        "style": table.rows.index(row),
        "upper": row in table.upper,
        "average": _curve(percent(np.array([curve(result) for result in results]))),
        "first": _curve(matrices[:, :, 0]),
        "acc": _mean_and_sd(METRICS["acc"].shown(METRICS["acc"].of(result)) for result in results),
        "prices": {name: _price(name, results) for name in PRICES},
        "matrix": rounded(mean_matrix(results)),
        "confusion": _confusion(results),
        "ranks": {layer: rounded(values.mean(axis=0)) for layer, values in reported(runs, row, "rank").items()},
        "bounds": _bounds(runs, row),
    }


def _confusion(results: Sequence[Result]) -> Numbers:
    """Return the confusion between tasks, lines of percentages, mean over runs; no line where it was not counted."""
    shares = mean_confusion(results)
    return [] if shares is None else rounded(shares)


def _curve(values: np.ndarray) -> Numbers:
    """Return [mean, sd] after each task, of values (n, T)."""
    return rounded(np.stack([values.mean(axis=0), sd(values)], axis=1))


def _mean_and_sd(values: Iterable[float]) -> Numbers:
    """Return [mean, sd] over runs."""
    found = np.array(list(values))
    return rounded(np.array([found.mean(), sd(found)]))


def _price(name: str, results: Sequence[Result]) -> Numbers:
    """Return [mean, sd] of what a method spends; of BWT, in points."""
    scale = 100.0 if name in MORE_IS_BETTER else 1.0
    return _mean_and_sd(scale * PRICES[name](result) for result in results)


def _bounds(runs: Runs, row: str) -> dict[str, Numbers]:
    """Return points (bound, measured) by layer, for a method that reports both."""
    measured, bound = reported(runs, row, "interference"), reported(runs, row, "bound")
    found = {}
    for layer in measured:
        if layer in bound:
            points = np.stack([bound[layer].ravel(), measured[layer].ravel()], axis=1)
            found[layer] = rounded(points[np.isfinite(points).all(axis=1)])
    return found


def differences(runs: Runs, table: Table, seed: int = 0) -> dict[str, dict[str, Numbers]]:
    """Return the ACC of each row minus that of each other: reference -> row -> [mean, low, high, n], in points.

    The interval of the mean is a percentile bootstrap over the common seeds; None for fewer than two.
    """
    generator = np.random.default_rng(derive("bootstrap", seed))
    entries = {row: table.entries[row, (runs.name, "acc")] for row in runs.present()}
    found: dict[str, dict[str, Numbers]] = {row: {} for row in entries}
    names = list(entries)
    for k, row in enumerate(names):
        for other in names[:k]:
            mean, low, high, n = _difference(entries[row], entries[other], generator)
            if n:
                found[other][row] = [*rounded(np.array([mean, low, high])), n]
                found[row][other] = [*rounded(np.array([-mean, -high, -low])), n]
    return found


def _difference(entry: Entry, other: Entry, generator: np.random.Generator) -> tuple[float, float, float, int]:
    """Return the mean of the differences over common seeds, its interval and their number."""
    d = common_differences(entry, other)
    if not d:
        return np.nan, np.nan, np.nan, 0
    low, high = stats.bootstrap(d, generator)
    return float(np.mean(d)), low, high, len(d)


def rounded(values: np.ndarray) -> Any:
    """Return an array as nested lists, with four significant digits, or two decimals where these are more; None for
    what is not finite."""
    if values.ndim:
        return [rounded(np.asarray(value)) for value in values]
    value = float(values)
    if not np.isfinite(value):
        return None
    return round(value, 2) if abs(value) >= 10 else float(f"{value:.4g}")


def rank_diagram(table: Table, metric: str = "acc", alpha: float = 0.05) -> dict[str, Any] | None:
    """Return the mean rank of each row, and the critical difference; None without one."""
    columns, rows, _, ranks = ranked(table, metric)
    if len(columns) < FEWEST_BENCHMARKS or len(rows) < 2:
        return None
    means = {row: rounded(rank) for row, rank in zip(rows, ranks.mean(axis=0), strict=True)}
    return {"ranks": means, "cd": stats.critical_difference(len(rows), len(columns), alpha)}
