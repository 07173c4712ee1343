"""From a request to cells: every name, setting and version resolved, before any work."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.catalog import identity, registry
from bench.config import build, describe, names, nearest
from bench.core import SUITE_VERSION, Cell, Training, UserError
from bench.training.needs import unmet


@dataclass(frozen=True)
class Request:
    """What a user asks for: lists of names and seeds, and settings against the recipes."""

    methods: Sequence[str]
    benchmarks: Sequence[str]
    seeds: Sequence[int]
    epochs: int | None = None
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # method or benchmark -> field -> value
    protocols: Sequence[str] = ("published",)
    precision: str = "fp32"


def expand(request: Request, plugins: Sequence[Path] = ()) -> tuple[list[Cell], dict[tuple[str, str], str]]:
    """All cells of a request, fully resolved, and why a method does not apply, by (method, benchmark).

    A wrong name or value raises `UserError` here, before any work.
    """
    for name in request.settings:
        if name not in (*request.methods, *request.benchmarks):
            raise nearest("method or benchmark in --set", name, (*request.methods, *request.benchmarks))
    cells: list[Cell] = []
    unsupported: dict[tuple[str, str], str] = {}
    for benchmark, protocol, method in itertools.product(request.benchmarks, request.protocols, request.methods):
        try:
            cells += _cells_of(method, benchmark, protocol, request, plugins)
        except UnsupportedError as reason:
            unsupported[method, benchmark] = str(reason)
    return cells, unsupported


class UnsupportedError(Exception):
    """A method does not apply to a benchmark."""


def _cells_of(name: str, benchmark_name: str, protocol: str, request: Request, plugins: Sequence[Path]) -> list[Cell]:
    """The cells of one method on one benchmark under one protocol, a seed each."""
    method = registry.get_declaration(name, plugins)
    recipe = registry.recipe(benchmark_name, plugins)
    if "+" in name and name not in {**recipe, **recipe.get(protocol, {})}:
        raise UnsupportedError(f"its recipe has no table for {name}")
    bare = registry.get_benchmark(benchmark_name, plugins)
    changes = request.settings.get(benchmark_name, {})
    options, usual = (resolve_options(bare, recipe, user, protocol) for user in (changes, {}))
    benchmark = registry.get_benchmark(benchmark_name, plugins, options)
    user = dict(request.settings.get(name, {}))
    if request.epochs is not None:
        user.setdefault("epochs", request.epochs)
    training, config = resolve(name, method, recipe, user, protocol)
    if reason := unmet(method.needs, benchmark) or method.unsupported(benchmark, training):
        raise UnsupportedError(reason)
    source = identity.sources(name, benchmark_name, protocol, plugins)
    versions = {"suite": SUITE_VERSION, "method": method.version, "benchmark": benchmark.version}
    traits = traits_of(method, config)
    plain = resolve(name, method, recipe, {}, protocol)
    now, before = (asdict(t) | asdict(c) for t, c in ((training, config), plain))
    overrides = _changed(now, before) | _changed(options, usual, f"{benchmark_name}.")
    rest = (asdict(training), asdict(config), source, overrides, traits, options, protocol, request.precision, versions)
    return [Cell(benchmark_name, name, seed, *rest) for seed in request.seeds]


def traits_of(method: Any, config: Any) -> dict[str, bool]:
    """Return what tables mark of a method, so configured, by the name of the mark."""
    old_data = method.old_data(config)
    return {"joint": method.stage == "all", "reads_old_data": old_data == "all", "replays": old_data == "stored"}


def resolve(
    name: str, method: Any, recipe: Mapping[str, Any], user: Mapping[str, Any], protocol: str = "published"
) -> tuple[Training, Any]:
    """Settings of a method: defaults, what it and the trainer do under the protocol, the recipe's [training] and
    [name], the same under [protocol], then the user's. A variant's table stands after its method's."""
    known = names(Training) | names(method.Config)
    for field_name in user:
        if field_name not in known:
            wrong = str(nearest(f"setting of {name}", field_name, known)).split("known:")[0]
            own_fields = describe(method.Config) or "none of its own"
            raise UserError(f"{wrong}{name} has {own_fields}; its training has {describe(Training)}")
    merged = {**Training.protocols[protocol], **method.protocols.get(protocol, {})}
    for tables in (recipe, recipe.get(protocol, {})):
        for table in dict.fromkeys(("training", name.partition("+")[0], name)):
            merged |= tables.get(table, {})
    merged |= user
    own = {k: v for k, v in merged.items() if k in names(method.Config)}
    return build(Training, {k: v for k, v in merged.items() if k not in own}, name), build(method.Config, own, name)


def resolve_options(
    benchmark: Any, recipe: Mapping[str, Any], user: Mapping[str, Any], protocol: str
) -> dict[str, Any]:
    """Options of a benchmark's data: defaults, its protocol's, the recipe's [benchmark], the user's."""
    usual = benchmark.protocols.get(protocol, {}), recipe.get("benchmark", {}), recipe.get(protocol, {})
    merged = {**usual[0], **usual[1], **usual[2].get("benchmark", {}), **user}
    return asdict(build(benchmark.Config, merged, benchmark.name))


def _changed(now: Mapping[str, Any], before: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What differs from the recipe: name -> [the recipe's value, the user's]."""
    return {f"{prefix}{name}": [before[name], value] for name, value in now.items() if value != before[name]}
