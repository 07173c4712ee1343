"""Which tables a recipe may have. One that means nothing is refused with file, line and the nearest name: left alone,
it would leave defaults in its place, and nobody would know."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.config import names, nearest
from bench.core import PROTOCOLS, SCENARIOS, Training, UserError

Way = tuple[str, ...]  # from the top of a file to a table or a value
PARTS = (*PROTOCOLS, *SCENARIOS)  # under which a file has its tables again


class Known(NamedTuple):
    """The methods and benchmarks that there are, by name."""

    methods: tuple[str, ...]
    benchmarks: tuple[str, ...]


class Misplaced(NamedTuple):
    """What stands where it means nothing, and what is said of it."""

    way: Way
    complaint: str


def demand_form(path: Path, content: Mapping[str, Any], known: Known, method: str = "") -> None:
    """Raise `UserError` for the first table or value of a parsed recipe, of a benchmark or of a method, that means
    nothing."""
    for way, complaint in _misplaced(content, known, method):
        raise UserError(f"{path}, line {_line_of(path, way)}: {complaint}")


def _misplaced(content: Mapping[str, Any], known: Known, method: str) -> Iterator[Misplaced]:
    parts = {name: part for name, part in content.items() if name in PARTS and isinstance(part, dict)}
    common = {name: part for name, part in content.items() if name not in parts}
    for within, part in ((), common), *(((name,), part) for name, part in parts.items()):
        if method:
            yield from _misplaced_of_method(part, within, known, method)
        else:
            yield from _misplaced_of_benchmark(part, within, known)


def _misplaced_of_benchmark(part: Mapping[str, Any], within: Way, known: Known) -> Iterator[Misplaced]:
    """Yield what is wrong with the tables of a benchmark's recipe: for all methods, for the data, for a method each."""
    tables = ("training", "benchmark", *known.methods)
    instead = ".".join((*within, "training"))
    for name, table in part.items():
        fits = name in tables or name.partition("+")[0] in known.methods
        yield from _faults((*within, name), table, fits, tables, f"[{instead}], say")


def _misplaced_of_method(part: Mapping[str, Any], within: Way, known: Known, method: str) -> Iterator[Misplaced]:
    """Yield what is wrong with the tables that a method brings: a benchmark's each, its variants' around such."""
    tables, instead = known.benchmarks, "the name of a benchmark"
    for name, table in part.items():
        way = (*within, name)
        if "+" in name and name.partition("+")[0] != method:
            yield Misplaced(way, f"unknown table '{name}': a variant of {method} is named '{method}+WORD'")
        elif "+" in name and isinstance(table, dict):
            for inner, settings in table.items():
                yield from _faults((*way, inner), settings, inner in tables, tables, instead)
        else:
            yield from _faults(way, table, name in tables, tables, instead)


def _faults(way: Way, table: Any, fits: bool, known: Iterable[str], instead: str) -> Iterator[Misplaced]:
    """Yield what is wrong with one table. `instead` is where a value would stand that is none."""
    *within, name = way
    if isinstance(table, dict) and not fits:
        possible = sorted(known if within else (*known, *PARTS))
        listing = f"known: {', '.join(possible)}, and what plugins have that --plugin names"
        yield Misplaced(way, str(nearest("table", name, possible, listing)))
    elif isinstance(table, dict):
        for inner in (key for key, value in table.items() if isinstance(value, dict)):
            yield Misplaced((*way, inner), f"'{inner}' is a table within the settings of '{name}', which have none")
    elif fits or name in PARTS:
        yield Misplaced(way, f"'{name}' is a table of settings, not {table!r}")
    else:
        yield Misplaced(way, f"'{name}' stands in no table of settings:{_hint(name)} put it below {instead}")


def _hint(setting: str) -> str:
    """Return the nearest right spelling of a training setting, in words; nothing where it is spelt so, or like none."""
    close = difflib.get_close_matches(setting, names(Training), 1, 0.7)
    return f" did you mean '{close[0]}'?" if close and close[0] != setting else ""


def _line_of(path: Path, way: Way) -> int:
    """Return the line, from 1, in which a file first comes to a table or a value."""
    table: Way = ()
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        try:
            own = _way_of(tomllib.loads(line))
        except tomllib.TOMLDecodeError:  # within a value of several lines
            continue
        if line.lstrip().startswith("["):
            table, own = own, ()
        if (*table, *own)[: len(way)] == way:
            return number
    return 1


def _way_of(parsed: Any) -> Way:
    """Return the way to what stands in one line, as TOML understands it."""
    if not isinstance(parsed, dict) or not parsed:
        return ()
    [(name, inside)] = list(parsed.items())[:1]
    return name, *_way_of(inside)
