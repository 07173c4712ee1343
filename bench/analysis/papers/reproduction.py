"""Published tables that can be run here: which of their rows, as which cells, and what came of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from bench.analysis.papers import printed_files, published
from bench.analysis.papers.paper import Line
from bench.analysis.papers.published import PrintedTable, Row, Stream, half_unit
from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.config import known_as, nearest
from bench.core import Cell, Result, UserError

PROTOCOL = "published"


@dataclass(frozen=True)
class Reproduction:
    """A table of a paper, as `reproduce` names it, and its rows."""

    key: str  # as in "gpm:pmnist"
    about: PrintedTable
    rows: tuple[Row, ...]

    @property
    def source(self) -> str:
        """Return the paper, as results.csv names it."""
        return published.paper_of(self.key.partition(":")[0]).source

    @property
    def streams(self) -> list[Stream]:
        """Return what the benchmarks of the rows are here, those that are here, for most methods."""
        found = [published.printed_stream(name) for name in dict.fromkeys(row.benchmark for row in self.rows)]
        return [stream for stream in found if stream.benchmark]

    @property
    def benchmarks(self) -> list[str]:
        """Return the benchmarks of the rows as they are called here, those that are here."""
        return list(dict.fromkeys(stream.benchmark for stream in self.streams))

    def settings(self, stream: Stream, method: str) -> dict[str, Any]:
        """Return the settings of a method on a benchmark that are not the recipe's."""
        found = dict(self.about.settings.get(method, {}))
        for name in dict.fromkeys(row.benchmark for row in self.rows if row.stream == stream):
            found |= self.about.on.get(name, {}).get(method, {})
        return found

    @property
    def metrics(self) -> list[str]:
        """Return the metrics that the rows print."""
        return [name for name in published.PRINTED if any(name in row.numbers for row in self.rows)]


@dataclass(frozen=True)
class Wanted:
    """A method on a benchmark of a table, as named there, what they are here, and the cells that stand for it."""

    benchmark: str
    method: str
    stream: Stream
    method_here: str  # '' if there is none
    cells: tuple[Cell, ...] = ()
    reason: str = ""  # why there are no cells

    @property
    def here(self) -> tuple[str, str]:
        """Return what benchmark and method are called here; '' if they are not mapped."""
        return self.stream.benchmark, self.method_here


@dataclass(frozen=True)
class Part:
    """What of a table is asked for: all of it, unless told otherwise."""

    methods: tuple[str, ...] = ()  # as they are called here; those that the table does not print are run too
    benchmark: str = ""
    seeds: tuple[int, ...] = ()
    epochs: int | None = None


def known() -> dict[str, Reproduction]:
    """Return every table that is known, by its key."""
    keys = [f"{paper}:{name}" for paper, about in published.papers().items() for name in about.reproduce]
    return {key: table_of(key) for key in keys}


def table_of(key: str) -> Reproduction:
    """Return a table by its key, PAPER:TABLE. An unknown one is a `UserError` with the nearest."""
    word, _, _ = key.partition(":")
    paper = known_as("paper", word, published.papers())
    tables = published.papers()[paper].reproduce
    key = known_as("table", key, [f"{paper}:{table}" for table in tables])
    about = tables[key.partition(":")[2]]
    rows = [row for name in about.table for row in published.printed(paper, name) if about.holds(row)]
    return Reproduction(key, about, tuple(published.completed(row, about) for row in rows))


def wanted(table: Reproduction, part: Part, catalog: Catalog) -> list[Wanted]:
    """Return what a table asks for, in its order, then the methods that were chosen and that it does not print.

    A method or a benchmark that names.toml maps to none that exists is a `UserError`.
    """
    found: dict[tuple[str, str], Wanted] = {}
    for row in table.rows:
        own = row.here[1] in part.methods or not part.methods
        asked = own and (not part.benchmark or row.here[0] == part.benchmark)
        if asked and (row.benchmark, row.method) not in found:
            item = Wanted(row.benchmark, row.method, row.stream, row.here[1])
            found[row.benchmark, row.method] = _with_cells(item, table, part, catalog)
    printed = [(item.stream, item.method_here) for item in found.values()]
    for stream in table.streams:
        for method in part.methods:
            if (stream, method) not in printed and part.benchmark in ("", stream.benchmark):
                item = Wanted(stream.label, method, stream, method)
                found[stream.label, method] = _with_cells(item, table, part, catalog)
    return list(found.values())


def _with_cells(item: Wanted, table: Reproduction, part: Part, catalog: Catalog) -> Wanted:
    """Return a row with its cells, or with the reason why there are none."""
    if not item.stream.benchmark:
        return replace(item, reason="no such benchmark here")
    if not item.method_here:
        return replace(item, reason="no such method here")
    _demand_known(item.here, catalog)
    cells, reasons = cells_of(item.stream, item.method_here, table, part, catalog)
    return replace(item, cells=tuple(cells), reason="; ".join(reasons))


def _demand_known(here: tuple[str, str], catalog: Catalog) -> None:
    known = [[*catalog.available("Benchmark")], [*catalog.available("Method"), *catalog.variants()]]
    for name, names in zip(here, known, strict=True):
        if name not in names and name.partition("+")[0] not in names:
            raise UserError(f"{printed_files.FOLDER / 'names.toml'}: {nearest('name', name, names)}")


