"""Every setting as it stands in its source: the recipes, and the defaults of what they leave out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, get_type_hints

from bench import installation
from bench.catalog.catalog import Catalog
from bench.config import spell
from bench.core import Training
from bench.settings import declared

ORDER = """\
A setting that is not above is a default, one of those below. In full, the later standing above the earlier: defaults;
what the trainer, the method or the benchmark sets under a protocol, and the method in a scenario; the method's own
file, [BENCHMARK], [PROTOCOL.BENCHMARK] and [SCENARIO.BENCHMARK]; the recipe's [training], [benchmark], [METHOD] and
[METHOD+WORD]; the same under [PROTOCOL.training] and so on, then under [SCENARIO.training]; --set and --epochs."""


def describe_recipes(benchmarks: Sequence[str], catalog: Catalog) -> Iterator[str]:
    """Yield sections of text: the recipe of each benchmark, their order, the defaults of training, methods and data."""
    for name in benchmarks:
        path = catalog.recipe_path(name)
        yield f"# {name}: {_shown(path)}\n\n{_text(path)}" if path else f"# {name}: no recipe"
    for name, path in catalog.method_recipes().items():
        if not any(name in catalog.recipe(benchmark) for benchmark in benchmarks):
            continue
        yield f"# {name}, on each benchmark: {_shown(path)}\n\n{_text(path)}"
    yield ORDER
    yield _defaults("training", Training, Training.protocols)
    for name in catalog.available("Method"):
        method = catalog.declaration(name)
        yield _defaults(name, method.Config, method.protocols)
    for name in benchmarks:
        benchmark = catalog.benchmark(name)
        yield _defaults(f"data of {name}", benchmark.Config, benchmark.protocols)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig").strip()


def _defaults(name: str, cls: type, protocols: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the fields of a settings class, and what protocols make of them."""
    under = [f"under {p}: {field} = {v!r}" for p, values in protocols.items() for field, v in values.items()]
    return "\n".join([f"# {name}: defaults", "", *([*fields_of(cls), *under] or ["no settings of its own"])])


def fields_of(cls: type) -> list[str]:
    """Return a line for each field of a settings class, its bases' first: name, type, default, meaning, bounds."""
    return [_line(cls, field) for field in fields(cls)]


def _line(cls: type, field: Field[Any]) -> str:
    kind = spell(get_type_hints(cls)[field.name])
    stated = declared(cls).get(field.name)
    facts = [] if stated is None else [stated.meaning, stated.unit, stated.bounds]
    if stated is not None and stated.search is not None:
        facts.append(f"searched in {stated.search!r}")
    remark = "; ".join(filter(None, facts))
    return f"{field.name}: {kind} = {field.default!r}" + (f"  # {remark}" if remark else "")


def _shown(path: Path) -> str:
    """Return the path, within the repository if it is."""
    return str(path.relative_to(installation.ROOT) if path.is_relative_to(installation.ROOT) else path)
