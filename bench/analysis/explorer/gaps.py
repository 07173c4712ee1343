"""What a report lacks: runs that failed, that are missing, or that rest on older code, a line each with its reason."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bench.analysis.captions import by_reason
from bench.analysis.figures.figure import Runs
from bench.analysis.labels import column_label, row_label, stream_label
from bench.analysis.table import Table
from bench.core import Cell, Result
from bench.text import spans

Pair = tuple[Cell, Result | None]


class Gaps(NamedTuple):
    """Lines of text on the runs that a report should have, by what is amiss."""

    failed: list[str]
    missing: list[str]
    changed: list[str]


class Inapplicable(NamedTuple):
    """Methods that do not apply somewhere for one reason, and where the page's switches may look for it."""

    stream: str
    benchmark: str
    scenario: str  # '' where it is not known
    methods: Sequence[str]


def inapplicable_of(pairs: Sequence[Pair], unsupported: Mapping[tuple[str, str], str]) -> dict[str, list[Inapplicable]]:
    """Return by its reason what does not apply; `unsupported` is as in `summarize`."""
    known = {stream_label(cell.benchmark, cell.scenario): (cell.benchmark, cell.scenario) for cell, _ in pairs}
    found = {}
    for why, streams in by_reason(unsupported).items():
        places = [(stream, *known.get(stream, (stream, "")), methods) for stream, methods in streams.items()]
        found[why] = [Inapplicable(*place) for place in places]
    return found


def gaps_of(table: Table, runs: Sequence[Runs], pairs: Sequence[Pair], changed: Mapping[str, Sequence[str]]) -> Gaps:
    """Return what was asked for and has no number, and why; and what `changed`, by key, since it was run."""
    failed = [f"failed: {cell}: {result.error}" for cell, result in pairs if result is not None and result.error]
    return Gaps(failed, list(_missing_lines(table, runs, pairs)), list(_changed_lines(pairs, changed)))


def _missing_lines(table: Table, runs: Sequence[Runs], pairs: Sequence[Pair]) -> Iterator[str]:
    """Yield a line for each row and set of seeds that is missing, with the benchmarks that it is missing on.

    Only the recipe's budget in fp32 counts, where there is any of it: there, all is asked for that has a cell there.
    """
    counted = table.usual or {some.name for some in runs}
    asked = {row_label(cell) for cell, _ in pairs if column_label(cell) in counted}
    there: dict[tuple[str, str], set[int]] = {}
    for cell, result in pairs:
        if result is not None:
            there.setdefault((row_label(cell), column_label(cell)), set()).add(cell.seed)
    where: dict[tuple[str, str], list[str]] = {}
    for some in (some for some in runs if some.name in counted):
        for row in (row for row in table.rows if row in asked):
            applies = table.entries[row, (some.name, "acc")].wanted > 0
            which = _absent_seeds(some.seeds, there.get((row, some.name), set()))
            if applies and which:
                where.setdefault((row, which), []).append(some.name)
    for (row, which), names in where.items():
        yield f"missing: {row} on {', '.join(names)}, {which}"


def _absent_seeds(wanted: Sequence[int], there: Collection[int]) -> str:
    """Return which of the wanted seeds are not there, in words; '' if all are."""
    if not there:
        return "every seed"
    missing = [seed for seed in wanted if seed not in there]
    if not missing:
        return ""
    return f"seed{'s' if len(missing) > 1 else ''} {', '.join(spans(missing, '–'))}"


def _changed_lines(pairs: Iterable[Pair], changed: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield a line for each change since some runs, with the rows and benchmarks of these."""
    where: dict[tuple[str, str], dict[str, None]] = {}
    for cell, result in pairs:
        what = ", ".join(changed.get(cell.key, ()))
        if result is not None and what:
            where.setdefault((column_label(cell), what), {})[row_label(cell)] = None
    for (column, what), rows in where.items():
        yield f"older: {', '.join(rows)} on {column}: {what} changed since the run"
