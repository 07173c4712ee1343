"""Whether the data of benchmarks is there or can be had: what is missing is asked for where it would come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from bench.core import Benchmark, DataError
from bench.data.source import Archive, Source, one_line

PATIENCE = 5.0  # seconds for a server to answer


def unavailable(benchmarks: Sequence[Benchmark], folder: Path) -> dict[str, str]:
    """Return why the data of benchmarks, or the weights of their networks, is neither in the folder nor to be
    downloaded; only of those, by name.

    Each missing file is asked for at its address, all at the same time, and none is fetched.
    """
    missing = {benchmark.name: _missing(benchmark, folder) for benchmark in benchmarks}
    addresses = {archive.url for files in missing.values() for _, archive in files if archive.url}
    answers = _ask(sorted(addresses))
    found = {}
    for name, files in missing.items():
        reasons = [_reason(source, archive, answers) for source, archive in files]
        if any(reasons):
            found[name] = next(filter(None, reasons))
    for benchmark in benchmarks:
        weights = benchmark.weights()
        if weights and weights.place(folder) is None:
            found.setdefault(benchmark.name, f"weights are missing: {weights.wanted(folder)}")
    return found


def unprepared(benchmarks: Iterable[Benchmark], folder: Path) -> dict[str, str]:
    """Get the data of benchmarks ready, downloading if need be. Return why that failed, by name."""
    found = {}
    for benchmark in benchmarks:
        try:
            benchmark.prepare(folder)
        except DataError as error:
            found[benchmark.name] = str(error)
    return found


def _missing(benchmark: Benchmark, folder: Path) -> list[tuple[Source, Archive]]:
    return [(source, archive) for source in benchmark.sources() for archive in source.missing(folder)]


def _reason(source: Source, archive: Archive, answers: dict[str, str]) -> str:
    """Return why an archive cannot be had; '' where it can."""
    if not archive.url:
        return f"{source.name} is not in the data folder and may not be downloaded (`data` says where to put it)"
    trouble = answers[archive.url]
    return f"{source.name} is not in the data folder and cannot be downloaded: {trouble}" if trouble else ""


def _ask(addresses: Sequence[str]) -> dict[str, str]:
    """Return by address why nothing can be downloaded from it, '' where something can."""
    if not addresses:
        return {}
    with ThreadPoolExecutor(len(addresses)) as pool:
        return dict(zip(addresses, pool.map(trouble_at, addresses), strict=True))


def trouble_at(address: str) -> str:
    """Begin the download that is to come, and break it off. Return in words why it does not begin; '' if it does."""
    import requests  # as pooch does

    host = urlsplit(address).netloc
    try:
        with requests.get(address, stream=True, timeout=PATIENCE) as answer:
            answer.raise_for_status()
    except requests.HTTPError:
        return f"{host} answers {answer.status_code} {answer.reason}"
    except requests.Timeout:
        return f"no answer from {host} within {PATIENCE:g} s"
    except requests.ConnectionError:
        return f"no connection to {host}"
    except (requests.RequestException, OSError) as error:
        return f"{host}: {one_line(error)}"
    return ""
