"""What methods and benchmarks exist, made once from the plugins: names become classes, a request a plan."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import installation
from bench.catalog import discovery, loading, recipes
from bench.catalog.discovery import FOLDERS, Kind
from bench.catalog.plan import Plan, Request, expand
from bench.catalog.recipe_form import Known
from bench.catalog.recipes import RECIPES, Recipe
from bench.config import make_settings, nearest
from bench.core import PROTOCOLS, SCENARIOS, Benchmark, UserError

RESERVED = (  # words of the command line and of recipes
    *("all", "everything", "default", "training", "benchmark"),
    *PROTOCOLS,
    *SCENARIOS,
)


@dataclass(frozen=True)
class Catalog:
    """The methods and benchmarks of the two folders, of installed packages and of `plugins`, by name.

    A plugin is a Python file, a folder of them or an importable `package.module`. Files are loaded only when used, and
    anew after an edit. A catalog travels: it holds nothing but paths.
    """

    plugins: tuple[Path, ...] = ()

    @classmethod
    def of(cls, plugins: Iterable[str | Path] = ()) -> Catalog:
        """Return the catalog with some plugins, each a path or a dotted name. Raises `UserError`."""
        return cls(tuple(discovery.locate(Path(plugin)) for plugin in plugins))

    def available(self, kind: Kind) -> dict[str, Path]:
        """Return the files that define a method or a benchmark, by name, sorted. Raises `UserError`."""
        found: dict[str, Path] = {}
        offers = [discovery.offered(kind, installation.extensions(FOLDERS[kind])), discovery.installed(kind)]
        offers += [discovery.offered(kind, plugin) for plugin in self.plugins]
        for name, path in itertools.chain.from_iterable(offers):
            if found.get(name, path) != path:
                raise UserError(f"{path}: the name '{name}' is taken by {found[name]}; rename the file")
            if name.lower() in RESERVED or not discovery.NAME.fullmatch(name):
                words = ", ".join(RESERVED)
                raise UserError(f"{path}: '{name}' cannot be a name: use letters, numbers and _, and none of {words}")
            found[name] = path
        return dict(sorted(found.items()))

    def left_aside(self) -> list[Path]:
        """Return the files in the folders of the catalog that are taken for no method and no benchmark."""
        folders = [*map(installation.extensions, FOLDERS.values()), *self.plugins]
        return [path for folder in folders for path in discovery.left_aside(folder)]

    def path(self, kind: Kind, name: str) -> Path:
        """Return the file behind a name; of a variant, `method+word`, that of the method. Raises `UserError`."""
        known = self.available(kind)
        if kind == "Method":
            name = name.partition("+")[0]
        if name not in known:
            raise nearest(kind.lower(), name, known)
        return known[name]

    def method(self, name: str) -> Any:
        """Return the method's class. Raises `UserError`."""
        return loading.load_class(self.path("Method", name), "Method")

    def declaration(self, name: str) -> Any:
        """Return the method's class for planning alone: without torch, where torch is not imported yet, if that can
        be. Raises `UserError`."""
        path = self.path("Method", name)
        outlined = None if "torch" in sys.modules else loading.outlined(path)
        return outlined or loading.load_class(path, "Method")

    def import_methods(self, names: Sequence[str]) -> None:
        """Import the whole files of methods that are about to run, and torch with them: plans are then made with them.

        Raises `UserError` where one does not import.
        """
        for name in names:
            self.method(name)

    def benchmark(self, name: str, options: Mapping[str, Any] | None = None, scenario: str = "") -> Benchmark:
        """Return the benchmark in a scenario, by default its first, with `options` of its data, by default those of its
        `Config`. Raises `UserError`."""
        benchmark: Benchmark = loading.load_class(self.path("Benchmark", name), "Benchmark")()
        benchmark.name = name
        benchmark.config = make_settings(benchmark.Config, options or {}, name)
        if scenario and scenario not in benchmark.scenarios:
            raise UserError(f"{name} has no scenario {scenario}: it is run in {' or '.join(benchmark.scenarios)}")
        benchmark.scenario = scenario or benchmark.scenario
        return benchmark

    def recipe(self, benchmark: str) -> Recipe:
        """Return the settings of a benchmark, those that methods bring with them included, see `recipes.read_recipe`.

        Raises `UserError`, with file and line, for a table that means nothing.
        """
        known = Known(tuple(self.available("Method")), tuple(self.available("Benchmark")))
        return recipes.read_recipe(benchmark, self.recipe_path(benchmark), self.method_recipes(), known)

    def recipe_path(self, benchmark: str) -> Path | None:
        """Return the file with a benchmark's settings, if it has one."""
        own = RECIPES / f"{benchmark}.toml"
        path = own if own.exists() else self.path("Benchmark", benchmark).with_suffix(".toml")
        return path if path.exists() else None

    def method_recipes(self) -> dict[str, Path]:
        """Return the files of settings that methods bring with them, `NAME.toml` beside `NAME.py`, by method."""
        beside = {name: path.with_suffix(".toml") for name, path in self.available("Method").items()}
        return {name: path for name, path in beside.items() if path.exists()}

    def variants(self) -> list[str]:
        """Return the variants of methods that recipes define, `method+word`: the same code with settings of its own."""
        methods = self.available("Method")
        tables = [name for benchmark in self.available("Benchmark") for name in self.recipe(benchmark)]
        return sorted({name for name in tables if "+" in name and name.partition("+")[0] in methods})

    def plan(self, request: Request) -> Plan:
        """Resolve a request, before any work. Raises `UserError` for a wrong name or value."""
        return expand(request, self)
