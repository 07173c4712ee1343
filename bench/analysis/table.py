"""From results to a table: means and spreads over the seeds that were asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np

from bench import metrics
from bench.core import PRECISIONS, PROTOCOLS, Benchmark, Cell, Result


class Metric(NamedTuple):
    """What a column shows. A quality is shown in percent with its spread, and its best value is marked."""

    label: str
    meaning: str
    of: Callable[..., float]  # of a result; and of the joint one of the same seed, where `against_joint`
    quality: bool = True
    best: Literal["max", "min"] = "max"
    against_joint: bool = False


def _last(name: str, unit: float) -> Callable[[Result], float]:
    return lambda result: float(result.tasks[-1].get(name, 0)) / unit if result.tasks else math.nan


def _total(name: str, unit: float) -> Callable[[Result], float]:
    return lambda result: sum(float(task[name]) for task in result.tasks) / unit if result.tasks else math.nan


def _fwt(result: Result) -> float:
    """Forward transfer, where a shared head has an answer for tasks to come."""
    untrained = result.tasks[0].get("untrained") if result.tasks else None
    return metrics.forward_transfer(result.R, np.array(untrained)) if untrained else math.nan


METRICS = {
    "acc": Metric("ACC", "mean accuracy over all tasks at the end, %", lambda r: metrics.acc(r.R)),
    "bwt": Metric("BWT", "mean change of earlier tasks since they were learnt, points", lambda r: metrics.bwt(r.R)),
    "forgetting": Metric(
        "F", "mean drop from the best past accuracy, points", lambda r: metrics.forgetting(r.R), best="min"
    ),
    "la": Metric("LA", "mean accuracy on each task when just learnt, %", lambda r: metrics.learning_accuracy(r.R)),
    "aia": Metric(
        "AIA", "mean over time of the accuracy on tasks seen, %", lambda r: metrics.average_incremental_accuracy(r.R)
    ),
    "fwt": Metric("FWT", "mean gain on a task just before it is learnt over the untrained network, points", _fwt),
    "intransigence": Metric(
        "I", "mean shortfall against joint training when each task was learnt, points",
        lambda r, joint: metrics.intransigence(r.R, joint.R[-1]), best="min", against_joint=True,
    ),
    "state": Metric("state", "MB carried between tasks beside the network", _last("state_bytes", 1e6), False),
    "trainable": Metric("trainable", "thousand parameters trained in the last task", _last("trainable", 1e3), False),
    "old": Metric("old", "thousand samples of earlier tasks read", _total("old_samples_read", 1e3), False),
    "stored": Metric("stored", "samples of the stream kept at the end", _last("stored", 1), False),
    "seconds": Metric("time", "seconds per run", lambda r: float(r.environment.get("seconds", math.nan)), False),
}  # fmt: skip

MARKS = {"reads_old_data": ("†", "reads earlier tasks' training data, which counts as state"),
         "replays": ("*", "replays stored samples of earlier tasks, which count as state"),
         "joint": ("‡", "trains on all tasks at once: an upper bound, never marked best"),
         "imported": ("§", "accuracy matrix imported, not run here")}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """Mean and sample standard deviation over `n` of the `wanted` seeds; or why there is none."""

    mean: float = math.nan
    sd: float = math.nan
    n: int = 0
    wanted: int = 0
    failed: int = 0
    undefined: bool = False  # the metric, or the method on this benchmark
    best: bool = False
    differs: Literal["", "↑", "↓"] = ""  # from the reference of a comparison: above, below
    changed: bool = False  # the code or the recipe, since one of its runs
    values: Mapping[int, float] = field(default_factory=dict)  # by seed

    @property
    def complete(self) -> bool:
        return 0 < self.n == self.wanted


Column = tuple[str, str]  # benchmark with its budget, metric


@dataclass(frozen=True)
class Table:
    """Rows are methods, columns are (benchmark, metric). Rendered by `bench.analysis.render`."""

    rows: list[str]
    columns: list[Column]
    entries: dict[tuple[str, Column], Entry]
    caption: str
    notes: list[str]
    upper: frozenset[str] = frozenset()  # rows that are upper bounds


def row_label(cell: Cell) -> str:
    """The method, what the user changed of it, and the marks of its traits."""
    changed = ", ".join(f"{k}={v[1]}" for k, v in cell.overrides.items() if k != "epochs" and "." not in k)
    marks = "".join(f" {mark}" for trait, (mark, _) in MARKS.items() if cell.traits.get(trait))
    other = f" [{cell.traits['other']}]" if "other" in cell.traits else ""
    return cell.method + (f" ({changed})" if changed else "") + other + marks


def bare(row: str) -> str:
    """The label of a row without its marks."""
    return row.rstrip(" " + "".join(mark for mark, _ in MARKS.values()))


def column_label(cell: Cell) -> str:
    """The benchmark; and budget, options, protocol and precision where they are not the usual ones."""
    epochs = cell.training.get("epochs")
    facts = [f"{epochs} epoch{'s' if epochs != 1 else ''}"] if "epochs" in cell.overrides else []
    facts += [f"{k.partition('.')[2]}={v[1]}" for k, v in cell.overrides.items() if "." in k]
    facts += [cell.protocol] if cell.protocol != "published" else []
    facts += [cell.precision] if cell.precision != "fp32" else []
    return cell.benchmark + (f" ({', '.join(facts)})" if facts else "")


def summarise(
    pairs: Sequence[tuple[Cell, Result | None]],
    chosen: Sequence[str] = ("acc", "bwt", "state"),
    seeds: Sequence[int] | None = None,
    unsupported: Mapping[tuple[str, str], str] | None = None,
    more: Iterable[Result] = (),
    streams: Mapping[str, str] | None = None,
    changed: Mapping[str, Sequence[str]] | None = None,
) -> Table:
    """A table over the wanted cells, each with its result if there is one, and over the wanted `seeds`.

    `more` are results that are no rows but may hold the joint ones; `streams` are for the caption; `changed` tells what
    has changed since a cell was run, by key.
    """
    stale = {key for key, what in (changed or {}).items() if what}
    seeds = sorted({cell.seed for cell, _ in pairs}) if seeds is None else list(seeds)
    groups: dict[tuple[str, str], list[Result | None]] = {}
    for cell, result in pairs:
        groups.setdefault((row_label(cell), column_label(cell)), []).append(result)
    joint = _joint([*more, *(result for _, result in pairs if result)])
    reasons = unsupported or {}
    cells = [cell for cell, _ in pairs]
    labels, places = {cell.method: row_label(cell) for cell in cells}, _places(cells)
    candidates = [(labels.get(m, m), column) for m, b in reasons for column in places.get(b, [b])]
    closed = [place for place in candidates if not any(groups.get(place, []))]  # the other protocol may be open
    rows = list(dict.fromkeys([r for r, _ in groups] + [method for method, _ in closed]))
    benchmarks = list(dict.fromkeys([c for _, c in groups] + [b for _, b in closed]))
    columns = [(benchmark, metric) for benchmark in benchmarks for metric in chosen]
    entries = {
        (row, column): Entry(undefined=True)
        if (row, column[0]) in closed
        else _entry(groups.get((row, column[0]), []), METRICS[column[1]], len(seeds), joint, stale)
        for row in rows
        for column in columns
    }
    upper = frozenset(row_label(cell) for cell, _ in pairs if cell.traits.get("joint"))
    for column in columns:
        _mark_best(entries, [row for row in rows if row not in upper], column)
    caption = _caption(pairs, seeds, chosen) + _streams(cells, streams or {}) + _protocols(cells) + _precisions(cells)
    notes = _notes(pairs, chosen, joint, reasons) + _remarks(pairs, changed or {})
    return Table(rows, columns, entries, caption, notes, upper)


def _places(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """The columns of each benchmark: its budgets, options, protocols and precisions."""
    names = {cell.benchmark for cell in cells}
    return {n: list(dict.fromkeys(column_label(cell) for cell in cells if cell.benchmark == n)) for n in names}


def _joint(results: Iterable[Result]) -> dict[tuple[str, int], Result]:
    """The joint results under the recipe's settings, by column and seed: what intransigence is measured against."""
    return {
        (column_label(r.cell), r.cell.seed): r
        for r in results
        if r.cell.traits.get("joint") and r.error is None and not set(r.cell.overrides) - {"epochs"}
    }


