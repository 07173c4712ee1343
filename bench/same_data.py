"""Results of one benchmark and seed that were run on different data, by the fingerprints of their streams."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from bench.core import Cell, Result

Print = tuple[str, int, str]  # stream, seed, fingerprint


def stream_of(cell: Cell) -> str:
    """Return what decides a cell's data but for its seed, and files that may change."""
    return json.dumps([cell.benchmark, cell.versions.get("benchmark"), cell.options], sort_keys=True)


def prints_of(result: Result) -> list[Print]:
    """Return on which data a result was run, and after it what the data of other seeds were then, as far as it tells;
    nothing where that is not known, as of an imported matrix."""
    found = result.environment.get("data")
    if not found or result.error is not None:
        return []
    stream, others = stream_of(result.cell), result.environment.get("data_of", {})
    return [(stream, result.cell.seed, found), *((stream, int(seed), other) for seed, other in others.items())]


def differing(results: Iterable[Result]) -> list[tuple[str, int]]:
    """Return the benchmarks and seeds of which results were run on different data, in order."""
    prints: dict[tuple[str, int], set[str]] = defaultdict(set)
    names: dict[str, str] = {}
    for result in results:
        for found in prints_of(result):
            names[found[0]] = result.cell.benchmark
            prints[found[:2]].add(found[2])
    return sorted({(names[stream], seed) for (stream, seed), different in prints.items() if len(different) > 1})


def mixed(results: Sequence[Result], row: Callable[[Cell], Hashable]) -> set[Print]:
    """Return the data whose results may not be averaged with those of their `row`.

    The data of a row belong together, and so do those of rows that share some. Where data that belong together have
    one seed twice, some row is a mixture. Of that seed only the data with the most results are kept, if there are most.
    """
    counts: Counter[Print] = Counter()
    rows: dict[Hashable, set[Print]] = defaultdict(set)
    for result in results:
        for found in set(prints_of(result)):
            counts[found] += 1
            rows[found[0], row(result.cell)].add(found)
    apart: set[Print] = set()
    for together in _joined(rows.values()):
        seeds: dict[int, list[Print]] = defaultdict(list)
        for found in together:
            seeds[found[1]].append(found)
        for different in seeds.values():
            apart |= _minority(different, counts)
    return apart


def _minority(different: list[Print], counts: Counter[Print]) -> set[Print]:
    """Return all of some data of one seed but those with the most results; all where two have as many."""
    if len(different) == 1:
        return set()
    most = max(counts[found] for found in different)
    leading = [found for found in different if counts[found] == most]
    return set(different) - (set(leading) if len(leading) == 1 else set())


def _joined(sets: Iterable[set[Print]]) -> list[set[Print]]:
    """Return the unions of those sets that overlap, one by one or through others."""
    groups: list[set[Print]] = []
    for new in sets:
        touching = [group for group in groups if group & new]
        groups = [group for group in groups if not group & new]
        groups.append(new.union(*touching))
    return groups
