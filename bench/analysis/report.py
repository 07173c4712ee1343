"""A report: one HTML page that needs no network. What is missing is shown, and what made a number."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench import files
from bench.analysis import captions, page
from bench.analysis.columns import METRICS
from bench.analysis.compare import rank_rows, rankings
from bench.analysis.explorer.beside import published_beside
from bench.analysis.explorer.charts import charts_of, rank_diagram
from bench.analysis.explorer.gaps import gaps_of, inapplicable_of
from bench.analysis.explorer.manifest import manifest_of
from bench.analysis.figures import figure, plots
from bench.analysis.figures.figure import Plot, Runs
from bench.analysis.labels import column_label, is_usual, row_label, stream_label
from bench.analysis.table import Table, seeds_by_column, summarize
from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.core import Cell, Result
from bench.text import counted

Pair = tuple[Cell, Result | None]
ALPHA = 0.05  # of the ranks


def write_report(
    path: Path,
    pairs: Sequence[Pair],
    seeds: Sequence[int] | None = None,
    chosen: Sequence[str] | None = None,
    commands: Sequence[str] = (),
    formats: Sequence[str] = (),
    folder: Path | None = None,
    **options: Any,
) -> None:
    """Write the page to `path`: tables, and the numbers that its script draws; `seeds` are as in `summarize`.

    Where `formats` are given, "pdf", "png" or "svg", write each figure in them, and the captions, to `figures/` beside
    it. `folder` is where the results lie, for links to their files. `options` are those of `summarize`; `commands` are
    what was typed to get the results.
    """
    files.check_writable(path.parent)
    table = summarize(pairs, chosen, seeds, **options)
    full = summarize(pairs, list(METRICS), seeds, **options)
    unsupported = options.get("unsupported") or {}
    runs = runs_of(full, pairs, seeds)
    drawn: list[list[Plot]] = [[] for _ in runs]
    if formats:
        drawn = _draw(runs)
        _export([plot for group in drawn for plot in group], path.parent / "figures", formats)
    results = [result for _, result in pairs if result is not None]
    benchmarks = ", ".join(some.name for some in runs)
    size = [counted(len(table.rows), "method"), benchmarks, counted(len(results), "run")]
    links = _links([result.cell for result in results], folder, path.parent)
    sections = []
    for some, group in zip(runs, drawn, strict=True):
        exported = {plot.what: _addresses(plot, formats) for plot in group}
        sections.append(_section(full, some, pairs, links, exported))
    whole = page.Report(
        title="Report of a comparison",
        summary=f"{'; '.join(size)}.",
        overview=table,
        notes=[note for note in table.notes if note not in captions.inapplicable_lines(unsupported)],
        inapplicable=inapplicable_of(pairs, unsupported),
        gaps=gaps_of(full, runs, pairs, options.get("changed") or {}),
        sections=sections,
        beside=published_beside(results),
        ranks=_ranks(full),
        manifest=manifest_of(results, commands),
        links=links,
    )
    files.write_text(path, page.to_html(whole))


def figures_of(pairs: Sequence[Pair]) -> list[Plot]:
    """Return the figures of a page, benchmark by benchmark."""
    full = summarize(pairs, list(METRICS))
    return [plot for group in _draw(runs_of(full, pairs, None)) for plot in group]


def with_gaps(results: Iterable[Result], methods: Sequence[str], benchmarks: Mapping[str, str]) -> list[Pair]:
    """Return the results, at least one; and a cell without a result for each method or benchmark named that has none.

    `benchmarks` are named with the scenario they are missing in, and missing under every protocol and precision of the
    results; a method is missing on one benchmark of them.
    """
    pairs: list[Pair] = [(result.cell, result) for result in results]
    cells = [cell for cell, _ in pairs]
    like = next(filter(is_usual, cells), cells[0])
    budget = {name: change for name, change in like.overrides.items() if name == "epochs"}
    others = {name: change for name, change in like.overrides.items() if name != "epochs"}
    there = {cell.method for cell in cells}
    for method in methods:
        if method not in there:
            pairs.append((replace(like, method=method, config={}, overrides=budget, traits={}), None))
    unlike = replace(like, training={}, options={}, overrides=others)
    known = {cell.benchmark for cell in cells}
    kinds = dict.fromkeys((cell.protocol, cell.precision) for cell in cells)
    for benchmark, scenario in benchmarks.items():
        if benchmark not in known:
            absent = replace(unlike, benchmark=benchmark, scenario=scenario)
            pairs += [(replace(absent, protocol=p, precision=q), None) for p, q in kinds]
    return pairs


def inapplicable(pairs: Sequence[Pair], catalog: Catalog) -> dict[tuple[str, str], str]:
    """Return why a method without a result does not apply, by method and benchmark, as `stream_label` calls it."""
    known = catalog.available("Method")
    methods = list(dict.fromkeys(cell.method for cell, _ in pairs))
    own = [method for method in methods if method.partition("+")[0] in known]
    protocols = list(dict.fromkeys(cell.protocol for cell, _ in pairs))
    there = {(cell.method, cell.benchmark, cell.scenario) for cell, result in pairs if result}
    found = {}
    for scenario in dict.fromkeys(cell.scenario for cell, _ in pairs):
        names = dict.fromkeys(cell.benchmark for cell, _ in pairs if cell.scenario == scenario)
        benchmarks = [name for name in names if scenario in catalog.benchmark(name).scenarios]
        request = Request(own, benchmarks, [0], protocols=protocols, scenario=scenario)
        for (method, benchmark), why in catalog.plan(request).not_applicable.items():
            if (method, benchmark, scenario) not in there:
                found[method, stream_label(benchmark, scenario)] = why
    return found


def runs_of(table: Table, pairs: Sequence[Pair], seeds: Sequence[int] | None) -> list[Runs]:
    """Return what the figures are drawn from: `Runs` for each benchmark and budget, in the order of the table."""
    wanted = seeds_by_column((cell for cell, _ in pairs), seeds)
    found = []
    for column in dict.fromkeys(name for name, _ in table.columns):
        here = [(cell, result) for cell, result in pairs if column_label(cell) == column]
        good: dict[str, list[Result]] = {row: [] for row in table.rows}
        for cell, result in here:
            if result is not None and result.error is None:
                good[row_label(cell)].append(result)
        found.append(Runs(column, _conditions(here), wanted[column], good))
    return found


def _conditions(pairs: Sequence[Pair]) -> str:
    """Return in words the stream of these cells, their budget, their protocols and what precision is not the usual."""
    protocols = {cell.protocol for cell, _ in pairs if not cell.traits.get("imported")}
    precisions = {cell.precision for cell, _ in pairs} - {"fp32"}
    facts = captions.stream_facts(pairs)
    facts += [f"protocol {name}" for name in sorted(protocols)]
    facts += [f"precision {name}" for name in sorted(precisions)]
    return ", ".join(facts)


def _draw(runs: Sequence[Runs]) -> list[list[Plot]]:
    """Draw the figures of each; a name that was taken gets a number."""
    taken: Counter[str] = Counter()
    groups: list[list[Plot]] = []
    for some in runs:
        groups.append([])
        for plot in plots.all_of(some):
            taken[plot.name] += 1
            count = taken[plot.name]
            groups[-1].append(plot._replace(name=f"{plot.name}-{count}") if count > 1 else plot)
    return groups


def _export(drawn: Sequence[Plot], folder: Path, formats: Sequence[str]) -> None:
    """Write each figure as a file of its own, and a file of all captions."""
    files.check_writable(folder)
    for plot in drawn:
        figure.save_figure(plot, folder, formats)
    captions = [f"**{plot.name}**: {plot.caption}\n" for plot in drawn]
    files.write_text(folder / "captions.md", "\n".join(captions))


def _addresses(plot: Plot, formats: Sequence[str]) -> list[str]:
    """Return the addresses of a figure's files, from the page."""
    return [f"figures/{plot.name}.{suffix}" for suffix in formats]


