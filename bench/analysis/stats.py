"""Statistics for few seeds and few benchmarks: exact tests, bootstrap intervals, ranks. Pure functions of numbers.

SciPy takes a second to import, so the functions that need it import it: most tables need none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LIMIT = 40  # pairs that an exact test can take: 2 ** (LIMIT / 2) sums are held at a time


class Paired(NamedTuple):
    """A comparison over `n` pairs: the mean difference, its interval, and two exact p-values."""

    mean: float
    low: float
    high: float
    sign_flip: float
    wilcoxon: float
    n: int


def paired(differences: Sequence[float], generator: np.random.Generator) -> Paired:
    """Compare by the differences of pairs, one for each common seed."""
    d = np.round(np.asarray(differences, dtype=float), 9)  # a tie is no tie after sums in another order
    mean = float(d.mean()) if len(d) else np.nan
    return Paired(mean, *bootstrap(d, generator), sign_flip(d), wilcoxon(d), len(d))


def sign_flip(differences: Sequence[float] | np.ndarray) -> float:
    """Two-sided p of a mean difference this large if every pair might as well have been the other way round.

    Exact: the share of the 2^n choices of signs whose sum is at least as large. The sums over both halves of the pairs
    are all built, and counted together by bisection. NaN for no pairs, or for more than LIMIT.
    """
    d = np.abs(np.asarray(differences, dtype=float))
    if not 0 < len(d) <= LIMIT:
        return np.nan
    observed, rounding = abs(float(np.sum(differences))), 1e-12 * float(d.sum())
    if observed <= rounding:
        return 1.0
    left, right = _sums(d[::2]), np.sort(_sums(d[1::2]))
    as_large = len(right) - np.searchsorted(right, observed - rounding - left)
    return float(2 * as_large.sum() / 2.0 ** len(d))


def wilcoxon(differences: Sequence[float] | np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, exact with ties too: a sign-flip test of the signed ranks.

    Pairs without a difference are dropped, as Wilcoxon did; ties share their mean rank.
    """
    d = np.asarray(differences, dtype=float)
    moved = d[d != 0]
    if len(d) and not len(moved):
        return 1.0
    from scipy import stats

    return sign_flip(np.sign(moved) * stats.rankdata(np.abs(moved)))


def smallest_p(n: int) -> float:
    """The least two-sided p that an exact test of `n` pairs can give: all differences of one sign."""
    return min(1.0, 2.0 ** (1 - n))


def pairs_needed(alpha: float) -> int:
    """How many pairs it takes before a two-sided exact test can reach `alpha`."""
    return next(n for n in range(1, 1100) if smallest_p(n) <= alpha)


def bootstrap(
    differences: Sequence[float] | np.ndarray, generator: np.random.Generator, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean, from 9,999 resamples; NaN for fewer than two pairs."""
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return np.nan, np.nan
    means = generator.choice(d, (9999, len(d))).mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks (benchmarks, methods) of scores of the same shape: 1 for the highest; ties share their mean rank."""
    from scipy import stats

    return np.asarray(stats.rankdata(-scores, axis=1))


def friedman(scores: np.ndarray) -> float:
    """p of Friedman's test that all methods (columns) rank alike over benchmarks (rows); chi-square approximation."""
    from scipy import stats

    return float(stats.friedmanchisquare(*scores.T).pvalue)


def critical_difference(methods: int, benchmarks: int, alpha: float = 0.05) -> float:
    """Nemenyi's: mean ranks further apart than this differ (Demšar, JMLR 2006)."""
    from scipy import stats

    q = stats.studentized_range.ppf(1 - alpha, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * benchmarks)))


def _sums(values: np.ndarray) -> np.ndarray:
    """The sums of `values` (n,) under every choice of signs (2^n,)."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums
