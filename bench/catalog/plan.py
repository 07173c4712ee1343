"""From a request to cells: every name, setting and version resolved, before any work."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from bench.catalog import identity, recipes
from bench.catalog.discovery import Kind
from bench.catalog.recipes import Recipe
from bench.config import nearest
from bench.core import SUITE_VERSION, Benchmark, Cell, Training
from bench.training.needs import unmet
from bench.training.scenario import demand_setting


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
    scenario: str = ""  # one of SCENARIOS; empty: of each benchmark the first of its own


class Plan(NamedTuple):
    """The cells of a request, and why a method does not apply to a benchmark, by (method, benchmark)."""

    cells: list[Cell]
    not_applicable: dict[tuple[str, str], str]


class Extensions(Protocol):
    """What planning asks of a catalog."""

    def path(self, kind: Kind, name: str) -> Path: ...
    def declaration(self, name: str) -> Any: ...
    def benchmark(self, name: str, options: Mapping[str, Any] | None = None, scenario: str = "") -> Benchmark: ...
    def recipe(self, benchmark: str) -> Recipe: ...
    def recipe_path(self, benchmark: str) -> Path | None: ...
    def method_recipes(self) -> dict[str, Path]: ...


def expand(request: Request, catalog: Extensions) -> Plan:
    """Resolve a request into cells. A wrong name or value raises `UserError` here, before any work."""
    for name in request.settings:
        if name not in (*request.methods, *request.benchmarks):
            raise nearest("method or benchmark in --set", name, (*request.methods, *request.benchmarks))
    plan = Plan([], {})
    for benchmark, protocol, method in itertools.product(request.benchmarks, request.protocols, request.methods):
        try:
            plan.cells.extend(_cells_of(method, benchmark, protocol, request, catalog))
        except NotApplicableError as reason:
            plan.not_applicable[method, benchmark] = str(reason)
    return plan


class NotApplicableError(Exception):
    """A method does not apply to a benchmark."""


def _cells_of(name: str, benchmark_name: str, protocol: str, request: Request, catalog: Extensions) -> list[Cell]:
    """Return the cells of one method on one benchmark under one protocol, a seed each."""
    method = catalog.declaration(name)
    recipe = catalog.recipe(benchmark_name)
    scenario = catalog.benchmark(benchmark_name, scenario=request.scenario).scenario
    parts = protocol, scenario
    tables = [recipe, *(recipe.get(part, {}) for part in parts)]
    if "+" in name and not any(name in own for own in tables):
        raise NotApplicableError(f"its recipe has no table for {name}")
    user, changes = dict(request.settings.get(name, {})), request.settings.get(benchmark_name, {})
    if request.epochs is not None:
        user.setdefault("epochs", request.epochs)
    base = name.partition("+")[0]
    files: list[tuple[Path | None, list[str]]] = []
    for prefix in ("", *(f"{part}." for part in parts)):
        files.append((catalog.recipe_path(benchmark_name), [f"{prefix}training", f"{prefix}benchmark"]))
        brought = [f"{prefix}{benchmark_name}", f"{prefix}{name}.{benchmark_name}"]
        files.append((catalog.method_recipes().get(base), brought))
        files.append((catalog.recipe_path(benchmark_name), [f"{prefix}{base}", f"{prefix}{name}"]))
    with recipes.locate_errors({**user, **changes}, files):
        bare = catalog.benchmark(benchmark_name, scenario=scenario)
        options = recipes.resolve_options(bare, recipe, changes, protocol)
        training, config = recipes.resolve(name, method, recipe, user, *parts)
        usual = _settings(*recipes.resolve(name, method, recipe, {}, *parts))
        usual_options = recipes.resolve_options(bare, recipe, {}, protocol)
    benchmark = catalog.benchmark(benchmark_name, options, scenario)
    demand_setting(name, training, scenario)
    if reason := unmet(method.needs, benchmark) or method.unsupported(benchmark, training):
        raise NotApplicableError(reason)
    code = catalog.path("Method", name), catalog.path("Benchmark", benchmark_name)
    overrides = _changed(_settings(training, config), usual)
    cell = Cell(
        benchmark=benchmark_name,
        method=name,
        seed=0,
        training=asdict(training),
        config=asdict(config),
        source=identity.digests(*code, recipe, name, *parts),
        overrides=overrides | _changed(options, usual_options, f"{benchmark_name}."),
        traits=traits_of(method, config),
        options=options,
        protocol=protocol,
        scenario=scenario,
        precision=request.precision,
        versions={"suite": SUITE_VERSION, "method": method.version, "benchmark": benchmark.version},
    )
    return [replace(cell, seed=seed) for seed in request.seeds]


def _settings(training: Training, config: Any) -> dict[str, Any]:
    return asdict(training) | asdict(config)


def traits_of(method: Any, config: Any) -> dict[str, bool]:
    """Return what tables mark of a method, so configured, by the name of the mark."""
    old_data = method.old_data(config)
    return {"joint": method.stage == "all", "reads_old_data": old_data == "all", "replays": old_data == "stored"}


def _changed(now: Mapping[str, Any], before: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return what differs from the recipe: name -> [the recipe's value, the user's]."""
    return {f"{prefix}{name}": [before[name], value] for name, value in now.items() if value != before[name]}