def _entry(
    results: Sequence[Result | None],
    metric: Metric,
    wanted: int,
    joint: Mapping[tuple[str, int], Result],
    stale: Container[str],
) -> Entry:
    there = [r for r in results if r is not None]
    good = [r for r in there if r.error is None]
    failed = len(there) - len(good)
    if metric.against_joint:
        partners = [(r, joint.get((column_label(r.cell), r.cell.seed))) for r in good]
        by_seed = {r.cell.seed: metric.of(r, partner) for r, partner in partners if partner is not None}
    else:
        by_seed = {r.cell.seed: metric.of(r) for r in good}
    values = np.array(list(by_seed.values())) * (100 if metric.quality else 1)
    if not len(values) or np.isnan(values).any():
        return Entry(wanted=wanted, failed=failed, undefined=bool(len(values)))
    sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    by_seed = dict(zip(by_seed, values.tolist(), strict=True))
    changed = any(r.cell.key in stale for r in good)
    return Entry(float(values.mean()), sd, len(values), wanted, failed, values=by_seed, changed=changed)


def _mark_best(entries: dict[tuple[str, Column], Entry], rows: Sequence[str], column: Column) -> None:
    """Only where the metric is a quality, every seed is there, and there is something to beat."""
    metric = METRICS[column[1]]
    full = {row: round(entries[row, column].mean, 2) for row in rows if entries[row, column].complete}
    if not metric.quality or len(full) < 2:
        return
    winner = (max if metric.best == "max" else min)(full.values())
    for row, mean in full.items():
        if mean == winner:
            entries[row, column] = replace(entries[row, column], best=True)


