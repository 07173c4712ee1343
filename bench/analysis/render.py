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

from bench import files
from bench.analysis.columns import METRICS, Metric
from bench.analysis.compare import Listing
from bench.analysis.labels import CHANGED
from bench.analysis.latex import escape
from bench.analysis.table import Column, Entry, Table
from bench.core import Result
from bench.text import printable


def show(entry: Entry, metric: Metric, pm: str) -> str:
    """Return an entry in words: mean and spread, or why there is none; without marks. `pm` stands before the spread."""
    if entry.n == 0:
        if entry.undefined:
            return "n/a"
        return "failed" if entry.failed else "--"
    if not metric.quality:
        return f"{entry.mean:.3g}" if entry.mean < 1000 else f"{entry.mean:.0f}"
    mean = f"{round(entry.mean, 2) + 0.0:.2f}"  # no minus before zero
    return f"{mean} {pm} {entry.sd:.2f}" if entry.n > 1 else mean


def _after(entry: Entry) -> str:
    """Return what follows a number: how it differs from the reference, its n where seeds are missing, a mark."""
    found: list[str] = [entry.differs] if entry.differs else []
    if 0 < entry.n < entry.wanted:
        found.append(f"(n={entry.n})")
    if entry.changed:
        found.append(CHANGED)
    return "".join(f" {word}" for word in found)


def to_markdown(table: Table) -> str:
    """Return a GitHub table, its caption and notes."""
    benchmarks = list(dict.fromkeys(benchmark for benchmark, _ in table.columns))
    labels = [METRICS[metric].label for _, metric in table.columns]
    if len(benchmarks) == 1:
        header = [benchmarks[0], *labels]
    else:
        header = ["method", *(f"{b} {label}" for (b, _), label in zip(table.columns, labels, strict=True))]
    body = []
    for row in table.rows:
        body.append([row, *(_markdown_cell(table.entries[row, column], column) for column in table.columns)])
    notes = [f"{note}." for note in table.notes]
    return "\n".join([_pipes(header, body, 1), "", *map(printable, [table.caption, *notes])])


def _markdown_cell(entry: Entry, column: Column) -> str:
    text = show(entry, METRICS[column[1]], "±")
    if entry.best:
        text = f"**{text}**"
    return text + _after(entry)


def _markdown(word: str) -> str:
    """Return a text as it stands in a cell: on one line, its pipes no borders; backslashes before one are doubled."""
    return re.sub(r"(\\*)\|", r"\1\1\\|", printable(word))


def _pipes(header: Sequence[str], body: Sequence[Sequence[str]], left: int) -> str:
    """Return a GitHub table, its first `left` columns aligned left."""
    escaped = [[_markdown(word) for word in row] for row in body]
    align = ["left"] * left + ["right"] * (len(header) - left)
    colalign = align if escaped else None
    return tabulate(
        escaped, [_markdown(word) for word in header], tablefmt="pipe", colalign=colalign, disable_numparse=True
    )


SETUP = r"\sisetup{separate-uncertainty, table-align-uncertainty=false, retain-zero-uncertainty, detect-weight}"


def to_latex(table: Table, siunitx: bool = False) -> str:
    """Return a `table` environment for the booktabs package; with `siunitx`, for S columns of its version 3."""
    layout = [_s_column(table, column) if siunitx else "r" for column in table.columns]
    labels = [escape(METRICS[metric].label) for _, metric in table.columns]
    if siunitx:
        labels = [f"{{{label}}}" for label in labels]
    header = [*_spans(table), _latex_row(["method", *labels])]
    body = []
    for row in table.rows:
        cells = [_latex_cell(table.entries[row, column], column, siunitx) for column in table.columns]
        body.append(_latex_row([escape(row), *cells]))
    notes = [f"{note}." for note in table.notes]
    setup = [SETUP] if siunitx else []
    return _environment(" ".join([table.caption, *notes]), "l" + "".join(layout), header, body, setup)


def _spans(table: Table) -> list[str]:
    """Return two lines: the benchmarks over their columns, and the rules below them."""
    benchmarks = list(dict.fromkeys(benchmark for benchmark, _ in table.columns))
    width = len(table.columns) // max(len(benchmarks), 1)
    names = [rf"\multicolumn{{{width}}}{{c}}{{{escape(benchmark)}}}" for benchmark in benchmarks]
    first = range(2, 2 + len(table.columns), max(width, 1))
    rules = [rf"\cmidrule(lr){{{start}-{start + width - 1}}}" for start in first]
    return [_latex_row(["", *names]), "".join(rules)]


def _latex_cell(entry: Entry, column: Column, siunitx: bool) -> str:
    text = show(entry, METRICS[column[1]], r"\pm")
    after = escape(_after(entry))
    if siunitx:
        return _in_s_column(entry, text, after)
    if entry.n == 0:
        return text + after
    number = rf"\mathbf{{{text}}}" if entry.best else text
    return f"${number}${after}"


