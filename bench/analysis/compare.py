"""What may be said of a table: which entries differ from a reference row, and how methods rank over benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.analysis import stats
from bench.analysis.table import METRICS, Column, Table, bare
from bench.config import nearest, require
from bench.seeding import derive

FEWEST_BENCHMARKS = 3  # below, neither Friedman's test nor a critical difference says anything


@dataclass(frozen=True)
class Listing:
    """A small table of text beside the main one, rendered by `bench.analysis.render`."""

    header: list[str]
    rows: list[list[str]]
    caption: str
    left: int = 1  # columns of text, aligned left


def examine(table: Table, reference: str | None, ranked: Sequence[str], alpha: float) -> tuple[Table, list[Listing]]:
    """`compare` with a reference, if there is one, and `rank` by each of the metrics `ranked` that is a quality."""
    listings = []
    if reference is not None:
        table, comparison = compare(table, reference, alpha)
        listings.append(comparison)
    return table, listings + [rank(table, metric, alpha) for metric in ranked if METRICS[metric].quality]


def compare(table: Table, reference: str, alpha: float, seed: int = 0) -> tuple[Table, Listing]:
    """The table with what differs from the `reference` row marked, and the comparisons behind the marks.

    Qualities only, over the seeds that both rows have. `seed` is of the bootstrap.
    """
    require(0 < alpha < 1, f"--alpha is a probability between 0 and 1, not {alpha:g}")
    base = _row(table, reference)
    generator = np.random.default_rng(derive("bootstrap", seed))
    pairs = {
        (row, column): stats.paired(_differences(table, row, base, column), generator)
        for column in table.columns
        if METRICS[column[1]].quality and not table.entries[base, column].undefined
        for row in table.rows
        if row != base and not table.entries[row, column].undefined
    }
    entries = dict(table.entries)
    for key, pair in pairs.items():
        if pair.sign_flip <= alpha:
            entries[key] = replace(entries[key], differs="↑" if pair.mean > 0 else "↓")
    note = _verdict(bare(base), [pair.n for pair in pairs.values()], alpha)
    return replace(table, entries=entries, notes=[*table.notes, note]), _comparison(bare(base), pairs)


def _row(table: Table, name: str) -> str:
    known = {bare(row): row for row in table.rows}
    if name not in known:
        raise nearest("row in --compare", name, known)
    return known[name]


def _differences(table: Table, row: str, base: str, column: Column) -> list[float]:
    ours, theirs = table.entries[row, column].values, table.entries[base, column].values
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def _verdict(base: str, counts: list[int], alpha: float) -> str:
    """What the marks mean; or why there can be none."""
    needed, most = stats.pairs_needed(alpha), max(counts, default=0)
    if most < needed:
        seeds = f"{most} common seed{'' if most == 1 else 's'}"
        return (
            f"Nothing is marked against {base}: with {seeds} no two-sided exact test, sign-flip or Wilcoxon, "
            f"gets below p = {stats.smallest_p(most):.3g}, and alpha is {alpha:g}; it takes {needed} seeds"
        )
    few = f"; it takes {needed} common seeds, so some entries cannot be marked" if min(counts) < needed else ""
    return (
        f"↑ above and ↓ below {base}: two-sided exact sign-flip test over the common seeds, at most n = {most}, "
        f"p at most {alpha:g}, each test by itself, not corrected for their number{few}"
    )


def _comparison(base: str, pairs: dict[tuple[str, Column], stats.Paired]) -> Listing:
    rows = [
        [
            column[0],
            METRICS[column[1]].label,
            row,
            _number(pair.mean, "+.2f"),
            "--" if np.isnan(pair.low) else f"[{_number(pair.low, '+.2f')}, {_number(pair.high, '+.2f')}]",
            _number(pair.sign_flip, ".3g"),
            _number(pair.wilcoxon, ".3g"),
            str(pair.n),
        ]
        for (row, column), pair in pairs.items()
    ]
    header = ["benchmark", "metric", "method", "difference", "95 % interval", "p sign-flip", "p Wilcoxon", "n"]
    caption = (
        f"Each method minus {base}, in points, over the n seeds that both have. Interval of the mean difference: "
        "percentile bootstrap of 9,999 resamples, too narrow for few seeds. p: two-sided, exact, each test by itself."
    )
    if any(pair.n > stats.LIMIT for pair in pairs.values()):
        caption += f" No p beyond {stats.LIMIT} seeds."
    return Listing(header, rows, caption, left=3)


def rank(table: Table, metric: str, alpha: float) -> Listing:
    """Methods by their mean rank over benchmarks, with the critical difference or the reason why there is none.

    Only rows with every seed on every benchmark are ranked, and no upper bound.
    """
    require(0 < alpha < 1, f"--alpha is a probability between 0 and 1, not {alpha:g}")
    columns = [column for column in table.columns if column[1] == metric]
    rows = [
        row
        for row in table.rows
        if row not in table.upper and all(table.entries[row, column].complete for column in columns)
    ]
    sign = 1 if METRICS[metric].best == "max" else -1
    scores = np.array([[sign * round(table.entries[row, column].mean, 2) for row in rows] for column in columns])
    ranks = stats.ranks(scores) if rows else np.empty((len(columns), 0))
    order = sorted(range(len(rows)), key=lambda i: ranks[:, i].mean())
    body = [[rows[i], *(f"{r:g}" for r in ranks[:, i]), f"{ranks[:, i].mean():.2f}"] for i in order]
    left_out = [row for row in table.rows if row not in rows and row not in table.upper]
    caption = f"Ranks by the mean {METRICS[metric].label}, 1 is best. {_spread(scores, alpha)}"
    if left_out:
        caption += f" Not ranked, for want of a complete entry on every benchmark: {', '.join(left_out)}."
    return Listing(["method", *(benchmark for benchmark, _ in columns), "mean rank"], body, caption)


def _spread(scores: np.ndarray, alpha: float) -> str:
    """Friedman's test and the critical difference of scores (benchmarks, methods)."""
    benchmarks, methods = scores.shape
    if methods < 2:
        return "No critical difference: it takes at least 2 methods."
    if benchmarks < FEWEST_BENCHMARKS:
        return f"No critical difference: it takes at least {FEWEST_BENCHMARKS} benchmarks, not {benchmarks}."
    cd = stats.critical_difference(methods, benchmarks, alpha)
    text = f"Critical difference (Nemenyi, alpha = {alpha:g}): {cd:.2f} over {benchmarks} benchmarks"
    if cd > methods - 1:
        text += f", more than the {methods - 1} between first and last: no two of {methods} methods can differ"
    if methods > 2:
        text += f". Friedman test: p = {_number(stats.friedman(scores), '.3g')}, by chi-square"
    return text + "."


def _number(value: float, spec: str) -> str:
    text = "--" if np.isnan(value) else format(value, spec)
    return "+0.00" if text == "-0.00" else text
