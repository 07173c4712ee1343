"""From results to numbers, and from numbers to text that parses."""

import io
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench import installation
from bench.analysis import compare, render
from bench.analysis.columns import METRICS
from bench.analysis.latex.text import escape
from bench.analysis.table import Entry, Table, summarize
from bench.core import SCENARIOS, Cell, Result
from bench.execution import store

Make = Callable[..., Result]
ACC = ("bench", "acc")


def table_of(*results: Result, missing: Sequence[Cell] = (), **options: object) -> Table:
    pairs = [*((r.cell, r) for r in results), *((cell, None) for cell in missing)]
    return summarize(pairs, **{"chosen": ("acc", "bwt"), **options})  # type: ignore[arg-type]


def line_of(table: Table, row: str) -> list[str]:
    """The cells of a row of the markdown table."""
    lines = [line.strip("|").split("|") for line in render.to_markdown(table).splitlines() if line.startswith("|")]
    return next([word.strip() for word in line[1:]] for line in lines if line[0].strip() == row)


def test_mean_and_sample_sd(make_result: Make) -> None:
    accs, bwts = (40, 50, 75), (-1, -2, -6)
    table = table_of(*(make_result(seed=s, acc=a, bwt=b) for s, (a, b) in enumerate(zip(accs, bwts, strict=True))))
    for metric, values in (("acc", accs), ("bwt", bwts)):
        entry = table.entries["a", ("bench", metric)]
        assert entry.mean == pytest.approx(statistics.mean(values))
        assert entry.sd == pytest.approx(statistics.stdev(values))
        assert (entry.n, entry.wanted, entry.complete) == (3, 3, True)
    assert line_of(table, "a") == ["55.00 ± 18.03", "-3.00 ± 2.65"]
    assert "sample sd, n = 3 (seeds 0, 1, 2)" in table.caption


def test_one_seed_has_no_spread(make_result: Make) -> None:
    table = table_of(make_result(acc=40))
    assert line_of(table, "a") == ["40.00", "0.00"]
    assert "no spread" in table.caption


def test_missing_partial_and_failed(make_result: Make) -> None:
    table = table_of(
        make_result("part", 0, acc=60),
        make_result("part", 1, acc=70),
        make_result("part", 2, error="E: boom"),
        *(make_result("failed", seed, error="E: boom") for seed in range(3)),
        missing=[make_result("missing", seed).cell for seed in range(3)],
    )
    assert line_of(table, "part")[0] == "65.00 ± 7.07 (n=2)"
    assert line_of(table, "failed") == ["failed", "failed"]
    assert line_of(table, "missing") == ["--", "--"]
    assert [table.entries[row, ACC].n for row in table.rows] == [2, 0, 0]
    assert not any(table.entries[row, ACC].complete for row in table.rows)


def test_seeds_that_were_asked_for_count_even_without_any_result(make_result: Make) -> None:
    table = table_of(make_result(seed=1), seeds=[1, 2, 3])
    assert line_of(table, "a")[0] == "50.00 (n=1)"
    assert "n = 3" in table.caption


def test_seeds_are_counted_on_each_benchmark(make_result: Make) -> None:
    """A row that has every seed that any has on a benchmark is complete there, however many another benchmark has."""
    five = [make_result(method, seed, acc=60 + n) for n, method in enumerate("ab") for seed in range(5)]
    three = [make_result("a", seed, acc=80, benchmark="short") for seed in range(3)]
    part = [make_result("b", seed, acc=70, benchmark="short") for seed in range(2)]
    table = table_of(*five, *three, *part, make_result("c", 7, acc=50, benchmark="one"), chosen=["acc"])
    assert line_of(table, "a") == ["60.00 ± 0.00", "80.00 ± 0.00", "--"]
    assert line_of(table, "b") == ["**61.00 ± 0.00**", "70.00 ± 0.00 (n=2)", "--"]
    assert line_of(table, "c") == ["--", "--", "50.00"]
    assert (
        "Mean ± sample sd, n = 5 (seeds 0, 1, 2, 3, 4) on bench; n = 3 (seeds 0, 1, 2) on short; n = 1 (seed 7) on one"
        "; best in bold." in table.caption
    )
    asked = table_of(*five, *three, *part, chosen=["acc"], seeds=range(5))
    assert line_of(asked, "a")[1] == "80.00 ± 0.00 (n=3)", "where seeds are asked for, all of them count"
    assert "n = 5 (seeds 0, 1, 2, 3, 4); best" in asked.caption


