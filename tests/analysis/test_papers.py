"""Published tables beside ours: the data are sound, verdicts follow their rule, and nothing is hidden."""

import csv
import io
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.analysis import render
from bench.analysis.latex.text import escape
from bench.analysis.papers import listing as paper_table
from bench.analysis.papers import paper, printed_files, published
from bench.analysis.papers.paper import Line
from bench.analysis.papers.published import Number, Row
from bench.catalog import plan
from bench.catalog.catalog import Catalog
from bench.core import Result, UserError
from bench.execution import store

Make = Callable[..., Result]
Command = Callable[..., Any]
NAMES = published.known_names()
PAPERS = list(published.papers())


def tables_of(key: str) -> list[str]:
    source = published.papers()[key].source
    return list(dict.fromkeys(r["source_table"] for r in printed_files.printed_lines() if r["source_paper"] == source))


EVERY_ROW = [row for key in PAPERS for table in tables_of(key) for row in published.rows_of(key, table)]

# The data


def test_every_number_parses_and_no_line_is_lost() -> None:
    records = printed_files.printed_lines()
    assert len(EVERY_ROW) == len(records) == 462
    for row in EVERY_ROW:
        for number in row.numbers.values():
            assert -100 <= float(number.mean) <= 100
            assert not number.sd or 0 <= float(number.sd) < 20
    assert all({"acc", "aia"} & row.numbers.keys() and row.confidence in NAMES["confidence"] for row in EVERY_ROW)
    assert sum("aia" in row.numbers for row in EVERY_ROW) == sum("averaged over" in r["setting"] for r in records) > 99


def test_no_two_lines_contradict_each_other() -> None:
    same: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in EVERY_ROW:
        if "one repeat" not in row.setting:  # of which there are several
            key = (row.source, row.table, row.benchmark, row.backbone, row.setting, row.method)
            same[key] += row.numbers
    assert [key for key, metrics in same.items() if len(metrics) > len(set(metrics))] == []


def test_every_word_of_the_names_is_used_and_known() -> None:
    benchmarks, methods = ({getattr(row, name) for row in EVERY_ROW} for name in ("benchmark", "method"))
    assert set(NAMES["benchmarks"]) <= benchmarks and set(NAMES["methods"]) <= methods
    assert set(NAMES["labels"].values()) <= methods
    streams = [row.stream for row in EVERY_ROW if row.stream.benchmark]
    assert {stream.benchmark for stream in streams} <= set(Catalog().available("Benchmark"))
    for stream in streams:
        benchmark = Catalog().benchmark(stream.benchmark, stream.options, stream.scenario)
        assert not stream.options or f"({benchmark.num_tasks} tasks, CIL)" in "".join(NAMES["benchmarks"])
    assert set(NAMES["methods"].values()) <= {*Catalog().available("Method"), *Catalog().variants()}
    for key in PAPERS:
        assert set(published.papers()[key].tables) <= set(tables_of(key))


def test_rows_that_can_be_compared_print_what_we_measure() -> None:
    """Accuracies whose kind is known, of sample sd; those of all classes together meet class-il alone."""
    comparable = [row for row in EVERY_ROW if all(row.here)]
    assert comparable
    for row in comparable:
        assert "metric:" not in row.setting and "population" not in row.setting
        assert ("CIL" in row.benchmark) == (row.stream.scenario == "class-il")


def with_seeds_of(key: str) -> list[published.Row]:
    rows = [row for table in tables_of(key) for row in published.rows_of(key, table)]
    return [row for row in rows if row.numbers["acc"].values]


def test_every_seed_has_its_row_and_every_run_of_the_paper_its_seeds() -> None:
    told = {key: paper.seeds for key, paper in published.papers().items() if paper.seeds}
    used = [(row.benchmark, name) for key in told for row in with_seeds_of(key) for name in told[key][row.method]]
    assert {(r["benchmark"], r["method"]) for r in printed_files.seed_lines()} <= set(used)
    ness = with_seeds_of("ness")
    rows = [row for table in tables_of("ness") for row in published.rows_of("ness", table)]
    assert {row.method for row in rows} - {row.method for row in ness} == {"OWM", "EWC", "HAT", "A-GEM"}
    assert all(len(row.numbers[m].values) == 5 for row in ness for m in row.numbers)


