"""The HTML page of a report: the templates beside this file, filled. All text is escaped, and no markup is trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.analysis import render
from bench.analysis.columns import METRICS
from bench.analysis.compare import Listing
from bench.analysis.explorer.beside import HEADER, TEXTS, Beside
from bench.analysis.explorer.charts import MORE_IS_BETTER, PRICES
from bench.analysis.explorer.gaps import Gaps, Inapplicable
from bench.analysis.explorer.manifest import Manifest
from bench.analysis.figures.figure import slug
from bench.analysis.labels import CHANGED
from bench.analysis.papers.paper import RULE
from bench.analysis.table import Entry, Table

TEMPLATES = Path(__file__).resolve().parent / "templates"
PRINTED_COLUMNS = 16  # of the overview, that have room on a sheet of paper on its side
SUFFIXES = {"md": "markdown", "latex": "LaTeX", "csv": "CSV"}  # what a table may be saved as


class Kind(NamedTuple):
    """What the switches of the page choose by."""

    benchmark: str
    protocol: str
    scenario: str


class Run(NamedTuple):
    """A run of a row: its seed, the address of its file, '' where there is none, and whether it failed."""

    seed: int
    link: str
    failed: bool


class Section(NamedTuple):
    """A benchmark under a budget: a table of all metrics, the runs of each row, and the numbers that are drawn."""

    name: str
    kind: Kind
    conditions: str
    table: Table  # its rows have a run
    absent: Sequence[str]  # the other rows
    runs: Mapping[str, Sequence[Run]]
    charts: Mapping[str, Any]


class Ranks(NamedTuple):
    """How methods rank over the benchmarks of a protocol and a scenario, and the diagram of it if there can be one."""

    protocol: str
    scenario: str
    listing: Listing
    diagram: Mapping[str, Any] | None


class Report(NamedTuple):
    """All that the page shows."""

    title: str
    summary: str
    overview: Table
    notes: Sequence[str]  # below it
    inapplicable: Mapping[str, Sequence[Inapplicable]]  # by reason
    gaps: Gaps
    sections: Sequence[Section]
    beside: Sequence[Beside]  # published numbers beside ours
    ranks: Sequence[Ranks]
    manifest: Manifest
    links: Mapping[str, str]  # address of a result's file, by its path in the results folder


def to_html(report: Report) -> str:
    """Return a whole page that loads nothing."""
    drawn = {
        "sections": [section.charts for section in report.sections],
        "ranks": [ranks.diagram for ranks in report.ranks],
        "better": list(MORE_IS_BETTER),
        "prices": list(PRICES),
    }
    values = report._asdict() | {"drawn": drawn, "rule": RULE, "wide": len(report.overview.columns) > PRINTED_COLUMNS}
    return _environment().get_template("report.html.j2").render(**values)


def fragment(table: Table) -> str:
    """Return a table as a piece of HTML, as the page has it, for a notebook."""
    parts = _environment().get_template("parts.html.j2").module
    notes = "".join(f"\n{parts.note(line)}" for line in [table.caption, *table.notes])  # type: ignore[attr-defined]
    return str(parts.overview(table)) + notes  # type: ignore[attr-defined]


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
    shown = (as_listing, mean_and_spread, why_empty, column_spans, confusion, downloads, kinds)
    environment.filters.update({function.__name__: function for function in shown})
    return environment


def as_listing(beside: Sequence[Beside], caption: str, compared: bool) -> Listing:
    """Return published numbers beside ours as a table; where they are not `compared`, without the difference."""
    header = list(HEADER) if compared else list(HEADER[:-1])
    return Listing(header, [list(number.words[: len(header)]) for number in beside], caption, left=TEXTS)


def confusion(section: Section) -> Listing | None:
    """Return the confusion between tasks of a section, a row a method and task; None where it was not counted."""
    counted = [row for row in section.charts["rows"] if row["confusion"]]
    if not counted:
        return None
    tasks = range(1, 1 + max(len(row["confusion"]) for row in counted))
    rows = []
    for row in counted:
        for t, shares in enumerate(row["confusion"], 1):
            rows.append([row["name"], str(t), *(f"{share:.1f}" for share in shares)])
    caption = "Of the test images of a task, the percentage taken for a class of each task, after the last one."
    return Listing(["method", "images of task", *(f"taken for {t}" for t in tasks)], rows, caption)


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


def kinds(sections: Sequence[Section], field: str) -> list[str]:
    """Return the values that the sections have of a field of `Kind`, in their order."""
    return list(dict.fromkeys(getattr(section.kind, field) for section in sections))


def downloads(table: Table | Listing, name: str) -> list[tuple[str, str, str]]:
    """Return a table's forms to save: what each is called, its file name, and its text as an address."""
    found = []
    for form, label in SUFFIXES.items():
        text = render.FORMATS[form](table) if isinstance(table, Table) else render.show_listing(table, form)
        suffix = "tex" if form == "latex" else form
        found.append((label, f"{slug(name)}.{suffix}", f"data:text/plain;charset=utf-8,{quote(text)}"))
    return found
