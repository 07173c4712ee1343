"""A table on a page: type as large as it fits, or parts of it below each other, with caption, label and notes.

What is wider than the text is cut between columns, what is higher than a page between rows, into floats of about one
height. Unless told otherwise it is laid out for the narrowest usual text, that of a one-column article, 345 pt; what
fits a column of a two-column one, 230 pt, is set in a column there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

from bench.analysis.latex.sheet import STYLES, TEXT_WIDTH, Group, Sheet, Style, height_on_page, width_on_page
from bench.analysis.latex.text import escape

COLUMN_WIDTH = 229.0  # points
HEIGHT = 480.0  # points that the parts and notes of one float may take, so that it is no higher than a page
CAPTION_LETTERS = 200  # about three lines


@dataclass(frozen=True)
class Words:
    """What stands around a table."""

    caption: str
    label: str
    notes: Sequence[str]
    setup: Sequence[str] = ()  # lines of LaTeX
    room: float = TEXT_WIDTH  # points of the text


def typeset(ways: Sequence[Callable[[bool], Sheet]], words: Words, styles: Sequence[Style] = STYLES) -> str:
    """Return the floats of a table, in the first way and style in which it fits one; where none does, in the fewest.

    Each of the `ways` makes the table, with spreads as indices or not.
    """
    laid: list[tuple[list[list[Sheet]], Style]] = []
    for sheet_of, style in product(ways, styles):
        sheet = sheet_of(style.lowered)
        if width_on_page(sheet, style) <= words.room:
            laid.append((_pages([sheet], style, words.notes), style))
    if not laid:
        laid.append((_pages(list(_parts(sheet, style, words.room)), style, words.notes), style))
    pages, style = min(laid, key=lambda one: (len(one[0]), _excess(one[0], one[1], words.notes)))
    return _floats(pages, style, words)


def _excess(pages: Sequence[Sequence[Sheet]], style: Style, notes: Sequence[str]) -> float:
    """Return by how much the last page is too high, in points, where the notes are long."""
    return max(0.0, height_on_page(pages[-1], style, notes, TEXT_WIDTH) - HEIGHT)


def _parts(sheet: Sheet, style: Style, room: float) -> Iterator[Sheet]:
    """Yield sheets that fit, each with as many of the groups as have room; a group that has none by itself is cut."""
    pieces: list[Group] = []
    for group in sheet.groups:
        alone = width_on_page(sheet.part([group]), style) <= room
        pieces += [group] if alone else [replace(group, columns=[column]) for column in group.columns]
    waiting: list[Group] = []
    for group in pieces:
        if waiting and width_on_page(sheet.part(_joined([*waiting, group])), style) > room:
            yield sheet.part(_joined(waiting))
            waiting = []
        waiting.append(group)
    yield sheet.part(_joined(waiting))


def _joined(groups: Sequence[Group]) -> list[Group]:
    """Return groups, those in a row that are of the same name as one."""
    found: list[Group] = []
    for group in groups:
        if found and found[-1].name == group.name:
            found[-1] = Group(group.name, [*found[-1].columns, *group.columns])
        else:
            found.append(group)
    return found


def _pages(sheets: Sequence[Sheet], style: Style, notes: Sequence[str]) -> list[list[Sheet]]:
    """Return the parts of a table, those that are higher than a page cut, in as few pages as have room for them; the
    notes stand on the last one."""
    pages: list[list[Sheet]] = [[]]
    for n, whole in enumerate(sheets):
        below = notes if n == len(sheets) - 1 else []
        for sheet in _cut(whole, style, below):
            if pages[-1] and height_on_page([*pages[-1], sheet], style, below, TEXT_WIDTH) > HEIGHT:
                pages.append([])
            pages[-1].append(sheet)
    return pages


def _cut(sheet: Sheet, style: Style, notes: Sequence[str]) -> Iterator[Sheet]:
    """Yield pieces of a sheet that are no higher than a page, of about as many rows each; of the page, notes may take
    half."""
    room = HEIGHT - min(height_on_page([], style, notes, TEXT_WIDTH), HEIGHT / 2)
    most = sheet.rows + int((room - height_on_page([sheet], style, [], TEXT_WIDTH)) // style.leading)
    count = math.ceil(sheet.rows / max(1, most - bool(sheet.below))) if most < sheet.rows else 1
    ends = [round(sheet.rows * k / count) for k in range(count + 1)]
    cuts = [end - 1 if end in sheet.below else end for end in ends]
    for start, end in pairwise(cuts):
        yield sheet.with_rows(range(start, end))


def _floats(pages: Sequence[Sequence[Sheet]], style: Style, words: Words) -> str:
    """Return a float for each page; the notes stand in the last one."""
    floats = []
    for n, page in enumerate(pages):
        own = replace(words, notes=words.notes if n == len(pages) - 1 else ["Continued in the next table"])
        if n:
            own = replace(own, caption=f"{words.caption.rstrip('.')}, continued.", label=f"{words.label}-{n + 1}")
        floats.append(_float(page, style, own))
    return "\n\n".join(floats)


def _float(sheets: Sequence[Sheet], style: Style, words: Words) -> str:
    """Return one float: in a column where all fits one, else over the whole text."""
    widest = max(width_on_page(sheet, style) for sheet in sheets)
    in_column = widest <= COLUMN_WIDTH and height_on_page(sheets, style, words.notes, COLUMN_WIDTH) <= HEIGHT
    name = "table" if in_column else "table*"
    size = rf"{style.command}\setlength{{\tabcolsep}}{{{style.gap:g}pt}}"
    start = [rf"\begin{{{name}}}", r"\centering", r"\setlength{\belowcaptionskip}{6pt}"]
    caption = [rf"\caption{{{_one_line(words.caption)}}}", rf"\label{{{words.label}}}"]
    parts = "\n\\par\\medskip\n".join(_tabular(sheet) for sheet in sheets)
    return "\n".join([*start, *caption, *words.setup, size, parts, *_below(words.notes), rf"\end{{{name}}}"])


def _below(notes: Sequence[str]) -> list[str]:
    """Return the notes in small type, over the width of the float."""
    if not notes:
        return []
    text = "\n".join(f"{_one_line(note).rstrip('.')}." for note in notes)
    return [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright", text, r"\end{minipage}"]


def _one_line(text: str) -> str:
    """Return a text as LaTeX without an empty line, which would end what it stands in."""
    return " ".join(escape(line) for line in text.split("\n") if line)


def _tabular(sheet: Sheet) -> str:
    columns = [column for group in sheet.groups for column in group.columns]
    layout = "".join(column.layout for column in (*sheet.left, *columns))
    head = _row([column.head.text for column in (*sheet.left, *columns)])
    body = []
    for n in range(sheet.rows):
        body.append(_row([column.cells[n].text for column in (*sheet.left, *columns)]))
    rules = [r"\toprule", *_names(sheet), head, r"\midrule", *body, r"\bottomrule"]
    return "\n".join([rf"\begin{{tabular}}{{@{{}}{layout}@{{}}}}", *rules, r"\end{tabular}"])


def _names(sheet: Sheet) -> list[str]:
    """Return two lines: the names of the groups over their columns, and the rules below them; none without names."""
    if not any(group.name for group in sheet.groups):
        return []
    names, rules, place = [""] * len(sheet.left), [], len(sheet.left) + 1
    for group in sheet.groups:
        width = len(group.columns)
        names.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group.name)}}}")
        rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    return [_row(names), "".join(rules)]


def _row(cells: Sequence[str]) -> str:
    row = " & ".join(cells) + r" \\"
    return f"{{}}{row}" if row.startswith(("[", "*")) else row  # which would belong to the line before


def label_of(*words: str) -> str:
    """Return a label of some words, in the letters that LaTeX and an editor take in one."""
    slug = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
    return f"tab:{slug[:60].rstrip('-')}"


def headline(text: str, instead: str) -> tuple[str, list[str]]:
    """Return a caption of at most about three lines, and notes: the first sentence of a text, if it is short enough,
    and the rest; else `instead`, and all of it."""
    first, stop, rest = text.partition(". ")
    line, below, more = first.partition("\n")
    if len(line) > CAPTION_LETTERS:
        return instead, [part for part in text.split("\n") if part]
    rest = f"{more}{stop}{rest}" if below else rest
    return f"{line.rstrip('.')}.", [part for part in rest.split("\n") if part]
