"""What may be said of a table: which entries differ from a reference row, and how methods rank over benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
FEWEST_BENCHMARKS = 3  # below, neither Friedman's test nor a critical difference says anything


@dataclass(frozen=True)
class Listing:
    """A small table of text beside the main one, rendered by `bench.analysis.render`."""

    header: list[str]
    rows: list[list[str]]
    caption: str
    left: int = 1  # columns of text, aligned left


def compare_and_rank(
    table: Table, reference: str | None, ranked: Sequence[str], alpha: float
) -> tuple[Table, list[Listing]]:
    """Compare with a reference row, if there is one, and rank by each of the metrics `ranked` that is a quality, over
    the benchmarks of each scenario by themselves.

    Return the table, with marks where it was compared, and the listings.
    """
    listings = []
    if reference is not None:
        table, comparison = mark_differences(table, reference, alpha)
        listings.append(comparison)
    qualities = [metric for metric in ranked if METRICS[metric].quality]
    for scenario in dict.fromkeys(table.scenarios.values()):
        within = [column for column in table.columns if table.scenarios.get(column[0]) == scenario]
        listings += [rank_rows(replace(table, columns=within), metric, alpha) for metric in qualities]
    return table, listings


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


def rank_rows(table: Table, metric: str, alpha: float) -> Listing:
    """Return methods by their mean rank over benchmarks, with the critical difference or the reason why there is none.

    Only rows with every seed on every benchmark are ranked, and no upper bound. An alpha that is no probability is a
    `UserError`.
    """
    require(0 < alpha < 1, f"--alpha is a probability between 0 and 1, not {alpha:g}")
    columns = [column for column in table.columns if column[1] == metric]
    rows, scores, ranks = ranked_rows(table, columns)
    left_out = [row for row in table.rows if row not in table.upper and row not in rows]
    means = dict(zip(rows, ranks.mean(axis=0), strict=True))
    body = []
    for row in sorted(rows, key=means.__getitem__):
        own = [f"{place:g}" for place in ranks[:, rows.index(row)]]
        body.append([row, *own, f"{means[row]:.2f}"])
    where = " and ".join(dict.fromkeys(table.scenarios[benchmark] for benchmark, _ in columns))
    caption = f"Ranks by the mean {METRICS[metric].label} in {where}, 1 is best. {_spread(scores, alpha)}"
    if left_out:
        caption += f" Not ranked, because an entry on some benchmark is missing or incomplete: {', '.join(left_out)}."
    return Listing(["method", *(benchmark for benchmark, _ in columns), "mean rank"], body, caption)


def ranked_rows(table: Table, columns: Sequence[Column]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the rows that can be ranked over these columns, their scores and their ranks, both (columns, rows)."""
    competing = [row for row in table.rows if row not in table.upper]
    rows = [row for row in competing if _complete(table, row, columns)]
    scores = _scores(table, rows, columns)
    return rows, scores, stats.rank_scores(scores) if rows else scores


def _complete(table: Table, row: str, columns: Sequence[Column]) -> bool:
    return all(table.entries[row, column].complete for column in columns)


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
