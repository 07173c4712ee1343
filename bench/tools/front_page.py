"""The README's table of reproduced numbers, made from committed results: python -m bench.tools.front_page"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench import files, installation
from bench.analysis.columns import METRICS
from bench.analysis.compare import Listing
from bench.analysis.papers import reproduction
from bench.analysis.papers.outcome import Reproduced, cells_beside, reproduced
from bench.analysis.papers.paper import Line
from bench.analysis.papers.reproduction import Part, Reproduction
from bench.analysis.render import show, show_listing
from bench.analysis.table import Entry
from bench.catalog.catalog import Catalog
from bench.core import Result
from bench.execution import store

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
    rows = [*_printed(outcome), *_unprinted(outcome)]
    header = ["method", "paper, ACC", "ours", "", "paper, BWT", "ours", ""]
    numbers = show_listing(Listing(header, rows, ""), "md").strip()
    beside = {cell.key for cell in cells_beside(table, Part(), catalog)}  # no other budget or precision counts
    about = _about(outcome, [*found.values(), *(result for result in stored if result.cell.key in beside)])
    return f"{about}\n\n{numbers}\n\n{outcome.tally}"


def _printed(outcome: Reproduced) -> list[list[str]]:
    """Return a row for each method that the paper prints and that has a run here."""
    lines: dict[str, dict[str, Line]] = {}
    for line in outcome.lines:
        lines.setdefault(line.row.method, {})[line.metric] = line
    rows = []
    for method, own in lines.items():
        if any(line.ours.n for line in own.values()):
            rows.append([method, *_cells(own.get("acc"), "acc"), *_cells(own.get("bwt"), "bwt")])
    return rows


def _cells(line: Line | None, metric: str) -> list[str]:
    """Return the paper's number, ours and the verdict."""
    if line is None:
        return ["", "", ""]
    return [str(line.number), _shown(line.ours, metric), line.verdict]


def _unprinted(outcome: Reproduced) -> list[list[str]]:
    """Return a row for each method that the paper does not print."""
    if outcome.unprinted is None:
        return []
    entries, rows = outcome.unprinted.entries, []
    [benchmark] = {benchmark for benchmark, _ in outcome.unprinted.columns}
    for row in outcome.unprinted.rows:
        acc, bwt = (_shown(entries[row, (benchmark, metric)], metric) for metric in ("acc", "bwt"))
        rows.append([row, "not printed", acc, "", "", bwt, ""])
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


def main() -> None:
    """Write the table into the README of this checkout."""
    path = installation.ROOT / "README.md"
    files.write_text(path, renewed(path.read_text(encoding="utf-8"), installation.ROOT / "results" / "published"))
    print(f"{path}: written anew", file=sys.stderr)


if __name__ == "__main__":
    main()
