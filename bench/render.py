"""A table as markdown, LaTeX and CSV, and on disk with a manifest of what stands behind it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from bench import store
from bench.core import Result
from bench.tables import METRICS, Column, Entry, Metric, Table


def _show(entry: Entry, metric: Metric, pm: str) -> str:
    if entry.n == 0:
        return "n/a" if entry.undefined else "failed" if entry.failed else "--"
    if metric.quality:
        text = f"{round(entry.mean, 2) + 0.0:.2f}" + (f" {pm} {entry.sd:.2f}" if entry.n > 1 else "")
    else:
        text = f"{entry.mean:.3g}" if entry.mean < 1000 else f"{entry.mean:.0f}"
    return text


def _partial(entry: Entry) -> str:
    return f" (n={entry.n})" if 0 < entry.n < entry.wanted else ""


def to_markdown(table: Table) -> str:
    """A GitHub table, its caption and notes."""
    several = len({benchmark for benchmark, _ in table.columns}) > 1
    header = [f"{b} {METRICS[m].label}" if several else METRICS[m].label for b, m in table.columns]
    first = "method" if several or not table.columns else table.columns[0][0]

    def cell(row: str, column: Column) -> str:
        entry = table.entries[row, column]
        text = _show(entry, METRICS[column[1]], "±")
        return (f"**{text}**" if entry.best else text) + _partial(entry)

    body = [[row.replace("|", "\\|"), *(cell(row, column) for column in table.columns)] for row in table.rows]
    align = ("left", *("right" for _ in table.columns))
    grid = tabulate(body, [first, *header], tablefmt="pipe", colalign=align, disable_numparse=True)
    return "\n".join([grid, "", table.caption, *(f"{note}." for note in table.notes)])


_ESCAPES = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def escape(text: str) -> str:
    """Plain text for LaTeX."""
    return "".join(_ESCAPES.get(c, c) for c in text)


def to_latex(table: Table) -> str:
    """A `table` environment for the booktabs package."""
    benchmarks = list(dict.fromkeys(benchmark for benchmark, _ in table.columns))
    width = len(table.columns) // max(len(benchmarks), 1)
    spans = [rf"\multicolumn{{{width}}}{{c}}{{{escape(b)}}}" for b in benchmarks]
    rules = [rf"\cmidrule(lr){{{2 + i * width}-{1 + (i + 1) * width}}}" for i in range(len(benchmarks))]

    def cell(row: str, column: Column) -> str:
        entry = table.entries[row, column]
        text = _show(entry, METRICS[column[1]], r"\pm")
        if entry.n:
            text = rf"$\mathbf{{{text}}}$" if entry.best else f"${text}$"
        return text + _partial(entry)

    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(' '.join([table.caption, *(f'{note}.' for note in table.notes)]))}}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\toprule",
            " & ".join(["", *spans]) + r" \\",
            "".join(rules),
            " & ".join(["method", *(escape(METRICS[m].label) for _, m in table.columns)]) + r" \\",
            r"\midrule",
            *(" & ".join([escape(row), *(cell(row, c) for c in table.columns)]) + r" \\" for row in table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def to_csv(table: Table) -> str:
    """One line per entry: benchmark, method, metric, mean, sd, n, wanted, failed. Qualities are in percent."""
    records = [
        {"benchmark": benchmark, "method": row, "metric": metric, **asdict(entry)}
        for (row, (benchmark, metric)), entry in table.entries.items()
    ]
    return pd.DataFrame(records).drop(columns=["undefined", "best"]).to_csv(index=False).rstrip("\n")


FORMATS = {"md": to_markdown, "latex": to_latex, "csv": to_csv}


def save(table: Table, stem: str, command: str, results: Sequence[Result], folder: Path) -> None:
    """Write the table in every format, and its manifest: the command, and what the numbers depend on."""
    for suffix, render in (("md", to_markdown), ("tex", to_latex), ("csv", to_csv)):
        store.write_text(folder / f"{stem}.{suffix}", render(table) + "\n")
    manifest = {
        "command": command,
        "caption": table.caption,
        "environments": [json.loads(facts) for facts in sorted({_facts(result) for result in results})],
        "cells": [str(result.cell.path) for result in results],
    }
    store.write_text(folder / f"{stem}.json", json.dumps(manifest, indent=1) + "\n")


def _facts(result: Result) -> str:
    costs = ("seconds", "process_peak_bytes")
    return json.dumps({k: v for k, v in result.environment.items() if k not in costs}, sort_keys=True)
