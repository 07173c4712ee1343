"""What may be said of a table: which entries differ from a reference row, and how methods rank over benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bench.analysis import stats
from bench.analysis.columns import METRICS
from bench.analysis.labels import without_marks
from bench.analysis.table import Column, Entry, Table
from bench.config import nearest, require
from bench.seeding import derive

BEYOND = (  # what tests of more pairs than LIMIT are
    f"Beyond {stats.LIMIT} seeds, p is from {stats.FLIPS:,} random choices of signs, and never below "
    f"{1 / (stats.FLIPS + 1):.0e}; Wilcoxon's only where differences are tied"
)
FEWEST_METHODS = 3  # that a ranking leaves benchmarks out for
FEWEST_BENCHMARKS = 3  # below, neither Friedman's test nor a critical difference says anything


@dataclass(frozen=True)
class Listing:
    """A small table of text beside the main one, rendered by `bench.analysis.render`."""

    header: list[str]
    rows: list[list[str]]
    caption: str
    left: int = 1  # columns of text, aligned left


def compare_and_rank(
    table: Table, reference: str | None, by: Sequence[str], alpha: float
) -> tuple[Table, list[Listing]]:
    """Compare with a reference row, if there is one, and rank by each of the metrics `by` that is a quality, over the
    benchmarks of each protocol and scenario by themselves.

    Return the table, with marks where it was compared, and the listings.
    """
    listings = []
    if reference is not None:
        table, comparison = mark_differences(table, reference, alpha)
        listings.append(comparison)
    qualities = [metric for metric in by if METRICS[metric].quality]
    for part in rankings(table).values():
        listings += [rank_rows(part, metric, alpha) for metric in qualities]
    return table, listings


def rankings(table: Table) -> dict[tuple[str, str], Table]:
    """Return the columns that may be ranked together, by their protocol and scenario."""
    found: dict[tuple[str, str], list[Column]] = {}
    for column in table.columns:
        if column[0] in table.scenarios:  # not where no cell could run
            found.setdefault((table.protocols[column[0]], table.scenarios[column[0]]), []).append(column)
    return {kind: replace(table, columns=columns) for kind, columns in found.items()}


def mark_differences(table: Table, reference: str, alpha: float, seed: int = 0) -> tuple[Table, Listing]:
    """Return the table with what differs from the `reference` row marked, and the comparisons behind the marks.

    Only qualities are compared, over the seeds that both rows have. `seed` is of the bootstrap. An unknown row, or an
    alpha that is no probability, is a `UserError`.
    """
    require(0 < alpha < 1, f"--alpha is a probability between 0 and 1, not {alpha:g}")
    base = _row(table, reference)
    pairs = _compared(table, base, np.random.default_rng(derive("bootstrap", seed)))
    entries = dict(table.entries)
    for key, pair in pairs.items():
        if pair.sign_flip <= alpha:
            entries[key] = replace(entries[key], differs="↑" if pair.mean > 0 else "↓")
    note = _verdict(without_marks(base), [pair.n for pair in pairs.values()], alpha)
    return replace(table, entries=entries, notes=[*table.notes, note]), _comparison(without_marks(base), pairs)


def _compared(table: Table, base: str, generator: np.random.Generator) -> dict[tuple[str, Column], stats.Paired]:
    """Return every other row against `base`, in every column that holds a quality of both."""
    pairs = {}
    for column in table.columns:
        for row in table.rows:
            entries = table.entries[row, column], table.entries[base, column]
            defined = not any(entry.undefined for entry in entries)
            if METRICS[column[1]].quality and defined and row != base:
                pairs[row, column] = stats.paired(common_differences(*entries), generator)
    return pairs


def _row(table: Table, name: str) -> str:
    """Return the row of that name, marks left aside. An unknown one is a `UserError`."""
    known = {without_marks(row): row for row in table.rows}
    if name not in known:
        raise nearest("row in --compare", name, known)
    return known[name]


def common_differences(entry: Entry, base: Entry) -> list[float]:
    """Return the entry minus the other, in points, for each seed that both have."""
    common = entry.values.keys() & base.values.keys()
    return [entry.values[seed] - base.values[seed] for seed in sorted(common)]


def _verdict(base: str, counts: list[int], alpha: float) -> str:
    """Return what the marks mean; or why there can be none."""
    needed = stats.pairs_needed(alpha)
    most = max(counts, default=0)
    if most < needed:
        seeds = "1 common seed" if most == 1 else f"{most} common seeds"
        return (
            f"Nothing is marked against {base}: with {seeds} no two-sided exact test, sign-flip or Wilcoxon, "
            f"gets below p = {stats.smallest_p(most):.3g}, and alpha is {alpha:g}; {needed} seeds are needed"
        )
    few = f"; {needed} common seeds are needed, so some entries cannot be marked" if min(counts) < needed else ""
    beyond = f". {BEYOND}" if most > stats.LIMIT else ""
    return (
        f"↑ above and ↓ below {base}: two-sided exact sign-flip test over the common seeds, at most n = {most}, "
        f"p at most {alpha:g}, each test by itself, not corrected for their number{few}{beyond}"
    )


def _comparison(base: str, pairs: Mapping[tuple[str, Column], stats.Paired]) -> Listing:
    """Return every comparison with `base` as text, a line each."""
    header = ["benchmark", "metric", "method", "difference", "95 % interval", "p sign-flip", "p Wilcoxon", "n"]
    rows = [_comparison_line(row, column, pair) for (row, column), pair in pairs.items()]
    caption = (
        f"Each method minus {base}, in points, over the n seeds that both have. Interval of the mean difference: "
        "percentile bootstrap of 9,999 resamples, too narrow for few seeds. p: two-sided, exact, each test by itself."
    )
    if any(pair.n > stats.LIMIT for pair in pairs.values()):
        caption += f" {BEYOND}."
    return Listing(header, rows, caption, left=3)


def _comparison_line(row: str, column: Column, pair: stats.Paired) -> list[str]:
    benchmark, metric = column
    low, high = _number(pair.low, "+.2f"), _number(pair.high, "+.2f")
    interval = "--" if np.isnan(pair.low) else f"[{low}, {high}]"
    tests = [_number(p, ".3g") for p in (pair.sign_flip, pair.wilcoxon)]
    return [benchmark, METRICS[metric].label, row, _number(pair.mean, "+.2f"), interval, *tests, str(pair.n)]


class Ranked(NamedTuple):
    """The methods and benchmarks of a ranking, and scores and ranks, both (columns, rows)."""

    columns: list[Column]
    rows: list[str]
    scores: np.ndarray
    ranks: np.ndarray


def rank_rows(table: Table, metric: str, alpha: float) -> Listing:
    """Return methods by their mean rank over benchmarks, with the critical difference or the reason why there is none.

    Ranked are the methods and benchmarks of `ranked`. An alpha that is no probability is a `UserError`.
    """
    require(0 < alpha < 1, f"--alpha is a probability between 0 and 1, not {alpha:g}")
    columns, rows, scores, ranks = ranked(table, metric)
    means = dict(zip(rows, ranks.mean(axis=0), strict=True))
    body = []
    for row in sorted(rows, key=means.__getitem__):
        own = [f"{place:g}" for place in ranks[:, rows.index(row)]]
        body.append([row, *own, f"{means[row]:.2f}"])
    where = " and ".join(dict.fromkeys(table.scenarios[benchmark] for benchmark, _ in columns))
    caption = f"Ranks by the mean {METRICS[metric].label} in {where}, 1 is best. {_spread(scores, alpha)}"
    caption += _left_out(table, metric, columns, rows)
    return Listing(["method", *(benchmark for benchmark, _ in columns), "mean rank"], body, caption)


def _left_out(table: Table, metric: str, columns: Sequence[Column], rows: Sequence[str]) -> str:
    """Return sentences on the benchmarks and methods that are not ranked; '' if all are."""
    others = [column for column in table.columns if column[1] == metric and column not in columns]
    candidates = _candidates(table, metric)
    unlike = [benchmark for benchmark, _ in others if (benchmark, metric) not in candidates]
    gone = [benchmark for benchmark, _ in others if (benchmark, metric) in candidates]
    absent = [row for row in table.rows if row not in table.upper and row not in rows]
    text = f" Not of the recipe's budget in fp32, and left out: {', '.join(unlike)}." if unlike else ""
    if gone:
        text += f" Benchmarks left out, because too few methods are complete there: {', '.join(gone)}."
    if absent:
        text += f" Not ranked, because an entry on some benchmark is missing or incomplete: {', '.join(absent)}."
    return text


def ranked(table: Table, metric: str) -> Ranked:
    """Return what can be ranked by a metric: under the recipe's budget in fp32 where there is some, the largest block
    of methods and benchmarks that is complete. No upper bound competes."""
    columns = _candidates(table, metric)
    competing = [row for row in table.rows if row not in table.upper]
    complete = {row: frozenset(c for c in columns if table.entries[row, c].complete) for row in competing}
    block = _largest_block(columns, list(complete.values()))
    rows = [row for row, own in complete.items() if own >= set(block)]
    scores = _scores(table, rows, block)
    return Ranked(block, rows, scores, stats.rank_scores(scores) if rows else scores)


def _candidates(table: Table, metric: str) -> list[Column]:
    """Return the columns of a metric under the recipe's budget in fp32; where there are none, all of it."""
    columns = [column for column in table.columns if column[1] == metric]
    return [column for column in columns if column[0] in table.usual] or columns


