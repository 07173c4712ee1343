"""From results to a table: means and spreads over the seeds that were asked for."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from bench.analysis import captions
from bench.analysis.columns import METRICS, Metric, usual_metrics
from bench.analysis.labels import CHANGED, column_label, is_usual, row_label, stream_label
from bench.core import Cell, Result


@dataclass(frozen=True)
class Entry:
    """Mean and sample standard deviation over `n` of the `wanted` seeds; or why there is none."""

    mean: float = math.nan
    sd: float = math.nan
    n: int = 0
    wanted: int = 0
    failed: int = 0
    undefined: bool = False  # the metric, or the method on this benchmark
    best: bool = False
    second: bool = False  # of a quality, after the best
    differs: Literal["", "↑", "↓"] = ""  # from the reference of a comparison: above, below
    changed: bool = False  # the code or the recipe, since one of its runs
    values: Mapping[int, float] = field(default_factory=dict)  # by seed

    @property
    def complete(self) -> bool:
        """Return whether every seed that was asked for is there."""
        return 0 < self.n == self.wanted


Column = tuple[str, str]  # benchmark with its budget, metric
Place = tuple[str, str]  # row, benchmark with its budget


@dataclass(frozen=True)
class Table:
    """Rows are methods, columns are (benchmark, metric). Rendered by `bench.analysis.render`."""

    rows: list[str]
    columns: list[Column]
    entries: dict[tuple[str, Column], Entry]
    caption: str
    notes: list[str]
    scenarios: Mapping[str, str]  # of each benchmark with its budget
    upper: frozenset[str] = frozenset()  # rows that are upper bounds
    title: str = ""  # of the user's, before the caption
    protocols: Mapping[str, str] = field(default_factory=dict)  # as the scenarios
    usual: frozenset[str] = frozenset()  # benchmarks under the recipe's budget, in fp32


def summarize(
    pairs: Sequence[tuple[Cell, Result | None]],
    chosen: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    unsupported: Mapping[tuple[str, str], str] | None = None,
    more: Iterable[Result] = (),
    changed: Mapping[str, Sequence[str]] | None = None,
) -> Table:
    """Return a table over the wanted cells, each with its result if there is one, and over the wanted `seeds`: by
    default, on each benchmark, those of any row there. Its metrics are those `chosen`, by default those that are usual
    in the scenario.

    `unsupported` says why a method does not apply, by method and by benchmark as `stream_label` calls it; `more` are
    results that are no rows but may hold the joint ones; `changed` tells what has changed since a cell was run, by key.
    """
    cells = [cell for cell, _ in pairs]
    wanted = seeds_by_column(cells, seeds)
    reasons, changes = unsupported or {}, changed or {}
    stale = {key for key, what in changes.items() if what}
    joint = _joint([*more, *(result for _, result in pairs if result is not None)])
    groups: dict[Place, list[Result | None]] = {}
    for cell, result in pairs:
        groups.setdefault((row_label(cell), column_label(cell)), []).append(result)
    closed = _closed(cells, groups, reasons)

    rows = list(dict.fromkeys(row for row, _ in (*groups, *closed)))
    benchmarks = list(dict.fromkeys(benchmark for _, benchmark in (*groups, *closed)))
    scenarios = {column_label(cell): cell.scenario for cell in cells}
    columns: list[Column] = []
    for benchmark in benchmarks:
        own = usual_metrics(scenarios.get(benchmark, "")) if chosen is None else chosen
        columns += [(benchmark, metric) for metric in own]
    entries: dict[tuple[str, Column], Entry] = {}
    for row in rows:
        for benchmark, metric in columns:
            entry = Entry(undefined=True)
            if (row, benchmark) not in closed:
                entry = _entry(groups.get((row, benchmark), []), METRICS[metric], len(wanted[benchmark]), joint, stale)
            entries[row, (benchmark, metric)] = entry
    upper = frozenset(row_label(cell) for cell in cells if cell.traits.get("joint"))
    competing = [row for row in rows if row not in upper]
    for column in columns:
        _mark_best(entries, competing, column)

    shown = list(dict.fromkeys(metric for _, metric in columns))
    caption = captions.caption(pairs, wanted, shown)
    notes = captions.notes(pairs, shown, joint, reasons, changes)
    protocols = {column_label(cell): cell.protocol for cell in cells}
    usual = frozenset(column_label(cell) for cell in cells if is_usual(cell))
    return Table(rows, columns, entries, caption, notes, scenarios, upper, protocols=protocols, usual=usual)


def seeds_by_column(cells: Iterable[Cell], asked: Sequence[int] | None = None) -> dict[str, list[int]]:
    """Return the seeds that are wanted of each benchmark, with its budget: those asked for, else those of its cells."""
    found: dict[str, set[int]] = {}
    for cell in cells:
        found.setdefault(column_label(cell), set()).add(cell.seed)
    return {column: sorted(own) if asked is None else list(asked) for column, own in found.items()}


def _closed(
    cells: Sequence[Cell],
    groups: Mapping[Place, Sequence[Result | None]],
    unsupported: Iterable[tuple[str, str]],
) -> list[Place]:
    """Return the places where a method does not apply: in all columns of a benchmark and scenario, whatever their
    budget or protocol, but for those that hold a result, for a method may apply under one protocol alone."""
    labels = {cell.method: row_label(cell) for cell in cells}
    columns: dict[str, dict[str, None]] = {}
    for cell in cells:
        stream = stream_label(cell.benchmark, cell.scenario)
        columns.setdefault(stream, {})[column_label(cell)] = None
    found = []
    for method, stream in unsupported:
        row = labels.get(method, method)
        for column in columns.get(stream, [stream]):
            if not any(groups.get((row, column), [])):
                found.append((row, column))
    return found


def _joint(results: Iterable[Result]) -> dict[tuple[str, int], Result]:
    """Return the joint results under the recipe's settings, the measure of intransigence, by column and seed."""
    found = {}
    for result in results:
        cell = result.cell
        by_recipe = not set(cell.overrides) - {"epochs"}
        if cell.traits.get("joint") and by_recipe and result.error is None:
            found[column_label(cell), cell.seed] = result
    return found


