"""A paper's table beside ours: numbers as printed, what the paper's own seeds give, our runs, and a verdict on both."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from bench.analysis.papers.published import PRINTED, Number, Row, half_unit
from bench.analysis.table import Entry, summarize
from bench.config import require
from bench.core import Cell, Result
from bench.text import counted


@dataclass(frozen=True)
class Line:
    """A printed number beside ours. Without a run, `ours` has n = 0 and `epochs` is None."""

    row: Row
    metric: str
    benchmark: str  # ours; '' if there is none here
    scenario: str  # of our runs; '' without one
    method: str
    ours: Entry
    seeds: tuple[int, ...]
    epochs: int | None  # the most that a task was given
    budget: bool  # whether that is the paper's, or for want of it the recipe's

    @property
    def number(self) -> Number:
        """Return what the paper prints."""
        return self.row.numbers[self.metric]

    @property
    def difference(self) -> float:
        """Return our mean minus the paper's, in points."""
        return self.ours.mean - float(self.number.mean)

    @property
    def verdict(self) -> str:
        """Return the verdict by the rule of `RULE`; or why there is none."""
        if not (self.benchmark and self.method):
            return "not here"
        if self.ours.undefined:
            return "n/a"
        if self.ours.n == 0:
            return "failed" if self.ours.failed else "no run"
        if not self.budget:
            return f"other budget: {counted(self.epochs or 0, 'epoch')}"
        if self.ours.n == 1:
            return "one run"
        if not self.number.sd:
            return "no spread"
        if self.row.n is None:
            return "n unknown"
        theirs = float(self.number.sd) / math.sqrt(self.row.n)
        ours = self.ours.sd / math.sqrt(self.ours.n)
        error = math.hypot(theirs, ours)
        if abs(self.difference) <= 2 * error + half_unit(self.number.mean):
            return "agrees"
        return "above" if self.difference > 0 else "below"


RULE = (
    "agrees: the difference is at most twice its standard error, the root of the sum of both squared sd/sqrt(n), and "
    "half a unit of the paper's last digit; else above or below the paper. No verdict for one run, without a spread, "
    "where the n of the paper's row is unknown, or under another budget than the paper's, or the recipe's where the "
    "paper's is not known"
)


def beside_results(
    rows: Sequence[Row],
    results: Sequence[Result],
    protocol: str,
    metrics: Sequence[str],
    benchmarks: Collection[str],
    methods: Collection[str],
) -> list[Line]:
    """Return the rows beside the results that may be compared with them, among the benchmarks and methods here.

    A table that has none of the metrics is a `UserError`.
    """
    require(bool(metrics), f"a paper's table has the metrics {', '.join(PRINTED)} only")
    places: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if _comparable(result.cell, protocol):
            places.setdefault((result.cell.benchmark, result.cell.method), []).append(result)
    lines: list[Line] = []
    for row in rows:
        lines += _lines(row, places.get(row.here, []), metrics, benchmarks, methods)
    require(bool(lines), f"that table does not print {', '.join(metrics)}")
    return lines


def _comparable(cell: Cell, protocol: str) -> bool:
    """Return whether a cell was run here under the protocol, in fp32 as the papers' own runs."""
    return not cell.traits.get("imported") and cell.precision == "fp32" and cell.protocol == protocol


def _is_run_of(row: Row, cell: Cell) -> bool:
    """Return whether a cell is of a row's benchmark, with the options that its table gives the seed (such as an order
    of the tasks), and otherwise under the recipe's settings."""
    stream = row.stream
    given = row.about.options_of(stream.benchmark, cell.seed) if row.about else {}
    as_given = all(cell.options.get(name, value) == value for name, value in given.items())
    allowed = {"epochs", *(f"{stream.benchmark}.{name}" for name in (*stream.options, *given))}
    return stream.holds(cell) and as_given and not set(cell.overrides) - allowed


def _without_order(row: Row, result: Result) -> Result:
    """Return a result without the options that its table changes from seed to seed: runs of a row are averaged."""
    names = row.about.by_seed.get(result.cell.benchmark, {}) if row.about else {}
    options = {name: value for name, value in result.cell.options.items() if name not in names}
    usual = {name: v for name, v in result.cell.overrides.items() if name.partition(".")[2] not in names}
    return replace(result, cell=replace(result.cell, options=options, overrides=usual))


def _lines(
    row: Row, results: Sequence[Result], metrics: Sequence[str], benchmarks: Collection[str], methods: Collection[str]
) -> Iterator[Line]:
    """Yield a line for each of the metrics that the row prints, beside those of our `results` of its benchmark and
    method that belong there, under one budget."""
    benchmark, method = row.here
    benchmark = benchmark if benchmark in benchmarks else ""
    method = method if method in methods else ""
    own = [result for result in results if benchmark and method and _is_run_of(row, result.cell)]
    found = [_without_order(row, result) for result in own]
    found, epochs, budget = _one_budget(found, row.epochs)
    table = summarize([(result.cell, result) for result in found], metrics)  # of one row and one column
    ours = {metric: entry for (_, (_, metric)), entry in table.entries.items()}
    seeds = tuple(sorted(result.cell.seed for result in found if result.error is None))
    scenario = found[0].cell.scenario if found else ""
    for metric in metrics:
        if metric in row.numbers:
            yield Line(row, metric, benchmark, scenario, method, ours.get(metric, Entry()), seeds, epochs, budget)


def _one_budget(results: Sequence[Result], wanted: int | None) -> tuple[list[Result], int | None, bool]:
    """Return the results under the epochs wanted, None for the recipe's, or else under the most that there are; these
    epochs, None without a result; and whether they are those wanted."""

    def fits(result: Result) -> bool:
        if wanted is None:
            return "epochs" not in result.cell.overrides
        return bool(result.cell.training["epochs"] == wanted)

    if not results:
        return [], None, False
    best = max(results, key=lambda result: (fits(result), result.cell.training["epochs"]))
    epochs = best.cell.training["epochs"]
    return [result for result in results if result.cell.training["epochs"] == epochs], epochs, fits(best)
