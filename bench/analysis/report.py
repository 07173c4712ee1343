"""A report: one HTML page that needs no network, and its figures. What is missing is shown, and what made a number."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import files
from bench.analysis import page
from bench.analysis.columns import METRICS
from bench.analysis.figures import figure, plots
from bench.analysis.figures.figure import Plot, Runs
from bench.analysis.labels import column_label, epochs_of, row_label
from bench.analysis.table import Table, seeds_by_column, summarize
from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.core import Cell, Result
from bench.text import counted, spans

Pair = tuple[Cell, Result | None]


def write_report(
    path: Path,
    pairs: Sequence[Pair],
    seeds: Sequence[int] | None = None,
    chosen: Sequence[str] = ("acc", "bwt", "state"),
    streams: Mapping[str, str] | None = None,
    commands: Sequence[str] = (),
    formats: Sequence[str] = (),
    **options: Any,
) -> None:
    """Write the page to `path`, each figure drawn once, as SVG inside it; `seeds` are as in `summarize`.

    Where `formats` are given, "pdf" or "png", write each figure in them, and the captions, to `figures/` beside it.
    `options` are those of `summarize`; `commands` are what was typed to get the results.
    """
    files.check_writable(path.parent)
    table = summarize(pairs, chosen, seeds, streams=streams, **options)
    full = summarize(pairs, list(METRICS), seeds, streams=streams, **options)
    runs = runs_of(full, pairs, seeds, streams or {})
    drawn = _draw(runs)
    place = "figures/" if formats else ""
    if formats:
        _export([plot for group in drawn for plot in group], path.parent / "figures", formats)
    results = [result for _, result in pairs if result is not None]
    size = [counted(len(table.rows), "method"), ", ".join(some.name for some in runs), counted(len(results), "run")]
    html = page.to_html(
        "Report of a comparison",
        f"{'; '.join(size)}.",
        table,
        _gaps(full, runs, pairs),
        [_section(full, some, plots) for some, plots in zip(runs, drawn, strict=True)],
        _manifest(results, commands),
        place,
    )
    files.write_text(path, html)


def figures_of(pairs: Sequence[Pair], streams: Mapping[str, str] | None = None) -> list[Plot]:
    """Return the figures of a page, benchmark by benchmark."""
    full = summarize(pairs, list(METRICS), streams=streams)
    return [plot for group in _draw(runs_of(full, pairs, None, streams or {})) for plot in group]


def with_gaps(results: Iterable[Result], methods: Sequence[str], benchmarks: Sequence[str]) -> list[Pair]:
    """Return the results, at least one; and a cell without a result for each method or benchmark named that has none,
    the benchmark under every protocol and precision of the results."""
    pairs: list[Pair] = [(result.cell, result) for result in results]
    cells = [cell for cell, _ in pairs]
    like = cells[0]
    budget = {name: change for name, change in like.overrides.items() if name == "epochs"}
    others = {name: change for name, change in like.overrides.items() if name != "epochs"}
    there = {cell.method for cell in cells}
    for method in methods:
        if method not in there:
            pairs.append((replace(like, method=method, config={}, overrides=budget, traits={}), None))
    unlike = replace(like, training={}, options={}, overrides=others)
    known = {cell.benchmark for cell in cells}
    kinds = dict.fromkeys((cell.protocol, cell.precision) for cell in cells)
    for benchmark in benchmarks:
        if benchmark not in known:
            empty = [replace(unlike, benchmark=benchmark, protocol=p, precision=q) for p, q in kinds]
            pairs += [(cell, None) for cell in empty]
    return pairs


def inapplicable(pairs: Sequence[Pair], catalog: Catalog) -> dict[tuple[str, str], str]:
    """Return why a method without a result does not apply, by (method, benchmark)."""
    known = catalog.available("Method")
    methods = list(dict.fromkeys(cell.method for cell, _ in pairs))
    own = [method for method in methods if method.partition("+")[0] in known]
    benchmarks = list(dict.fromkeys(cell.benchmark for cell, _ in pairs))
    protocols = list(dict.fromkeys(cell.protocol for cell, _ in pairs))
    request = Request(own, benchmarks, [0], protocols=protocols)
    _, reasons = catalog.plan(request)
    there = {(cell.method, cell.benchmark) for cell, result in pairs if result}
    return {where: why for where, why in reasons.items() if where not in there}


def runs_of(table: Table, pairs: Sequence[Pair], seeds: Sequence[int] | None, streams: Mapping[str, str]) -> list[Runs]:
    """Return what the figures are drawn from: `Runs` for each benchmark and budget, in the order of the table."""
    wanted = seeds_by_column((cell for cell, _ in pairs), seeds)
    found = []
    for column in dict.fromkeys(name for name, _ in table.columns):
        here = [(cell, result) for cell, result in pairs if column_label(cell) == column]
        good: dict[str, list[Result]] = {row: [] for row in table.rows}
        for cell, result in here:
            if result is not None and result.error is None:
                good[row_label(cell)].append(result)
        conditions = _conditions([cell for cell, _ in here], streams)
        found.append(Runs(column, conditions, wanted[column], good))
    return found


def _conditions(cells: Sequence[Cell], streams: Mapping[str, str]) -> str:
    """Return in words the stream of these cells, their budget, their protocols and what precision is not the usual."""
    epochs = epochs_of(cells)
    protocols = {cell.protocol for cell in cells if not cell.traits.get("imported")}
    precisions = {cell.precision for cell in cells} - {"fp32"}
    facts = list({streams.get(cell.benchmark, "") for cell in cells})
    facts.append(f"at most {epochs} a task" if epochs else "budget unknown")
    facts += [f"protocol {name}" for name in sorted(protocols)]
    facts += [f"precision {name}" for name in sorted(precisions)]
    return ", ".join(filter(None, facts))


def _draw(runs: Sequence[Runs]) -> list[list[Plot]]:
    """Draw the figures of each; a name that was taken gets a number."""
    taken: Counter[str] = Counter()
    groups: list[list[Plot]] = []
    for some in runs:
        groups.append([])
        for plot in plots.all_of(some):
            taken[plot.name] += 1
            count = taken[plot.name]
            groups[-1].append(plot._replace(name=f"{plot.name}-{count}") if count > 1 else plot)
    return groups


def _export(drawn: Sequence[Plot], folder: Path, formats: Sequence[str]) -> None:
    """Write each figure as a file of its own, and a file of all captions."""
    files.check_writable(folder)
    for plot in drawn:
        figure.save_figure(plot, folder, formats)
    captions = [f"**{plot.name}**: {plot.caption}\n" for plot in drawn]
    files.write_text(folder / "captions.md", "\n".join(captions))


def _section(full: Table, some: Runs, drawn: Sequence[Plot]) -> page.Section:
    """Return what the page says of a benchmark under a budget: all its metrics, and its figures."""
    columns = [column for column in full.columns if column[0] == some.name]
    return page.Section(some.name, replace(full, columns=columns), drawn)


def _gaps(table: Table, runs: Sequence[Runs], pairs: Sequence[Pair]) -> list[str]:
    """Return what was asked for and has no number, and why, in a line each."""
    failed = [f"failed: {cell}: {result.error}" for cell, result in pairs if result is not None and result.error]
    there: dict[tuple[str, str], set[int]] = {}
    for cell, result in pairs:
        if result is not None:
            there.setdefault((row_label(cell), column_label(cell)), set()).add(cell.seed)
    where: dict[tuple[str, str], list[str]] = {}
    for some in runs:
        for row in table.rows:
            applies = table.entries[row, (some.name, "acc")].wanted > 0
            which = _missing(some.seeds, there.get((row, some.name), set()))
            if applies and which:
                where.setdefault((row, which), []).append(some.name)
    return failed + [f"missing: {row} on {', '.join(names)}, {which}" for (row, which), names in where.items()]


def _missing(wanted: Sequence[int], there: Collection[int]) -> str:
    """Return which of the wanted seeds are not there, in words; '' if all are."""
    if not there:
        return "every seed"
    missing = [seed for seed in wanted if seed not in there]
    if not missing:
        return ""
    return f"seed{'s' if len(missing) > 1 else ''} {', '.join(spans(missing, '–'))}"


def _manifest(results: Sequence[Result], commands: Sequence[str]) -> page.Manifest:
    """Return the commands, machines and versions, the settings and digests of code, and the files of the results."""
    machines = Counter(_machine(result) for result in results)
    settings: dict[tuple[str, ...], list[str]] = {}
    for result in results:
        settings.setdefault(_settings(result.cell), []).append(str(result.cell.seed))
    return page.Manifest(
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
    conditions = {"protocol": cell.protocol, "precision": cell.precision}
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
