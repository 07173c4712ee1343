"""Recipes: settings of benchmarks as data, and how a method's settings come out of them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.catalog.recipe_form import Known, demand_form, line_of_way
from bench.config import SettingError, describe_fields, make_settings, names, nearest
from bench.core import PROTOCOLS, SCENARIOS, Training, UserError

RECIPES = Path(__file__).resolve().parent / "recipes"
Recipe = dict[str, dict[str, Any]]
Origin = tuple[Path, str]  # of a setting: a file, and the table in it


def read_recipe(
    benchmark: str, path: Path | None, of_methods: Mapping[str, Path], known: Known | None = None
) -> Recipe:
    """Return the settings of a benchmark: tables `training` for all methods, `benchmark` for the data, and one for each
    method and each variant of a method, `method+word`; the same under the name of a protocol or a scenario, for that
    alone.

    A method may bring its own in a file beside it, a table for each benchmark, those of a variant under its name; the
    benchmark's recipe stands above it. A table that means nothing among what is `known` raises `UserError`.
    """
    if not RECIPES.is_dir():
        raise UserError("this installation is damaged, it has no recipes: install ness-bench again")
    found: Recipe = deepcopy(dict(_parsed(path))) if path else {}
    if path and known:
        demand_form(path, found, known)
    for method, file in of_methods.items():
        brought = _parsed(file)
        if known:
            demand_form(file, brought, known, method)
        for name, table in _tables(brought, method, benchmark):
            _put_below(found, name, table)
        for part in (*PROTOCOLS, *SCENARIOS):
            for name, table in _tables(brought.get(part, {}), method, benchmark):
                _put_below(found.setdefault(part, {}), name, table)
    return found


def _tables(brought: Mapping[str, Any], method: str, benchmark: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what a method brings for a benchmark: its own table and those of its variants, with their names."""
    if benchmark in brought:
        yield method, brought[benchmark]
    for name, tables in brought.items():
        if name.startswith(f"{method}+") and benchmark in tables:
            yield name, tables[benchmark]


def _put_below(recipe: dict[str, Any], name: str, table: dict[str, Any]) -> None:
    """Add what a method brings to its table in a recipe, where the recipe says nothing else."""
    recipe[name] = {**deepcopy(table), **recipe.get(name, {})}


def _parsed(path: Path) -> Mapping[str, Any]:
    """Return what a file says. Nobody may change it: what is parsed once serves many cells."""
    try:
        return _parsed_text(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # of its TOML, its text, or a number of thousands of digits
        raise UserError(f"{path}: {error}") from error
    except RecursionError as error:
        raise UserError(f"{path} is nested too deep to be read") from error


@lru_cache(maxsize=256)
def _parsed_text(text: str) -> Mapping[str, Any]:
    return tomllib.loads(text)


@contextmanager
def locate_errors(
    user: Mapping[str, Origin | None], files: Sequence[tuple[Path | None, Sequence[str]]]
) -> Iterator[None]:
    """Inside, an error of a setting that stands in a file gets that file and the line.

    `user` has the settings that the user gave, with an origin where that was by a file. The others stand in `files`,
    which come with tables in them, the later above the earlier: of several lines the last one counts.
    """
    try:
        yield
    except SettingError as error:
        places: list[str] = []
        if origin := user.get(error.field):
            path, table = origin
            places = [f"{path}, line {line_of_way(path, (table, error.field))}"]
        elif error.field not in user:
            places = [place for path, tables in files if path for place in lines(path, tables, error.field)]
        if not places:
            raise
        raise UserError(f"{places[-1]}: {error}") from error


def lines(path: Path, tables: Sequence[str], field: str) -> Iterator[str]:
    """Yield the places in a file, in words, where one of the tables sets a field."""
    table = ""
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if header := re.match(r"\s*\[([^\]]+)\]", line):
            table = re.sub(r"[\s\"']", "", header[1])
        if table in tables and re.match(rf"\s*[\"']?{re.escape(field)}[\"']?\s*=", line):
            yield f"{path}, line {number}"


def resolve(
    name: str,
    method: Any,
    recipe: Mapping[str, Any],
    user: Mapping[str, Any],
    protocol: str = "published",
    scenario: str = "task-il",
) -> tuple[Training, Any]:
    """Settings of a method: defaults, what it and the trainer do under the protocol and the scenario, the recipe's
    [training] and [name], the same under [protocol], then under [scenario], then the user's. A variant's table stands
    after its method's."""
    known = names(Training) | names(method.Config)
    for field_name in user:
        if field_name not in known:
            own_fields = describe_fields(method.Config) or "none of its own"
            listing = f"{name} has {own_fields}; its training has {describe_fields(Training)}"
            unknown = nearest(f"setting of {name}", field_name, known, listing)
            raise SettingError(str(unknown), field_name)
    merged = {
        **Training.protocols[protocol],
        **method.protocols.get(protocol, {}),
        **method.protocols.get(scenario, {}),
    }
    for tables in (recipe, recipe.get(protocol, {}), recipe.get(scenario, {})):
        for table in dict.fromkeys(("training", name.partition("+")[0], name)):
            merged |= tables.get(table, {})
    merged |= user
    own = {k: v for k, v in merged.items() if k in names(method.Config)}
    training = {k: v for k, v in merged.items() if k not in own}
    return make_settings(Training, training, name), make_settings(method.Config, own, name)


def resolve_options(
    benchmark: Any, recipe: Mapping[str, Any], user: Mapping[str, Any], protocol: str
) -> dict[str, Any]:
    """Options of a benchmark's data: defaults, its protocol's, the recipe's [benchmark], the same under [protocol] and
    under the benchmark's scenario, the user's."""
    merged = dict(benchmark.protocols.get(protocol, {}))
    for tables in (recipe, recipe.get(protocol, {}), recipe.get(benchmark.scenario, {})):
        merged |= tables.get("benchmark", {})
    return asdict(make_settings(benchmark.Config, merged | dict(user), benchmark.name))
