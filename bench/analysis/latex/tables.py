"""Tables and listings as floats of LaTeX, for the booktabs package."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from bench.analysis.columns import METRICS
from bench.analysis.compare import Listing
from bench.analysis.latex.layout import CAPTION_LETTERS, Words, headline, label_of, typeset
from bench.analysis.latex.sheet import STYLES, TEXT_WIDTH, Column, Group, Piece, Sheet, piece_of, width_of
from bench.analysis.latex.text import escape
from bench.analysis.table import Column as Place
from bench.analysis.table import Entry, Table, after, show

BOLD = 1.16  # how much wider digits in bold are
LOWERED = 0.87  # how much narrower an index is
SPACES = 0.45  # quads, around the sign before a spread
SETUP = r"\sisetup{separate-uncertainty, table-align-uncertainty=false, retain-zero-uncertainty, detect-weight}"


def to_latex(table: Table, siunitx: bool = False, second: bool = False, room: float = TEXT_WIDTH) -> str:
    """Return a table for the booktabs package; with `siunitx`, in S columns of its version 3.

    With `second`, what comes after the best is underlined. The table is no wider than `room`, in points.
    """

    def sheet_of(lowered: bool) -> Sheet:
        methods = [piece_of(row) for row in table.rows]
        left = Column(piece_of("method"), "l", methods)
        groups = []
        for benchmark, places in groupby(table.columns, key=lambda place: place[0]):
            columns = [_column(table, place, siunitx, lowered, second) for place in places]
            groups.append(Group(benchmark, columns))
        return Sheet([left], groups)

    below = [table.caption.rstrip("."), *table.notes]
    if second:
        below.append("Second best underlined")
    label = label_of(*_benchmarks(table))
    setup = [SETUP] if siunitx else []
    styles = [style for style in STYLES if not (siunitx and style.lowered)]  # an S column writes its spread by itself
    words = Words(_caption(table), label, below, setup, room)
    return typeset([sheet_of], words, styles)


def _benchmarks(table: Table) -> list[str]:
    return list(dict.fromkeys(benchmark for benchmark, _ in table.columns))


def _caption(table: Table) -> str:
    """Return what the user wrote, or the metrics and the benchmarks."""
    if table.title:
        return f"{table.title}."
    benchmarks = _benchmarks(table)
    where = ", ".join(benchmarks)
    labels = dict.fromkeys(METRICS[metric].label for _, metric in table.columns)
    metrics = ", ".join(labels)
    if len(metrics) + len(where) > CAPTION_LETTERS:
        where = f"{len(benchmarks)} benchmarks"
    return f"{metrics} on {where}."


def _column(table: Table, place: Place, siunitx: bool, lowered: bool, second: bool) -> Column:
    """Return the column of a metric on a benchmark."""
    _, metric = place
    entries = [table.entries[row, place] for row in table.rows]
    head = piece_of(METRICS[metric].label)
    if siunitx:
        braced = head._replace(text=f"{{{head.text}}}")
        cells = [_in_s_column(entry, metric) for entry in entries]
        return Column(braced, _s_column(entries, metric), cells)
    cells = [entry_piece(entry, metric, lowered, second) for entry in entries]
    return Column(head, "r", cells)


def entry_piece(entry: Entry, metric: str, lowered: bool = False, second: bool = False, mark: str = "") -> Piece:
    """Return an entry as mathematics, with what stands after it."""
    text = show(entry, METRICS[metric], "±")
    behind = after(entry) + mark
    if entry.n == 0:
        return Piece(text + escape(behind), width_of(text + behind))
    command = ""
    if entry.best:
        command = r"\mathbf"
    elif second and entry.second:
        command = r"\underline"
    return number_piece(text, behind, lowered, command)


def number_piece(text: str, behind: str = "", lowered: bool = False, command: str = "") -> Piece:
    """Return a number and its spread, as in "1.00 ± 0.10", as mathematics; the spread as an index where `lowered`."""
    mean, _, spread = text.partition(" ± ")
    formula = mean
    width = width_of(mean.replace("-", "−"))
    width_of_spread = width_of(f"±{spread}")
    if spread and not lowered:
        formula = rf"{mean} \pm {spread}"
        width = width + width_of_spread + SPACES  # in this order, for a sum of floats depends on it
    if command:
        formula = rf"{command}{{{formula}}}"
        width *= BOLD
    if spread and lowered:
        formula = rf"{formula}_{{\pm {spread}}}"
        width += LOWERED * width_of_spread
    return Piece(f"${formula}${escape(behind)}", width + width_of(behind))


def _in_s_column(entry: Entry, metric: str) -> Piece:
    """Return an entry for an S column, which takes a number as it is; all else is in braces."""
    text = show(entry, METRICS[metric], r"\pm")
    printed = show(entry, METRICS[metric], "±") + after(entry)
    width = width_of(printed) * BOLD
    if not entry.n:
        return Piece(f"{{{text}}}", width)
    number = rf"\bfseries {text}" if entry.best else text
    behind = escape(after(entry)).lstrip()
    if behind:
        number += rf" {{\,{behind}}}"
    return Piece(number, width)


def _s_column(entries: Sequence[Entry], metric: str) -> str:
    """Return an S column with room for the digits of its longest number and spread, and for what follows them."""
    shown = [show(entry, METRICS[metric], "±") for entry in entries]
    numbers = [text.partition(" ± ") for text in shown if text[-1].isdigit()]
    means = [mean for mean, _, _ in numbers]
    if not means or any("e" in mean for mean in means):
        return "S"
    parts = [mean.lstrip("-").partition(".") for mean in means]
    whole = max(len(integer) for integer, _, _ in parts)
    decimals = max(len(fraction) for _, _, fraction in parts)
    spread = max(len(sd.replace(".", "")) for _, _, sd in numbers)
    behind = max((escape(after(entry)).lstrip() for entry in entries), key=len)
    sign = "-" if any(mean.startswith("-") for mean in means) else ""
    room = f"({spread})" if spread else ""
    if behind:
        room += rf"{{\,{behind}}}"
    return f"S[table-format={sign}{whole}.{decimals}{room}]"


def listing_to_latex(listing: Listing, room: float = TEXT_WIDTH) -> str:
    """Return a small table of text as LaTeX, no wider than `room`, in points."""
    columns = []
    for n, name in enumerate(listing.header):
        alignment = "l" if n < listing.left else "r"
        cells = [piece_of(row[n]) for row in listing.rows]
        columns.append(Column(piece_of(name), alignment, cells))
    left, right = columns[: listing.left], columns[listing.left :]
    groups = [Group("", [column]) for column in right]
    sheet = Sheet(left, groups)
    names = ", ".join(listing.header[listing.left :])
    caption, notes = headline(listing.caption, names)
    first_words = caption.split()[:6]
    words = Words(caption, label_of(*first_words), notes, room=room)
    return typeset([lambda _: sheet], words)
