"""Every setting as it stands in its source: the recipes, and the defaults of what they leave out."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from bench.catalog import registry
from bench.config import names
from bench.core import Training

ORDER = """\
A setting that is not above is a default, one of those below. In full, the later standing above the earlier: defaults;
what the trainer, the method or the benchmark sets under a protocol; the method's own file, [BENCHMARK] and
[PROTOCOL.BENCHMARK]; the recipe's [training], [benchmark], [METHOD] and
[METHOD+WORD]; the same under [PROTOCOL.training] and so on; --set and --epochs."""


def describe(benchmarks: Sequence[str], plugins: Sequence[Path]) -> Iterator[str]:
    """Sections of text: the recipe of each benchmark, their order, the defaults of training, methods and data."""
    for name in benchmarks:
        path = registry.recipe_path(name, plugins)
        yield f"# {name}: {_shown(path)}\n\n{path.read_text().strip()}" if path else f"# {name}: no recipe"
    for name, path in registry.method_recipes(plugins).items():
        if not any(name in registry.recipe(benchmark, plugins) for benchmark in benchmarks):
            continue
        yield f"# {name}, on each benchmark: {_shown(path)}\n\n{path.read_text().strip()}"
    yield ORDER
    yield _defaults("training", Training, Training.protocols)
    for name in registry.available("Method", plugins):
        method = registry.get_declaration(name, plugins)
        yield _defaults(name, method.Config, method.protocols)
    for name in benchmarks:
        benchmark = registry.get_benchmark(name, plugins)
        yield _defaults(f"data of {name}", benchmark.Config, benchmark.protocols)


def _defaults(name: str, cls: type, protocols: Mapping[str, Mapping[str, Any]]) -> str:
    """The fields of a settings class, and what protocols make of them."""
    under = [f"under {p}: {field} = {v!r}" for p, values in protocols.items() for field, v in values.items()]
    return "\n".join([f"# {name}: defaults", "", *([*fields_of(cls), *under] or ["no settings of its own"])])


def fields_of(cls: type) -> list[str]:
    """The lines that define the fields of a dataclass, its bases' first, with their comments."""
    found = []
    for base in reversed(cls.__mro__):
        if is_dataclass(base):
            lines = textwrap.dedent(inspect.getsource(base)).splitlines()
            body = ast.parse("\n".join(lines)).body[0]
            assert isinstance(body, ast.ClassDef)
            own = [node for node in body.body if isinstance(node, ast.AnnAssign) and _name(node) in names(cls)]
            found += [line.strip() for node in own for line in lines[node.lineno - 1 : node.end_lineno]]
    return found


def _name(node: ast.AnnAssign) -> str:
    return node.target.id if isinstance(node.target, ast.Name) else ""


def _shown(path: Path) -> str:
    """The path, within the repository if it is."""
    return str(path.relative_to(registry.ROOT) if path.is_relative_to(registry.ROOT) else path)
