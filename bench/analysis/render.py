"""A table as markdown, LaTeX and CSV, and on disk with a manifest of what stands behind it."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from bench.analysis.compare import Listing
from bench.analysis.table import CHANGED, METRICS, Column, Entry, Metric, Table
from bench.core import Result
from bench.execution import store


def show(entry: Entry, metric: Metric, pm: str) -> str:
    """An entry in words: mean and spread, or why there is none; without marks."""
    if entry.n == 0:
        return "n/a" if entry.undefined else "failed" if entry.failed else "--"
    if metric.quality:
        text = f"{round(entry.mean, 2) + 0.0:.2f}" + (f" {pm} {entry.sd:.2f}" if entry.n > 1 else "")
    else:
        text = f"{entry.mean:.3g}" if entry.mean < 1000 else f"{entry.mean:.0f}"
    return text


def _after(entry: Entry) -> str:
    """What follows a number: how it differs from the reference, and its n where seeds are missing."""
    partial = f" (n={entry.n})" if 0 < entry.n < entry.wanted else ""
    changed = f" {CHANGED}" if entry.changed else ""
    return (f" {entry.differs}" if entry.differs else "") + partial + changed


def to_markdown(table: Table) -> str:
    """A GitHub table, its caption and notes."""
    several = len({benchmark for benchmark, _ in table.columns}) > 1
    header = [f"{b} {METRICS[m].label}" if several else METRICS[m].label for b, m in table.columns]
    first = "method" if several or not table.columns else table.columns[0][0]

    def cell(row: str, column: Column) -> str:
        entry = table.entries[row, column]
        text = show(entry, METRICS[column[1]], "±")
        return (f"**{text}**" if entry.best else text) + _after(entry)

    body = [[row, *(cell(row, column) for column in table.columns)] for row in table.rows]
    grid = _pipes([first, *header], body, 1)
    return "\n".join([grid, "", table.caption, *(f"{note}." for note in table.notes)])


def _pipes(header: Sequence[str], body: Sequence[Sequence[str]], left: int) -> str:
    """A GitHub table, its first `left` columns aligned left."""
    body = [[word.replace("|", "\\|") for word in row] for row in body]
    align = ["left"] * left + ["right"] * (len(header) - left)
    return tabulate(body, list(header), tablefmt="pipe", colalign=align if body else None, disable_numparse=True)


_ESCAPES = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$", "§": r"\S{}", "¶": r"\P{}",
    "°": r"$^{\circ}$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def escape(text: str) -> str:
    """Plain text for LaTeX."""
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", "".join(_ESCAPES.get(c, c) for c in text))  # a sign, not a hyphen


SETUP = r"\sisetup{separate-uncertainty, table-align-uncertainty=false, retain-zero-uncertainty, detect-weight}"


def to_latex(table: Table, siunitx: bool = False) -> str:
    """A `table` environment for the booktabs package; with `siunitx`, numbers stand in S columns of its version 3."""
    benchmarks = list(dict.fromkeys(benchmark for benchmark, _ in table.columns))
    width = len(table.columns) // max(len(benchmarks), 1)
    spans = [rf"\multicolumn{{{width}}}{{c}}{{{escape(b)}}}" for b in benchmarks]
    rules = [rf"\cmidrule(lr){{{2 + i * width}-{1 + (i + 1) * width}}}" for i in range(len(benchmarks))]

    def cell(row: str, column: Column) -> str:
        entry = table.entries[row, column]
        text, after = show(entry, METRICS[column[1]], r"\pm"), escape(_after(entry))
        if siunitx:
            return _in_s_column(entry, text, after)
        if entry.n:
            text = rf"$\mathbf{{{text}}}$" if entry.best else f"${text}$"
        return text + after

    layout = "".join(_s_column(table, c) for c in table.columns) if siunitx else "r" * len(table.columns)
    labels = [escape(METRICS[m].label) for _, m in table.columns]
    header = [" & ".join(["", *spans]) + r" \\", "".join(rules)]
    header.append(" & ".join(["method", *(f"{{{label}}}" if siunitx else label for label in labels)]) + r" \\")
    body = [" & ".join([escape(row), *(cell(row, c) for c in table.columns)]) + r" \\" for row in table.rows]
    caption = " ".join([table.caption, *(f"{note}." for note in table.notes)])
    return _environment(caption, "l" + layout, header, body, [SETUP] if siunitx else [])


def _environment(
    caption: str, layout: str, header: Sequence[str], body: Sequence[str], setup: Sequence[str] = ()
) -> str:
    start = [r"\begin{table}", r"\centering", *setup, rf"\caption{{{escape(caption)}}}"]
    start += [rf"\begin{{tabular}}{{{layout}}}", r"\toprule", *header, r"\midrule"]
    return "\n".join([*start, *body, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _in_s_column(entry: Entry, text: str, after: str) -> str:
    """An S column takes a number as it is; all else is in braces."""
    if not entry.n:
        return f"{{{text}}}"
    return (r"\bfseries " if entry.best else "") + text + (rf" {{\,{after.lstrip()}}}" if after else "")


def _s_column(table: Table, column: Column) -> str:
    """An S column with room for the digits of its longest number and spread, and for what follows them."""
    shown = [show(table.entries[row, column], METRICS[column[1]], "±") for row in table.rows]
    numbers = [text.split(" ± ") for text in shown if text[-1].isdigit()]
    if not numbers or any("e" in mean for mean, *_ in numbers):
        return "S"
    whole = max(len(mean.lstrip("-").split(".")[0]) for mean, *_ in numbers)
    decimals = max(len(mean.partition(".")[2]) for mean, *_ in numbers)
    spread = max((len(sd[0].replace(".", "")) for _, *sd in numbers if sd), default=0)
    sign = "-" if any(mean.startswith("-") for mean, *_ in numbers) else ""
    after = max((escape(_after(table.entries[row, column])).lstrip() for row in table.rows), key=len)
    room = (f"({spread})" if spread else "") + (rf"{{\,{after}}}" if after else "")
    return f"S[table-format={sign}{whole}.{decimals}{room}]"


def to_csv(table: Table) -> str:
    """One line per entry: benchmark, method, metric, mean, sd, n, wanted, failed. Qualities are in percent."""
    fields = ["mean", "sd", "n", "wanted", "failed"]
    fields += ["differs"] if any(entry.differs for entry in table.entries.values()) else []
    lines = [["benchmark", "method", "metric", *fields]]
    for (row, (benchmark, metric)), entry in table.entries.items():
        lines.append([benchmark, row, metric, *(_bare(getattr(entry, field)) for field in fields)])
    return _comma_separated(lines)


def _bare(value: float | str) -> str:
    """A number with all its digits; nothing where it is missing."""
    return "" if isinstance(value, float) and math.isnan(value) else str(value)


def _comma_separated(lines: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().rstrip("\n")


FORMATS = {"md": to_markdown, "latex": to_latex, "csv": to_csv}


def show_listing(listing: Listing, form: str) -> str:
    """A small table in one of the FORMATS."""
    if form == "csv":
        return _comma_separated([listing.header, *listing.rows])
    if form == "md":
        return "\n".join([_pipes(listing.header, listing.rows, listing.left), "", listing.caption])
    header, *body = [" & ".join(map(escape, row)) + r" \\" for row in (listing.header, *listing.rows)]
    layout = "l" * listing.left + "r" * (len(listing.header) - listing.left)
    return _environment(listing.caption, layout, [header], body)


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
    own = ("seconds", "process_peak_bytes", "data")  # of the cell, not of the machine
    return json.dumps({k: v for k, v in result.environment.items() if k not in own}, sort_keys=True)