def test_a_budget_or_protocol_of_its_own_has_seeds_of_its_own(make_result: Make) -> None:
    sound = [make_result(method, 0, acc=40, protocol="sound") for method in "ab"]
    full = [make_result(method, seed, acc=50) for method in "ab" for seed in range(2)]
    table = table_of(*sound, *full, chosen=["acc"])
    assert [entry.complete for entry in table.entries.values()] == [True] * 4


def test_not_applicable(make_result: Make) -> None:
    joint = make_result("single", acc=90)
    joint.matrix[0] = [None, None]  # measured once, at the end: no BWT
    table = table_of(make_result(), joint, unsupported={("other", "bench"): "it needs a transformer"})
    assert line_of(table, "single")[1] == "n/a"
    assert line_of(table, "other") == ["n/a", "n/a"]
    assert any("it needs a transformer" in note for note in table.notes)


def test_not_applicable_with_another_budget_is_in_the_same_column(make_result: Make) -> None:
    known = make_result(overrides={"epochs": [20, 1]})
    table = table_of(known, unsupported={("other", "bench"): "it needs a transformer"}, chosen=["acc"])
    assert len(table.columns) == 1
    assert line_of(table, "other") == ["n/a"]


def test_not_applicable_is_so_in_the_columns_of_both_protocols(make_result: Make) -> None:
    pairs = make_result(), make_result(protocol="sound")
    table = table_of(*pairs, unsupported={("other", "bench"): "it needs a transformer"}, chosen=["acc"])
    assert line_of(table, "other") == ["n/a", "n/a"]
    half = table_of(
        *pairs, make_result("half", protocol="sound"), unsupported={("half", "bench"): "no"}, chosen=["acc"]
    )
    assert line_of(half, "half") == ["n/a", "**50.00**"]


def test_not_applicable_to_one_of_two_is_one_row(make_result: Make) -> None:
    reader = make_result("reader", traits={"reads_old_data": True})
    table = table_of(reader, make_result("a", benchmark="other"), unsupported={("reader", "other"): "no heads"})
    assert len(table.rows) == 2


def test_best_in_bold(make_result: Make) -> None:
    table = table_of(
        make_result("a", acc=60, bwt=-9), make_result("b", acc=70, bwt=-1), make_result("c", acc=70, bwt=-5)
    )
    assert [table.entries[row, ACC].best for row in "abc"] == [False, True, True]
    assert line_of(table, "b") == ["**70.00**", "**-1.00**"]
    assert line_of(table, "a") == ["60.00", "-9.00"]


def test_the_least_forgetting_is_best(make_result: Make) -> None:
    table = table_of(make_result("a", bwt=-9), make_result("b", bwt=-1), chosen=["forgetting"])
    assert [table.entries[row, table.columns[0]].best for row in "ab"] == [False, True]


def test_costs_have_no_best(make_result: Make) -> None:
    table = table_of(make_result("a"), make_result("b"), chosen=["seconds"])
    assert [entry.best for entry in table.entries.values()] == [False, False]


def test_an_incomplete_row_is_never_best(make_result: Make) -> None:
    whole = [make_result(m, seed, acc=a) for m, a in (("a", 60), ("b", 50)) for seed in (0, 1)]
    table = table_of(*whole, make_result("c", 0, acc=99), missing=[make_result("c", 1).cell])
    assert [table.entries[row, ACC].best for row in "abc"] == [True, False, False]


