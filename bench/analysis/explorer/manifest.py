"""What stands behind the numbers of a report: commands, machines, versions, settings, digests and files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.core import Cell, Result


class Manifest(NamedTuple):
    """What stands behind the numbers, in words."""

    commands: Sequence[str]
    machines: Sequence[Sequence[object]]  # rows: how many runs, and where they ran
    settings: Sequence[Sequence[str]]  # rows: which runs, their code, and their settings
    data: Sequence[str]
    files: Sequence[str]  # relative to the results folder


def manifest_of(results: Sequence[Result], commands: Sequence[str]) -> Manifest:
    """Return the commands, machines and versions, the settings and digests of code, and the files of the results."""
    machines = Counter(_machine(result) for result in results)
    settings: dict[tuple[str, ...], list[str]] = {}
    for result in results:
        settings.setdefault(_settings(result.cell), []).append(str(result.cell.seed))
    return Manifest(
        commands,
        machines=[(n, *facts) for facts, n in machines.items()],
        settings=[(*key[:2], ", ".join(seeds), *key[2:]) for key, seeds in settings.items()],
        data=sorted({_data(result) for result in results}),
        files=[result.cell.path.as_posix() for result in results],
    )


def _data(result: Result) -> str:
    """Return the digest of the data of a run, and what it depends on."""
    cell = result.cell
    options = "".join(f", {name}={value}" for name, value in cell.options.items())
    return f"{cell.benchmark}{options}, seed {cell.seed}: {result.environment.get('data', 'unknown')}"


def _machine(result: Result) -> tuple[str, ...]:
    """Return where a run was made: commit, device, threads, platform, Python and packages."""
    facts = result.environment
    commit = str(facts.get("commit", "unknown"))[:12]
    if facts.get("dirty"):
        commit += " with uncommitted changes"
    known = [str(facts.get(name, "unknown")) for name in ("device", "threads", "platform", "python")]
    packages = ", ".join(f"{name} {version}" for name, version in facts.get("packages", {}).items() if version)
    return commit, *known, packages


def _settings(cell: Cell) -> tuple[str, ...]:
    """Return what a cell is, but for its seed: benchmark, method, epochs, digests of both codes, all settings."""
    code = [cell.source.get(of, "unknown") for of in ("method", "benchmark")]
    conditions = {"scenario": cell.scenario, "protocol": cell.protocol, "precision": cell.precision}
    everything = {**conditions, **cell.options, **cell.config, **cell.training}
    settings = ", ".join(f"{name}={value}" for name, value in everything.items() if name != "epochs")
    return cell.benchmark, cell.method, str(cell.training.get("epochs", "unknown")), *code, settings


def commands_behind(results: Iterable[Result], folder: Path) -> list[str]:
    """Return the commands of these runs, as the manifests of their tables in `folder` tell them."""
    wanted = {result.cell.path.as_posix() for result in results}
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            told: Any = json.loads(path.read_text(encoding="utf-8"))
            if wanted & set(told["cells"]):
                found.append(str(told["command"]))
        except (ValueError, KeyError, TypeError):
            continue  # not a manifest
    return list(dict.fromkeys(found))
