"""A table on a page: type as large as it fits, or parts of it below each other, with caption, label and notes.

Unless told otherwise it is laid out for the narrowest usual text, that of a one-column article, 345 pt; what fits a
column of a two-column one, 230 pt, is set in a column there. Widths are estimated from those of Computer Modern, on the
safe side.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from bench.analysis.latex.text import escape

TEXT_WIDTH, COLUMN_WIDTH = 345.0, 229.0  # points
HEIGHT = 480.0  # points that the parts and notes of one float may take, so that it is no higher than a page
NOTE_LEADING = 9.5  # points from line to line of the notes
CAPTION_LETTERS = 200  # about three lines
BOLD = 1.16  # how much wider digits in bold are
LOWERED = 0.87  # how much narrower an index is
LETTERS = 75  # of a line of notes
QUADS = {".,:;'|!ijl": 0.28, "()[]ft ": 0.39, "mMW%@": 0.98, "w±−+=<>†‡→": 0.78}  # of these signs


class Style(NamedTuple):
    """A size of type, and whether spreads stand as indices."""

    command: str
    quad: float  # points
    leading: float  # points from line to line
    gap: float  # points on both sides of a column
    lowered: bool


STYLES = (
    Style("", 10.0, 12.0, 6.0, False),
    Style(r"\small", 9.25, 11.0, 4.0, False),
    Style(r"\footnotesize", 8.5, 9.5, 3.0, False),
    Style(r"\footnotesize", 8.5, 9.5, 2.5, True),
)


class Piece(NamedTuple):
    """What stands in a cell: LaTeX, and its width in quads."""

    text: str
    width: float


@dataclass(frozen=True)
class Column:
    """A column of numbers: its head, its letter in the layout, and its cells from top to bottom."""

    head: Piece
    layout: str
    cells: Sequence[Piece]

    @property
    def width(self) -> float:
        """Return the width of its widest cell, in quads."""
        return max(piece.width for piece in (self.head, *self.cells))


@dataclass(frozen=True)
class Group:
    """Columns under a common name, such as a benchmark; '' for none."""

    name: str
    columns: Sequence[Column]


@dataclass(frozen=True)
class Sheet:
    """A table: the columns that name its rows, which every part repeats, and groups of others."""

    left: Sequence[Column]
    groups: Sequence[Group]


@dataclass(frozen=True)
class Words:
    """What stands around a table."""

    caption: str
    label: str
    notes: Sequence[str]
    setup: Sequence[str] = ()  # lines of LaTeX
    room: float = TEXT_WIDTH  # points of the text


def piece_of(text: str) -> Piece:
    """Return a plain text as a piece."""
    return Piece(escape(text), width_of(text))


def width_of(text: str) -> float:
    """Return about how wide a plain text is, in quads."""
    return sum(map(_sign_width, text))


def _sign_width(sign: str) -> float:
    for signs, width in QUADS.items():
        if sign in signs:
            return width
    if sign.isdigit():
        return 0.5
    return 0.76 if sign.isupper() or not sign.isascii() else 0.54


def typeset(ways: Sequence[Callable[[bool], Sheet]], words: Words, styles: Sequence[Style] = STYLES) -> str:
    """Return the floats of a table, in the first way and style in which it fits; where none does, in parts.

    Each of the `ways` makes the table, with spreads as indices or not.
    """
    for sheet_of, style in product(ways, styles):
        sheet = sheet_of(style.lowered)
        if _width(sheet, style) <= words.room and _height([sheet], style, words.notes, TEXT_WIDTH) <= HEIGHT:
            return _floats([sheet], style, words)
    return _floats(list(_parts(sheet, style, words.room)), style, words)


def _width(sheet: Sheet, style: Style) -> float:
    """Return the width of a sheet in points."""
    names = sum(column.width * style.quad + 2 * style.gap for column in sheet.left)
    return names + sum(_group_width(group, style) for group in sheet.groups) - 2 * style.gap


def _group_width(group: Group, style: Style) -> float:
    """Return the width of a group in points: of its columns, or of its name where that is wider."""
    columns = sum(column.width * style.quad + 2 * style.gap for column in group.columns)
    return max(columns, width_of(group.name) * style.quad + 2 * style.gap)


def _parts(sheet: Sheet, style: Style, room: float) -> Iterator[Sheet]:
    """Yield sheets that fit, each with as many of the groups as have room; a group that has none by itself is cut."""
    pieces: list[Group] = []
    for group in sheet.groups:
        alone = _width(replace(sheet, groups=[group]), style) <= room
        pieces += [group] if alone else [replace(group, columns=[column]) for column in group.columns]
    waiting: list[Group] = []
    for group in pieces:
        if waiting and _width(replace(sheet, groups=_joined([*waiting, group])), style) > room:
            yield replace(sheet, groups=_joined(waiting))
            waiting = []
        waiting.append(group)
    yield replace(sheet, groups=_joined(waiting))


def _joined(groups: Sequence[Group]) -> list[Group]:
    """Return groups, those in a row that are of the same name as one."""
    found: list[Group] = []
    for group in groups:
        if found and found[-1].name == group.name:
            found[-1] = Group(group.name, [*found[-1].columns, *group.columns])
        else:
            found.append(group)
    return found


def _floats(sheets: Sequence[Sheet], style: Style, words: Words) -> str:
    """Return the parts of a table in as few floats as have room for them; the notes stand in the last one."""
    pages: list[list[Sheet]] = [[]]
    for n, sheet in enumerate(sheets):
        notes = words.notes if n == len(sheets) - 1 else []
        if pages[-1] and _height([*pages[-1], sheet], style, notes, TEXT_WIDTH) > HEIGHT:
            pages.append([])
        pages[-1].append(sheet)
    floats = []
    for n, page in enumerate(pages):
        own = replace(words, notes=words.notes if n == len(pages) - 1 else ["Continued in the next table"])
        if n:
            own = replace(own, caption=f"{words.caption.rstrip('.')}, continued.", label=f"{words.label}-{n + 1}")
        floats.append(_float(page, style, own))
    return "\n\n".join(floats)


def _height(sheets: Sequence[Sheet], style: Style, notes: Sequence[str], width: float) -> float:
    """Return about how high sheets are with notes below them that have so much width, in points."""
    rows = sum(len(sheet.left[0].cells) + 3 for sheet in sheets)
    lines = sum(map(len, notes)) // int(LETTERS * width / TEXT_WIDTH) + 1
    return rows * style.leading + 8 * len(sheets) + lines * NOTE_LEADING


def _float(sheets: Sequence[Sheet], style: Style, words: Words) -> str:
    """Return one float: in a column where all fits one, else over the whole text."""
    widest = max(_width(sheet, style) for sheet in sheets)
    in_column = widest <= COLUMN_WIDTH and _height(sheets, style, words.notes, COLUMN_WIDTH) <= HEIGHT
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
    for n in range(len(sheet.left[0].cells)):
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
