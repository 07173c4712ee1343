"""What came of a published table here: its numbers beside ours, the methods that it does not print, and the tally."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.analysis import compare, render
from bench.analysis import table as tables
from bench.analysis.papers import listing, paper, published, reproduction
from bench.analysis.papers.paper import Line
from bench.analysis.papers.reproduction import PROTOCOL, Part, Reproduction, Wanted
from bench.analysis.table import Table
from bench.catalog.catalog import Catalog
from bench.core import Cell, Result

ALPHA = 0.05  # of the ranks' critical difference


@dataclass(frozen=True)
class Reproduced:
    """The state of a table that is being reproduced."""

    table: Reproduction
    lines: list[Line]
    unprinted: Table | None  # methods that the paper does not print, under the same seeds and budget
    aside: int  # stored results of these methods and benchmarks that do not belong to the table

    def render(self, form: str) -> str:
        """Return all of it in one of the formats of tables."""
        parts = [render.show_listing(part, form) for part in listing.listings(self.lines, PROTOCOL, form)]
        if self.unprinted:
            parts.append(render.FORMATS[form](self.unprinted))
            parts += [render.show_listing(ranks, form) for ranks in self._ranks()]
        return "\n\n".join(parts)

    def _ranks(self) -> list[compare.Listing]:
        benchmarks = {benchmark for benchmark, _ in self.unprinted.columns} if self.unprinted else set()
        if self.unprinted is None or len(benchmarks) < 2:
            return []
        return compare.compare_and_rank(self.unprinted, None, ("acc",), ALPHA)[1]

    @property
    def tally(self) -> str:
        """Return the line that the table ends with."""
        text = f"{self.table.key}: {reproduction.tally(self.lines)}."
        if self.aside:
            other = "another budget, protocol, scenario, precision or seed"
            text += f" {self.aside} stored results of {other} were left aside."
        if self.table.about.spreads:
            quoting = published.paper_of(self.table.about.spreads).source
            text += f" The paper prints means; their spreads are those that {quoting} prints beside them."
        return f"{text} {self.table.about.note}".rstrip()

    def plain(self) -> dict[str, Any]:
        """Return what the file in JSON holds: every line unrounded, and the tally."""
        found = listing.records(self.lines, PROTOCOL)
        lines = [dict(zip(found.header, row, strict=True)) for row in found.rows]
        return {"table": self.table.key, "source": self.table.source, "lines": lines, "tally": self.tally}


def reproduced(
    table: Reproduction,
    items: Sequence[Wanted],
    results: Mapping[str, Result],
    stored: Sequence[Result],
    part: Part,
    catalog: Catalog,
) -> Reproduced:
    """Return what came of a table.

    `results` are those of the wanted cells, by key; among those `stored`, what belongs to methods that the paper does
    not print is found too, and nothing else is averaged in.
    """
    asked = {(item.benchmark, item.method) for item in items}
    rows = [row for row in table.rows if (row.benchmark, row.method) in asked]
    own = reproduction.as_one(results.values(), table.about)
    benchmarks = {result.cell.benchmark for result in own} | {name for item in items for name in item.here[:1]}
    methods = {name for item in items for name in item.here[1:]}
    lines = paper.beside_results(rows, own, PROTOCOL, table.metrics, benchmarks, methods) if rows else []
    unprinted = _unprinted(table, items, {**{r.cell.key: r for r in stored}, **results}, part, catalog)
    return Reproduced(table, lines, unprinted, reproduction.others(stored, items))


def _unprinted(
    table: Reproduction, items: Sequence[Wanted], found: Mapping[str, Result], part: Part, catalog: Catalog
) -> Table | None:
    """Return the table of what no row of the paper is about; None where there is nothing."""
    pairs: list[tuple[Cell, Result]] = []
    for cell in cells_beside(table, part, catalog):
        result = found.get(cell.key)
        if result is not None:
            [plain] = reproduction.as_one([result], table.about)
            pairs.append((plain.cell, plain))
    if not pairs:
        return None
    seeds = part.seeds or table.about.seeds
    return tables.summarize(pairs, table.metrics, seeds)


def cells_beside(table: Reproduction, part: Part, catalog: Catalog) -> Iterator[Cell]:
    """Yield the cells that every method would have that the table does not print, under its seeds and budget."""
    printed = [(row.stream, row.here[1]) for row in table.rows]
    for stream in table.streams:
        for method in [*catalog.available("Method"), *catalog.variants()]:
            if (stream, method) not in printed:
                yield from reproduction.cells_of(stream, method, table, part, catalog)[0]
