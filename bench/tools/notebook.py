"""The suite from Python: what the command line does, as functions that return objects which a notebook shows."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import Any

from bench import files, installation
from bench.analysis import page, render
from bench.analysis import report as reports
from bench.analysis import table as tables
from bench.analysis.columns import METRICS
from bench.analysis.figures.figure import Plot
from bench.analysis.labels import labels_of
from bench.catalog.catalog import Catalog
from bench.catalog.changes import Today, tell_apart
from bench.catalog.plan import MOST_SEEDS, Request, demand_work, told_inapplicable
from bench.config import known_as, require
from bench.core import PRECISIONS, PROTOCOLS, Result, UserError
from bench.execution import grid, store
from bench.execution.events import CellFinished, CellFound, Trouble, Unsaved
from bench.execution.executors import EXECUTORS
from bench.execution.runner import Resources
from bench.text import counted
from bench.tools.check import Verdict, run_checks

BUILT_IN = Catalog()


@dataclass(frozen=True, repr=False)
class Shown:
    """A table: markdown as text, HTML in a notebook. `table` has the numbers."""

    table: tables.Table

    def __repr__(self) -> str:
        return render.to_markdown(self.table)

    def _repr_html_(self) -> str:
        return page.fragment(self.table)


@dataclass(frozen=True, repr=False)
class Results(Sequence[Result]):
    """Results of one or many runs, with the catalog that they belong to; a notebook shows their table."""

    results: tuple[Result, ...]
    catalog: Catalog = BUILT_IN

    def __getitem__(self, index: Any) -> Any:
        found = self.results[index]
        return Results(found, self.catalog) if isinstance(index, slice) else found

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __repr__(self) -> str:
        methods = ", ".join(dict.fromkeys(result.cell.method for result in self))
        benchmarks = ", ".join(dict.fromkeys(result.cell.benchmark for result in self))
        failed = sum(result.error is not None for result in self)
        whose = f" of {methods} on {benchmarks}" if self.results else ""
        return f"<{counted(len(self), 'result')}{whose}{f', {failed} failed' if failed else ''}>"

    def _repr_html_(self) -> str | None:
        return table(self)._repr_html_() if self.results else None


class Plots(list[Plot]):
    """Figures; a notebook shows them one below the other."""

    def _repr_html_(self) -> str:
        return "\n".join(plot._repr_html_() for plot in self)


class Verdicts(list[Verdict]):
    """What checks found, shown as the command line does, a line a check."""

    def __repr__(self) -> str:
        lines = []
        for subject in dict.fromkeys(verdict.subject for verdict in self):
            lines += [subject, *(str(verdict) for verdict in self if verdict.subject == subject)]
        return "\n".join(lines)


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

    `seeds` are a list, or how many: 0, 1, ... A method that does not apply to a benchmark is left out, with a warning.
    `settings` are as `--set`: settings of a method or of a benchmark, by its
    name. `scenario` is one of each benchmark's own, by default its first. Finished cells are kept in `out`, by default
    the results folder of the command line, and not run again. Raises `UserError` for a wrong request, and where a
    result could not be written.
    """
    where = Path(out) if out is not None else installation.results()
    names, streams, listed = _named(methods), _named(benchmarks), _seeds(seeds)
    protocol, precision = known_as("protocol", protocol, PROTOCOLS), known_as("precision", precision, PRECISIONS)
    executor = known_as("executor", executor, EXECUTORS)
    catalog.import_methods(names)
    request = Request(names, streams, listed, epochs, settings or {}, [protocol], precision, scenario)
    plan = catalog.plan(request)
    demand_work(plan, request, catalog)
    for line in told_inapplicable(plan):
        warnings.warn(line, stacklevel=2)
    files.check_writable(where)
    found = [store.stored_result(cell, where) for cell in plan.cells]
    for damage in found:
        if isinstance(damage, str):
            warnings.warn(damage, stacklevel=2)
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


def table(results: Sequence[Result], metrics: str | Sequence[str] | None = None) -> Shown:
    """Return the table of results: mean and sample standard deviation over seeds, of each metric, by default of those
    that are usual in the scenario. Rows and marks are those of the command line. Raises `UserError` where there is no
    result, and for an unknown metric."""
    chosen = None if metrics is None else [known_as("metric", name, METRICS) for name in _named(metrics)]
    pairs, changed = _compared(results)
    return Shown(tables.summarize(pairs, chosen, changed=changed))


def figures(results: Sequence[Result]) -> Plots:
    """Return the figures of a report, each with its name, its caption and its matplotlib figure. Raises `UserError`
    where there is no result."""
    return Plots(reports.figures_of(_compared(results)[0]))


def report(results: Sequence[Result], path: str | Path) -> Path:
    """Write the HTML page of a report, and return its path. Raises `UserError` where there is no result."""
    place = Path(path)
    pairs, changed = _compared(results)
    reports.write_report(place, pairs, changed=changed)
    return place


def check(plugin: str | Path) -> Verdicts:
    """Return what the checks say of every method and benchmark in a file or folder. Raises `UserError`."""
    catalog, own = Catalog.of([plugin]), Catalog()
    verdicts = Verdicts()
    for name in sorted(set(catalog.available("Method")) - set(own.available("Method"))):
        verdicts += run_checks("Method", name, catalog)
    for name in sorted(set(catalog.available("Benchmark")) - set(own.available("Benchmark"))):
        verdicts += run_checks("Benchmark", name, catalog)
    return verdicts


def _compared(results: Sequence[Result]) -> tuple[list[reports.Pair], dict[str, tuple[str, ...]]]:
    """Return results beside their cells, those apart that may not be averaged, and what has changed since each was run,
    by key. Results without a catalog of their own are held against the built-in one."""
    require(len(results) > 0, "there is no result to show: run something first, or load another folder")
    today = Today(results.catalog if isinstance(results, Results) else BUILT_IN)
    apart = tell_apart(results, labels_of, today)
    return [(result.cell, result) for result in apart], {r.cell.key: today.changes(r.cell) for r in apart}


def _named(names: str | Iterable[str]) -> list[str]:
    """Return names, of which one may stand for itself, each once."""
    return [names] if isinstance(names, str) else list(dict.fromkeys(names))


def _seeds(seeds: Any) -> list[int]:
    """Return the seeds in a list, or as many as a number says. Raises `UserError` for what is neither."""
    numbers = range(seeds) if _whole(seeds) else seeds
    require(
        isinstance(numbers, Iterable) and not isinstance(numbers, str), f"seeds are a list or how many, not {seeds!r}"
    )
    listed = list(islice(numbers, MOST_SEEDS + 1))
    for seed in listed:
        require(_whole(seed) and 0 <= seed < 2**32, f"a seed is a whole number from 0 to 2**32 - 1, not {seed!r}")
    require(0 < len(listed) <= MOST_SEEDS, f"there must be from 1 to {MOST_SEEDS:,} seeds")
    require(len(set(listed)) == len(listed), "the same seed is given twice")
    return [int(seed) for seed in listed]  # those of numpy go into no JSON


def _whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