def _caption(pairs: Sequence[tuple[Cell, Result | None]], seeds: Sequence[int], chosen: Sequence[str]) -> str:
    what = "; ".join(f"{METRICS[m].label}: {METRICS[m].meaning}" for m in chosen)
    n = len(seeds)
    spread = "Mean ± sample sd" if n > 1 else "One run, no spread"
    caption = f"{what}. {spread}, n = {n} (seed{'s' if n > 1 else ''} {', '.join(map(str, seeds))}); best in bold."
    budgets = sorted(
        {f"{c.benchmark} with {c.overrides['epochs'][1]} epochs instead of {c.overrides['epochs'][0]}"
         for c, _ in pairs if "epochs" in c.overrides}
    )  # fmt: skip
    return caption + (f" Not the recipe's budget: {'; '.join(budgets)}." if budgets else "")


def streams(benchmarks: Iterable[Benchmark]) -> dict[str, str]:
    """What a caption says of benchmarks, by name."""
    return {b.name: f"{b.num_tasks} tasks, {b.scenario}" for b in benchmarks}


def _protocols(cells: Sequence[Cell]) -> str:
    used = sorted({cell.protocol for cell in cells if not cell.traits.get("imported")})
    return "".join(f" Protocol {name}: {PROTOCOLS.get(name, 'unknown')}." for name in used)


def _precisions(cells: Sequence[Cell]) -> str:
    used = sorted({cell.precision for cell in cells} - {"fp32"})
    return "".join(f" Precision {name}: {PRECISIONS.get(name, 'unknown')}." for name in used)


def _streams(cells: Sequence[Cell], known: Mapping[str, str]) -> str:
    """The stream and the epochs of each benchmark; of cells that hold them, which imported ones do not."""
    sentences = []
    for name in dict.fromkeys(cell.benchmark for cell in cells):
        epochs = sorted({c.training["epochs"] for c in cells if c.benchmark == name and "epochs" in c.training})
        span = " to ".join(map(str, dict.fromkeys((epochs[0], epochs[-1])))) if epochs else ""
        facts = [known.get(name, ""), f"at most {span} epochs a task" if span else ""]
        if any(facts):
            sentences.append(f" {name}: {', '.join(filter(None, facts))}.")
    return "".join(sentences)


def _notes(
    pairs: Sequence[tuple[Cell, Result | None]],
    chosen: Sequence[str],
    joint: Mapping[tuple[str, int], Result],
    unsupported: Mapping[tuple[str, str], str],
) -> list[str]:
    used = {trait for cell, _ in pairs for trait, holds in cell.traits.items() if holds}
    notes = [f"{mark} {text}" for trait, (mark, text) in MARKS.items() if trait in used]
    alone = any(r and not r.error and (column_label(c), c.seed) not in joint for c, r in pairs)
    if alone and any(METRICS[name].against_joint for name in chosen):
        notes.append("I lacks a finished run of joint training on some benchmark and seed, under the same budget")
    return notes + [f"{row} does not apply to {benchmark}: {why}" for (row, benchmark), why in unsupported.items()]


CHANGED = "°"  # after an entry


def _remarks(pairs: Sequence[tuple[Cell, Result | None]], changed: Mapping[str, Sequence[str]]) -> list[str]:
    """What has changed since some runs, and rows that are set apart."""
    what = {reason for cell, result in pairs if result for reason in changed.get(cell.key, ())}
    notes = [f"{CHANGED} changed since it was run: {', '.join(sorted(what))}"] if what else []
    others = sorted({cell.traits["other"] for cell, _ in pairs if "other" in cell.traits})
    rows = ", ".join(f"[{name}]" for name in others)
    return notes + ([f"{rows}: run under other settings or an older version than the row of that name"] if rows else [])