def test_an_upper_bound_is_never_best(make_result: Make) -> None:
    upper = make_result("upper", acc=99, traits={"joint": True})
    table = table_of(make_result("a", acc=60), make_result("b", acc=50), upper)
    assert [row for row in table.rows if table.entries[row, ACC].best] == ["a"]
    assert "upper ‡" in table.rows
    assert any(note.startswith("‡") for note in table.notes)


def test_alone_is_not_best(make_result: Make) -> None:
    upper = make_result("upper", acc=99, traits={"joint": True})
    assert not table_of(make_result("a"), upper).entries["a", ACC].best


def test_readers_of_old_data_are_marked(make_result: Make) -> None:
    table = table_of(make_result("a"), make_result("b", traits={"reads_old_data": True}))
    assert table.rows == ["a", "b †"]
    assert any(note.startswith("†") for note in table.notes)


def test_a_budget_of_ones_own_is_seen(make_result: Make) -> None:
    quick = make_result("a", overrides={"epochs": [20, 1]})
    table = table_of(quick)
    assert "Not the recipe's budget: bench with 1 epoch instead of 20" in table.caption
    assert table.columns[0][0] == "bench (1 epoch)"
    assert "budget" not in table_of(make_result("a")).caption


def test_settings_of_ones_own_are_rows_of_their_own(make_result: Make) -> None:
    table = table_of(make_result("a"), make_result("a", config={"rank": 2}, overrides={"rank": [1, 2]}))
    assert table.rows == ["a", "a (rank=2)"]


def test_precisions_are_columns_of_their_own(make_result: Make) -> None:
    """Nothing is averaged over them, nor best across them, nor measured against the joint run of the other."""
    exact, reduced = (
        [make_result(acc=acc, seed=seed, precision=how) for seed in (0, 1)] for how, acc in (("fp32", 60), ("bf16", 50))
    )
    other = make_result("b", acc=40, precision="bf16")
    joint = make_result("upper", acc=90, precision="bf16", traits={"joint": True})
    table = table_of(*exact, *reduced, other, chosen=["acc", "intransigence"], more=[joint])
    assert [column for column, _ in table.columns[::2]] == ["bench", "bench (bf16)"]
    assert [table.entries["a", column].mean for column in table.columns[::2]] == [60, 50]
    assert [table.entries["a", column].n for column in table.columns] == [2, 0, 2, 1]
    assert "Precision bf16: training and evaluation under autocast to bfloat16." in table.caption
    assert "Precision" not in table_of(*exact).caption
    both = make_result(precision="bf16", protocol="sound", overrides={"epochs": [20, 1]})
    assert table_of(both).columns[0][0] == "bench (1 epoch, sound, bf16)"


THREE_TASKS = [[0.90, 0.20, 0.10], [0.80, 0.85, 0.30], [0.70, 0.88, 0.95]]


def three_tasks(make_result: Make, seed: int = 0) -> tuple[Result, Result]:
    """The method and the joint reference over three tasks."""
    method, joint = make_result("a", seed), make_result("upper", seed, traits={"joint": True})
    method.matrix = [list(row) for row in THREE_TASKS]
    method.tasks[0]["untrained"] = [0.1, 0.1, 0.1]
    joint.matrix = [[None] * 3, [None] * 3, [0.92, 0.90, 0.96]]
    return method, joint


def test_intransigence_is_against_the_joint_result_of_the_same_seed(make_result: Make) -> None:
    table = table_of(*three_tasks(make_result), chosen=["intransigence", "fwt"])
    assert table.entries["a", ("bench", "intransigence")].mean == pytest.approx(2.666667, abs=1e-6)
    assert table.entries["a", ("bench", "fwt")].mean == pytest.approx(15)
    assert line_of(table, "upper ‡") == ["n/a", "n/a"]
    assert not any("joint training on some" in note for note in table.notes)


def test_the_joint_result_need_not_be_a_row(make_result: Make) -> None:
    method, joint = three_tasks(make_result)
    table = table_of(method, chosen=["intransigence"], more=[joint])
    assert table.rows == ["a"]
    assert line_of(table, "a") == ["2.67"]


