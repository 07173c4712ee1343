"""Pieces of an HTML page: its style, a table in a box that scrolls, figures side by side. All text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from bench.analysis import render
from bench.analysis.figures import figure
from bench.analysis.figures.figure import Plot
from bench.analysis.table import CHANGED, METRICS, Entry, Table

CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #57606a; --line: #d0d7de; --shade: #f3f5f7;
  --bad: #b35806; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #14171a; --soft: #9da7b1; --line: #363d45;
  --shade: #1f2429; --bad: #f1a340; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1rem 1rem 4rem; }
h1, h2, h3 { line-height: 1.2; margin: 2.5rem 0 .75rem; } h1 { margin-top: 1rem; }
h2 { border-bottom: 1px solid var(--line); padding-bottom: .3rem; overflow-wrap: anywhere; }
p, li { max-width: 48rem; overflow-wrap: anywhere; } .soft, figcaption, .note { color: var(--soft); }
figcaption, .note { font-size: .85rem; } .bad { color: var(--bad); }
.scroll { overflow-x: auto; margin: .5rem 0; width: fit-content; max-width: 100%; border: 1px solid var(--line);
  border-radius: 6px; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .65rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--line); }
thead th { background: var(--shade); border-top: 0; } th[colspan] { text-align: center; }
th[rowspan], th[scope=row], .words th, .words td { text-align: left; }
th[rowspan], th[scope=row] { position: sticky; left: 0; } th[scope=row] { background: var(--paper); }
th[scope=row] { white-space: normal; overflow-wrap: break-word; max-width: 12rem; }
td.long { white-space: normal; min-width: 22rem; overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1.5rem 2rem; }
figure { margin: 0; min-width: 0; } svg { display: block; width: 100%; height: auto; }
svg text { font-family: "DejaVu Sans", Verdana, system-ui, sans-serif; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
code { font-size: .85em; overflow-wrap: anywhere; } summary { cursor: pointer; }
@media print { body { font-size: 11px; } figure { break-inside: avoid; } }
"""


def document(title: str, body: str) -> str:
    """A whole page that loads nothing."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n"
        f"<body><main>\n<h1>{escape(title)}</h1>\n{body}</main></body></html>\n"
    )


def items(lines: Iterable[str], kind: str = "") -> str:
    """A list."""
    inner = "".join(f'<li class="{kind}">{escape(line)}</li>\n' for line in lines)
    return f"<ul>\n{inner}</ul>\n"


def show(entry: Entry, metric: str) -> str:
    """An entry in words, as HTML."""
    if entry.n == 0:
        words = "n/a" if entry.undefined else "failed" if entry.failed else "missing" if entry.wanted else "--"
        return f'<span class="{"soft" if entry.undefined else "bad"}">{words}</span>'
    text = render.show(entry, METRICS[metric], "±").replace("-", "\N{MINUS SIGN}")
    partial = f' <span class="bad">(n={entry.n})</span>' if entry.n < entry.wanted else ""
    changed = f" {CHANGED}" if entry.changed else ""
    return (f"<strong>{text}</strong>" if entry.best else text) + partial + changed


def to_html(table: Table) -> str:
    """The table in a box that scrolls, its caption and notes."""
    spans: dict[str, int] = {}
    for benchmark, _ in table.columns:
        spans[benchmark] = spans.get(benchmark, 0) + 1
    head = "".join(f'<th colspan="{n}" scope="colgroup">{escape(name)}</th>' for name, n in spans.items())
    names = "".join(
        f'<th scope="col" title="{escape(METRICS[m].meaning)}">{escape(METRICS[m].label)}</th>'
        for _, m in table.columns
    )
    body = "".join(
        f'<tr><th scope="row">{escape(row)}</th>'
        + "".join(f"<td>{show(table.entries[row, column], column[1])}</td>" for column in table.columns)
        + "</tr>\n"
        for row in table.rows
    )
    remarks = [table.caption, *(f"{note}." for note in table.notes)]
    notes = "".join(f'<p class="note">{escape(text)}</p>\n' for text in remarks)
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr><th rowspan="2">method</th>{head}</tr>\n'
        f"<tr>{names}</tr></thead>\n"
        f"<tbody>{body}</tbody></table></div>\n{notes}"
    )


def word_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of words; the last column wraps."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row[:-1])
        + f'<td class="long">{escape(str(row[-1]))}</td></tr>\n'
        for row in rows
    )  # fmt: skip
    return (
        f'<div class="scroll" tabindex="0"><table class="words"><thead><tr>{top}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def figures(drawn: Sequence[Plot], place: str) -> str:
    """The figures side by side where there is room; the names of their files stand in `place`."""
    items = (
        f"<figure>{figure.to_svg(plot)}\n<figcaption>{escape(plot.caption)} "
        f"<code>{place}{escape(plot.name)}</code></figcaption></figure>\n"
        for plot in drawn
    )
    return f'<div class="figures">\n{"".join(items)}</div>\n'
