"""The HTML page of a report: the templates beside this file, filled. All text is escaped; figures alone are markup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.analysis import render
from bench.analysis.columns import METRICS
from bench.analysis.figures import figure
from bench.analysis.figures.figure import Plot
from bench.analysis.labels import CHANGED
from bench.analysis.table import Entry, Table

TEMPLATES = Path(__file__).resolve().parent / "templates"


class Section(NamedTuple):
    """A benchmark under a budget: its name, a table of all metrics, and the figures of its runs."""

    name: str
    table: Table
    plots: Sequence[Plot]


class Manifest(NamedTuple):
    """What stands behind the numbers, in words."""

    commands: Sequence[str]
    machines: Sequence[Sequence[object]]  # rows: how many runs, and where they ran
    settings: Sequence[Sequence[str]]  # rows: which runs, their code, and their settings
    data: Sequence[str]
    files: Sequence[str]


def to_html(
    title: str,
    summary: str,
    overview: Table,
    gaps: Sequence[str],
    sections: Sequence[Section],
    manifest: Manifest,
    place: str = "",
) -> str:
    """Return a whole page that loads nothing. `place` stands before the names of figures: the folder of their files."""
    return _environment().get_template("report.html.j2").render(
        title=title, summary=summary, overview=overview, gaps=gaps, sections=sections, manifest=manifest, place=place
    )  # fmt: skip


def fragment(table: Table) -> str:
    """Return a table as a piece of HTML, as the page has it, for a notebook."""
    parts = _environment().get_template("parts.html.j2").module
    return str(parts.numbers(table))  # type: ignore[attr-defined]


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(METRICS=METRICS, CHANGED=CHANGED)
    shown = (mean_and_spread, why_empty, column_spans)
    environment.filters.update({function.__name__: function for function in shown}, svg=figure.to_svg)
    return environment


def mean_and_spread(entry: Entry, metric: str) -> str:
    """Return an entry's mean and spread as text, with a true minus sign."""
    return render.show(entry, METRICS[metric], "±").replace("-", "\N{MINUS SIGN}")


def why_empty(entry: Entry) -> str:
    """Return why an entry has no number, in a word."""
    if entry.undefined:
        return "n/a"
    if entry.failed:
        return "failed"
    return "missing" if entry.wanted else "--"


def column_spans(table: Table) -> Counter[str]:
    """Return how many columns each benchmark has, in the order of the table."""
    return Counter(benchmark for benchmark, _ in table.columns)