def test_without_a_joint_result_of_the_seed_it_is_missing(make_result: Make) -> None:
    first, joint = three_tasks(make_result)
    second, other = three_tasks(make_result, 1)
    table = table_of(first, joint, second, chosen=["intransigence"])
    assert line_of(table, "a") == ["2.67 (n=1)"]
    assert any(note.startswith("I lacks") for note in table.notes)
    failed = make_result("upper", 0, traits={"joint": True}, error="E: boom")
    tuned = make_result("upper", 0, traits={"joint": True}, overrides={"lr": [0.1, 0.2]})
    longer = make_result("upper", 0, traits={"joint": True}, overrides={"epochs": [1, 2]})
    for useless in (failed, tuned, longer, other):
        assert line_of(table_of(first, chosen=["intransigence"], more=[useless]), "a") == ["--"]


def test_forward_transfer_needs_answers_ahead(make_result: Make) -> None:
    assert line_of(table_of(make_result(), chosen=["fwt"]), "a") == ["n/a"]


def test_imported_rows_are_marked_and_may_win(make_result: Make) -> None:
    foreign = make_result("theirs", acc=90, traits={"imported": True}, training={})
    foreign.tasks, foreign.environment = [], {}
    assert line_of(table_of(foreign, chosen=["acc", "state", "old", "seconds"]), "theirs §")[1:] == ["n/a"] * 3
    table = table_of(make_result(acc=50), foreign, chosen=["acc"])
    assert line_of(table, "theirs §") == ["**90.00**"]
    assert "§ accuracy matrix imported, not run here" in table.notes


def test_the_caption_says_protocol_and_epochs(make_result: Make) -> None:
    long = make_result("b", training={"epochs": 5})
    caption = table_of(make_result(), long).caption
    assert "bench: 2 tasks, task-il, at most 1 to 5 epochs a task." in caption
    assert caption.endswith("Protocol published: as the released code computes it, defects included.")
    assert "bench: 2 tasks, task-il, at most 1 epoch a task. Protocol" in table_of(make_result()).caption
    assert "bench: 2 tasks, task-il. Protocol" in table_of(make_result(training={})).caption
    assert "bench: task-il, at most 1 epoch a task." in table_of(missing=[make_result().cell]).caption


def test_scenarios_are_never_mixed(make_result: Make) -> None:
    """A benchmark in two scenarios is two columns, each with its own mean, best, intransigence and ranks."""
    told = make_result("a", acc=90), make_result("b", acc=80), make_result("joint", acc=95, traits={"joint": True})
    untold = [
        replace(result, cell=replace(result.cell, scenario="class-il"))
        for result in (make_result("a", acc=30), make_result("b", acc=40))
    ]
    table = table_of(*told, *untold, chosen=["acc", "intransigence"])
    assert [benchmark for benchmark, _ in table.columns[::2]] == ["bench", "bench (class-il)"]
    means = {row: [table.entries[row, (name, "acc")].mean for name in table.scenarios] for row in "ab"}
    assert means == {"a": [90, 30], "b": [80, 40]}
    assert [row for row in "ab" for name in table.scenarios if table.entries[row, (name, "acc")].best] == ["a", "b"]
    lacking = [table.entries["a", (name, "intransigence")].n for name in table.scenarios]
    assert lacking == [1, 0], "joint training in another scenario is no measure"
    assert "bench: 2 tasks, task-il, at most 1 epoch a task. bench: 2 tasks, class-il, at most 1" in table.caption
    assert table.caption.count("Scenario ") == 1 and f"Scenario class-il: {SCENARIOS['class-il']};" in table.caption
    _, listings = compare.compare_and_rank(table, None, ["acc"], 0.05)
    assert [(listing.header[1:-1], [row[:2] for row in listing.rows]) for listing in listings] == [
        (["bench"], [["a", "1"], ["b", "2"]]),
        (["bench (class-il)"], [["b", "1"], ["a", "2"]]),
    ]
    assert ["in task-il" in listing.caption for listing in listings] == [True, False]


