"""The README's reproduced numbers and its picture, made from committed results: python -m bench.tools.front_page

The picture is what the first command prints, of the published cells, so that it is the same on every processor.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from bench import files, installation
from bench.analysis import table as tables
from bench.analysis.columns import METRICS
from bench.analysis.compare import Listing
from bench.analysis.labels import CHANGED, MARKS, without_marks
from bench.analysis.papers import reproduction
from bench.analysis.papers.outcome import Reproduced, cells_beside, reproduced
from bench.analysis.papers.paper import Line
from bench.analysis.papers.reproduction import Part, Reproduction
from bench.analysis.render import show, show_listing, to_markdown
from bench.analysis.table import Entry
from bench.catalog.catalog import Catalog
from bench.catalog.changes import Today
from bench.catalog.plan import Request
from bench.core import Cell, Result
from bench.execution import store

PICTURE = Path("figures", "digits-table.svg")  # below the published results
WIDTH = 76  # characters of a line in it
START, END = "<!-- reproduced numbers: python -m bench.tools.front_page -->", "<!-- end of the reproduced numbers -->"


def block(folder: Path) -> str:
    """Return what stands between the marks of the README, made from the results in a folder."""
    stored = [result for result in store.load_all(folder) if isinstance(result, Result)]
    shown = [table for table in reproduction.known().values() if table.about.front_page]
    parts = [_part(table, stored) for table in shown]
    return "\n\n".join([START, *parts, END])


def _part(table: Reproduction, stored: Sequence[Result]) -> str:
    catalog = Catalog()
    items = reproduction.wanted(table, Part(), catalog)
    keys = {cell.key for item in items for cell in item.cells}
    found = {result.cell.key: result for result in stored if result.cell.key in keys}
    outcome = reproduced(table, items, found, stored, Part(), catalog)
    beside = {cell.key for cell in cells_beside(table, Part(), catalog)}  # no other budget or precision counts
    used = [*found.values(), *(result for result in stored if result.cell.key in beside)]
    marks = _marks([result.cell for result in used], catalog)
    rows = [*_printed(outcome, marks), *_unprinted(outcome, marks)]
    header = ["method", "paper, ACC", "ours", "", "paper, BWT", "ours", ""]
    numbers = show_listing(Listing(header, rows, ""), "md").strip()
    return "\n\n".join([_about(outcome, used), numbers, " ".join(_legend(rows)), outcome.tally])


def _marks(cells: Collection[Cell], catalog: Catalog) -> dict[str, str]:
    """Return what stands behind a method's name: the marks of its traits, and of code changed since one of its runs."""
    today, marks = Today(catalog), {}
    for method in {cell.method for cell in cells}:
        own = [cell for cell in cells if cell.method == method]
        found = [mark for trait, (mark, _) in MARKS.items() if any(cell.traits.get(trait) for cell in own)]
        found += [CHANGED] if any(today.changes(cell) for cell in own) else []
        marks[method] = "".join(f" {mark}" for mark in found)
    return marks


def _legend(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return what the marks behind the names mean, those that there are."""
    meanings = [*MARKS.values(), (CHANGED, "code changed since it was run")]
    return [f"{mark} {meaning}." for mark, meaning in meanings if any(mark in row[0].split() for row in rows)]


def _printed(outcome: Reproduced, marks: Mapping[str, str]) -> list[list[str]]:
    """Return a row for each method that the paper prints and that has a run here."""
    lines: dict[str, dict[str, Line]] = {}
    for line in outcome.lines:
        lines.setdefault(line.row.method, {})[line.metric] = line
    rows = []
    for method, own in lines.items():
        if any(line.ours.n for line in own.values()):
            name = method + marks.get(next(iter(own.values())).method, "")
            rows.append([name, *_cells(own.get("acc"), "acc"), *_cells(own.get("bwt"), "bwt")])
    return rows


def _cells(line: Line | None, metric: str) -> list[str]:
    """Return the paper's number, ours and the verdict."""
    if line is None:
        return ["", "", ""]
    return [str(line.number), _shown(line.ours, metric), line.verdict]


def _unprinted(outcome: Reproduced, marks: Mapping[str, str]) -> list[list[str]]:
    """Return a row for each method that the paper does not print."""
    if outcome.unprinted is None:
        return []
    entries, rows = outcome.unprinted.entries, []
    [benchmark] = {benchmark for benchmark, _ in outcome.unprinted.columns}
    for row in outcome.unprinted.rows:
        acc, bwt = (_shown(entries[row, (benchmark, metric)], metric) for metric in ("acc", "bwt"))
        method = without_marks(row)
        rows.append([method + marks.get(method, ""), "not printed", acc, "", "", bwt, ""])
    return rows


def _shown(entry: Entry, metric: str) -> str:
    missing = f" (n={entry.n})" if entry.n and not entry.complete else ""
    return show(entry, METRICS[metric], "±") + missing


def _about(outcome: Reproduced, results: Sequence[Result]) -> str:
    """Return whose table it is, the command that makes ours, and what that took."""
    hours = sum(float(result.environment.get("seconds", 0.0)) for result in results) / 3600
    machines = sorted({result.environment["cpu"] for result in results if "cpu" in result.environment})
    seeds = ", ".join(map(str, outcome.table.about.seeds))
    return (
        f"`python run_bench.py reproduce {outcome.table.key}`: {outcome.table.source}, on "
        f"{', '.join(outcome.table.benchmarks)}, the paper's full budget, protocol published, seeds {seeds}; "
        f"{len(results)} cells, {hours:.1f} hours of one core ({'; '.join(machines)}), shared with other work."
    )


def renewed(readme: str, folder: Path) -> str:
    """Return the README with its table made anew."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{block(folder)}{after}"


def first_table(folder: Path) -> str:
    """Return the table that the first command prints, made from the results in a folder."""
    catalog = Catalog()
    methods = [name for name in catalog.available("Method") if catalog.declaration(name).by_default]
    benchmarks = [name for name in catalog.available("Benchmark") if catalog.benchmark(name).by_default]
    stored = {result.cell.key: result for result in store.load_all(folder) if isinstance(result, Result)}
    cells = catalog.plan(Request(methods, benchmarks, [0, 1, 2])).cells
    table = tables.summarize([(cell, stored.get(cell.key)) for cell in cells])
    return to_markdown(table).partition("\n\n")[0]


def picture(table: str) -> str:
    """Return a terminal in which the first command has printed a table, as an SVG."""
    terminal = Console(record=True, width=WIDTH, file=io.StringIO())
    terminal.print(f"$ python run_bench.py\n{table}", markup=False, highlight=False)
    return terminal.export_svg(title="", unique_id="digits-table")


def main() -> None:
    """Write the table into the README of this checkout, and its picture beside the results."""
    readme, published = installation.ROOT / "README.md", installation.ROOT / "results" / "published"
    files.write_text(readme, renewed(readme.read_text(encoding="utf-8"), published))
    files.write_text(published / PICTURE, picture(first_table(published)))
    print(f"{readme} and {published / PICTURE}: written anew", file=sys.stderr)


if __name__ == "__main__":
    main()
