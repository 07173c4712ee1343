"""What every benchmark reads, whether it is there and whole, and how to get what is not, for the command `data`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.core import Benchmark, DataError
from bench.data.source import Archive, Source, md5sum, present
from bench.data.weights import Weights, sha256sum
from bench.installation import program

ADVICE = "`{} data --prepare` downloads what may be downloaded, and makes the prepared arrays"


def data_report(benchmarks: Sequence[Benchmark], folder: Path, prepare: bool) -> Iterator[tuple[str, bool]]:
    """Yield lines for a person, each with whether it tells of no failure. Only with `prepare` is anything written.

    A source of several benchmarks comes once; a benchmark without one says for itself how its data is.
    """
    sources = {source.name: source for benchmark in benchmarks for source in benchmark.sources()}
    users = _users(benchmarks)
    incomplete = False
    for name, source in sources.items():
        failure = _failure(source, folder) if prepare else None
        state, lines = examine(source, folder)
        if state != "ready":
            incomplete = True
        if failure:
            lines = [f"failed: {failure}"]
        fine = state != "corrupt" and not failure
        yield f"{name}, for {', '.join(users[name])}: {state}", fine
        for line in lines:
            yield f"  {line}", fine
    for weights, names in _weights(benchmarks).items():
        state, line = examine_weights(weights, folder)
        yield f"weights {weights.name}, for {', '.join(names)}: {state}", state != "corrupt"
        yield f"  {line}", state != "corrupt"
    for benchmark in benchmarks:
        if not benchmark.sources():
            failure = _failure(benchmark, folder) if prepare else None
            yield f"{benchmark.name}: {failure or benchmark.data_state(folder)}", not failure
    if incomplete and not prepare:
        yield ADVICE.format(program()), True


def _users(benchmarks: Sequence[Benchmark]) -> dict[str, list[str]]:
    """Return the names of the benchmarks that read a source, by its name."""
    users: dict[str, list[str]] = {}
    for benchmark in benchmarks:
        for source in benchmark.sources():
            users.setdefault(source.name, []).append(benchmark.name)
    return users


def _weights(benchmarks: Sequence[Benchmark]) -> dict[Weights, list[str]]:
    """Return the names of the benchmarks whose networks start from a file of weights, by the file."""
    users: dict[Weights, list[str]] = {}
    for benchmark in benchmarks:
        if weights := benchmark.weights():
            users.setdefault(weights, []).append(benchmark.name)
    return users


def examine_weights(weights: Weights, folder: Path) -> tuple[str, str]:
    """Return "ready", "missing" or "corrupt", by the checksum where it is known, and a line on the file."""
    if weights.place(folder) is None:
        return "missing", weights.wanted(folder)
    try:
        path = weights.find(folder)
        found = sha256sum(path)
    except DataError as error:
        return "corrupt", str(error)
    verdict = "as it should be" if weights.sha256 else "no checksum known: its tensors are checked when it is read"
    return "ready", f"{path}: {_size(path)}, sha256 {found}, {verdict}"


def _failure(what: Source | Benchmark, folder: Path) -> str | None:
    """Prepare data, and return why that failed, or None."""
    try:
        what.prepare(folder)
    except DataError as error:
        return str(error)
    return None


def examine(source: Source, folder: Path) -> tuple[str, list[str]]:
    """Return "ready", "downloaded", "missing" or "corrupt", by the content of files, and a line for each file."""
    path = source.prepared(folder)
    if present(path):
        try:
            source.load_prepared(folder)
        except DataError as error:
            return "corrupt", [str(error)]
        return "ready", [f"{path}: {_size(path)}, md5 {md5sum(path)}; sizes, types and labels are as they should be"]
    found = [_examine(archive, folder) for archive in source.archives]
    states = {state for state, _ in found}
    lines = [line for _, line in found]
    worst = next(state for state in ("corrupt", "missing", "downloaded") if state in states)
    return worst, lines


def _examine(archive: Archive, folder: Path) -> tuple[str, str]:
    """Return the state of an archive, and a line on it."""
    path = folder / archive.name
    if not present(path):
        return "missing", f"{path}: missing, {archive.megabytes:g} MB, {archive.checksum}, {archive.origin}"
    try:
        if not archive.md5:
            return "downloaded", f"{path}: {_size(path)}, no checksum known: its content is checked when it is prepared"
        found = md5sum(path)
    except OSError as error:
        return "corrupt", f"{path}: cannot be read: {error.strerror}"
    if found != archive.md5:
        return "corrupt", f"{path}: {_size(path)}, md5 {found}, not {archive.md5}: delete it; {archive.origin}"
    return "downloaded", f"{path}: {_size(path)}, md5 {found}, as published"


def _size(path: Path) -> str:
    """Return the size of a file, or of all files in a folder, in words."""
    inside = [path] if path.is_file() else path.rglob("*")
    size = sum(file.stat().st_size for file in inside if file.is_file())
    return f"{size / 1e6:.4g} MB"
