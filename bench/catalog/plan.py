"""From a request to cells: every name, setting and version resolved, before any work."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_args

from bench.catalog import identity, recipes
from bench.catalog.discovery import Kind, class_in
from bench.catalog.recipes import Recipe
from bench.catalog.signature import line_of
from bench.config import nearest
from bench.core import SUITE_VERSION, Benchmark, Cell, Training, UserError
from bench.text import counted
from bench.training.method import OldData
from bench.training.needs import unmet
from bench.training.scenario import demand_setting

FEW = 3  # reasons that are told one by one
MOST_SEEDS = 10_000  # of a request


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
    origins: Mapping[tuple[str, str], Path] = field(default_factory=dict)  # (method or benchmark, field) -> the file
    # that the setting stands in, where it does in one


class Plan(NamedTuple):
    """The cells of a request, and why a method does not apply to a benchmark, by (method, benchmark)."""

    cells: list[Cell]
    not_applicable: dict[tuple[str, str], str]


class Extensions(Protocol):
    """What planning asks of a catalog."""

    def available(self, kind: Kind) -> dict[str, Path]: ...
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


def demand_work(plan: Plan, request: Request, catalog: Extensions) -> None:
    """Raise `UserError` where a request has no cell at all, with the reasons, and where a variant would have some."""
    if plan.cells:
        return
    reasons = [f"{method} does not apply to {name}: {why}" for (method, name), why in plan.not_applicable.items()]
    more = [f"and {counted(len(reasons) - FEW, 'more pair')} of them"] if len(reasons) > FEW else []
    lines = [*reasons[:FEW], *more] or ["no benchmark is left"]
    for method in request.methods:
        tables = [name for name in catalog.available("Benchmark") if method in catalog.recipe(name)]
        lines += [f"{method} has a recipe for {', '.join(tables)}"] if "+" in method and tables else []
    raise UserError(f"nothing to do: {'; '.join(lines)}")


def told_inapplicable(plan: Plan) -> Iterator[str]:
    """Yield, a line a reason, which methods are left out on which benchmarks."""
    methods: dict[tuple[str, str], list[str]] = {}
    for (method, name), why in plan.not_applicable.items():
        methods.setdefault((name, why), []).append(method)
    places: dict[tuple[str, str], list[str]] = {}
    for (name, why), own in methods.items():
        places.setdefault((", ".join(own), why), []).append(name)
    for (listed, why), names in places.items():
        yield f"left out: {listed} on {', '.join(names)}: {why}"


class NotApplicableError(Exception):
    """A method does not apply to a benchmark."""


def _cells_of(name: str, benchmark_name: str, protocol: str, request: Request, catalog: Extensions) -> list[Cell]:
    """Return the cells of one method on one benchmark under one protocol, a seed each."""
    method = catalog.declaration(name)
    recipe = catalog.recipe(benchmark_name)
    bare = catalog.benchmark(benchmark_name, scenario=request.scenario)
    scenario = bare.scenario
    parts = protocol, scenario
    tables = [recipe, *(recipe.get(part, {}) for part in parts)]
    if "+" in name and not any(name in own for own in tables):
        raise NotApplicableError(f"its recipe has no table for {name}")
    user, changes = dict(request.settings.get(name, {})), request.settings.get(benchmark_name, {})
    if request.epochs is not None:
        user.setdefault("epochs", request.epochs)
    base = name.partition("+")[0]
    files: list[tuple[Path | None, list[str]]] = []
    of_benchmark, of_method = catalog.recipe_path(benchmark_name), catalog.method_recipes().get(base)
    for prefix in ("", *(f"{part}." for part in parts)):
        files.append((of_benchmark, [f"{prefix}training", f"{prefix}benchmark"]))
        files.append((of_method, [f"{prefix}{benchmark_name}", f"{prefix}{name}.{benchmark_name}"]))
        files.append((of_benchmark, [f"{prefix}{base}", f"{prefix}{name}"]))
    with recipes.locate_errors(_origins(request, {name: user, benchmark_name: changes}), files):
        options = recipes.resolve_options(bare, recipe, changes, protocol)
        training, config = recipes.resolve(name, method, recipe, user, *parts)
        usual = _settings(*recipes.resolve(name, method, recipe, {}, *parts))
        usual_options = recipes.resolve_options(bare, recipe, {}, protocol)
    benchmark = catalog.benchmark(benchmark_name, options, scenario)
    demand_setting(name, training, scenario)
    if reason := unmet(method.needs, benchmark) or method.unsupported(benchmark, training):
        raise NotApplicableError(reason)
    code = catalog.path("Method", name), catalog.path("Benchmark", benchmark_name)
    _demand_old_data(method.old_data(config), code[0])
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


def _origins(request: Request, given: Mapping[str, Mapping[str, Any]]) -> dict[str, recipes.Origin | None]:
    """Return the fields that a user set, of a method or of a benchmark, with the file and table each stands in, if it
    does in one."""
    fields = [(owner, name) for owner, settings in given.items() for name in settings]
    return {name: (path, owner) if (path := request.origins.get((owner, name))) else None for owner, name in fields}


def _settings(training: Training, config: Any) -> dict[str, Any]:
    return asdict(training) | asdict(config)


def _demand_old_data(answer: Any, path: Path) -> None:
    """Raise `UserError`, with file and line, where what a method says of earlier tasks' data is nothing that is known.

    It may depend on the settings, so that it is held against them here and not when the file is loaded.
    """
    known = get_args(OldData)
    if answer in known:
        return
    node = class_in(path, "Method")
    assert node is not None
    place = f"{path}, line {line_of(node, 'old_data')}"
    raise UserError(f"{place}: old_data gives {answer!r}, none of {', '.join(map(repr, known))}")


def traits_of(method: Any, config: Any) -> dict[str, bool]:
    """Return what tables mark of a method, so configured, by the name of the mark."""
    old_data = method.old_data(config)
    return {"joint": method.stage == "all", "reads_old_data": old_data == "all", "replays": old_data == "stored"}


def _changed(now: Mapping[str, Any], before: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return what differs from the recipe: name -> [the recipe's value, the user's]."""
    return {f"{prefix}{name}": [before[name], value] for name, value in now.items() if value != before[name]}
