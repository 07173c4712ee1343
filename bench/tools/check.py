"""The verb `check`: the checks of methods and of benchmarks on anybody's file, in words."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from bench.catalog import registry
from bench.catalog.registry import Kind
from bench.core import UserError
from bench.tools import benchmark_checks, method_checks

Verdict = tuple[str, str, str | None]  # a check's name, what it protects from, and the failure


def run_checks(kind: Kind, name: str, plugins: Sequence[Path] = (), data: Path = Path()) -> Iterator[Verdict]:
    """Every check of a method or a benchmark; `data` is the folder of data sets."""
    path = registry.available(kind, plugins)[name]
    more = () if kind == "Method" else (data,)
    for check in method_checks.CHECKS if kind == "Method" else benchmark_checks.CHECKS:
        failure = None
        try:
            check(name, plugins, *more)
        except (AssertionError, UserError) as error:
            failure = str(error).replace("\n", " ") or registry.reason(error, path)
        except Exception as error:  # whatever anybody's code may do
            failure = registry.reason(error, path)
        yield check.__name__, " ".join(str(inspect.getdoc(check)).split()), failure


def report(words: Sequence[str], plugins: Sequence[Path], data: Path) -> Iterator[tuple[str, bool]]:
    """Lines for a person, each with whether it bears no failure. `words` are plugins, or names of what there is.

    A file that cannot be used at all raises `UserError` before any check.
    """
    subjects, plugins = _subjects(words, plugins)
    for kind, name in subjects:
        (registry.get_method if kind == "Method" else registry.get_benchmark)(name, plugins)
    for kind, name in subjects:
        yield f"{name}, a {kind.lower()}", True
        failures = 0
        for check, protects, failure in run_checks(kind, name, plugins, data):
            failures += failure is not None
            yield f"  {'ok  ' if failure is None else 'FAIL'}  {check.replace('_', ' ')}: {protects}", failure is None
            if failure is not None:
                yield f"        {failure}", False
        yield f"{name}: {f'{failures} checks failed' if failures else 'all checks passed'}", not failures


def _subjects(words: Sequence[str], plugins: Sequence[Path]) -> tuple[list[tuple[Kind, str]], list[Path]]:
    """What the words name, and all plugins, theirs included."""
    found: list[tuple[Kind, str]] = []
    files = list(plugins)
    for word in words:
        named = [(kind, word) for kind in get_args(Kind) if word in registry.available(kind, plugins)]
        if not named:
            files.append(Path(word))
            named = [(kind, name) for kind in get_args(Kind) for name, _ in registry.offered(kind, Path(word))]
        found += named
    return list(dict.fromkeys(found)), files
