"""A grid before it runs: its cells, what is stored of them, what data they lack, and how long they may take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.commands import tell, warn
from bench.core import Benchmark, Cell, Result
from bench.text import counted

if TYPE_CHECKING:
    from bench.catalog.catalog import Catalog
    from bench.catalog.plan import Plan, Request
    from bench.execution.forecast.budget import Forecast
    from bench.execution.runner import Resources


@dataclass
class Grid:
    """The cells of a request, and what is known of them."""

    cells: list[Cell]
    results: dict[str, Result] = field(default_factory=dict)  # by key
    unsaved: list[Result] = field(default_factory=list)  # those that could not be written

    @property
    def pending(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.key not in self.results]


def look_up(cells: list[Cell], folder: Path, answers: Callable[[Result], bool]) -> Grid:
    """Return the grid with the stored results that answer the request; warn of files that cannot be read."""
    from bench.execution import store

    grid = Grid(cells)
    for cell in cells:
        found = store.stored_result(cell, folder)
        if isinstance(found, str):
            warn(found)
        elif found is not None and answers(found):
            grid.results[cell.key] = found
    return grid


def skip_without_data(grid: Grid, resources: Resources, fetch: bool) -> set[str]:
    """Leave cells out whose data is neither there nor to be had, and tell why, a line a benchmark.

    With `fetch` the data that can be had is downloaded and prepared, so that nothing is left to fail later. Return the
    benchmarks of which nothing remains; of others, the stored results do.
    """
    from bench.data import availability

    streams = _streams(grid.pending, resources.catalog)
    lacking = availability.unavailable(streams, resources.data)
    if fetch:
        there = [stream for stream in streams if stream.name not in lacking]
        lacking |= availability.unprepared(there, resources.data)
    for name, reason in lacking.items():
        cells = sum(cell.benchmark == name for cell in grid.pending)
        tell(f"skipped: {name}, {counted(cells, 'cell')}: {reason}; --bench everything insists")
    grid.cells = [cell for cell in grid.cells if cell.benchmark not in lacking or cell.key in grid.results]
    return lacking.keys() - {cell.benchmark for cell in grid.cells}


def demand_weights_of(grid: Grid, resources: Resources) -> None:
    """Raise `DataError` before anything is run where a network starts from weights that are not there, or not its."""
    for benchmark in _streams(grid.pending, resources.catalog):
        if benchmark.weights():
            from bench.nn import architectures

            architectures.demand_start(benchmark, resources.data)


def without_benchmarks(request: Request, plan: Plan, gone: set[str]) -> tuple[Request, Plan]:
    """Return a request and its plan without some benchmarks."""
    settings = {name: own for name, own in request.settings.items() if name not in gone}
    benchmarks = [name for name in request.benchmarks if name not in gone]
    cells = [cell for cell in plan.cells if cell.benchmark not in gone]
    reasons = {where: why for where, why in plan.not_applicable.items() if where[1] not in gone}
    return replace(request, benchmarks=benchmarks, settings=settings), plan._replace(
        cells=cells, not_applicable=reasons
    )


def _streams(cells: Iterable[Cell], catalog: Catalog) -> list[Benchmark]:
    """Return the benchmarks of cells, each once with every choice of options: what data depends on."""
    kinds = {(cell.benchmark, str(sorted(cell.options.items()))): cell for cell in cells}
    return [catalog.benchmark(cell.benchmark, cell.options) for cell in kinds.values()]


def by_benchmark(grid: Grid, forecast: Forecast, resources: Resources) -> Iterator[str]:
    """Yield a line for each benchmark: the state of its data, its cells, and how long those to run may take."""
    from bench.execution.forecast.budget import describe_part

    for name in dict.fromkeys(cell.benchmark for cell in grid.cells):
        cells = [cell for cell in grid.cells if cell.benchmark == name]
        left = sum(cell.key not in grid.results for cell in cells)
        time = f": {describe_part(forecast, name)}" if left else ""
        yield f"{name}: data {_data_state(cells, resources)}; {counted(len(cells), 'cell')}, {left} to run{time}"


def _data_state(cells: Iterable[Cell], resources: Resources) -> str:
    """Return the state of the data of the cells of a benchmark, under each choice of options."""
    states = (stream.data_state(resources.data) for stream in _streams(cells, resources.catalog))
    return ", or ".join(dict.fromkeys(states))