def _entry(
    results: Sequence[Result | None],
    metric: Metric,
    wanted: int,
    joint: Mapping[tuple[str, int], Result],
    stale: Container[str],
) -> Entry:
    """Return the entry of a row and a column. It is undefined where the metric is NaN for any of its runs."""
    there = [result for result in results if result is not None]
    good = [result for result in there if result.error is None]
    failed = len(there) - len(good)
    measured = _measure(good, metric, joint)
    values = metric.shown(np.array(list(measured.values())))
    if not measured or np.isnan(values).any():
        return Entry(wanted=wanted, failed=failed, undefined=bool(measured))
    return Entry(
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        n=len(values),
        wanted=wanted,
        failed=failed,
        changed=any(result.cell.key in stale for result in good),
        values=dict(zip(measured, values.tolist(), strict=True)),
    )


def _measure(results: Sequence[Result], metric: Metric, joint: Mapping[tuple[str, int], Result]) -> dict[int, float]:
    """Return the metric by seed, as stored; where it is against joint training, of the seeds that have a joint run."""
    if not metric.against_joint:
        return {result.cell.seed: metric.of(result) for result in results}
    found = {}
    for result in results:
        partner = joint.get((column_label(result.cell), result.cell.seed))
        if partner is not None:
            found[result.cell.seed] = metric.of(result, partner)
    return found


def _mark_best(entries: dict[tuple[str, Column], Entry], rows: Sequence[str], column: Column) -> None:
    """Mark the best of a column and what comes after it, where the metric is a quality, every seed is there, and there
    is something to beat."""
    metric = METRICS[column[1]]
    means = {row: round(entries[row, column].mean, 2) for row in rows if entries[row, column].complete}
    if not metric.quality or len(means) < 2:
        return
    first, *others = sorted(set(means.values()), reverse=metric.best == "max")
    for row, mean in means.items():
        entries[row, column] = replace(entries[row, column], best=mean == first, second=mean in others[:1])


def show(entry: Entry, metric: Metric, pm: str) -> str:
    """Return an entry in words: mean and spread, or why there is none; without marks. `pm` stands before the spread."""
    if entry.n == 0:
        if entry.undefined:
            return "n/a"
        return "failed" if entry.failed else "--"
    if not metric.quality:
        return f"{entry.mean:.3g}" if entry.mean < 1000 else f"{entry.mean:.0f}"
    mean = f"{round(entry.mean, 2) + 0.0:.2f}"  # no minus before zero
    return f"{mean} {pm} {entry.sd:.2f}" if entry.n > 1 else mean


def after(entry: Entry) -> str:
    """Return what follows a number: how it differs from the reference, its n where seeds are missing, a mark."""
    found: list[str] = [entry.differs] if entry.differs else []
    if 0 < entry.n < entry.wanted:
        found.append(f"(n={entry.n})")
    if entry.changed:
        found.append(CHANGED)
    return "".join(f" {word}" for word in found)
