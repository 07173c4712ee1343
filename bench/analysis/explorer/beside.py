"""Published numbers beside ours, for every paper that prints a method and a benchmark of the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bench.analysis.columns import METRICS
from bench.analysis.labels import with_facts
from bench.analysis.papers import listing, paper, published
from bench.analysis.papers.paper import Line
from bench.core import Result

HEADER = ("benchmark", "paper", "method", "metric", "published", "ours", "verdict", "n", "difference")
TEXTS = 4  # columns of HEADER that hold no number


class Beside(NamedTuple):
    """A published number beside ours: the words of HEADER, what the page's switches choose by, and whether our runs had
    the paper's budget."""

    words: tuple[str, ...]
    benchmark: str
    protocol: str
    scenario: str
    same_budget: bool

    @property
    def method(self) -> str:
        """Return the method, as it is called here."""
        return self.words[HEADER.index("method")]

    @property
    def verdict(self) -> str:
        """Return the verdict, or why there is none."""
        return self.words[HEADER.index("verdict")]


def published_beside(results: Sequence[Result]) -> list[Beside]:
    """Return each printed number that has a run of ours, in the papers' order."""
    usable = [result for result in results if "other" not in result.cell.traits]
    rows = [row for key in published.papers() for row in published.rows_of(key)]
    found: dict[Beside, None] = {}
    for protocol in sorted({result.cell.protocol for result in usable}):
        found |= dict.fromkeys(_under(protocol, rows, usable))
    return list(found)


def _under(protocol: str, rows: Sequence[published.Row], results: Sequence[Result]) -> Iterator[Beside]:
    """Yield the numbers under one protocol."""
    places = {(r.cell.benchmark, r.cell.method) for r in results if r.cell.protocol == protocol}
    here = [row for row in rows if row.here in places]
    benchmarks, methods = {name for name, _ in places}, {name for _, name in places}
    if not any(row.numbers for row in here):
        return
    for line in paper.beside_results(here, results, protocol, list(published.PRINTED), benchmarks, methods):
        if line.ours.n:
            yield Beside(_words(line, protocol), line.benchmark, protocol, line.scenario, line.budget)


def _words(line: Line, protocol: str) -> tuple[str, ...]:
    ours, n, difference = listing.ours_beside(line)
    where = with_facts(line.row.stream.label, [protocol] if protocol != "published" else [])
    source = f"{line.row.source}, {line.row.table}"
    label = METRICS[line.metric].label
    return where, source, line.method, label, str(line.number), ours, line.verdict, n, difference
