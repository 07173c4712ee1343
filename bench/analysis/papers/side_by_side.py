"""A comparison with a paper as LaTeX in the layout of papers: methods in rows, benchmarks in columns, and in each cell
the published number beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.analysis.columns import METRICS
from bench.analysis.latex.layout import Words, label_of, typeset
from bench.analysis.latex.sheet import TEXT_WIDTH, Column, Group, Piece, Sheet, piece_of, width_of
from bench.analysis.latex.tables import LOWERED, entry_piece, number_piece
from bench.analysis.latex.text import escape
from bench.analysis.papers.listing import COPIED, about_lines, common_setting, rule_for
from bench.analysis.papers.paper import Line

VERDICTS = {"agrees": " =", "above": " ↑", "below": " ↓"}  # behind our number
OURS = Piece(r"\quad ours", 3.2)  # names a line below the paper's
MARKS = "= agrees with the paper, ↑ above it, ↓ below it, no mark: no verdict"


def paper_to_latex(lines: Sequence[Line], protocol: str, room: float = TEXT_WIDTH) -> str:
    """Return each of a paper's tables beside ours, no wider than `room`, in points: in as many parts as that takes."""
    tables: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        tables.setdefault((line.row.table, line.row.source), []).append(line)
    return "\n\n".join(_table_to_latex(own, protocol, room) for own in tables.values())


def _table_to_latex(lines: Sequence[Line], protocol: str, room: float) -> str:
    """Return one table, of which `lines` are."""
    rows, about = _rows(lines), lines[0].row
    caption = f"{about.source}, {about.table}: published numbers beside ours, protocol {protocol}."
    label = label_of(about.table, about.source)  # the table first: a long label is cut
    words = Words(caption, label, _notes(lines, protocol), room=room)
    return typeset([partial(_beside, rows, lines), partial(_below, rows, lines)], words)


Row = dict[tuple[str, str], Line]  # by benchmark, as printed, and metric


def _rows(lines: Sequence[Line]) -> dict[str, Row]:
    """Return the lines of each row, by its name, in the paper's order.

    Where a paper prints a method twice on a benchmark, under other settings, the later ones are rows of their own.
    """
    special = {}
    for benchmark in dict.fromkeys(line.row.benchmark for line in lines):
        own = [line.row.setting for line in lines if line.row.benchmark == benchmark]
        special.update({(benchmark, setting): what for setting, what in common_setting(own)[1].items()})
    rows: dict[str, Row] = {}
    for line in lines:
        name = f"{line.row.method} {COPIED}" if line.row.copied else line.row.method
        place, count = (line.row.benchmark, line.metric), 1
        setting = special[line.row.benchmark, line.row.setting]
        label = f"{name} ({setting})" if setting else name
        while place in rows.get(label, {}):
            count += 1
            label = f"{name} [{count}]"
        rows.setdefault(label, {})[place] = line
    return rows


def _beside(rows: dict[str, Row], lines: Sequence[Line], lowered: bool) -> Sheet:
    """Return the table with our numbers in columns beside the paper's, with spreads as indices or not."""
    left = Column(piece_of("method"), "l", [piece_of(name) for name in rows])
    groups = []
    for benchmark, metrics in _columns(lines).items():
        columns: list[Column] = []
        for metric in metrics:
            own = [row.get((benchmark, metric)) for row in rows.values()]
            columns.append(Column(piece_of(METRICS[metric].label), "r", [_theirs(line, lowered) for line in own]))
            columns.append(Column(piece_of("ours"), "r", [_ours(line, lowered) for line in own]))
        groups.append(Group(benchmark, columns))
    return Sheet([left], groups)


def _below(rows: dict[str, Row], lines: Sequence[Line], lowered: bool) -> Sheet:
    """Return the table with our numbers on a line below the paper's, where there are some."""
    groups = []
    for benchmark, metrics in _columns(lines).items():
        columns = []
        for metric in metrics:
            cells: list[Piece] = []
            for row in rows.values():
                line = row.get((benchmark, metric))
                cells += [_theirs(line, lowered), _ours(line, lowered)] if _has_run(row) else [_theirs(line, lowered)]
            columns.append(Column(piece_of(METRICS[metric].label), "r", cells))
        groups.append(Group(benchmark, columns))
    names: list[Piece] = []
    for name, row in rows.items():
        names += [piece_of(name), OURS] if _has_run(row) else [piece_of(name)]
    below = frozenset(n for n, name in enumerate(names) if name is OURS)
    return Sheet([Column(piece_of("method"), "l", names)], groups, below)


def _has_run(row: Row) -> bool:
    return any(line.ours.n for line in row.values())


def _columns(lines: Sequence[Line]) -> dict[str, list[str]]:
    """Return the metrics of each benchmark, in the paper's order."""
    found: dict[str, list[str]] = {}
    for line in lines:
        metrics = found.setdefault(line.row.benchmark, [])
        if line.metric not in metrics:
            metrics.append(line.metric)
    return found


def _theirs(line: Line | None, lowered: bool) -> Piece:
    return piece_of("") if line is None else number_piece(str(line.number), lowered=lowered)


def _ours(line: Line | None, lowered: bool) -> Piece:
    """Return our number, and how it compares; nothing where there is none."""
    if line is None or not line.ours.n:
        return piece_of("--" if line else "")
    facts = [f"n={line.ours.n}"] if line.ours.n < (line.row.n or 0) else []
    facts += [] if line.budget else [f"{line.epochs} ep."]
    piece = entry_piece(line.ours, line.metric, lowered, mark=VERDICTS.get(line.verdict, ""))
    if not facts:
        return piece
    small = f"({', '.join(facts)})"
    return Piece(rf"{piece.text}~{{\scriptsize {escape(small)}}}", piece.width + 0.35 + LOWERED * width_of(small))


def _notes(lines: Sequence[Line], protocol: str) -> list[str]:
    """Return what holds for each benchmark and for all."""
    notes: list[str] = []
    for benchmark in _columns(lines):
        notes += about_lines([line for line in lines if line.row.benchmark == benchmark], named=False)
    other_budget = any(line.ours.n and not line.budget for line in lines)
    others = ["ep.: epochs a task, where not the paper's"] if other_budget else []
    return [*dict.fromkeys(notes), MARKS, *others, *rule_for(lines, protocol).split("\n")]