def test_class_incremental_columns_show_the_average_over_time(make_result: Make) -> None:
    told, untold = make_result(acc=60, bwt=-20), make_result(acc=60, bwt=-20, scenario="class-il")
    table = table_of(told, untold, chosen=None)
    assert table.columns == [
        *(("bench", metric) for metric in ("acc", "bwt", "state")),
        *(("bench (class-il)", metric) for metric in ("acc", "aia", "bwt", "state")),
    ]
    assert table.entries["a", ("bench (class-il)", "aia")].mean == pytest.approx((70 + 60) / 2)
    assert "AIA: mean over time" in table.caption and "AIA" not in table_of(told, chosen=None).caption
    [header, _, line] = render.to_markdown(table).splitlines()[:3]
    assert "bench (class-il) AIA" in header and header.count("|") == line.count("|") == 9


def test_a_method_may_apply_in_one_scenario_alone(make_result: Make) -> None:
    results = [make_result("a"), make_result("hat"), make_result("a", scenario="class-il")]
    why = {("hat", "bench (class-il)"): "it needs the task at test"}
    table = table_of(*results, chosen=["acc"], unsupported=why)
    assert line_of(table, "hat") == ["**50.00**", "n/a"] and line_of(table, "a") == ["**50.00**", "50.00"]
    assert "hat does not apply to bench (class-il): it needs the task at test" in table.notes


@pytest.fixture
def rich(make_result: Make) -> Table:
    """Two benchmarks, a name to escape, marks, and every kind of entry."""
    return table_of(
        *(make_result("my_own", seed, acc=60 + seed, overrides={"rule_1": ["a", "50% & {#1}"]}) for seed in (0, 1)),
        *(make_result("b", seed, acc=50, traits={"reads_old_data": True}) for seed in (0, 1)),
        make_result("part", 0, traits={"joint": True}),
        make_result("failed", 0, error="E: boom"),
        make_result("b", 0, benchmark="second_one", overrides={"epochs": [20, 1]}),
        missing=[make_result("missing", 0).cell],
        unsupported={("other", "bench"): "no_heads ~ 5%"},
    )


def assert_braces_balance(text: str) -> None:
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0


def test_latex_is_balanced(rich: Table) -> None:
    text = render.to_latex(rich)
    assert_braces_balance(text)
    open_environments: list[str] = []
    found = re.findall(r"\\(begin|end){(\w+)}", text)
    assert ("begin", "tabular") in found
    for word, name in found:
        if word == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert not open_environments
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    assert [text.count(rf"\{rule}") for rule in ("toprule", "midrule", "bottomrule")] == [1, 1, 1]


def test_every_latex_row_has_every_column(rich: Table) -> None:
    text = render.to_latex(rich)
    width = len(rich.columns) + 1
    assert f"{{@{{}}l{'r' * len(rich.columns)}@{{}}}}" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == len(rich.rows) + 2
    for row in rows:
        spanned = sum(int(n) - 1 for n in re.findall(r"\\multicolumn{(\d+)}", row))
        assert len(re.findall(r"(?<!\\)&", row)) + 1 + spanned == width, row


def test_siunitx_columns_have_room_and_text_is_in_braces(rich: Table) -> None:
    text = render.to_latex(rich, siunitx=True)
    assert_braces_balance(text)
    assert re.search(r"\\label\{tab:[a-z0-9-]+\}\n\\sisetup\{separate-uncertainty,", text)
    assert text.count("S[table-format=") + text.count("S}") >= 1
    lines = [line.removesuffix(r"\\") for line in text.splitlines() if line.endswith(r"\\")]
    rows = [line.split(" & ") for line in lines if " & " in line and "multicolumn" not in line]
    assert len(rows) >= len(rich.rows)
    for row in rows:
        for word in row[1:]:
            number = re.sub(r"\{[^{}]*\}", "", word.removeprefix(r"\bfseries ")).strip()
            assert re.fullmatch(r"(-?[\d.]+( \\pm [\d.]+)?)?", number), word