def _largest_block(columns: Sequence[Column], complete: Sequence[frozenset[Column]]) -> list[Column]:
    """Return the columns of the largest block of entries, given those that each row has complete.

    Blocks of at least three rows come first, then those of as many columns as a critical difference takes, then those
    of the most entries.
    """
    blocks = {frozenset(columns)}
    for own in set(complete):
        blocks |= {block & own for block in blocks}  # in the end all that rows have in common

    def size(block: frozenset[Column]) -> tuple[int, int, int, list[int]]:
        rows = sum(own >= block for own in complete)
        places = [-place for place, column in enumerate(columns) if column in block]  # of two alike the first
        return min(rows, FEWEST_METHODS), min(len(block), FEWEST_BENCHMARKS), rows * len(block), places

    best = max((block for block in blocks if block), key=size, default=frozenset(columns))
    return [column for column in columns if column in best]


def _scores(table: Table, rows: Sequence[str], columns: Sequence[Column]) -> np.ndarray:
    """Return means (columns, rows) as tables print them, turned so that higher is better."""
    scores = np.empty((len(columns), len(rows)))
    for i, column in enumerate(columns):
        sign = 1 if METRICS[column[1]].best == "max" else -1
        scores[i] = [sign * round(table.entries[row, column].mean, 2) for row in rows]
    return scores


def _spread(scores: np.ndarray, alpha: float) -> str:
    """Return a sentence on Friedman's test and the critical difference of scores (benchmarks, methods)."""
    benchmarks, methods = scores.shape
    if methods < 2:
        return "No critical difference: at least 2 methods are needed."
    if benchmarks < FEWEST_BENCHMARKS:
        return f"No critical difference: at least {FEWEST_BENCHMARKS} benchmarks are needed, not {benchmarks}."
    cd = stats.critical_difference(methods, benchmarks, alpha)
    text = f"Critical difference (Nemenyi, alpha = {alpha:g}): {cd:.2f} over {benchmarks} benchmarks"
    if cd > methods - 1:
        text += f", more than the {methods - 1} between first and last: no two of {methods} methods can differ"
    if methods > 2:
        text += f". Friedman test: p = {_number(stats.friedman(scores), '.3g')}, by chi-square"
    return text + "."


def _number(value: float, spec: str) -> str:
    """Return a number as text, without a minus before zero; "--" for NaN."""
    text = "--" if np.isnan(value) else format(value, spec)
    return "+0.00" if text == "-0.00" else text
