"""A table as markdown and CSV, beside LaTeX, and on disk with a manifest of what stands behind it."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tabulate import tabulate

from bench import files
from bench.analysis.columns import METRICS
from bench.analysis.compare import Listing
from bench.analysis.latex.layout import TEXT_WIDTH
from bench.analysis.latex.tables import listing_to_latex, to_latex
from bench.analysis.table import Column, Entry, Table, after, show
from bench.core import Result
from bench.text import plainly, printable

UTF8 = "utf-8"


def to_markdown(table: Table, encoding: str = UTF8) -> str:
    """Return a GitHub table, its caption and notes; its cells are in the signs that an encoding has."""
    benchmarks = list(dict.fromkeys(benchmark for benchmark, _ in table.columns))
    labels = [METRICS[metric].label for _, metric in table.columns]
    if len(benchmarks) == 1:
        header = [benchmarks[0], *labels]
    else:
        header = ["method", *(f"{b} {label}" for (b, _), label in zip(table.columns, labels, strict=True))]
    body = []
    for row in table.rows:
        cells = [_markdown_cell(table.entries[row, column], column) for column in table.columns]
        body.append([row, *cells])
    notes = [f"{note}." for note in table.notes]
    title = f"{table.title}. " if table.title else ""
    pipes = _pipes(header, body, 1, encoding)
    below = map(printable, [title + table.caption, *notes])
    return "\n".join([pipes, "", *below])


def to_terminal(table: Table) -> str:
    """Return the same in the signs that standard output can show, its columns aligned there too."""
    return to_markdown(table, _terminal())


def _terminal() -> str:
    """Return the encoding of standard output; a notebook's may have none."""
    return getattr(sys.stdout, "encoding", None) or UTF8


def _markdown_cell(entry: Entry, column: Column) -> str:
    text = show(entry, METRICS[column[1]], "±")
    if entry.best:
        text = f"**{text}**"
    return text + after(entry)


def _markdown(word: str, encoding: str) -> str:
    """Return a text as it stands in a cell: on one line, its pipes no borders; backslashes before one are doubled."""
    return re.sub(r"(\\*)\|", r"\1\1\\|", plainly(printable(word), encoding))


def _pipes(header: Sequence[str], body: Sequence[Sequence[str]], left: int, encoding: str) -> str:
    """Return a GitHub table, its first `left` columns aligned left."""
    names = [_markdown(word, encoding) for word in header]
    lines = []
    for row in body:
        lines.append([_markdown(word, encoding) for word in row])
    align = ["left"] * left + ["right"] * (len(header) - left)
    colalign = align if lines else None
    return tabulate(lines, names, tablefmt="pipe", colalign=colalign, disable_numparse=True)


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


TERMINAL = "terminal"  # markdown for standard output; a table that is asked for as `md` is shown so
FORMATS: dict[str, Callable[[Table], str]] = {
    "md": to_markdown,
    "latex": to_latex,
    "csv": to_csv,
    TERMINAL: to_terminal,
}


def show_listing(listing: Listing, form: str, room: float = TEXT_WIDTH) -> str:
    """Return a small table in one of the FORMATS; in LaTeX no wider than `room`, in points."""
    if form == "csv":
        return _comma_separated([listing.header, *listing.rows])
    if form in ("md", TERMINAL):
        encoding = _terminal() if form == TERMINAL else UTF8
        caption = map(printable, listing.caption.split("\n"))
        return "\n".join([_pipes(listing.header, listing.rows, listing.left, encoding), "", *caption])
    return listing_to_latex(listing, room)


def save_table(table: Table, stem: str, command: str, results: Sequence[Result], folder: Path) -> None:
    """Write the table in every format, and its manifest: the command, and what the numbers depend on."""
    for suffix, render in (("md", to_markdown), ("tex", to_latex), ("csv", to_csv)):
        files.write_text(folder / f"{stem}.{suffix}", render(table) + "\n")
    environments = sorted({_facts(result) for result in results})
    manifest = {
        "command": command,
        "caption": table.caption,
        "environments": list(map(json.loads, environments)),
        "cells": [str(result.cell.path) for result in results],
    }
    files.write_text(folder / f"{stem}.json", json.dumps(manifest, indent=1) + "\n")


def _facts(result: Result) -> str:
    """Return what is known of the machine of a run, and not of the run itself, as JSON."""
    own = ("seconds", "process_peak_bytes", "data")
    facts = {name: value for name, value in result.environment.items() if name not in own}
    return json.dumps(facts, sort_keys=True)
