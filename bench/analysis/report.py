"""A report: one HTML page that needs no network, and its figures. What is missing is shown, and what made a number."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.analysis import page
from bench.analysis.figures import figure, plots
from bench.analysis.figures.figure import Plot, Runs
from bench.analysis.table import METRICS, Table, column_label, row_label, summarise
from bench.catalog import plan, registry
from bench.core import Cell, Result
from bench.execution import store

Pair = tuple[Cell, Result | None]


def write(
    path: Path,
    pairs: Sequence[Pair],
    seeds: Sequence[int],
    chosen: Sequence[str] = ("acc", "bwt", "state"),
    streams: Mapping[str, str] | None = None,
    commands: Sequence[str] = (),
    formats: Sequence[str] = (),
    **options: Any,
) -> None:
    """Write the page, each figure drawn once, as SVG inside it.

    Where `formats` are given, "pdf" or "png", write each figure in them, and the captions, to `figures/` beside it.
    `options` are those of `summarise`; `commands` are what was typed to get the results.
    """
    store.check_writable(path.parent)
    table, full = (summarise(pairs, some, seeds, streams=streams, **options) for some in (chosen, list(METRICS)))
    runs = runs_of(full, pairs, seeds, streams or {})
    drawn = _draw(runs)
    place = "figures/" if formats else ""
    if formats:
        _export([plot for group in drawn for plot in group], path.parent / "figures", formats)
    results = [result for _, result in pairs if result is not None]
    sections = [_section(full, some, group, place) for some, group in zip(runs, drawn, strict=True)]
    summary = f"{len(table.rows)} methods; {', '.join(some.name for some in runs)}; {len(results)} runs."
    body = [f"<p>{page.escape(summary)}</p>\n", page.to_html(table), _gaps(full, runs, pairs), *sections]
    store.write_text(path, page.document("Report of a comparison", "".join([*body, _manifest(results, commands)])))


def with_gaps(results: Iterable[Result], methods: Sequence[str], benchmarks: Sequence[str]) -> list[Pair]:
    """The results, at least one; and a cell without a result for each method or benchmark named that has none, the
    benchmark under every protocol and precision of the results."""
    pairs: list[Pair] = [(result.cell, result) for result in results]
    there, known = {cell.method for cell, _ in pairs}, {cell.benchmark for cell, _ in pairs}
    like, kinds = pairs[0][0], dict.fromkeys((cell.protocol, cell.precision) for cell, _ in pairs)
    budget = {name: change for name, change in like.overrides.items() if name == "epochs"}
    others = {name: change for name, change in like.overrides.items() if name != "epochs"}
    return [
        *pairs,
        *((replace(like, method=m, config={}, overrides=budget, traits={}), None) for m in methods if m not in there),
        *(
            (replace(like, benchmark=b, training={}, options={}, overrides=others, protocol=p, precision=q), None)
            for b in benchmarks
            for p, q in kinds
            if b not in known
        ),
    ]


def inapplicable(pairs: Sequence[Pair], plugins: Sequence[Path]) -> dict[tuple[str, str], str]:
    """Why a method without a result does not apply, by (method, benchmark)."""
    own = registry.available("Method", plugins)
    methods, benchmarks = ({getattr(c, name): None for c, _ in pairs} for name in ("method", "benchmark"))
    protocols = list(dict.fromkeys(cell.protocol for cell, _ in pairs))
    request = plan.Request(
        [m for m in methods if m.partition("+")[0] in own], list(benchmarks), [0], protocols=protocols
    )
    _, reasons = plan.expand(request, plugins)
    there = {(cell.method, cell.benchmark) for cell, result in pairs if result}
    return {where: why for where, why in reasons.items() if where not in there}


def runs_of(table: Table, pairs: Sequence[Pair], seeds: Sequence[int], streams: Mapping[str, str]) -> list[Runs]:
    """What the figures are drawn from: `Runs` for each benchmark and budget, in the order of the table."""
    found = []
    for column in dict.fromkeys(name for name, _ in table.columns):
        here = [(cell, result) for cell, result in pairs if column_label(cell) == column]
        epochs = sorted({cell.training["epochs"] for cell, _ in here if "epochs" in cell.training})
        span = " to ".join(dict.fromkeys([str(epochs[0]), str(epochs[-1])])) if epochs else ""
        stream = {streams.get(cell.benchmark, "") for cell, _ in here}
        facts = [*stream, f"at most {span} epochs a task" if span else "budget unknown"]
        facts += [f"protocol {name}" for name in sorted({c.protocol for c, _ in here if not c.traits.get("imported")})]
        facts += [f"precision {name}" for name in sorted({c.precision for c, _ in here} - {"fp32"})]
        good: dict[str, list[Result]] = {row: [] for row in table.rows}
        for cell, result in here:
            if result is not None and result.error is None:
                good[row_label(cell)].append(result)
        found.append(Runs(column, ", ".join(filter(None, facts)), list(seeds), good))
    return found


def _draw(runs: Sequence[Runs]) -> list[list[Plot]]:
    """The figures of each; a name that was taken gets a number."""
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
    """Each figure as a file of its own, and a file of all captions."""
    store.check_writable(folder)
    for plot in drawn:
        figure.save(plot, folder, formats)
    captions = [f"**{plot.name}**: {plot.caption}\n" for plot in drawn]
    store.write_text(folder / "captions.md", "\n".join(captions))


def _section(full: Table, some: Runs, drawn: Sequence[Plot], place: str) -> str:
    """A benchmark under a budget: all metrics, and the figures; their files are in `place`."""
    table = replace(full, columns=[column for column in full.columns if column[0] == some.name])
    shown = page.figures(drawn, place) if drawn else '<p class="bad">No finished run, so no figure.</p>\n'
    return f"<h2>{page.escape(some.name)}</h2>\n<h3>All metrics</h3>\n{page.to_html(table)}<h3>Figures</h3>\n{shown}"


def _gaps(table: Table, runs: Sequence[Runs], pairs: Sequence[Pair]) -> str:
    """What was asked for and has no number, and why."""
    lines = [f"failed: {cell}: {result.error}" for cell, result in pairs if result is not None and result.error]
    where: dict[tuple[str, str], list[str]] = {}
    for some in runs:
        for row in table.rows:
            if table.entries[row, (some.name, "acc")].wanted == 0:
                continue  # the method does not apply
            there = {cell.seed for cell, r in pairs if r and (row_label(cell), column_label(cell)) == (row, some.name)}
            if missing := [str(seed) for seed in some.seeds if seed not in there]:
                which = f"seed{'s' if len(missing) > 1 else ''} {', '.join(missing)}" if there else "every seed"
                where.setdefault((row, which), []).append(some.name)
    lines += [f"missing: {row} on {', '.join(names)}, {which}" for (row, which), names in where.items()]
    return "<h2>Missing and failed</h2>\n" + page.items(lines, "bad") if lines else ""


def _manifest(results: Sequence[Result], commands: Sequence[str]) -> str:
    """The commands, the machines and versions, the settings and digests of code, and the files of the results."""
    machines = Counter(_machine(result) for result in results)
    settings: dict[tuple[str, ...], list[str]] = {}
    for result in results:
        settings.setdefault(_settings(result.cell), []).append(str(result.cell.seed))
    lines = [(*key[:2], ", ".join(seeds), *key[2:]) for key, seeds in settings.items()]
    machine = ("runs", "commit", "device", "CPU threads", "platform", "python", "packages")
    code = ("benchmark", "method", "seeds", "epochs", "method code", "benchmark code", "settings")
    return (
        "<h2>Manifest</h2>\n"
        + ("<h3>Commands</h3>\n" + page.items(commands) if commands else "")
        + "<h3>Code, versions, machine</h3>\n"
        + page.word_table(machine, [(n, *facts) for facts, n in machines.items()])
        + "<h3>Settings, and digests of the code</h3>\n"
        + page.word_table(code, lines)
        + "<h3>Digests of the data</h3>\n"
        + page.items(sorted({_data(result) for result in results}))
        + f"<details><summary>The {len(results)} result files</summary>\n"
        + page.items(result.cell.path.as_posix() for result in results)
        + "</details>\n"
    )


def _data(result: Result) -> str:
    cell = result.cell
    options = "".join(f", {name}={value}" for name, value in cell.options.items())
    return f"{cell.benchmark}{options}, seed {cell.seed}: {result.environment.get('data', 'unknown')}"


def _machine(result: Result) -> tuple[str, ...]:
    facts = result.environment
    commit = str(facts.get("commit", "unknown"))[:12] + (" with uncommitted changes" if facts.get("dirty") else "")
    packages = ", ".join(f"{name} {version}" for name, version in facts.get("packages", {}).items() if version)
    return commit, *(str(facts.get(name, "unknown")) for name in ("device", "threads", "platform", "python")), packages


def _settings(cell: Cell) -> tuple[str, ...]:
    code = [cell.source.get(of, "unknown") for of in ("method", "benchmark")]
    conditions = {"protocol": cell.protocol, "precision": cell.precision}
    everything = {**conditions, **cell.options, **cell.config, **cell.training}
    settings = ", ".join(f"{k}={v}" for k, v in everything.items() if k != "epochs")
    return cell.benchmark, cell.method, str(cell.training.get("epochs", "unknown")), *code, settings


def commands_behind(results: Iterable[Result], folder: Path) -> list[str]:
    """The commands of these runs, as the manifests of their tables in `folder` tell them."""
    wanted = {result.cell.path.as_posix() for result in results}
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            told: Any = json.loads(path.read_text())
            if wanted & set(told["cells"]):
                found.append(str(told["command"]))
        except (ValueError, KeyError, TypeError):
            continue  # not a manifest
    return list(dict.fromkeys(found))
