"""The verb `check`: the checks of methods and of benchmarks on anybody's file, in words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

from bench.catalog import registry
from bench.catalog.registry import Kind
from bench.core import UserError
from bench.tools import benchmark_checks, method_checks


class Verdict(NamedTuple):
    """What a check found."""

    check: str
    place: str  # where it ran, if there are several places
    protects: str  # from what
    failure: str | None


def run_checks(kind: Kind, name: str, plugins: Sequence[Path] = (), data: Path = Path()) -> Iterator[Verdict]:
    """Run every check of a method or a benchmark; `data` is the folder of data sets."""
    path = registry.available(kind, plugins)[name]
    if kind == "Benchmark":
        for check in benchmark_checks.CHECKS:
            yield _verdict(check, partial(check, name, plugins, data), "", path)
        return
    for check, ground in method_checks.cases(name, plugins):
        place = "" if check in method_checks.ANYWHERE else ", ".join(ground)
        yield _verdict(check, partial(check, name, plugins, ground), place, path)


def _verdict(check: Callable[..., None], run: Callable[[], None], place: str, path: Path) -> Verdict:
    failure = None
    try:
        run()
    except (AssertionError, UserError) as error:
        failure = str(error).replace("\n", " ") or registry.reason(error, path)
    except Exception as error:  # whatever anybody's code may do
        failure = registry.reason(error, path)
    return Verdict(check.__name__, place, " ".join(str(inspect.getdoc(check)).split()), failure)


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
        for verdict in run_checks(kind, name, plugins, data):
            passed = verdict.failure is None
            where = f" ({verdict.place})" if verdict.place else ""
            title = verdict.check.replace("_", " ") + where
            yield f"  {'ok  ' if passed else 'FAIL'}  {title}: {verdict.protects}", passed
            if not passed:
                failures += 1
                yield f"        {verdict.failure}", False
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
