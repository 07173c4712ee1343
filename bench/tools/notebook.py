"""The suite from Python: what the command line does, as functions that return objects which a notebook shows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import files, installation
from bench.analysis import page, render
from bench.analysis import report as reports
from bench.analysis import table as tables
from bench.catalog.catalog import Catalog
from bench.catalog.changes import data_apart
from bench.catalog.plan import Request
from bench.core import Result, UserError
from bench.execution import grid, store
from bench.execution.events import CellFinished, CellFound, Trouble, Unsaved
from bench.execution.runner import Resources
from bench.tools.check import Verdict, run_checks

if TYPE_CHECKING:
    from bench.analysis.figures.figure import Plot

BUILT_IN = Catalog()


@dataclass(frozen=True)
class Shown:
    """A table: markdown as text, HTML in a notebook. `table` has the numbers."""

    table: tables.Table

    def __str__(self) -> str:
        return render.to_markdown(self.table)

    def _repr_html_(self) -> str:
        return page.fragment(self.table)


@dataclass(frozen=True)
class Results(Sequence[Result]):
    """Results of one or many runs; a notebook shows their table."""

    results: tuple[Result, ...]
    catalog: Catalog = BUILT_IN

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def _repr_html_(self) -> str:
        return table(self)._repr_html_()


def run(
    methods: str | Sequence[str],
    benchmarks: str | Sequence[str],
    seeds: int | Sequence[int] = 3,
    *,
    epochs: int | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    protocol: str = "published",
    precision: str = "fp32",
    scenario: str = "",
    executor: str = "serial",
    resources: Resources | None = None,
    out: str | Path | None = None,
    catalog: Catalog = BUILT_IN,
) -> Results:
    """Run methods on benchmarks and return their results, those of failed cells with their `error`.

    `seeds` are a list, or how many: 0, 1, ... `settings` are as `--set`: settings of a method or of a benchmark, by its
    name. `scenario` is one of each benchmark's own, by default its first. Finished cells are kept in `out`, by default
    the results folder of the command line, and not run again. Raises `UserError` for a wrong request, and where a
    result could not be written.
    """
    where = Path(out) if out is not None else installation.results()
    listed = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    names = [methods] if isinstance(methods, str) else list(methods)
    streams = [benchmarks] if isinstance(benchmarks, str) else list(benchmarks)
    catalog.import_methods(names)
    request = Request(names, streams, listed, epochs, settings or {}, [protocol], precision, scenario)
    plan = catalog.plan(request)
    files.check_writable(where)
    found = [store.stored_result(cell, where) for cell in plan.cells]
    done = {r.cell.key: r for r in found if isinstance(r, Result) and r.error is None}
    pending = [cell for cell in plan.cells if cell.key not in done]
    resources = resources or Resources(catalog=catalog, checkpoints=store.checkpoints(where.resolve()))
    with closing(grid.run_grid(pending, list(done.values()), resources, executor, where)) as events:
        for event in events:
            if isinstance(event, CellFinished | CellFound):
                done[event.result.cell.key] = event.result
            elif isinstance(event, Trouble):
                warnings.warn(event.text, stacklevel=2)
            elif isinstance(event, Unsaved):
                raise UserError(f"{event.result.cell} could not be written to {where}: make room there")
    return Results(tuple(done[cell.key] for cell in plan.cells), catalog)


def load(path: str | Path | None = None, catalog: Catalog = BUILT_IN) -> Results:
    """Return all results stored in a folder. Raises `UserError` where one of them cannot be read."""
    found = list(store.load_all(Path(path) if path is not None else installation.results()))
    for trouble in found:
        if isinstance(trouble, str):
            raise UserError(trouble)
    return Results(tuple(result for result in found if isinstance(result, Result)), catalog)


def table(results: Results, metrics: Sequence[str] | None = None) -> Shown:
    """Return the table of results: mean and sample standard deviation over seeds, of each metric, by default of those
    that are usual in the scenario."""
    apart = data_apart(results, lambda cell: (tables.row_label(cell), tables.column_label(cell)))
    pairs = [(result.cell, result) for result in apart]
    return Shown(tables.summarize(pairs, metrics))


def figures(results: Results) -> list[Plot]:
    """Return the figures of a report, each with its name, its caption and its matplotlib figure."""
    return reports.figures_of([(result.cell, result) for result in results])


def report(results: Results, path: str | Path) -> Path:
    """Write the HTML page of a report, and return its path."""
    place = Path(path)
    pairs = [(result.cell, result) for result in results]
    reports.write_report(place, pairs)
    return place


def check(plugin: str | Path) -> list[Verdict]:
    """Return what the checks say of every method and benchmark in a file or folder. Raises `UserError`."""
    catalog, own = Catalog.of([plugin]), Catalog()
    verdicts: list[Verdict] = []
    for name in sorted(set(catalog.available("Method")) - set(own.available("Method"))):
        verdicts += run_checks("Method", name, catalog)
    for name in sorted(set(catalog.available("Benchmark")) - set(own.available("Benchmark"))):
        verdicts += run_checks("Benchmark", name, catalog)
    return verdicts
