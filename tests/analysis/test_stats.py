"""Exact tests against hand counts and scipy; ranks and critical differences against published values."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import scipy.stats

from bench.analysis import compare, render, stats
from bench.analysis.table import Table, summarize
from bench.core import Result, UserError

Make = Callable[..., Result]


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1], 1),  # one pair says nothing
        ([1, 2, 3], 2 / 8),  # only +++ and --- are as large
        ([-1, -2, -3], 2 / 8),
        ([1, 2, -3], 1),  # a sum of 0
        ([1, 2, 4, -1], 6 / 16),  # |6|: ++++, +++-, -+++ and their mirrors; +++- gives 6
        ([1, 2, 3, 4, 5], 2 / 32),
        ([1, 1, 1, 1, 1, 1], 2 / 64),
        ([0, 0, 1, 1], 8 / 16),  # zeros flip without effect
        ([0.0, 0.0], 1),
    ],
)
def test_sign_flip_by_hand(differences: list[float], p: float) -> None:
    assert stats.sign_flip(differences) == pytest.approx(p)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 11])
def test_sign_flip_is_the_count_over_all_signs(n: int) -> None:
    d = np.random.default_rng(n).normal(0.5, 1, n)
    sums = [abs(float(np.dot(signs, d))) for signs in product((1, -1), repeat=n)]
    assert stats.sign_flip(d) == pytest.approx(np.mean(np.array(sums) >= abs(d.sum()) - 1e-9))
    reference = scipy.stats.permutation_test(
        (d,), lambda x, axis: x.mean(axis), permutation_type="samples", vectorized=True, n_resamples=np.inf
    )
    assert stats.sign_flip(d) == pytest.approx(reference.pvalue)


@pytest.mark.parametrize("n", [3, 6, 9, 20])
def test_wilcoxon_is_scipys_where_nothing_is_tied(n: int) -> None:
    d = np.random.default_rng(n).normal(0.4, 1, n)
    assert stats.wilcoxon(d) == pytest.approx(scipy.stats.wilcoxon(d, method="exact").pvalue)


def test_a_tie_stays_a_tie_in_floating_point() -> None:
    d = [0.1 + 0.2 - 0.3, 0.3, 0.1 + 0.2, 0.3]  # the first is 6e-17, the third a little over 0.3
    assert stats.paired(d, np.random.default_rng(0)).wilcoxon == 0.25


def test_wilcoxon_with_ties_and_zeros_by_hand() -> None:
    assert stats.wilcoxon([1, 1, 1]) == 0.25
    assert stats.wilcoxon([0, 2, 2, 5]) == 0.25  # the zero is dropped
    assert stats.wilcoxon([1, 1, -1]) == 1  # signed ranks 2, 2, -2: every choice of signs is as large
    assert stats.wilcoxon([0, 0, 0]) == 1
    assert stats.wilcoxon([5]) == stats.wilcoxon([0, 5]) == 1  # one pair says nothing


@pytest.mark.parametrize("test", [stats.sign_flip, stats.wilcoxon])
def test_tests_are_two_sided_scale_free_and_never_below_the_least(test: Callable[..., float]) -> None:
    for seed in range(20):
        generator = np.random.default_rng(seed)
        d = generator.normal(1, 1, int(generator.integers(2, 10)))
        assert stats.smallest_p(len(d)) <= test(d) <= 1
        assert test(-d) == pytest.approx(test(d)) == pytest.approx(test(1e-3 * d))
        assert test(np.abs(d)) == pytest.approx(stats.smallest_p(len(d)))


def test_how_many_seeds_it_takes() -> None:
    assert [stats.smallest_p(n) for n in (0, 1, 2, 5, 6)] == [1, 1, 0.5, 0.0625, 0.03125]
    assert [stats.pairs_needed(alpha) for alpha in (0.5, 0.25, 0.05, 0.01)] == [2, 3, 6, 8]


def test_no_pairs_have_no_p() -> None:
    assert np.isnan([stats.sign_flip([]), stats.wilcoxon([])]).all()


def test_many_pairs_are_tested_at_random() -> None:
    """Of ones with a sign, the sum counts heads: the binomial test is exact where all choices are too many."""
    n = stats.LIMIT + 1
    for tails in (2, 4, 7):
        d = np.where(np.arange(n) < tails, -1.0, 1.0)
        exact = scipy.stats.binomtest(tails, n).pvalue
        error = np.sqrt(exact * (1 - exact) / stats.FLIPS)
        assert stats.sign_flip(d) == pytest.approx(exact, abs=5 * error)
        assert stats.sign_flip(d) == stats.wilcoxon(d)  # of ties, by the same flips
        assert stats.sign_flip(d[1:]) == pytest.approx(scipy.stats.binomtest(tails - 1, n - 1).pvalue, rel=1e-9)
    assert stats.sign_flip(np.ones(50)) == pytest.approx(1 / (stats.FLIPS + 1))


def test_wilcoxon_without_ties_is_exact_for_any_number() -> None:
    d = np.arange(1.0, stats.LIMIT + 11)
    assert stats.wilcoxon(d) == pytest.approx(2.0 ** -(stats.LIMIT + 9))


def test_rounding_makes_no_difference_where_the_sum_is_none() -> None:
    assert stats.sign_flip([-0.4, -0.8, -0.2, 0.2, 0.8, 0.4]) == 1  # 1e-17 or so, which other choices of signs miss
    assert stats.sign_flip([0.9, -0.2, 0.8, -0.6, -0.9]) == 1
    assert stats.sign_flip([0.1, 0.2, 0.3, 0.6]) == stats.sign_flip([1, 2, 3, 6]) == 2 / 16
    assert stats.sign_flip([0.3, 0.1, 0.2, -0.3]) == stats.sign_flip([3, 1, 2, -3])


def test_bootstrap() -> None:
    d = np.random.default_rng(0).normal(2, 1, 30)
    low, high = stats.bootstrap(d, np.random.default_rng(1))
    assert (low, high) == stats.bootstrap(d, np.random.default_rng(1))  # nothing but the generator decides
    error = d.std(ddof=1) / np.sqrt(30)
    assert (low, high) == pytest.approx((d.mean() - 1.96 * error, d.mean() + 1.96 * error), abs=0.1)
    reference = scipy.stats.bootstrap((d,), np.mean, method="percentile").confidence_interval
    assert (low, high) == pytest.approx(tuple(reference), abs=0.05)
    assert stats.bootstrap([3.0, 3.0, 3.0], np.random.default_rng(0)) == (3, 3)
    assert np.isnan([stats.bootstrap(few, np.random.default_rng(0)) for few in ([], [3.0])]).all()


@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_differences_are_demsars(methods: int, q: float) -> None:
    """Table 5a of Demšar, JMLR 2006."""
    unit = np.sqrt(methods * (methods + 1) / (6 * 14))
    assert stats.critical_difference(methods, 14) == pytest.approx(q * unit, abs=1e-3 * unit)


def test_ranks_and_friedman_by_hand() -> None:
    scores = np.array([[3, 2, 1], [9, 9, 1], [0.3, 0.2, 0.1]])
    assert stats.rank_scores(scores).tolist() == [[1, 2, 3], [1.5, 1.5, 3], [1, 2, 3]]
    perfect = np.array([[3, 2, 1]] * 4)  # chi-square = 8 with 2 degrees of freedom
    assert stats.friedman(perfect) == pytest.approx(np.exp(-8 / 2))


# Of a table


def table(make: Make, accs: dict[str, list[float]], benchmarks: tuple[str, ...] = ("bench",), **cell: object) -> Table:
    results = [
        make(method, seed, acc=acc, benchmark=benchmark, **cell)
        for benchmark in benchmarks
        for method, values in accs.items()
        for seed, acc in enumerate(values)
    ]
    return summarize([(r.cell, r) for r in results], ["acc"])


def marks(compared: Table) -> dict[str, str]:
    return {row: compared.entries[row, compared.columns[0]].differs for row in compared.rows}


def test_what_differs_is_marked(make_result: Make) -> None:
    base = [50, 51, 52, 50, 51, 52]
    up, down = [a + 5 for a in base], [a - 1 for a in base]
    noise = [a + d for a, d in zip(base, (1, -1, 2, -2, 1, -1), strict=True)]
    plain = table(make_result, {"base": base, "up": up, "down": down, "noise": noise})
    compared, listing = compare.mark_differences(plain, "base", 0.05)
    assert marks(compared) == {"base": "", "up": "↑", "down": "↓", "noise": ""}
    assert "sign-flip" in compared.notes[-1]
    assert "n = 6" in compared.notes[-1]
    assert "not corrected" in compared.notes[-1]
    assert listing.rows[0] == ["bench", "ACC", "up", "+5.00", "[+5.00, +5.00]", "0.0312", "0.0312", "6"]
    assert [row[2] for row in listing.rows] == ["up", "down", "noise"]
    assert marks(plain) == dict.fromkeys(plain.rows, "")  # the table given is as it was
    assert "| **56.00 ± 0.89** ↑ |" in render.to_markdown(compared)
    assert r"$\downarrow$" in render.to_latex(compared)
    assert "↑" in render.to_csv(compared)


def test_five_seeds_are_too_few_and_the_table_says_so(make_result: Make) -> None:
    compared, listing = compare.mark_differences(table(make_result, {"a": [50] * 5, "b": [90] * 5}), "a", 0.05)
    assert marks(compared) == {"a": "", "b": ""}
    for part in ("Nothing is marked", "5 common seeds", "0.0625", "0.05", "6 seeds are needed"):
        assert part in compared.notes[-1]
    assert listing.rows[0][5:] == ["0.0625", "0.0625", "5"]
    assert marks(compare.mark_differences(compared, "a", 0.1)[0])["b"] == "↑"


def test_random_choices_of_signs_are_told(make_result: Make) -> None:
    def told(seeds: int) -> list[bool]:
        compared, listing = compare.mark_differences(
            table(make_result, {"a": [50] * seeds, "b": [60] * seeds}), "a", 0.05
        )
        assert marks(compared)["b"] == "↑"
        return [f"Beyond {stats.LIMIT} seeds" in text for text in (compared.notes[-1], listing.caption)]

    assert told(stats.LIMIT) == [False, False]
    assert told(stats.LIMIT + 1) == [True, True]


def test_only_common_seeds_are_compared(make_result: Make) -> None:
    ours = [make_result("a", seed, acc=10 * seed) for seed in range(3)]
    theirs = [make_result("b", seed, acc=10 * seed + 1) for seed in (1, 2, 7)]
    both = summarize([(r.cell, r) for r in ours + theirs], ["acc"], seeds=[0, 1, 2, 7])
    _, listing = compare.mark_differences(both, "a", 0.05)
    assert (listing.rows[0][3], listing.rows[0][7]) == ("+1.00", "2")
    apart = summarize([(r.cell, r) for r in (ours[0], theirs[2])], ["acc"])
    assert compare.mark_differences(apart, "a", 0.05)[1].rows[0][3:] == ["--", "--", "--", "--", "0"]


def test_a_reference_is_named_without_its_marks(make_result: Make) -> None:
    reader = table(make_result, {"reader": [50]}, traits={"reads_old_data": True})
    assert reader.rows == ["reader †"]
    assert compare.mark_differences(reader, "reader", 0.05)[1].rows == []
    with pytest.raises(UserError, match="unknown row in --compare 'raeder': did you mean 'reader'"):
        compare.mark_differences(reader, "raeder", 0.05)
    for alpha in (0.0, 1.0, float("nan")):
        with pytest.raises(UserError, match="alpha"):
            compare.mark_differences(reader, "reader", alpha)


def test_ranks_over_benchmarks(make_result: Make) -> None:
    accs = {"worst": [10.0], "best": [90.0], "middle": [50.0]}
    few = compare.rank_rows(table(make_result, accs, ("one", "two")), "acc", 0.05)
    assert few.rows == [["best", "1", "1", "1.00"], ["middle", "2", "2", "2.00"], ["worst", "3", "3", "3.00"]]
    assert "No critical difference: at least 3 benchmarks are needed, not 2" in few.caption
    many = compare.rank_rows(table(make_result, accs, tuple("abcdef")), "acc", 0.05)
    assert f"{stats.critical_difference(3, 6):.2f} over 6 benchmarks" in many.caption
    assert "Friedman test: p = 0.00248" in many.caption  # exp(-6): chi-square is 12 with 2 degrees of freedom
    three = compare.rank_rows(table(make_result, {"a": [1.0], "b": [2.0]}, tuple("abc")), "acc", 0.05)
    assert "no two of 2 methods can differ" in three.caption


def test_only_complete_rows_that_compete_are_ranked(make_result: Make) -> None:
    whole = table(make_result, {"a": [50, 50], "b": [60, 60], "half": [99]})
    listing = compare.rank_rows(whole, "acc", 0.05)
    assert [row[0] for row in listing.rows] == ["b", "a"]
    assert listing.caption.endswith("half.")
    bound = compare.rank_rows(replace(whole, upper=frozenset({"b"})), "acc", 0.05)
    assert [row[0] for row in bound.rows] == ["a"]
    assert "at least 2 methods" in bound.caption


def block_of(make: Make, complete: dict[str, str], **cell: object) -> tuple[list[str], list[str], str]:
    """The benchmarks and methods that are ranked where each method is complete on these, and the caption."""
    results = [
        make(method, acc=10.0 * k, benchmark=name, **cell)
        for k, method in enumerate(complete)
        for name in complete[method]
    ]
    whole = summarize([(r.cell, r) for r in results], ["acc"])
    found, listing = compare.ranked(whole, "acc"), compare.rank_rows(whole, "acc", 0.05)
    assert listing.header[1:-1] == [name for name, _ in found.columns]
    assert sorted(row[0] for row in listing.rows) == sorted(found.rows)
    return [name for name, _ in found.columns], found.rows, listing.caption


@pytest.mark.parametrize(
    ("complete", "benchmarks", "methods"),
    [
        ({"a": "123", "b": "123", "c": "123"}, "123", "abc"),
        ({"a": "1234", "b": "1234", "c": "123", "d": "123"}, "123", "abcd"),  # 12 entries; 4 benchmarks have 8
        ({"a": "1", "b": "1", "c": "1", "d": "12"}, "1", "abcd"),
        ({"a": "123", "b": "123", "c": "123", **dict.fromkeys("defghijkl", "1")}, "123", "abc"),  # though 12 have one
        ({"a": "123", "b": "12", "c": "1"}, "1", "abc"),  # at least three methods
        ({"a": "12", "b": "23"}, "2", "ab"),  # a method alone has no rank
        ({"a": "12", "b": "12", "c": "3", "d": "3"}, "12", "ab"),
        ({"a": "1", "b": "2"}, "1", "a"),  # of two alike the first
        ({"a": "12", "b": "12"}, "12", "ab"),
    ],
)
def test_the_largest_complete_block_is_ranked(
    make_result: Make, complete: dict[str, str], benchmarks: str, methods: str
) -> None:
    found, rows, caption = block_of(make_result, complete)
    assert ("".join(found), "".join(rows)) == (benchmarks, methods)
    gone = [name for name in sorted(set("".join(complete.values()))) if name not in benchmarks]
    assert (f"too few methods are complete there: {', '.join(gone)}." in caption) == bool(gone)
    absent = [name for name in complete if name not in methods]
    assert (f"is missing or incomplete: {', '.join(absent)}." in caption) == bool(absent)


def test_another_budget_or_precision_is_not_ranked_beside_the_recipes(make_result: Make) -> None:
    cells = [{}, {"precision": "bf16"}, {"overrides": {"epochs": [20, 1]}}]
    results = [make_result(method, acc=acc, **cell) for cell in cells for acc, method in enumerate("ab")]
    whole = summarize([(r.cell, r) for r in results], ["acc"])
    listing = compare.rank_rows(whole, "acc", 0.05)
    assert listing.header == ["method", "bench", "mean rank"]
    assert "Not of the recipe's budget in fp32, and left out: bench (bf16), bench (1 epoch)." in listing.caption
    others = [(r.cell, r) for r in results[2:]]
    assert compare.rank_rows(summarize(others, ["acc"]), "acc", 0.05).header[1:-1] == [
        "bench (bf16)",
        "bench (1 epoch)",
    ]


def test_protocols_are_ranked_apart(make_result: Make) -> None:
    results = [make_result(method, protocol=name) for name in ("published", "sound") for method in "ab"]
    whole = summarize([(r.cell, r) for r in results], ["acc"])
    _, listings = compare.compare_and_rank(whole, None, ("acc",), 0.05)
    assert [listing.header[1:-1] for listing in listings] == [["bench"], ["bench (sound)"]]


@pytest.mark.parametrize("form", render.FORMATS)
def test_listings_in_every_format(make_result: Make, form: str) -> None:
    _, listing = compare.mark_differences(table(make_result, {"my_a": [50, 60], "my_b": [51, 62]}), "my_a", 0.05)
    for text in (render.show_listing(listing, form), render.show_listing(replace(listing, rows=[]), form)):
        assert "p sign-flip" in text
    assert render.show_listing(listing, "csv").splitlines()[1].startswith("bench,ACC,my_b,+1.50,")
    assert r"my\_b" in render.show_listing(listing, "latex")
