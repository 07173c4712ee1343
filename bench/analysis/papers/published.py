"""Numbers as papers print them: the rows of their tables, and what the papers' own seeds give.

`printed/results.csv` has a line for each number, `printed/papers/KEY.toml` tells of each paper what the lines do not
say, and which of its tables can be run here. A paper is added by its lines and its file.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.analysis.papers import printed_files
from bench.config import known_as, nearest
from bench.core import ONLY_SCENARIOS, Cell, UserError

TOLD_AS = {  # what a setting there says of the first of these columns, where it is not ACC
    "metric: final ACC": "acc",
    "metric: ACC averaged over steps": "aia",
    "metric: ACC averaged over steps (AAA)": "aia",
}
PRINTED = ("acc", "aia", "bwt")  # metrics
RUN_BY = re.compile(r" \(([^()]*(?:re-run|copied from|quoted in)[^()]*)\)$")  # the remark behind a method's name


@dataclass(frozen=True)
class PrintedTable:
    """A table of a paper that can be run here, in part or whole."""

    table: tuple[str, ...]  # of results.csv; several where a paper prints one table in parts
    seeds: tuple[int, ...]  # the paper's, or as many as it has runs
    benchmarks: tuple[str, ...] = ()  # as printed; none for all of the table
    runs: int | None = None  # of the paper, where its lines do not say
    spreads: str = ""  # a paper that quotes the same means with their spreads, where this one prints none
    note: str = ""
    front_page: bool = False  # whether the README shows it, made from the committed results
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # of a method, where not the recipe's
    on: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # the same of one benchmark, as printed
    by_seed: dict[str, dict[str, tuple[Any, ...]]] = field(default_factory=dict)  # options of a benchmark, one a seed

    def holds(self, row: Row) -> bool:
        """Return whether a row of the same paper is of this table."""
        return row.table in self.table and (not self.benchmarks or row.benchmark in self.benchmarks)

    def options_of(self, benchmark: str, seed: int) -> dict[str, Any]:
        """Return the options of a benchmark that go with a seed; those of the first one with a seed of no run."""
        place = self.seeds.index(seed) if seed in self.seeds else 0
        return {name: values[place] for name, values in self.by_seed.get(benchmark, {}).items()}


@dataclass(frozen=True)
class Paper:
    """What results.csv does not say of a paper."""

    source: str  # its name in results.csv
    tables: tuple[str, ...]  # those shown unless another is asked for
    caveats: dict[str, str] = field(default_factory=dict)  # what a verdict does not know of, by benchmark
    seeds: dict[str, tuple[str, ...]] = field(default_factory=dict)  # a method's names in seeds.csv
    reproduce: dict[str, PrintedTable] = field(default_factory=dict)  # by short key


@dataclass(frozen=True)
class Number:
    """A mean and a sample sd in percent, as printed ('' if not), and the values of the paper's own seeds, if known."""

    mean: str
    sd: str = ""
    values: tuple[float, ...] = ()
    quoted: str = ""  # the key of another paper, where the sd is printed there alone

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
class Stream:
    """A printed benchmark as it is asked for here."""

    benchmark: str = ""  # none here
    scenario: str = ""  # the benchmark's own, which no other can take the place of
    options: dict[str, Any] = field(default_factory=dict)  # of the benchmark

    def holds(self, cell: Cell) -> bool:
        """Return whether a cell is of this benchmark, in its scenario and under its options."""
        alike = cell.scenario == self.scenario if self.scenario else cell.scenario in ONLY_SCENARIOS
        options = all(cell.options.get(name) == value for name, value in self.options.items())
        return cell.benchmark == self.benchmark and alike and options

    @property
    def label(self) -> str:
        """Return what a column of this benchmark is called."""
        facts = [self.scenario] if self.scenario else []
        facts += [f"{name}={value}" for name, value in self.options.items()]
        return f"{self.benchmark} ({', '.join(facts)})" if facts else self.benchmark


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
    runs: int | None = None  # where known from elsewhere than the line
    about: PrintedTable | None = field(default=None, compare=False)  # how its table, or one of its parts, is run here

    @property
    def copied(self) -> bool:
        """Return whether the authors took the row from elsewhere."""
        return "copied" in self.remark or "quoted" in self.remark

    @property
    def stream(self) -> Stream:
        """Return what the benchmark is here."""
        return printed_stream(self.benchmark, self.method)

    @property
    def here(self) -> tuple[str, str]:
        """Return what the benchmark and the method are called here; '' if they are not mapped."""
        return self.stream.benchmark, known_names()["methods"].get(self.method, "")

    @property
    def n(self) -> int | None:
        """Return the number of runs: the seeds known one by one, else what the setting says of the paper's own runs."""
        known = max(len(number.values) for number in self.numbers.values())
        if known or self.runs:
            return known or self.runs
        told = re.search(r"(\d+) (?:seeds|runs|trials)", self.setting)
        return int(told[1]) if told and not self.copied else None

    @property
    def caveat(self) -> str:
        """Return what a verdict on this benchmark does not know of; '' if nothing."""
        told = [paper.caveats.get(self.benchmark, "") for paper in papers().values() if paper.source == self.source]
        return "".join(told)

    @property
    def epochs(self) -> int | None:
        """Return the paper's epochs for a task, if the setting says so."""
        told = re.search(r"(\d+) epochs", self.setting)
        return int(told[1]) if told else None