def test_a_row_made_here_of_seeds_is_what_they_give() -> None:
    """The logs of DFGP tell of each run alone; mean and sd in results.csv are ours."""
    rows = with_seeds_of("dfgp")
    assert {row.benchmark: row.n for row in rows} == {
        "10-split CIFAR-100": 2, "5-Datasets": 3, "20-split MiniImageNet": 2, "PMNIST (10 tasks)": 3
    }  # fmt: skip
    assert not [row.benchmark for row in rows if any(number.contradicted for number in row.numbers.values())]


def test_n_is_of_the_papers_own_runs() -> None:
    n = {(row.source.split(" ")[0], row.method): row.n for row in EVERY_ROW}
    assert n["NESS", "GPM"] == 5 and n["NESS", "EWC"] is None
    assert n["CL-LoRA", "CL-LoRA"] == 10 and n["GPM", "GPM"] == 5, "which its file tells"
    assert n["CUBER", "CUBER"] == n["CUBER", "GPM"] == 5, "whose note tells that quoted rows are of 5 runs too"


def test_the_paper_contradicts_itself_where_the_specification_says_so() -> None:
    found = {
        (row.benchmark, row.method): {
            metric: (str(number), "{:.2f} ± {:.2f}".format(*number.own))
            for metric, number in row.numbers.items()
            if number.contradicted
        }
        for row in published.rows_of("ness")
        if any(number.contradicted for number in row.numbers.values())
    }
    swapped = [("68.50 ± 1.50", "-0.11 ± 1.36"), ("68.64 ± 2.25", "-0.43 ± 1.60")]
    (acc, bwt), (other_acc, other_bwt) = swapped
    assert found == {
        ("10-split CIFAR-100", "NESS (SAM)"): {
            "acc": ("72.56 ± 0.07", "72.68 ± 0.28"),
            "bwt": ("-0.17 ± 0.51", "-0.08 ± 0.47"),
        },
        ("5-Datasets", "DFGP mixup=0.0001"): {
            "acc": ("91.51 ± 0.15", "91.51 ± 0.58"),
            "bwt": ("-1.70 ± 0.42", "-2.00 ± 0.42"),
        },
        ("20-split MiniImageNet", "DFGP mixup=0.01"): {"acc": (acc, other_acc), "bwt": (bwt, other_bwt)},
        ("20-split MiniImageNet", "DFGP mixup=0.05"): {"acc": (other_acc, acc), "bwt": (other_bwt, bwt)},
    }


@pytest.mark.parametrize(
    ("mean", "sd", "contradicted"),
    [("2.0", "1.0", False), ("2", "1", False), ("2.05", "", True), ("2.04", "", True), ("2.1", "", True),
     ("2.0", "1.1", True), ("2", "1.4", True), ("2", "", False), ("1.5", "", True), ("3", "", True)],
)  # fmt: skip
def test_half_a_unit_of_the_last_digit_is_rounding(mean: str, sd: str, contradicted: bool) -> None:
    assert Number(mean, sd, (1.0, 2.0, 3.0)).contradicted is contradicted
    assert not Number(mean, sd).contradicted


def test_a_rounded_mean_is_no_contradiction() -> None:
    assert not Number("2.5", "", (2.45, 2.45)).contradicted  # exactly half a unit
    assert Number("2.5", "", (2.44, 2.44)).contradicted


# The verdicts


def row_of(mean: str = "70.00", sd: str = "1.00", setting: str = "5 runs", **more: Any) -> Row:
    """A row about GPM on split CIFAR-100, which this suite has."""
    facts = {"remark": "", "confidence": "verified", "method": "GPM", **more}
    return Row(
        "A (2020)", "Table 1", "10-split CIFAR-100", "a net", setting, numbers={"acc": Number(mean, sd)}, **facts
    )


def line_of(row: Row, results: Sequence[Result], protocol: str = "published") -> Line:
    [line] = paper.beside_results([row], results, protocol, ["acc"], ["split_cifar100"], ["gpm"])
    return line


