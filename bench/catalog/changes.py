"""What has changed since a stored result was run: code, recipe, declared versions. No method is imported for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from bench import same_data
from bench.catalog import discovery, identity
from bench.catalog.catalog import Catalog
from bench.core import SUITE_VERSION, Cell, Result, UserError

WHAT = {"method": "method's code", "benchmark": "benchmark's code", "recipe": "recipe"}  # by the name of its digest


class Facts(NamedTuple):
    """Digests and declared versions, by what they are of."""

    digests: dict[str, str]
    versions: dict[str, int]


class Today:
    """The code and the recipes that are here now. One is made for a command, and reads each file once."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._known: dict[tuple[str, str, str, str], Facts | None] = {}

    def knows(self, cell: Cell) -> bool:
        """Return whether the cell's method and benchmark are here. An imported matrix needs neither."""
        return bool(cell.traits.get("imported")) or self._facts(cell) is not None

    def changes(self, cell: Cell) -> tuple[str, ...]:
        """Return what has changed since the cell was run, in words; nothing for an imported matrix, which rests on no
        code."""
        facts = self._facts(cell)
        if cell.traits.get("imported") or facts is None:
            return ()
        found = [f"the {what}" for name, what in WHAT.items() if cell.source.get(name) != facts.digests[name]]
        return (
            *found,
            *(f"the {name}'s version" for name, n in facts.versions.items() if cell.versions.get(name) != n),
        )

    def _facts(self, cell: Cell) -> Facts | None:
        names = cell.method, cell.benchmark, cell.protocol, cell.scenario
        if names not in self._known:
            self._known[names] = self._read(*names)
        return self._known[names]

    def _read(self, method: str, benchmark: str, protocol: str, scenario: str) -> Facts | None:
        try:
            own, data = self.catalog.path("Method", method), self.catalog.path("Benchmark", benchmark)
            found = identity.digests(own, data, self.catalog.recipe(benchmark), method, protocol, scenario)
            versions = {"method": discovery.version(own, "Method"), "benchmark": discovery.version(data, "Benchmark")}
        except UserError:
            return None
        return Facts(found, {"suite": SUITE_VERSION, **versions})


def tell_apart(results: Iterable[Result], label: Callable[[Cell], object], today: Today) -> list[Result]:
    """Return the results, in order, with the trait `other` on those that may not be averaged with others of the same
    label.

    Results that share a `label` (row and column of a table) but not their `Cell.group` were run under other settings or
    versions. The group without changes keeps its place, or else the one with the most results; each other one becomes a
    row of its own. So do results on other data than the rest, see `data_apart`.
    """
    kept = list(results)
    labels: dict[object, dict[str, list[Result]]] = {}
    for result in kept:
        labels.setdefault(label(result.cell), {}).setdefault(result.cell.group, []).append(result)
    others: set[str] = set()
    for groups in labels.values():
        others.update(sorted(groups, key=partial(_standing, groups, today))[1:])
    kept = [_marked(result, other=result.cell.group[:4]) if result.cell.group in others else result for result in kept]
    return data_apart(kept, label)


def data_apart(results: Iterable[Result], label: Callable[[Cell], object]) -> list[Result]:
    """Return the results, in order, with the traits `other` and `other_data` on those whose data are not those of the
    others of the same label."""
    kept = list(results)
    apart = same_data.mixed(kept, lambda cell: (label(cell), cell.group))
    found = []
    for result in kept:
        own = same_data.prints_of(result)[:1]
        first = apart.get(own[0]) if own else None
        found.append(_marked(result, other=first[2][:4], other_data=True) if first else result)
    return found


def _standing(groups: dict[str, list[Result]], today: Today, group: str) -> tuple[int, int]:
    """Return what sorts groups: the fewest changes first, then the most results."""
    results = groups[group]
    return len(today.changes(results[0].cell)), -len(results)


def _marked(result: Result, **more: Any) -> Result:
    traits = {**result.cell.traits, **more}
    return replace(result, cell=replace(result.cell, traits=traits))