def _section(
    full: Table,
    some: Runs,
    pairs: Sequence[Pair],
    links: Mapping[str, str],
    exported: Mapping[str, Sequence[str]],
) -> page.Section:
    """Return what the page says of a benchmark under a budget: all its metrics, its runs, and what is drawn of them."""
    here = [(cell, result) for cell, result in pairs if column_label(cell) == some.name]
    shown: dict[str, list[page.Run]] = {}
    for cell, result in here:
        if result is not None:
            link = links.get(cell.path.as_posix(), "")
            shown.setdefault(row_label(cell), []).append(page.Run(cell.seed, link, result.error is not None))
    columns = [column for column in full.columns if column[0] == some.name]
    rows = [row for row in full.rows if row in shown]
    entries = {(row, column): full.entries[row, column] for row in rows for column in columns}
    table = replace(full, rows=rows, columns=columns, entries=entries)
    absent = [row for row in full.rows if row not in shown]
    cell = here[0][0]
    kind = page.Kind(cell.benchmark, cell.protocol, cell.scenario)
    charts = charts_of(some, full) | {"files": exported}
    conditions = f"{some.protocol}; {some.counted_seeds}"
    return page.Section(some.name, kind, conditions, table, absent, shown, charts)


def _links(cells: Sequence[Cell], folder: Path | None, page_folder: Path) -> dict[str, str]:
    """Return the address, from the page, of each result's file that is there, by its path in the results folder."""
    if folder is None:
        return {}
    start = Path(os.path.relpath(folder, page_folder))
    paths = [cell.path for cell in cells if (folder / cell.path).is_file()]
    return {path.as_posix(): quote((start / path).as_posix()) for path in paths}


def _ranks(full: Table) -> list[page.Ranks]:
    """Return, for each protocol and scenario, how methods rank over its benchmarks."""
    found = []
    for (protocol, scenario), part in rankings(full).items():
        found.append(page.Ranks(protocol, scenario, rank_rows(part, "acc", ALPHA), rank_diagram(part, alpha=ALPHA)))
    return found