@pytest.fixture
def runs(make_result: Make) -> Callable[..., list[Result]]:
    """`runs(69, 71)`: our results with these accuracies, a seed each."""

    def make(*accs: float, **more: Any) -> list[Result]:
        return [
            make_result("gpm", seed, acc, benchmark="split_cifar100", **more) for seed, acc in enumerate(accs, start=1)
        ]

    return make


def test_agrees_within_two_standard_errors_and_the_rounding(runs: Callable[..., list[Result]]) -> None:
    """Ours: sd 1 over 4 runs, se 0.5; the paper's: sd 1 over 4, se 0.5: the limit is 2 * sqrt(0.5) + 0.005."""
    limit = 2 * 0.5**0.5 + 0.005
    spread = (-(0.75**0.5), -(0.75**0.5), 0.75**0.5, 0.75**0.5)
    for gap, verdict in ((limit - 1e-6, "agrees"), (limit + 1e-6, "above"), (-limit - 1e-6, "below"), (0, "agrees")):
        line = line_of(row_of(setting="4 runs"), runs(*(70 + gap + step for step in spread)))
        assert line.ours.sd == pytest.approx(1) and line.difference == pytest.approx(gap)
        assert line.verdict == verdict, gap


def test_no_verdict_and_why(runs: Callable[..., list[Result]]) -> None:
    some = runs(69, 70, 71)
    assert line_of(row_of(), []).verdict == "no run"
    assert line_of(row_of(), some[:1]).verdict == "one run"
    assert line_of(row_of(sd=""), some).verdict == "no spread"
    assert line_of(row_of(setting="some runs"), some).verdict == "n unknown"
    assert line_of(row_of(remark="copied from B"), some).verdict == "n unknown"
    assert line_of(row_of(method="Own"), some).verdict == "not here"
    assert line_of(row_of(), runs(69, 70, error="E: boom")).verdict == "failed"
    assert line_of(row_of(), some).verdict == "agrees"


def test_a_failed_seed_does_not_count(runs: Callable[..., list[Result]]) -> None:
    line = line_of(row_of(), [*runs(69, 71), replace(runs(0, 0, 0)[2], error="E: boom", matrix=[])])
    assert (line.ours.n, line.seeds) == (2, (1, 2))


def test_another_budget_is_named_and_used_only_without_the_right_one(runs: Callable[..., list[Result]]) -> None:
    short = [runs(60, 61, training={"epochs": n}, overrides={"epochs": [200, n]}) for n in (2, 5)]
    right = runs(69, 71, training={"epochs": 200})
    line = line_of(row_of(), [*short[1], *short[0]])
    assert (line.verdict, line.ours.n, line.ours.mean) == ("other budget: 5 epochs", 2, pytest.approx(60.5))
    assert line_of(row_of(), [*short[1], *right]).verdict == "agrees"
    stated = line_of(row_of(setting="5 runs; 10 epochs/task"), right)  # the recipe's, but not the paper's
    assert stated.verdict == "other budget: 200 epochs"
    assert line_of(row_of("60.5", setting="5 runs; 5 epochs/task"), [*right, *short[1]]).verdict == "agrees"


def test_only_the_recipes_settings_and_the_protocol_asked_for(runs: Callable[..., list[Result]]) -> None:
    tuned, imported = runs(69, 70, overrides={"lr": [0.1, 0.2]}), runs(69, 70, traits={"imported": True})
    sound = runs(10, 11, protocol="sound")
    assert line_of(row_of(), [*tuned, *imported, *sound]).verdict == "no run"
    assert line_of(row_of(), sound, "sound").verdict == "below"


def test_runs_in_bf16_are_not_compared(runs: Callable[..., list[Result]], tmp_path: Path, command: Command) -> None:
    reduced = runs(69, 70, precision="bf16")
    assert line_of(row_of(), reduced).verdict == "no run"
    assert line_of(row_of(), [*reduced, *runs(10, 11)]).ours.n == 2
    assert "ours in fp32 under the recipe's settings" in command("table", "--paper", "ness", "--out", tmp_path).out


# The table


