"""What the page draws, as data: the numbers are those of the results, and what is missing is None."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_plots import made_up, over_classes

from bench.analysis import captions, report
from bench.analysis.explorer import beside, charts, gaps
from bench.analysis.figures.figure import Runs
from bench.analysis.labels import with_facts
from bench.analysis.table import Table, summarize
from bench.core import Result

Make = Callable[..., Result]


def drawn(results: Sequence[Result]) -> tuple[Runs, Table]:
    """The runs and the table of results on one benchmark."""
    pairs = [(result.cell, result) for result in results]
    table = summarize(pairs, ["acc"])
    [runs] = report.runs_of(table, pairs, [0, 1, 2])
    return runs, table


def test_a_row_holds_curves_costs_matrix_and_reports() -> None:
    runs, table = drawn([made_up(seed) for seed in range(3)])
    [row] = charts.charts_of(runs, table)["rows"]
    assert [mean for mean, _ in row["first"]] == [91, 86, 81, 76] and row["n"] == 3
    assert [mean for mean, _ in row["average"]] == [91, 88.5, 86, 83.5]
    assert row["acc"] == [83.5, 1]
    assert row["prices"]["BWT (points)"] == [-10, 0] and row["prices"]["time of a run (s)"] == [3, 1]
    assert row["matrix"][3] == [76, 81, 86, 91] and row["matrix"][0] == [91, None, None, None]
    assert row["ranks"] == {"conv": [None, 3, 3, 3], "fc": [None, 50, 50, 50]}
    assert row["bounds"]["fc"] == [[8, 2]] * 9


def test_what_was_not_measured_is_none(make_result: Make) -> None:
    single = made_up(report=False)
    single.matrix[:-1] = [[None] * 4] * 3
    single.environment = {}
    runs, table = drawn([single])
    [row] = charts.charts_of(runs, table)["rows"]
    assert row["first"][0] == [None, 0] and row["first"][3] == [75, 0]
    assert row["prices"]["time of a run (s)"] == [None, 0] == row["prices"]["BWT (points)"]
    assert row["ranks"] == row["bounds"] == {}


def test_the_confusion_between_tasks_is_there_where_it_was_counted() -> None:
    runs, table = drawn([over_classes(seed) for seed in range(3)])
    [row] = charts.charts_of(runs, table)["rows"]
    assert row["confusion"] == [[70, 30], [12.5, 87.5]] and row["average"] == [[90, 0], [57.5, 0]]
    assert charts.charts_of(*drawn([made_up()]))["rows"][0]["confusion"] == []


def test_differences_are_over_common_seeds_and_turn_round() -> None:
    base = [made_up(seed, lost=0.1, method="base") for seed in range(3)]
    other = [made_up(seed, lost=(0.02, 0.06)[seed], method="other") for seed in range(2)]
    alone = made_up(7, method="alone")
    found = charts.differences(*drawn([*base, *other, alone]))
    mean, low, high, n = found["base"]["other"]
    assert (mean, n) == (9, 2) and low == 6 and high == 12
    assert found["other"]["base"] == [-9, -12, -6, 2]
    assert found["alone"] == {} and "alone" not in found["base"]


def test_one_common_seed_has_no_interval() -> None:
    found = charts.differences(*drawn([made_up(method="a"), made_up(method="b", lost=0.1)]))
    assert found["a"]["b"] == [-7.5, None, None, 1]


def test_the_diagram_of_ranks_needs_three_benchmarks() -> None:
    pairs = []
    for lost, method in ((0.0, "best"), (0.1, "worst")):
        for benchmark in "abc":
            result = made_up(method=method, lost=lost)
            pairs.append((replace(result.cell, benchmark=benchmark), result))
    pairs = [(cell, replace(result, cell=cell)) for cell, result in pairs]
    table = summarize(pairs, ["acc"])
    diagram = charts.rank_diagram(table)
    assert diagram is not None and diagram["ranks"] == {"best": 1, "worst": 2}
    assert diagram["cd"] == pytest.approx(1.96 * (2 * 3 / (6 * 3)) ** 0.5, abs=1e-3)  # Demšar 2006, q for two methods
    assert charts.rank_diagram(replace(table, columns=table.columns[:2])) is None


def test_numbers_keep_four_digits() -> None:
    assert charts.rounded(np.array([12345.678, 0.00123456, float("nan")])) == [12345.68, 0.001235, None]


def test_a_published_number_stands_beside_ours_and_no_other_does(make_result: Make) -> None:
    result = made_up()
    ours = replace(result, cell=replace(result.cell, benchmark="permuted_mnist", method="gpm"))
    apart = replace(ours, cell=replace(ours.cell, traits={"other": "1"}))
    numbers = beside.published_beside([ours])
    rows = [dict(zip(beside.HEADER, number.words, strict=True)) for number in numbers]
    assert {(row["benchmark"], row["method"]) for row in rows} == {("permuted_mnist", "gpm")}
    assert {number[1:] for number in numbers} == {("permuted_mnist", "published", "task-il", True)}
    (saha, *_) = [row for row in rows if "Saha" in row["paper"] and row["metric"] == "ACC"]
    assert saha["published"].startswith("93.91") and saha["ours"] == "82.50" and saha["n"] == "1"
    assert saha["difference"] == "-11.41"
    assert beside.published_beside([apart]) == beside.published_beside([made_up()]) == []


def test_a_number_of_another_budget_has_no_difference_and_is_folded_away(tmp_path: Path) -> None:
    def on_mnist(protocol: str, **overrides: Any) -> Result:
        result = made_up()
        changed = replace(result.cell, benchmark="permuted_mnist", method="gpm", protocol=protocol, overrides=overrides)
        return replace(result, cell=changed)

    results = [on_mnist("published"), on_mnist("sound", epochs=(5, 1))]
    same, other = {}, {}
    for number in beside.published_beside(results):
        found = same if number.same_budget else other
        found[number.words] = dict(zip(beside.HEADER, number.words, strict=True))
    assert {row["benchmark"] for row in same.values()} == {"permuted_mnist"}
    assert {row["benchmark"] for row in other.values()} == {"permuted_mnist (sound)"}
    assert {row["difference"] for row in other.values()} == {"--"} and "--" not in str(list(same.values()))
    report.write_report(tmp_path / "page.html", [(result.cell, result) for result in results])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    folded = page.partition('<details class="part">')[2].partition("</details>")[0]
    assert "permuted_mnist (sound)" in folded and ">difference<" not in folded
    assert page.count('<td class="">permuted_mnist (sound)</td>') == len(other)


def test_facts_join_those_that_a_label_has() -> None:
    assert with_facts("digits", []) == "digits" and with_facts("digits", ["sound"]) == "digits (sound)"
    assert with_facts("digits (class-il)", ["2 epochs", "sound"]) == "digits (class-il, 2 epochs, sound)"


def test_only_the_recipes_budget_in_fp32_can_be_missing() -> None:
    def run(method: str, seed: int, **changes: Any) -> Result:
        result = made_up(seed, method=method)
        return replace(result, cell=replace(result.cell, **changes))

    quick = {"overrides": {"epochs": (3, 1)}}
    results = [run("a", 0, **quick), run("a", 0), run("b", 0, precision="bf16"), run("own", 0, **quick)]
    results.append(run("c", 1))

    def missing(some: Sequence[Result], *named: str) -> list[str]:
        pairs = report.with_gaps(some, named, {})
        table = summarize(pairs, ["acc"])
        return gaps.gaps_of(table, report.runs_of(table, pairs, None), pairs, {}).missing

    assert missing(results) == ["missing: a on stream, seed 1", "missing: c on stream, seed 0"]
    assert "missing: absent on stream, every seed" in missing(results, "absent")
    assert missing([run("a", 0, **quick), run("b", 1, **quick)]) == [
        "missing: a on stream (3 epochs), seed 1", "missing: b on stream (3 epochs), seed 0",
    ]  # fmt: skip


def test_what_does_not_apply_is_a_line_a_reason_that_the_switches_reach() -> None:
    result = made_up()
    told = replace(result, cell=replace(result.cell, scenario="class-il"))
    pairs = [(one.cell, one) for one in (result, told)]
    why = {("a", "stream"): "no", ("b", "stream"): "no", ("a", "stream (class-il)"): "no", ("c", "gone"): "never"}
    assert gaps.inapplicable_of(pairs, why) == {
        "no": [("stream", "stream", "task-il", ["a", "b"]), ("stream (class-il)", "stream", "class-il", ["a"])],
        "never": [("gone", "gone", "", ["c"])],
    }
    assert captions.inapplicable_lines(why) == [
        "a, b do not apply to stream; a does not apply to stream (class-il): no", "c does not apply to gone: never",
    ]  # fmt: skip


def test_older_code_is_told_by_what_changed() -> None:
    results = [made_up(seed) for seed in range(2)]
    runs, table = drawn(results)
    pairs = [(result.cell, result) for result in results]
    found = gaps.gaps_of(table, [runs], pairs, {results[1].cell.key: ["the recipe"]})
    assert found.changed == ["older: own on stream: the recipe changed since the run"]
    assert found.missing == ["missing: own on stream, seed 2"] and found.failed == []
