"""Results of one benchmark and seed that were run on different data, by the fingerprints of their streams."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from bench.core import Cell, Result, Task

Print = tuple[str, int, str]  # stream, seed, fingerprint


def fingerprint(tasks: Sequence[Task]) -> str:
    """Return the fingerprint of all images and labels of a stream, in order, 12 hex digits."""
    digest = hashlib.sha256()
    for task in tasks:
        for split in (task.train, task.validation, task.test):
            digest.update(split.x.tobytes())
            digest.update(split.y.tobytes())
    return digest.hexdigest()[:12]


def stream_of(cell: Cell) -> str:
    """Return what decides a cell's data but for its seed, and files that may change."""
    return json.dumps([cell.benchmark, cell.versions.get("benchmark"), cell.options, cell.scenario], sort_keys=True)


def prints_of(result: Result) -> list[Print]:
    """Return on which data a result was run, and after it those that others on disk should have been run on by then,
    where data were corrected; nothing where that is not known, as of an imported matrix."""
    found = result.environment.get("data")
    if not found or result.error is not None:
        return []
    stream = stream_of(result.cell)
    prints = [(stream, result.cell.seed, found)]
    for seed, other in result.environment.get("data_of", {}).items():
        prints.append((stream, int(seed), other))
    return prints


def differing(results: Iterable[Result]) -> list[tuple[str, int]]:
    """Return the benchmarks and seeds of which results were run on different data, in order."""
    prints: dict[tuple[str, int], set[str]] = defaultdict(set)
    names: dict[str, str] = {}
    for result in results:
        for stream, seed, data in prints_of(result):
            names[stream] = result.cell.benchmark
            prints[stream, seed].add(data)
    several = [place for place, different in prints.items() if len(different) > 1]
    return sorted({(names[stream], seed) for stream, seed in several})


def mixed(results: Sequence[Result], row: Callable[[Cell], Hashable]) -> dict[Print, Print]:
    """Return the data whose results may not be averaged with those of their `row`, each with the one that it stands
    with, by which the two are named.

    Data that were corrected are known by what later results tell, see `_corrected`. Of the rest, the data of a row
    belong together, and so do those of rows that share some. Where data that belong together have one seed twice, some
    row is a mixture. Of that seed only the data with the most results are kept, if there are most.
    """
    known = [(result.cell, prints[0]) for result in results if (prints := prints_of(result))]
    counts = Counter(own for _, own in known)
    apart = _corrected(results, counts)
    rows: dict[Hashable, set[Print]] = defaultdict(set)
    for cell, own in known:
        stream, _, _ = own
        rows[stream, row(cell), apart.get(own)].add(own)
    for together in _joined(rows.values()):
        seeds: dict[int, list[Print]] = defaultdict(list)
        for found in together:
            _, seed, _ = found
            seeds[seed].append(found)
        for different in seeds.values():
            fewer = _minority(different, counts)
            apart |= {found: found for found in fewer}
    return apart


def _corrected(results: Iterable[Result], counts: Counter[Print]) -> dict[Print, Print]:
    """Return the data on the smaller side of a correction, each with the first of that side; the new ones, where as
    many results were run on either.

    Old are those that a result tells to be others by now. New are its own, and those that are as it tells.
    """
    prints = [found for found in map(prints_of, results) if len(found) > 1]
    tellers = {own: set(told) for own, *told in prints}
    apart: dict[Print, Print] = {}
    for told in _joined(tellers.values()):
        now = {found[:2]: found for found in told}
        old = {found for found in counts if now.get(found[:2], found) != found}
        new = {own for own, tells in tellers.items() if tells <= told}
        new |= told & counts.keys()
        fewer = min(new, old, key=lambda side: sum(counts[found] for found in side))
        apart |= {found: min(fewer) for found in fewer}
    return apart


def _minority(different: list[Print], counts: Counter[Print]) -> set[Print]:
    """Return all of some data of one seed but those with the most results; all where two have as many."""
    if len(different) == 1:
        return set()
    most = max(counts[found] for found in different)
    leading = [found for found in different if counts[found] == most]
    if len(leading) > 1:
        return set(different)
    return set(different) - set(leading)


def _joined(sets: Iterable[set[Print]]) -> list[set[Print]]:
    """Return the unions of those sets that overlap, one by one or through others."""
    groups: list[set[Print]] = []
    for new in sets:
        touching = [group for group in groups if group & new]
        groups = [group for group in groups if not group & new]
        groups.append(new.union(*touching))
    return groups