def test_siunitx_room(make_result: Make) -> None:
    table = table_of(*(make_result("a", s, acc=60 + 15 * s, bwt=-s) for s in (0, 1)), make_result("b", 0, acc=100))
    layout = render.to_latex(table, siunitx=True).split(r"\begin{tabular}")[1].splitlines()[0]
    assert layout == r"{@{}lS[table-format=3.2(4){\,(n=1)}]S[table-format=-1.2(3){\,(n=1)}]@{}}"


def test_latex_is_escaped(rich: Table) -> None:
    text = render.to_latex(rich)
    assert r"my\_own (rule\_1=50\% \& \{\#1\})" in text
    assert r"second\_one (1 epoch)" in text
    assert r"no\_heads \textasciitilde{} 5\%" in text
    assert text.isascii()


@pytest.mark.parametrize("text", ["a_b", "50%", "R&D", "#1", "$x$", "{a}", "a^b", "~", "\\", "\\{", "\\textbf{x}"])
def test_escape_leaves_nothing_special(text: str) -> None:
    escaped = escape(text)
    assert_braces_balance(escaped)
    assert not re.search(r"[&%$#_{}~^\\]", re.sub(r"\\text\w+{}|\\[&%$#_{}]", "", escaped))


def test_markdown_is_rectangular(rich: Table) -> None:
    lines = [line for line in render.to_markdown(rich).splitlines() if line.startswith("|")]
    assert len(lines) == len(rich.rows) + 2
    assert {line.count("|") for line in lines} == {len(rich.columns) + 2}
    assert rich.caption in render.to_markdown(rich)


def test_a_bar_in_a_name_does_not_split_a_markdown_row(make_result: Make) -> None:
    table = table_of(make_result("a", overrides={"rule": ["x", "y|z"]}))
    lines = [line for line in render.to_markdown(table).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.columns) + 2}


def test_csv_comes_back(rich: Table) -> None:
    frame = pd.read_csv(io.StringIO(render.to_csv(rich))).set_index(["benchmark", "method", "metric"])
    assert len(frame) == len(rich.entries)
    for (row, (benchmark, metric)), entry in rich.entries.items():
        record = frame.loc[(benchmark, row, metric)]
        assert record["mean"] == pytest.approx(entry.mean, nan_ok=True)
        assert record["sd"] == pytest.approx(entry.sd, nan_ok=True)
        assert (record["n"], record["wanted"], record["failed"]) == (entry.n, entry.wanted, entry.failed)


def test_no_negative_zero() -> None:
    assert render.show(Entry(-0.001, 0, 1, 1), METRICS["bwt"], "±") == "0.00"


# On the command line


@pytest.fixture
def digits(make_result: Make, tmp_path: Path) -> Path:
    """Six imported seeds of two methods: current whatever the code."""
    for method, acc in (("one", 50), ("two", 60)):
        for seed in range(6):
            result = make_result(method, seed, acc=acc + seed, benchmark="toy", traits={"imported": True}, training={})
            result.tasks = []
            store.save_result(result, tmp_path)
    return tmp_path


def test_compare_ranks_and_caption(command: Callable[..., Any], digits: Path) -> None:
    words = ("table", "--out", digits, "--metric", "acc")
    answer = command(*words, "--compare", "one", "--ranks", "--caption", "Ours & theirs.")
    assert (answer.code, answer.err) == (0, "")
    main, comparison, ranking = answer.out.split("\n\n|")
    assert "\nOurs & theirs. ACC: mean" in main
    assert "**62.50 ± 1.87** ↑" in main
    assert "| +10.00 " in re.sub(" +", " ", comparison)
    assert "No critical difference" in ranking
    latex = command(*words, "--compare", "one", "--caption", "R&D", "--format", "latex", "--siunitx").out
    assert r"\caption{R\&D.}" in latex
    assert "{\\,$\\uparrow$}" in latex
    assert latex.count(r"\begin{table") == latex.count(r"\end{table") == 2
    few = command(*words, "--compare", "one", "--seeds", "0-4").out
    assert "Nothing is marked against one: with 5 common seeds" in few
    assert "0.0625" in few