@cache
def known_names() -> dict[str, Any]:
    """Return what names.toml says of benchmarks, methods and words."""
    return tomllib.loads((printed_files.FOLDER / "names.toml").read_text(encoding="utf-8"))


def printed_stream(benchmark: str, method: str = "") -> Stream:
    """Return what a printed benchmark is here; for methods that are told more there, another one than for the rest."""
    names = known_names()
    told = names.get("benchmarks_of", {}).get(method, {}).get(benchmark) or names["benchmarks"].get(benchmark, "")
    return Stream(told) if isinstance(told, str) else msgspec.convert(told, Stream)


@cache
def papers() -> dict[str, Paper]:
    """Return the papers by their short keys. A file that is not what it should be is a `UserError`."""
    return {path.stem: _paper(path) for path in sorted((printed_files.FOLDER / "papers").glob("*.toml"))}


def _paper(path: Path) -> Paper:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        paper = msgspec.convert(raw, Paper, strict=True)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UserError(f"{path}: {error}") from error
    known = {
        record["source_table"] for record in printed_files.printed_lines() if record["source_paper"] == paper.source
    }
    used = [*paper.tables, *(table for entry in paper.reproduce.values() for table in entry.table)]
    for table in used:
        if table not in known:
            raise UserError(f"{path}: {nearest(f'table of {paper.source}', table, known)}")
    return paper


def paper_of(paper: str) -> Paper:
    """Return a paper by its short key. An unknown one is a `UserError` with the nearest."""
    return papers()[known_as("paper", paper, papers())]


def rows_of(paper: str, table: str | None = None) -> list[Row]:
    """Return the lines of a paper's table, or of its main ones, with the number of runs and the spreads that are known
    from elsewhere. An unknown paper or table is a `UserError`."""
    known = paper_of(paper).reproduce.values()
    return [completed(row, next((about for about in known if about.holds(row)), None)) for row in printed(paper, table)]


def printed(paper: str, table: str | None = None) -> list[Row]:
    """Return the lines of a paper's table, or of its main ones, as they are printed there."""
    about = paper_of(paper)
    own = [record for record in printed_files.printed_lines() if record["source_paper"] == about.source]
    known = {record["source_table"] for record in own}
    shown = about.tables if table is None else [known_as(f"table of {paper}", table, known)]
    return [_row(record, about.seeds) for record in own if record["source_table"] in shown]


def completed(row: Row, about: PrintedTable | None) -> Row:
    """Return a row with what is known of its table: the number of runs, and the spreads of the same means in another
    paper, where it prints none."""
    if about is None:
        return row
    quoted = _spreads(about.spreads) if about.spreads else {}
    numbers = {}
    for metric, number in row.numbers.items():
        sd = quoted.get(_place(row, metric), "")
        numbers[metric] = replace(number, sd=sd, quoted=about.spreads) if sd and not number.sd else number
    return replace(row, numbers=numbers, runs=about.runs, about=about)


Place = tuple[str, str, str, float]  # benchmark, method, metric, mean


def _place(row: Row, metric: str) -> Place:
    return row.benchmark, row.method, metric, float(row.numbers[metric].mean)


@cache
def _spreads(paper: str) -> dict[Place, str]:
    """Return the spreads that a paper prints, its quotations of others included."""
    found: dict[Place, str] = {}
    for row in printed(paper):
        found |= {_place(row, metric): number.sd for metric, number in row.numbers.items() if number.sd}
    return found


def _row(record: Mapping[str, str], aliases: Mapping[str, Sequence[str]]) -> Row:
    """Return a line of results.csv, with the values of its seeds; `aliases` are what seeds.csv calls each method."""
    remark = RUN_BY.search(record["method"])
    method = RUN_BY.sub("", record["method"])
    method = known_names()["labels"].get(method, method)
    on_benchmark = [seed for seed in printed_files.seed_lines() if seed["benchmark"] == record["benchmark"]]
    seeds = [seed for seed in on_benchmark if seed["method"] in aliases.get(method, ())]
    parts = record["setting"].split("; ")
    first = next((TOLD_AS[part] for part in parts if part in TOLD_AS), "acc")
    numbers = {}
    for column, (mean, sd) in printed_files.COLUMNS.items():
        metric = first if column == "acc" else column
        if record[mean]:
            values = tuple(float(seed[column]) for seed in seeds)
            numbers[metric] = Number(record[mean], record[sd], values)
    return Row(
        source=record["source_paper"],
        table=record["source_table"],
        benchmark=record["benchmark"],
        backbone=record["backbone"],
        setting="; ".join(part for part in parts if part not in TOLD_AS),
        method=method,
        remark=remark[1] if remark else "",
        confidence=record["confidence"],
        numbers=numbers,
    )
