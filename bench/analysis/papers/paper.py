"""A paper's table beside ours: numbers as printed, what the paper's own seeds give, our runs, and a verdict on both."""

from __future__ import annotations

import csv
import math
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis.table import Entry, summarise
from bench.config import nearest, require
from bench.core import Cell, Result

FOLDER = Path(__file__).resolve().parent / "published"
PRINTED = {"acc": ("acc_mean", "acc_std"), "bwt": ("bwt_mean", "bwt_std")}  # columns of results.csv
RUN_BY = re.compile(r" \(([^()]*(?:re-run|copied from|quoted in)[^()]*)\)$")  # the remark behind a method's name


@dataclass(frozen=True)
class Number:
    """A mean and a sample sd in percent, as printed ('' if not), and the values of the paper's own seeds, if known."""

    mean: str
    sd: str = ""
    values: tuple[float, ...] = ()

    def __str__(self) -> str:
        return f"{self.mean} ± {self.sd}" if self.sd else self.mean

    @property
    def own(self) -> tuple[float, float]:
        """Return mean and sample sd of the values; NaN where there are none."""
        if not self.values:
            return math.nan, math.nan
        return float(np.mean(self.values)), float(np.std(self.values, ddof=1))

    @property
    def contradicted(self) -> bool:
        """Return whether mean or sd are further from what the values give than rounding explains."""
        if not self.values:
            return False
        mean, sd = self.own
        return _beyond_rounding(self.mean, mean) or _beyond_rounding(self.sd, sd)


def _beyond_rounding(printed: str, value: float) -> bool:
    """Return whether a number was printed, and is not the value rounded."""
    return bool(printed) and abs(float(printed) - value) > half_unit(printed) + 1e-9


def half_unit(text: str) -> float:
    """Return half a unit of the last digit of a printed number: what rounding may have changed."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


@dataclass(frozen=True)
class Row:
    """A line of a paper's table."""

    source: str
    table: str
    benchmark: str
    backbone: str
    setting: str
    method: str
    remark: str  # whose run it is, in the words of results.csv; '' for the paper's own
    confidence: str
    numbers: dict[str, Number]  # by metric, where printed

    @property
    def copied(self) -> bool:
        """Return whether the authors took the row from elsewhere."""
        return "copied" in self.remark or "quoted" in self.remark

    @property
    def here(self) -> tuple[str, str]:
        """Return what the benchmark and the method are called here; '' if they are not mapped."""
        return names()["benchmarks"].get(self.benchmark, ""), names()["methods"].get(self.method, "")

    @property
    def n(self) -> int | None:
        """Return the number of runs: the seeds known one by one, else what the setting says of the paper's own runs."""
        known = max(len(number.values) for number in self.numbers.values())
        if known:
            return known
        told = re.search(r"(\d+) (?:seeds|runs|trials)", self.setting)
        return int(told[1]) if told and not self.copied else None

    @property
    def caveat(self) -> str:
        """Return what a verdict on this benchmark does not know of; '' if nothing."""
        keys = [key for key, paper in names()["papers"].items() if paper["source"] == self.source]
        return "".join(names()["caveats"].get(key, {}).get(self.benchmark, "") for key in keys)

    @property
    def epochs(self) -> int | None:
        """Return the paper's epochs for a task, if the setting says so."""
        told = re.search(r"(\d+) epochs", self.setting)
        return int(told[1]) if told else None


@cache
def names() -> dict[str, Any]:
    """Return what names.toml says of papers, benchmarks and methods."""
    return tomllib.loads((FOLDER / "names.toml").read_text())


@cache
def _records(file: str) -> list[dict[str, str]]:
    with (FOLDER / file).open(newline="") as lines:
        return list(csv.DictReader(lines))


def read(paper: str, table: str | None = None) -> list[Row]:
    """Return the lines of a paper's table, or of its main ones. An unknown paper or table is a `UserError`."""
    papers = names()["papers"]
    if paper not in papers:
        raise nearest("paper", paper, papers)
    source = papers[paper]["source"]
    records = [record for record in _records("results.csv") if record["source_paper"] == source]
    known = {record["source_table"] for record in records}
    if table is not None and table not in known:
        raise nearest(f"table of {paper}", table, known)
    shown = papers[paper]["tables"] if table is None else [table]
    aliases = names()["seeds"].get(paper, {})
    return [_row(record, aliases) for record in records if record["source_table"] in shown]


def _row(record: Mapping[str, str], aliases: Mapping[str, Sequence[str]]) -> Row:
    """Return a line of results.csv, with the values of its seeds; `aliases` are what seeds.csv calls each method."""
    remark = RUN_BY.search(record["method"])
    method = RUN_BY.sub("", record["method"])
    method = names()["labels"].get(method, method)
    on_benchmark = [seed for seed in _records("seeds.csv") if seed["benchmark"] == record["benchmark"]]
    seeds = [seed for seed in on_benchmark if seed["method"] in aliases.get(method, ())]
    numbers = {}
    for metric, (mean, sd) in PRINTED.items():
        if record[mean]:
            values = tuple(float(seed[metric]) for seed in seeds)
            numbers[metric] = Number(record[mean], record[sd], values)
    return Row(
        source=record["source_paper"],
        table=record["source_table"],
        benchmark=record["benchmark"],
        backbone=record["backbone"],
        setting=record["setting"],
        method=method,
        remark=remark[1] if remark else "",
        confidence=record["confidence"],
        numbers=numbers,
    )


@dataclass(frozen=True)
class Line:
    """A printed number beside ours. Without a run, `ours` has n = 0 and `epochs` is None."""

    row: Row
    metric: str
    benchmark: str  # ours; '' if there is none here
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
            return f"other budget: {self.epochs} epochs"
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


def compare(
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
    usable = [result for result in results if _comparable(result.cell, protocol)]
    lines: list[Line] = []
    for row in rows:
        lines += _lines(row, usable, metrics, benchmarks, methods)
    require(bool(lines), f"that table does not print {', '.join(metrics)}")
    return lines


def _comparable(cell: Cell, protocol: str) -> bool:
    """Return whether a cell was run here, in fp32 as the papers' own runs, and under the recipe's settings."""
    if cell.traits.get("imported"):
        return False
    usual = cell.precision == "fp32" and not set(cell.overrides) - {"epochs"}
    return usual and cell.protocol == protocol


def _lines(
    row: Row, results: Sequence[Result], metrics: Sequence[str], benchmarks: Collection[str], methods: Collection[str]
) -> Iterator[Line]:
    """Yield a line for each of the metrics that the row prints, beside our results under one budget."""
    benchmark, method = row.here
    benchmark = benchmark if benchmark in benchmarks else ""
    method = method if method in methods else ""
    found = [result for result in results if (result.cell.benchmark, result.cell.method) == (benchmark, method)]
    found, epochs, budget = _one_budget(found, row.epochs)
    table = summarise([(result.cell, result) for result in found], metrics)  # of one row and one column
    ours = {metric: entry for (_, (_, metric)), entry in table.entries.items()}
    seeds = tuple(sorted(result.cell.seed for result in found if result.error is None))
    for metric in metrics:
        if metric in row.numbers:
            yield Line(row, metric, benchmark, method, ours.get(metric, Entry()), seeds, epochs, budget)


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
