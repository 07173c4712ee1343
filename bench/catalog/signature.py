"""What the class in a file must look like, seen before it runs: its hooks, their signatures, its settings."""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Iterator
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, get_args

from bench.config import nearest
from bench.core import ONLY_SCENARIOS, SCENARIOS, UserError
from bench.search_space import Range
from bench.settings import declared
from bench.training.method import NO_HOOKS, Span
from bench.training.needs import NEEDS

RENAMED = {  # members of a method that had another name, or another form, in version 0.1
    "reads_old_data": 'it is old_data(config) now and returns "none", "stored" or "all"',
    "joint": 'it is stage = "all" now',
}
REQUIRED = {"Benchmark": ("num_tasks", "num_classes", "input_shape", "stream")}  # no sensible default


def demand_fit(cls: type, base: type, path: Path, node: ast.ClassDef) -> None:
    """Raise `UserError`, with file and line, unless `cls`, which stands at `node` in `path`, fits its base."""
    for member, complaint in misfits(cls, base):
        raise UserError(f"{path}, line {line_of(node, member)}: {complaint}")


def misfits(cls: type, base: type) -> Iterator[tuple[str, str]]:
    """What is wrong: the member, dotted if nested, and the matter in words."""
    public = [name for name in vars(base) if callable(getattr(base, name)) and not name.startswith("_")]
    hooks = [name for name in public if name not in NO_HOOKS]
    for name in vars(cls):
        if name == "Config":
            yield from _settings(vars(cls)[name])
        elif base.__name__ == "Method" and name in RENAMED:
            yield name, f"{name} is no member of a method: {RENAMED[name]}"
        elif name in NO_HOOKS:
            yield name, f"{name} is no hook: the library calls it as it is"
        elif name in (*hooks, "__init__"):
            yield from _misfit(cls, base, name)
        elif callable(getattr(cls, name)) and not name.startswith("_"):
            for close in difflib.get_close_matches(name, hooks, 1, 0.8):
                yield name, f"unknown hook '{name}': did you mean '{close}'? a helper of your own starts with _"
    yield from _unknown_needs(getattr(cls, "needs", ()))
    yield from _unclear_flags(cls, base)
    if base.__name__ == "Method" and cls.stage not in get_args(Span):  # type: ignore[attr-defined]
        yield "stage", f"stage is {cls.stage!r}, neither {' nor '.join(map(repr, get_args(Span)))}"  # type: ignore[attr-defined]
    if base.__name__ == "Benchmark":
        yield from _unknown_scenarios(cls.scenarios)  # type: ignore[attr-defined]
    if type(cls.version) is not int:  # type: ignore[attr-defined]
        yield "version", f"version is {cls.version!r}, not a whole number"  # type: ignore[attr-defined]
    for name in REQUIRED.get(base.__name__, ()):
        if getattr(cls, name, None) is getattr(base, name, None):
            yield "", f"{cls.__name__} does not define {name}"


def _unknown_needs(needs: Any) -> Iterator[tuple[str, str]]:
    """What a method declares to need, and nobody knows."""
    if not isinstance(needs, tuple):
        yield "needs", f"needs is {needs!r}, not a tuple of names"
        return
    for need in needs:
        if need not in NEEDS:
            yield "needs", str(nearest("need", str(need), NEEDS))


def _unclear_flags(cls: type, base: type) -> Iterator[tuple[str, str]]:
    """What is declared in another way than by True or False: any text is true, "no" as well."""
    for name in [name for name, value in vars(base).items() if isinstance(value, bool)]:
        if not isinstance(getattr(cls, name), bool):
            yield name, f"{name} is {getattr(cls, name)!r}, neither True nor False"


def _unknown_scenarios(scenarios: Any) -> Iterator[tuple[str, str]]:
    """What a benchmark declares to be run in, and nobody knows."""
    if not scenarios or not isinstance(scenarios, tuple):
        yield "scenarios", f"scenarios is {scenarios!r}, not a tuple of names"
        return
    for scenario in scenarios:
        if scenario not in SCENARIOS:
            yield "scenarios", str(nearest("scenario", str(scenario), SCENARIOS))
    if set(ONLY_SCENARIOS) <= set(scenarios):
        yield (
            "scenarios",
            f"{' and '.join(ONLY_SCENARIOS)} are two benchmarks: derive one from the other, in a file each",
        )


def _misfit(cls: type, base: type, name: str) -> Iterator[tuple[str, str]]:
    """A hook that cannot be called as the base's is. All are called by position."""
    own, wanted = getattr(cls, name), list(inspect.signature(getattr(base, name)).parameters)
    unbound = isinstance(vars(base)[name], classmethod)
    kind = "a classmethod and " if unbound else ""
    if not callable(own):
        yield name, f"{name} is a {type(own).__name__}, not a function"
        return
    signature = inspect.signature(own)
    try:
        signature.bind(*wanted)
        fits = unbound or not isinstance(vars(cls)[name], classmethod | staticmethod)
    except TypeError:
        fits = False
    if not fits:
        yield name, f"{name} is {kind}called as ({', '.join(wanted)}), which ({', '.join(signature.parameters)}) is not"


def _settings(config: Any) -> Iterator[tuple[str, str]]:
    """A Config that could change on the way, or cannot be made without a request for every field."""
    if not isinstance(config, type):
        yield "Config", "Config is not a class"
        return
    undecorated = inspect.get_annotations(config) and "__dataclass_params__" not in vars(config)
    parameters = getattr(config, "__dataclass_params__", None)
    if undecorated or parameters is None or not parameters.frozen:
        yield "Config", "Config is not frozen: write @dataclass(frozen=True) above it"
        return
    for field in fields(config):
        if field.default is MISSING and field.default_factory is MISSING:
            yield f"Config.{field.name}", f"the setting '{field.name}' of Config has no default"
            return
    if "space" in vars(config):
        yield "Config.space", "space is no part of Config now: write search=... in the setting's declaration"
        return
    try:
        defaults = asdict(config())
    except UserError as error:
        yield "Config", f"a default of Config is out of bounds: {error}"
        return
    for name, stated in declared(config).items():
        if stated.search is None:
            continue
        if not isinstance(stated.search, Range):
            place = "a Linear, Log, Integers or Choice of bench.search_space"
            yield f"Config.{name}", f"search of '{name}' is {stated.search!r}, not {place}"
        elif defaults[name] not in stated.search:
            yield f"Config.{name}", f"the default of '{name}', {defaults[name]!r}, lies outside {stated.search!r}"


def line_of(node: ast.ClassDef, member: str) -> int:
    """Return the line of a member of a class, `name` or `Class.name`; of the class where it cannot be told."""
    name, _, rest = member.partition(".")
    spelt = {name, "scenario"} if name == "scenarios" else {name}  # a benchmark with a single one says so
    for inner in node.body:
        targets = getattr(inner, "targets", [getattr(inner, "target", None)])
        if not spelt.isdisjoint((getattr(inner, "name", None), *(getattr(target, "id", None) for target in targets))):
            return line_of(inner, rest) if rest and isinstance(inner, ast.ClassDef) else inner.lineno
    return node.lineno
