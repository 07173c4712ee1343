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
from functools import partial
from itertools import pairwise, product

from bench.analysis.latex.sheet import STYLES, TEXT_WIDTH, Group, Sheet, Style, height_on_page, width_on_page
from bench.analysis.latex.text import escape

COLUMN_WIDTH = 229.0  # points
HEIGHT = 480.0  # points that the parts and notes of one float may take, so that it is no higher than a page
CAPTION_LETTERS = 200  # about three lines


Layout = tuple[list[list[Sheet]], Style]  # the parts of a table, page by page


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
    layouts: list[Layout] = []
    for sheet_of, style in product(ways, styles):
        sheet = sheet_of(style.lowered)
        if width_on_page(sheet, style) <= words.room:
            pages = _pages([sheet], style, words.notes)
            layouts.append((pages, style))
    if not layouts:
        parts = list(_parts(sheet, style, words.room))
        pages = _pages(parts, style, words.notes)
        layouts.append((pages, style))
    pages, style = min(layouts, key=partial(_badness, words.notes))
    return _floats(pages, style, words)


def _badness(notes: Sequence[str], layout: Layout) -> tuple[int, float]:
    """Return the number of pages, and by how much the last is too high, in points, where the notes are long."""
    pages, style = layout
    excess = height_on_page(pages[-1], style, notes, TEXT_WIDTH) - HEIGHT
    return len(pages), max(0.0, excess)


def _parts(sheet: Sheet, style: Style, room: float) -> Iterator[Sheet]:
    """Yield sheets that fit, each with as many of the groups as have room; a group that has none by itself is cut."""
    pieces: list[Group] = []
    for group in sheet.groups:
        alone = width_on_page(sheet.part([group]), style) <= room
        pieces += [group] if alone else [replace(group, columns=[column]) for column in group.columns]
    waiting: list[Group] = []
    for group in pieces:
        longer = sheet.part(_joined([*waiting, group]))
        if waiting and width_on_page(longer, style) > room:
            yield sheet.part(_joined(waiting))
            waiting = []
        waiting.append(group)
    yield sheet.part(_joined(waiting))


def _joined(groups: Sequence[Group]) -> list[Group]:
    """Return groups, those in a row that are of the same name as one."""
    found: list[Group] = []
    for group in groups:
        if found and found[-1].name == group.name:
            columns = [*found[-1].columns, *group.columns]
            found[-1] = Group(group.name, columns)
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
            height = height_on_page([*pages[-1], sheet], style, below, TEXT_WIDTH)
            if pages[-1] and height > HEIGHT:
                pages.append([])
            pages[-1].append(sheet)
    return pages


def _cut(sheet: Sheet, style: Style, notes: Sequence[str]) -> Iterator[Sheet]:
    """Yield pieces of a sheet that are no higher than a page, of about as many rows each; of the page, notes may take
    half."""
    for_notes = min(height_on_page([], style, notes, TEXT_WIDTH), HEIGHT / 2)
    left_over = HEIGHT - for_notes - height_on_page([sheet], style, [], TEXT_WIDTH)
    most = sheet.rows + int(left_over // style.leading)
    count = 1
    if most < sheet.rows:
        rows = max(1, most - bool(sheet.below))
        count = math.ceil(sheet.rows / rows)
    ends = [round(sheet.rows * k / count) for k in range(count + 1)]
    cuts = [end - 1 if end in sheet.below else end for end in ends]
    for start, end in pairwise(cuts):
        yield sheet.with_rows(range(start, end))


def _floats(pages: Sequence[Sequence[Sheet]], style: Style, words: Words) -> str:
    """Return a float for each page; the notes stand in the last one."""
    floats = []
    for n, page in enumerate(pages):
        own = words
        if n < len(pages) - 1:
            own = replace(own, notes=["Continued in the next table"])
        if n:
            caption = f"{words.caption.rstrip('.')}, continued."
            own = replace(own, caption=caption, label=f"{words.label}-{n + 1}")
        floats.append(_float(page, style, own))
    return "\n\n".join(floats)


def _float(sheets: Sequence[Sheet], style: Style, words: Words) -> str:
    """Return one float: in a column where all fits one, else over the whole text."""
    widest = max(width_on_page(sheet, style) for sheet in sheets)
    height = height_on_page(sheets, style, words.notes, COLUMN_WIDTH)
    in_column = widest <= COLUMN_WIDTH and height <= HEIGHT
    name = "table" if in_column else "table*"
    tabulars = [_tabular(sheet) for sheet in sheets]
    lines = [
        rf"\begin{{{name}}}",
        r"\centering",
        r"\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{_one_line(words.caption)}}}",
        rf"\label{{{words.label}}}",
        *words.setup,
        rf"{style.command}\setlength{{\tabcolsep}}{{{style.gap:g}pt}}",
        "\n\\par\\medskip\n".join(tabulars),
        *_below(words.notes),
        rf"\end{{{name}}}",
    ]
    return "\n".join(lines)


def _below(notes: Sequence[str]) -> list[str]:
    """Return the notes in small type, over the width of the float."""
    if not notes:
        return []
    sentences = [f"{_one_line(note).rstrip('.')}." for note in notes]
    return [
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}\footnotesize\raggedright",
        *sentences,
        r"\end{minipage}",
    ]


def _one_line(text: str) -> str:
    """Return a text as LaTeX without an empty line, which would end what it stands in."""
    return " ".join(map(escape, _lines(text)))


def _tabular(sheet: Sheet) -> str:
    columns = list(sheet.left)
    for group in sheet.groups:
        columns += group.columns
    layout = "".join(column.layout for column in columns)
    head = [column.head.text for column in columns]
    body = []
    for n in range(sheet.rows):
        cells = [column.cells[n].text for column in columns]
        body.append(_row(cells))
    lines = [
        rf"\begin{{tabular}}{{@{{}}{layout}@{{}}}}",
        r"\toprule",
        *_names(sheet),
        _row(head),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def _names(sheet: Sheet) -> list[str]:
    """Return two lines: the names of the groups over their columns, and the rules below them; none without names."""
    if not any(group.name for group in sheet.groups):
        return []
    names = [""] * len(sheet.left)
    rules = []
    first = len(sheet.left) + 1
    for group in sheet.groups:
        width = len(group.columns)
        last = first + width - 1
        names.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group.name)}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{last}}}")
        first += width
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
        return instead, _lines(text)
    if below:
        rest = f"{more}{stop}{rest}"
    return f"{line.rstrip('.')}.", _lines(rest)


def _lines(text: str) -> list[str]:
    """Return the lines of a text that are not empty."""
    return [line for line in text.split("\n") if line]
