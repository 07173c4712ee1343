"""What a report lacks: runs that failed, that are missing, or that rest on older code, a line each with its reason."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bench.analysis.figures.figure import Runs
from bench.analysis.labels import column_label, row_label
from bench.analysis.table import Table
from bench.core import Cell, Result
from bench.text import spans

Pair = tuple[Cell, Result | None]


class Gaps(NamedTuple):
    """Lines of text on the runs that a report should have, by what is amiss."""

    failed: list[str]
    missing: list[str]
    changed: list[str]


def gaps_of(table: Table, runs: Sequence[Runs], pairs: Sequence[Pair], changed: Mapping[str, Sequence[str]]) -> Gaps:
    """Return what was asked for and has no number, and why; and what `changed`, by key, since it was run."""
    failed = [f"failed: {cell}: {result.error}" for cell, result in pairs if result is not None and result.error]
    return Gaps(failed, list(_missing_lines(table, runs, pairs)), list(_changed_lines(pairs, changed)))


def _missing_lines(table: Table, runs: Sequence[Runs], pairs: Sequence[Pair]) -> Iterator[str]:
    """Yield a line for each row and set of seeds that is missing, with the benchmarks that it is missing on."""
    there: dict[tuple[str, str], set[int]] = {}
    for cell, result in pairs:
        if result is not None:
            there.setdefault((row_label(cell), column_label(cell)), set()).add(cell.seed)
    where: dict[tuple[str, str], list[str]] = {}
    for some in runs:
        for row in table.rows:
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
