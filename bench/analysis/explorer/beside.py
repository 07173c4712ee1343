"""Published numbers beside ours, for every paper that prints a method and a benchmark of the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.analysis.columns import METRICS
from bench.analysis.papers import listing, paper, published
from bench.analysis.papers.paper import Line
from bench.core import Result

HEADER = (
    *("benchmark", "scenario", "protocol", "paper", "method", "metric"),
    *("published", "ours", "n", "difference", "verdict"),
)


def published_beside(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Return a row of the words of HEADER for each printed number that has a run of ours, in the papers' order."""
    usable = [result for result in results if "other" not in result.cell.traits]
    rows = [row for key in published.papers() for row in published.rows_of(key)]
    found: dict[tuple[str, ...], None] = {}
    for protocol in sorted({result.cell.protocol for result in usable}):
        found |= dict.fromkeys(_under(protocol, rows, usable))
    return list(found)


def _under(protocol: str, rows: Sequence[published.Row], results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    """Yield the rows under one protocol."""
    places = {(r.cell.benchmark, r.cell.method) for r in results if r.cell.protocol == protocol}
    here = [row for row in rows if row.here in places]
    benchmarks, methods = {name for name, _ in places}, {name for _, name in places}
    if not any(row.numbers for row in here):
        return
    for line in paper.beside_results(here, results, protocol, list(published.PRINTED), benchmarks, methods):
        if line.ours.n:
            yield _words(line, protocol)


def _words(line: Line, protocol: str) -> tuple[str, ...]:
    ours, n, difference = listing.ours_beside(line)
    source = f"{line.row.source}, {line.row.table}"
    label = METRICS[line.metric].label
    where = line.row.stream.label, line.scenario, protocol
    return *where, source, line.method, label, str(line.number), ours, n, difference, line.verdict