def cell_of(out: str, method: str, metric: str = "ACC") -> list[str]:
    """What stands behind a method in a markdown table."""
    lines = [[word.strip() for word in line.strip("|").split("|")] for line in out.splitlines() if line[:1] == "|"]
    return next(line[2:] for line in lines if line[:2] == [metric, method])


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Two made-up runs of GPM as the recipe has it, one of NESS with five epochs."""
    whole = Catalog().plan(plan.Request(["gpm"], ["split_cifar100"], [1, 2]))[0]
    short = Catalog().plan(plan.Request(["ness"], ["split_cifar100"], [1], epochs=5))[0]
    for cell, acc in zip([*whole, *short], (0.71, 0.73, 0.6), strict=True):
        matrix = [[acc if j <= i else None for j in range(10)] for i in range(10)]
        store.save_result(Result(cell, matrix, [{"task": t} for t in range(10)]), tmp_path)
    return tmp_path


def test_a_table_of_partial_results(command: Callable[..., Any], stored: Path) -> None:
    answer = command("table", "--paper", "ness", "--out", stored)
    assert (answer.code, answer.err) == (0, "")
    assert cell_of(answer.out, "GPM") == ["71.63 ± 0.67", "72.00 ± 1.41", "2", "+0.37", "agrees"]
    assert cell_of(answer.out, "GPM", "BWT") == ["-0.28 ± 0.54", "0.00 ± 0.00", "2", "+0.28", "agrees"]
    assert cell_of(answer.out, "NESS (SGDm m=0.9)")[1:] == ["60.00", "1", "--", "other budget: 5 epochs"]
    assert cell_of(answer.out, "NESS (SAM)")[1:] == ["--", "--", "--", "no run"]
    assert cell_of(answer.out, "EWC ¶")[1:] == ["--", "--", "--", "no run"]
    assert cell_of(answer.out, "HAT ¶")[-1] == "no run"
    for part in (
        "Table 1, 10-split CIFAR-100 (5-layer AlexNet)", "5 seeds {1,2,3,4,37}", "ours: split_cifar100, seeds 1, 2",
        "protocol published (as the released code", "twice its standard error", "¶ copied from CODE-CL",
        "Confidence secondary: OWM, EWC, HAT, A-GEM.",
        "secondary: known from a secondary source alone", "half a unit of the last printed digit",
        "NESS (SAM), ACC: printed 72.56 ± 0.07, its own seeds give 72.68 ± 0.28",
    ):  # fmt: skip
        assert part in answer.out, part
    sound = command("table", "--paper", "ness", "--out", stored, "--protocol", "sound")
    assert cell_of(sound.out, "GPM")[-1] == "no run" and "protocol sound (the defects" in sound.out
    one = command("table", "--paper", "ness", "--out", stored, "--seeds", "2", "--methods", "gpm", "--metric", "acc")
    assert cell_of(one.out, "GPM")[1:] == ["73.00", "1", "+1.37", "one run"]
    assert "NESS (SGDm" not in one.out and "BWT" not in one.out


@pytest.mark.parametrize("form", [form for form in render.FORMATS if form != render.TERMINAL])
@pytest.mark.parametrize("key", PAPERS)
def test_every_paper_without_any_result(command: Callable[..., Any], tmp_path: Path, key: str, form: str) -> None:
    answer = command("table", "--paper", key, "--format", form, "--out", tmp_path / "nothing")
    assert (answer.code, answer.err) == (0, "")
    rows = published.rows_of(key)
    if form == "csv":
        records = list(csv.DictReader(io.StringIO(answer.out)))
        assert len(records) == sum(len(row.numbers) for row in rows)
        assert {r["verdict"] for r in records} <= {"no run", "not here"} and not any(r["our_mean"] for r in records)
    elif form == "md":
        body = [line for line in answer.out.splitlines() if line.startswith(("| ACC", "| AIA", "| BWT"))]
        assert len(body) == sum(len(row.numbers) for row in rows)
    else:
        for benchmark in {row.benchmark for row in rows}:
            assert rf"{{c}}{{{escape(benchmark)}}}" in answer.out
        numbers = [number for row in rows for number in row.numbers.values()]
        assert len(re.findall(r"\$-?[\d.]+( \\pm|_\{\\pm)? ?[\d.]*\}?\$", answer.out)) >= len(numbers)


def test_csv_has_what_the_paper_contradicts(command: Callable[..., Any], stored: Path) -> None:
    out = command("table", "--paper", "ness", "--out", stored, "--format", "csv").out
    found = {(r["benchmark"], r["method"], r["metric"]): r for r in csv.DictReader(io.StringIO(out))}
    sam, gpm = (found["10-split CIFAR-100", method, "acc"] for method in ("NESS (SAM)", "GPM"))
    assert (sam["mean"], sam["sd"], sam["contradicted"]) == ("72.56", "0.07", "True")
    assert float(sam["seeds_mean"]) == pytest.approx(72.682) and float(sam["seeds_sd"]) == pytest.approx(0.277074)
    assert (gpm["contradicted"], gpm["our_n"], gpm["our_epochs"], gpm["verdict"]) == ("False", "2", "200", "agrees")
    assert float(gpm["difference"]) == pytest.approx(0.37)
    assert found["10-split CIFAR-100", "HAT", "acc"]["contradicted"] == ""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("key", ["ness", "sd-lora"])
def test_latex_compiles(command: Callable[..., Any], stored: Path, tmp_path: Path, key: str) -> None:
    body = command("table", "--paper", key, "--out", stored, "--format", "latex").out
    text = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "t.tex").write_text(text)
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "t.log").read_text()


def test_a_minus_is_no_hyphen_in_latex() -> None:
    assert escape("-0.28, CIFAR-100, a--b, 1--2 [-1") == "$-$0.28, CIFAR-100, a--b, 1--2 [$-$1"


def test_tables_of_each_other_table(command: Callable[..., Any], tmp_path: Path) -> None:
    answer = command("table", "--paper", "ness", "--paper-table", "Table 6", "--out", tmp_path)
    assert answer.code == 0 and "NESS (SAM, no wd, eps1=0.001, lr=0.05)" in answer.out and "OWM" not in answer.out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--paper", "nes"], "did you mean 'ness'?"),
        (["--paper", "ness", "--paper-table", "Table 5"], "unknown table of ness 'Table 5'"),
        (["--paper-table", "Table 1"], "goes with --paper"),
        (["--paper", "ness", "--ranks"], "--paper goes without"),
        (["--paper", "ness", "--protocol", "all"], "under one protocol"),
        (["--paper", "ness", "--protocol", "publish"], "did you mean 'published'?"),
        (["--paper", "ness", "--metric", "state"], "has the metrics acc, aia, bwt only"),
        (["--paper", "inflora", "--metric", "bwt"], "does not print bwt"),
        (["--paper", "ness", "--bench", "digits"], "no line of that table"),
        (["--paper", "ness", "--format", "latx"], "did you mean 'latex'?"),
    ],
)
def test_a_wrong_request_is_one_line(command: Callable[..., Any], tmp_path: Path, words: list[str], part: str) -> None:
    answer = command("table", *words, "--out", tmp_path)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert part in answer.err


def test_an_unknown_paper_in_python() -> None:
    with pytest.raises(UserError, match="did you mean 'gpm'"):
        published.rows_of("gmp")


def test_settings_that_differ_get_a_column() -> None:
    rows = [row_of(setting=f"5 runs; capacity {share}%", method=name) for share, name in ((100, "GPM"), (130, "B"))]
    lines = paper.beside_results(rows, [], "published", ["acc"], ["split_cifar100"], ["gpm"])
    [listing] = paper_table.listings(lines, "published", "md")
    assert listing.header[2] == "setting" and [row[2] for row in listing.rows] == ["capacity 100%", "capacity 130%"]
    assert "5 runs; ours" in listing.caption


def test_what_a_verdict_does_not_know_of_is_told(command: Command, tmp_path: Path) -> None:
    text = command("table", "--paper", "ness", "--out", tmp_path).out
    assert "its launch script, and our recipe of NESS, has 200." in text
    assert text.count("a defect that is not rebuilt here") == 1
    with_caveats = {key: paper.caveats for key, paper in published.papers().items() if paper.caveats}
    assert with_caveats
    for key, caveats in with_caveats.items():
        assert set(caveats) <= {row.benchmark for row in published.rows_of(key)}, key