def _latex_row(cells: Sequence[str]) -> str:
    row = " & ".join(cells) + r" \\"
    return f"{{}}{row}" if row.startswith(("[", "*")) else row  # which would belong to the line before


def _environment(
    caption: str, layout: str, header: Sequence[str], body: Sequence[str], setup: Sequence[str] = ()
) -> str:
    text = "\n".join(escape(line) for line in caption.split("\n") if line)  # an empty line would end the caption
    start = [r"\begin{table}", r"\centering", *setup, rf"\caption{{{text}}}"]
    start += [rf"\begin{{tabular}}{{{layout}}}", r"\toprule", *header, r"\midrule"]
    return "\n".join([*start, *body, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _in_s_column(entry: Entry, text: str, after: str) -> str:
    """Return an entry for an S column, which takes a number as it is; all else is in braces."""
    if not entry.n:
        return f"{{{text}}}"
    number = rf"\bfseries {text}" if entry.best else text
    return number + (rf" {{\,{after.lstrip()}}}" if after else "")


def _s_column(table: Table, column: Column) -> str:
    """Return an S column with room for the digits of its longest number and spread, and for what follows them."""
    entries = [table.entries[row, column] for row in table.rows]
    shown = [show(entry, METRICS[column[1]], "±") for entry in entries]
    numbers = [text.partition(" ± ") for text in shown if text[-1].isdigit()]
    means = [mean for mean, _, _ in numbers]
    if not means or any("e" in mean for mean in means):
        return "S"
    whole = max(len(mean.lstrip("-").split(".")[0]) for mean in means)
    decimals = max(len(mean.partition(".")[2]) for mean in means)
    spread = max(len(sd.replace(".", "")) for _, _, sd in numbers)
    after = max((escape(_after(entry)).lstrip() for entry in entries), key=len)
    sign = "-" if any(mean.startswith("-") for mean in means) else ""
    room = f"({spread})" if spread else ""
    if after:
        room += rf"{{\,{after}}}"
    return f"S[table-format={sign}{whole}.{decimals}{room}]"


def to_csv(table: Table) -> str:
    """Return a line an entry: benchmark, method, metric, mean, sd, n, wanted, failed. Qualities are in percent."""
    fields = ["mean", "sd", "n", "wanted", "failed"]
    if any(entry.differs for entry in table.entries.values()):
        fields.append("differs")
    lines = [["benchmark", "method", "metric", *fields]]
    for (row, (benchmark, metric)), entry in table.entries.items():
        values = [_bare(getattr(entry, field)) for field in fields]
        lines.append([benchmark, row, metric, *values])
    return _comma_separated(lines)


def _bare(value: float | str) -> str:
    """Return a number with all its digits; nothing where it is missing."""
    return "" if isinstance(value, float) and math.isnan(value) else str(value)


_HARMLESS = re.compile(r"[-+\N{MINUS SIGN}\d.,;e%± ()\[\]]*")  # what numbers and their spreads are written with


def _comma_separated(lines: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for line in lines:
        writer.writerow([_no_formula(printable(word)) for word in line])
    return text.getvalue().rstrip("\n")


def _no_formula(word: str) -> str:
    """Return a text with an apostrophe before what a spreadsheet would compute."""
    formula = word.startswith(("=", "+", "-", "@")) and not _HARMLESS.fullmatch(word)
    return f"'{word}" if formula else word


FORMATS = {"md": to_markdown, "latex": to_latex, "csv": to_csv}


def show_listing(listing: Listing, form: str) -> str:
    """Return a small table in one of the FORMATS."""
    if form == "csv":
        return _comma_separated([listing.header, *listing.rows])
    if form == "md":
        caption = map(printable, listing.caption.split("\n"))
        return "\n".join([_pipes(listing.header, listing.rows, listing.left), "", *caption])
    header, *body = [_latex_row([escape(word) for word in row]) for row in (listing.header, *listing.rows)]
    layout = "l" * listing.left + "r" * (len(listing.header) - listing.left)
    return _environment(listing.caption, layout, [header], body)


def save_table(table: Table, stem: str, command: str, results: Sequence[Result], folder: Path) -> None:
    """Write the table in every format, and its manifest: the command, and what the numbers depend on."""
    for suffix, render in (("md", to_markdown), ("tex", to_latex), ("csv", to_csv)):
        files.write_text(folder / f"{stem}.{suffix}", render(table) + "\n")
    manifest = {
        "command": command,
        "caption": table.caption,
        "environments": [json.loads(facts) for facts in sorted({_facts(result) for result in results})],
        "cells": [str(result.cell.path) for result in results],
    }
    files.write_text(folder / f"{stem}.json", json.dumps(manifest, indent=1) + "\n")


def _facts(result: Result) -> str:
    """Return what is known of the machine of a run, and not of the run itself, as JSON."""
    own = ("seconds", "process_peak_bytes", "data")
    facts = {name: value for name, value in result.environment.items() if name not in own}
    return json.dumps(facts, sort_keys=True)