def cells_of(
    stream: Stream, method: str, table: Reproduction, part: Part, catalog: Catalog
) -> tuple[list[Cell], dict[str, None]]:
    """Return a cell for each seed, and the reasons why there are none."""
    benchmark = stream.benchmark
    cells: list[Cell] = []
    reasons: dict[str, None] = {}
    changed = table.settings(stream, method)
    settings = {method: changed} if changed else {}
    for seeds, by_seed in _options_of(benchmark, part.seeds or table.about.seeds, table.about):
        options = {**stream.options, **by_seed}
        own = {**settings, benchmark: options} if options else settings
        request = Request([method], [benchmark], seeds, part.epochs, own, [PROTOCOL], scenario=stream.scenario)
        planned = catalog.plan(request)
        cells += planned.cells
        reasons |= dict.fromkeys(planned.not_applicable.values())
    return cells, reasons


def _options_of(
    benchmark: str, seeds: Sequence[int], about: PrintedTable
) -> Iterator[tuple[Sequence[int], dict[str, Any]]]:
    """Yield seeds with the options of the benchmark that go with them: all at once where these are the same."""
    if benchmark not in about.by_seed:
        yield seeds, {}
        return
    for seed in seeds:
        yield [seed], about.options_of(benchmark, seed)


def reasons(items: Iterable[Wanted]) -> list[str]:
    """Return why rows do not run here, a line for each reason with the methods that it holds for."""
    why: dict[str, dict[str, None]] = {}
    for item in items:
        if not item.cells:
            named = item.benchmark if not item.here[0] else item.method
            why.setdefault(item.reason, {})[named] = None
    return [f"{reason}: {', '.join(names)}" for reason, names in why.items()]


def as_one(results: Iterable[Result], about: PrintedTable) -> list[Result]:
    """Return results as runs of one row: without what the table itself changes from seed to seed, or of the recipe."""
    return [_as_recipe(result, about) for result in results]


def _as_recipe(result: Result, about: PrintedTable) -> Result:
    cell = result.cell
    by_seed = about.by_seed.get(cell.benchmark, {})
    own = {f"{cell.benchmark}.{name}" for name in by_seed} | set(about.settings.get(cell.method, {}))
    for settings in about.on.values():
        own |= set(settings.get(cell.method, {}))
    options = {name: value for name, value in cell.options.items() if name not in by_seed}
    overrides = {name: value for name, value in cell.overrides.items() if name not in own}
    return replace(result, cell=replace(cell, options=options, overrides=overrides))


def tally(lines: Sequence[Line]) -> str:
    """Return, in words, how many printed numbers agree, which do not, and how many are undecided."""
    verdicts = Counter(line.verdict for line in lines)
    apart = [line for line in lines if line.verdict in ("above", "below")]
    undecided = [line for line in lines if line.verdict not in ("agrees", "above", "below")]
    text = f"{verdicts['agrees']} agree, {len(apart)} disagree, {len(undecided)} undecided"
    if apart:
        named = [f"{line.row.method} on {line.row.benchmark}, {line.metric} {line.verdict}" for line in apart]
        text += f"; disagree: {'; '.join(named)}"
    if undecided:
        reasons = Counter(line.verdict for line in undecided)
        text += f"; undecided: {', '.join(f'{count} {reason}' for reason, count in reasons.items())}"
    return text


@dataclass(frozen=True)
class Spread:
    """What several papers print of a method on a benchmark, where they differ."""

    benchmark: str
    method: str
    means: tuple[tuple[str, str], ...]  # the ACC, and who prints it

    @property
    def text(self) -> str:
        """Return the numbers and their printers in a line, the smallest first."""
        ordered = sorted(self.means, key=lambda pair: float(pair[0]))
        return "; ".join(f"{mean} ({who})" for mean, who in ordered)


def between_papers() -> Iterator[Spread]:
    """Yield the methods and benchmarks for which papers print different ACC, those of this suite alone."""
    printed: dict[tuple[str, str], dict[str, str]] = {}
    for key, paper in published.papers().items():
        for table in paper.tables:
            for row in published.rows_of(key, table):
                plain = not row.copied and "log" not in row.setting
                if all(row.here) and plain and "acc" in row.numbers:
                    who = f"{key}, {row.remark}" if row.remark else key
                    printed.setdefault((row.benchmark, row.method), {})[who] = row.numbers["acc"].mean
    for (benchmark, method), means in printed.items():
        if _differ(list(means.values())):
            pairs = tuple((mean, who) for who, mean in means.items())
            yield Spread(benchmark, method, pairs)


def _differ(means: Sequence[str]) -> bool:
    """Return whether some of these printed numbers cannot be the same one rounded."""
    for first, second in combinations(means, 2):
        if abs(float(first) - float(second)) > half_unit(first) + half_unit(second) + 1e-9:
            return True
    return False


def others(results: Iterable[Result], items: Collection[Wanted]) -> int:
    """Return how many results of the same methods and benchmarks were left aside: of another budget or protocol, in
    another scenario, of other seeds or options."""
    keys = {cell.key for item in items for cell in item.cells}
    places = {item.here for item in items if item.cells}
    aside = [r for r in results if (r.cell.benchmark, r.cell.method) in places and r.cell.key not in keys]
    return len(aside)
