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
SETUP = r"\sisetup{separate-uncertainty, table-align-uncertainty=false, retain-zero-uncertainty, detect-weight}"


def to_latex(table: Table, siunitx: bool = False, second: bool = False, room: float = TEXT_WIDTH) -> str:
    """Return a table for the booktabs package; with `siunitx`, in S columns of its version 3.

    With `second`, what comes after the best is underlined. The table is no wider than `room`, in points.
    """

    def sheet_of(lowered: bool) -> Sheet:
        left = Column(piece_of("method"), "l", [piece_of(row) for row in table.rows])
        groups = []
        for benchmark, places in groupby(table.columns, key=lambda place: place[0]):
            columns = [_column(table, place, siunitx, lowered, second) for place in places]
            groups.append(Group(benchmark, columns))
        return Sheet([left], groups)

    below = [table.caption.rstrip("."), *table.notes]
    if second:
        below.append("Second best underlined")
    words = Words(_caption(table), label_of(*_benchmarks(table)), below, [SETUP] if siunitx else [], room)
    return typeset([sheet_of], words, [style for style in STYLES if not (siunitx and style.lowered)])


def _benchmarks(table: Table) -> list[str]:
    return list(dict.fromkeys(benchmark for benchmark, _ in table.columns))


def _caption(table: Table) -> str:
    """Return what the user wrote, or the metrics and the benchmarks."""
    if table.title:
        return f"{table.title}."
    benchmarks = _benchmarks(table)
    where = ", ".join(benchmarks)
    metrics = ", ".join(dict.fromkeys(METRICS[metric].label for _, metric in table.columns))
    if len(metrics) + len(where) > CAPTION_LETTERS:
        where = f"{len(benchmarks)} benchmarks"
    return f"{metrics} on {where}."


def _column(table: Table, place: Place, siunitx: bool, lowered: bool, second: bool) -> Column:
    """Return the column of a metric on a benchmark."""
    entries = [table.entries[row, place] for row in table.rows]
    head = piece_of(METRICS[place[1]].label)
    if siunitx:
        cells = [_in_s_column(entry, place) for entry in entries]
        return Column(head._replace(text=f"{{{head.text}}}"), _s_column(entries, place), cells)
    return Column(head, "r", [entry_piece(entry, place[1], lowered, second) for entry in entries])


def entry_piece(entry: Entry, metric: str, lowered: bool = False, second: bool = False, mark: str = "") -> Piece:
    """Return an entry as mathematics, with what stands after it."""
    text, behind = show(entry, METRICS[metric], "±"), after(entry) + mark
    if entry.n == 0:
        return Piece(text + escape(behind), width_of(text + behind))
    return number_piece(text, behind, lowered, r"\mathbf" if entry.best else r"\underline" * (second and entry.second))


def number_piece(text: str, behind: str = "", lowered: bool = False, command: str = "") -> Piece:
    """Return a number and its spread, as in "1.00 ± 0.10", as mathematics; the spread as an index where `lowered`."""
    mean, _, spread = text.partition(" ± ")
    formula, width = mean, width_of(mean.replace("-", "−"))
    if spread and not lowered:
        formula, width = rf"{mean} \pm {spread}", width + width_of(f"±{spread}") + 0.45
    if command:
        formula, width = rf"{command}{{{formula}}}", width * BOLD
    if spread and lowered:
        formula, width = rf"{formula}_{{\pm {spread}}}", width + LOWERED * width_of(f"±{spread}")
    return Piece(f"${formula}${escape(behind)}", width + width_of(behind))


def _in_s_column(entry: Entry, place: Place) -> Piece:
    """Return an entry for an S column, which takes a number as it is; all else is in braces."""
    text, behind = show(entry, METRICS[place[1]], r"\pm"), escape(after(entry))
    width = width_of(show(entry, METRICS[place[1]], "±") + after(entry)) * BOLD
    if not entry.n:
        return Piece(f"{{{text}}}", width)
    number = rf"\bfseries {text}" if entry.best else text
    return Piece(number + (rf" {{\,{behind.lstrip()}}}" if behind else ""), width)


def _s_column(entries: Sequence[Entry], place: Place) -> str:
    """Return an S column with room for the digits of its longest number and spread, and for what follows them."""
    shown = [show(entry, METRICS[place[1]], "±") for entry in entries]
    numbers = [text.partition(" ± ") for text in shown if text[-1].isdigit()]
    means = [mean for mean, _, _ in numbers]
    if not means or any("e" in mean for mean in means):
        return "S"
    whole = max(len(mean.lstrip("-").split(".")[0]) for mean in means)
    decimals = max(len(mean.partition(".")[2]) for mean in means)
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
        cells = [piece_of(row[n]) for row in listing.rows]
        columns.append(Column(piece_of(name), "l" if n < listing.left else "r", cells))
    left, right = columns[: listing.left], columns[listing.left :]
    caption, notes = headline(listing.caption, ", ".join(listing.header[listing.left :]))
    label = label_of(*caption.split()[:6])
    sheet = Sheet(left, [Group("", [column]) for column in right])
    return typeset([lambda _: sheet], Words(caption, label, notes, room=room))
