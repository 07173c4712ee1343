"""The verb `check`: the checks of methods and of benchmarks on anybody's file, in words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

from bench.catalog import discovery, loading
from bench.catalog.catalog import Catalog
from bench.catalog.discovery import Kind
from bench.core import UserError
from bench.tools import benchmark_checks, method_checks


class Verdict(NamedTuple):
    """What a check found."""

    check: str
    place: str  # where it ran, if there are several places
    protects: str  # from what
    failure: str | None
    subject: str = ""  # whose: a name, and whether of a method or a benchmark

    def __str__(self) -> str:
        where = f" ({self.place})" if self.place else ""
        line = f"  {'ok  ' if self.failure is None else 'FAIL'}  {self.check.replace('_', ' ')}{where}: {self.protects}"
        return line if self.failure is None else f"{line}\n        {self.failure}"


def run_checks(kind: Kind, name: str, catalog: Catalog, data: Path = Path()) -> Iterator[Verdict]:
    """Run every check of a method or a benchmark; `data` is the folder of data sets."""
    path, subject = catalog.available(kind)[name], _described(kind, name)
    if kind == "Benchmark":
        for check in benchmark_checks.CHECKS:
            yield _verdict(check, partial(check, name, catalog, data), "", path, subject)
        return
    for check, ground in method_checks.cases(name, catalog):
        place = "" if check in method_checks.ANYWHERE else ", ".join(filter(None, ground))
        yield _verdict(check, partial(check, name, catalog, ground), place, path, subject)


def _described(kind: Kind, name: str) -> str:
    return f"{name}, a {kind.lower()}"


def _verdict(check: Callable[..., None], run: Callable[[], None], place: str, path: Path, subject: str) -> Verdict:
    failure = None
    try:
        run()
    except (AssertionError, UserError) as error:
        failure = str(error).replace("\n", " ") or loading.error_with_line(error, path)
    except Exception as error:  # whatever anybody's code may do
        failure = loading.error_with_line(error, path)
    return Verdict(check.__name__, place, " ".join(str(inspect.getdoc(check)).split()), failure, subject)


def check_report(words: Sequence[str], catalog: Catalog, data: Path) -> Iterator[tuple[str, bool]]:
    """Yield lines for a person, each with whether it bears no failure. `words` are plugins, or names of what there is.

    A file that cannot be used at all raises `UserError` before any check.
    """
    subjects, catalog = _subjects(words, catalog)
    for kind, name in subjects:
        if kind == "Method":
            catalog.method(name)
        else:
            catalog.benchmark(name)
    for kind, name in subjects:
        yield _described(kind, name), True
        failures = 0
        for verdict in run_checks(kind, name, catalog, data):
            failures += verdict.failure is not None
            for line in str(verdict).split("\n"):
                yield line, verdict.failure is None
        yield f"{name}: {f'{failures} checks failed' if failures else 'all checks passed'}", not failures


def _subjects(words: Sequence[str], catalog: Catalog) -> tuple[list[tuple[Kind, str]], Catalog]:
    """Return what the words name, and the catalog with the files among them."""
    found: list[tuple[Kind, str]] = []
    files: list[Path] = []
    for word in words:
        named = [(kind, word) for kind in get_args(Kind) if word in catalog.available(kind)]
        if not named:
            files.append(Path(word))
            named = [(kind, name) for kind in get_args(Kind) for name, _ in discovery.offered(kind, Path(word))]
        found += named
    return list(dict.fromkeys(found)), Catalog.of([*catalog.plugins, *files])
