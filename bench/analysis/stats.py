"""Statistics for few seeds and few benchmarks: exact tests, bootstrap intervals, ranks. Pure functions of numbers.

SciPy takes a second to import, so the functions that need it import it: most tables need none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FLIPS = 49_999  # choices of signs that a test tries: all where there are no more, else that many at random
LIMIT = int(np.log2(FLIPS))  # the most pairs whose choices of signs are all tried


class Paired(NamedTuple):
    """A comparison over `n` pairs: the mean difference, its interval, and the p-values of two tests."""

    mean: float
    low: float
    high: float
    sign_flip: float
    wilcoxon: float
    n: int


def paired(differences: Sequence[float], generator: np.random.Generator) -> Paired:
    """Return a comparison by the differences of pairs, one for each common seed."""
    d = np.round(np.asarray(differences, dtype=float), 9)  # a tie is no tie after sums in another order
    mean = float(d.mean()) if len(d) else np.nan
    return Paired(mean, *bootstrap(d, generator), sign_flip(d), wilcoxon(d), len(d))


def sign_flip(differences: Sequence[float] | np.ndarray) -> float:
    """Return the two-sided p of a mean difference this large if every pair might as well have been the other way round.

    It is exact up to LIMIT pairs: the share of the 2^n choices of signs whose sum is at least as large. Beyond, it is a
    Monte Carlo estimate from FLIPS random choices, the same for every call, and never below 1 / (FLIPS + 1). It is NaN
    for no pairs.
    """
    d = np.asarray(differences, dtype=float)
    if not len(d):
        return np.nan
    if len(d) == 1 or not d.any():
        return 1.0
    from scipy import stats

    def size(x: np.ndarray, axis: int) -> np.ndarray:
        return 1 + np.abs(x.sum(axis))  # SciPy's tolerance of rounding is relative: 1 makes it one of the whole

    test = stats.permutation_test(
        (d / np.abs(d).sum(),), size, permutation_type="samples", alternative="greater", vectorized=True,
        n_resamples=FLIPS, batch=10_000, random_state=np.random.default_rng(0),
    )  # fmt: skip
    return float(test.pvalue)


def wilcoxon(differences: Sequence[float] | np.ndarray) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test; with ties, it is a sign-flip test of the signed ranks.

    Pairs without a difference are dropped, as Wilcoxon did; ties share their mean rank. It is exact, but for ties among
    more pairs than LIMIT, where it is a Monte Carlo estimate as in `sign_flip`. It is NaN for no pairs.
    """
    d = np.asarray(differences, dtype=float)
    if not len(d):
        return np.nan
    if not d.any():
        return 1.0
    from scipy import stats

    moved = d[d != 0]
    ranks = stats.rankdata(np.abs(moved))
    if len(np.unique(ranks)) < len(ranks):
        return sign_flip(np.sign(moved) * ranks)  # SciPy's exact distribution knows no ties
    return float(stats.wilcoxon(moved, method="exact").pvalue)


def smallest_p(n: int) -> float:
    """Return the least two-sided p that an exact test of `n` pairs can give: all differences of one sign."""
    return min(1.0, 2.0 ** (1 - n))


def pairs_needed(alpha: float) -> int:
    """Return how many pairs it takes before a two-sided exact test can reach `alpha`."""
    return next(n for n in range(1, 1100) if smallest_p(n) <= alpha)


def bootstrap(
    differences: Sequence[float] | np.ndarray, generator: np.random.Generator, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval of the mean, from 9,999 resamples; NaN for fewer than two pairs."""
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return np.nan, np.nan
    from scipy import stats

    found = stats.bootstrap((d,), np.mean, method="percentile", confidence_level=level, random_state=generator)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def rank_scores(scores: np.ndarray) -> np.ndarray:
    """Return ranks (benchmarks, methods) of scores of that shape: 1 for the highest; ties share their mean rank."""
    from scipy import stats

    return np.asarray(stats.rankdata(-scores, axis=1))


def friedman(scores: np.ndarray) -> float:
    """Return the p of Friedman's test that all methods (columns) rank alike over benchmarks (rows), by chi-square."""
    from scipy import stats

    return float(stats.friedmanchisquare(*scores.T).pvalue)


def critical_difference(methods: int, benchmarks: int, alpha: float = 0.05) -> float:
    """Return Nemenyi's critical difference: mean ranks further apart differ (Demšar, JMLR 2006)."""
    from scipy import stats

    q = stats.studentized_range.ppf(1 - alpha, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * benchmarks)))