HEADS = {
    "all": ["bench", "bench (bf16)", "bench (1 epoch)", "bench (1 epoch, bf16)"],
    "--epochs recipe": ["bench", "bench (bf16)"],
    "--epochs RECIPE --precision FP32": ["bench"],
    "--epochs 1": ["bench (1 epoch)", "bench (1 epoch, bf16)"],
    "--epochs 3": ["bench", "bench (bf16)"],  # what this recipe says
    "--epochs 1 --precision bf16": ["bench (1 epoch, bf16)"],
    "--precision fp32,bf16 --epochs all": ["bench", "bench (bf16)", "bench (1 epoch)", "bench (1 epoch, bf16)"],
}


@pytest.mark.parametrize("words", HEADS)
def test_budgets_and_precisions_are_chosen(
    command: Callable[..., Any], make_result: Make, tmp_path: Path, words: str
) -> None:
    kinds = [(epochs, precision) for epochs in (3, 1) for precision in ("fp32", "bf16")]
    for epochs, precision in kinds:
        result = make_result("gpm", benchmark="toy", precision=precision)
        changed = {"epochs": (3, 1)} if epochs == 1 else {}
        cell = replace(result.cell, training={**result.cell.training, "epochs": epochs}, overrides=changed)
        store.save_result(replace(result, cell=cell), tmp_path)
    chosen = [] if words == "all" else words.split()
    shown = command("table", "--out", tmp_path, "--metric", "acc", "--format", "csv", *chosen)
    heads = list(pd.read_csv(io.StringIO(shown.out)).benchmark)
    assert sorted(heads) == sorted(head.replace("bench", "toy") for head in HEADS[words])
    assert command("report", "--out", tmp_path, *chosen).code == 0
    titles = re.findall(r'<h2 id="b\d+">(.*?)</h2>', (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert titles == heads


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--epochs", "2"], "no results of these"),
        (["--epochs", "0"], "--epochs takes a number of epochs, at least 1, or recipe, or all, not '0'"),
        (["--epochs", "recipes"], "not 'recipes'"),
        (["--epochs", "9" * 5000], "--epochs takes"),
        (["--precision", "fp16"], "fp16"),
        (["--paper", "gpm", "--precision", "bf16"], "leave --precision out"),
        (["--paper", "gpm", "--epochs", "-1"], "--epochs"),
    ],
)
def test_a_wrong_budget_or_precision_is_one_line(
    command: Callable[..., Any], digits: Path, words: list[str], part: str
) -> None:
    answer = command("table", "--out", digits, *words)
    assert answer.code == 2 and answer.out == "" and part in answer.err.splitlines()[-1]


def test_a_papers_table_takes_a_budget(command: Callable[..., Any]) -> None:
    folder = installation.ROOT / "results" / "published"
    words = ("table", "--paper", "gpm", "--bench", "split_cifar100", "--out", folder)
    assert "other budget: 2 epochs" in command(*words).out
    chosen = command(*words, "--epochs", "recipe").out
    assert "other budget" not in chosen.split("Verdict")[0] and "| 71.79 |" in re.sub(" +", " ", chosen)


def test_tensorboard(command: Callable[..., Any], digits: Path, tmp_path: Path) -> None:
    answer = command("table", "--out", digits, "--methods", "one", "--seeds", "1", "--tensorboard", tmp_path / "tb")
    assert answer.code == 0
    assert "1 run written" in answer.err
    assert len(list((tmp_path / "tb").rglob("events*"))) == 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--compare", "tow"], "did you mean 'two'"),
        (["--compare", "one", "--alpha", "0"], "--alpha"),
        (["--ranks", "--alpha", "1.5"], "--alpha"),
        (["--alpha", "x"], "--alpha"),
        (["--siunitx"], "--format latex"),
        (["--compare"], "--compare"),
        (["--methods", "tow"], "did you mean 'two'"),
    ],
)
def test_bad_table_options_are_one_line(command: Callable[..., Any], digits: Path, words: list[str], part: str) -> None:
    answer = command("table", "--out", digits, *words)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert part in answer.err
