"""Published tables run here: which cells stand for which rows, and what is said of them."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import installation
from bench.analysis.columns import METRICS
from bench.analysis.explorer import beside
from bench.analysis.papers import paper, printed_files, published, reproduction
from bench.analysis.papers.listing import ours_beside
from bench.analysis.papers.outcome import reproduced
from bench.analysis.papers.published import Stream
from bench.analysis.papers.reproduction import Part, Wanted
from bench.catalog.catalog import Catalog
from bench.core import Cell, Result, UserError
from bench.execution import store

Make = Callable[..., Result]
HEADER = "benchmark,setting,backbone,method,acc_mean,acc_std,bwt_mean,bwt_std,source_paper,source_table,confidence"
LINES = [
    "A stream,5 runs,MLP,GPM,60.0,90.0,-5,90,Tiny (2026),Table 1,verified",
    "A stream,5 runs,MLP,Fine-tuning,10.0,,,,Tiny (2026),Table 1,verified",
    "A stream,5 runs,MLP,Unheard-of,50.0,1.0,,,Tiny (2026),Table 1,verified",
    "Another stream,5 runs,MLP,GPM,50.0,1.0,,,Tiny (2026),Table 1,verified",
]
NAMES = """
[confidence]
verified = "read"
[benchmarks]
"A stream" = "toy"
[methods]
"GPM" = "gpm"
"Fine-tuning" = "finetune"
[labels]
"""
PAPER = 'source = "Tiny (2026)"\ntables = ["Table 1"]\n[reproduce.main]\ntable = ["Table 1"]\nseeds = [0, 1]\n'


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """`write(lines, paper)` makes a folder of printed numbers the one that is read."""

    def forget() -> None:
        for cached in (
            published.known_names,
            published.papers,
            printed_files.printed_lines,
            printed_files.seed_lines,
            published._spreads,
        ):
            cached.cache_clear()

    def make(lines: list[str] = LINES, paper: str = PAPER, names: str = NAMES) -> Path:
        folder = tmp_path / "printed"
        (folder / "papers").mkdir(parents=True, exist_ok=True)
        (folder / "results.csv").write_text("\n".join([HEADER, *lines]) + "\n")
        (folder / "seeds.csv").write_text("benchmark,source_table,method,seed,acc,bwt\n")
        (folder / "names.toml").write_text(names)
        (folder / "papers" / "tiny.toml").write_text(paper)
        monkeypatch.setattr(printed_files, "FOLDER", folder)
        forget()
        return folder

    yield make
    monkeypatch.undo()
    forget()


# What is known


def test_every_table_has_rows_and_its_seeds_fit_its_options() -> None:
    tables = reproduction.known()
    assert {"ness:table1", "gpm:pmnist", "gpm:superclass", "api:superclass", "cuber:pmnist", "dfgp:logs"} <= set(tables)
    for key, table in tables.items():
        assert table.rows and len(set(table.about.seeds)) == len(table.about.seeds), key
        assert len(table.about.seeds) == (3 if key == "dfgp:logs" else 5), key
        lengths = {len(values) for options in table.about.by_seed.values() for values in options.values()}
        assert lengths <= {len(table.about.seeds)}, key
        assert set(table.about.benchmarks) <= {row.benchmark for row in table.rows}, key


def test_rows_become_cells_or_a_reason() -> None:
    items = reproduction.wanted(reproduction.table_of("gpm:pmnist"), Part(), Catalog())
    by_name = {item.method: item for item in items}
    assert [cell.seed for cell in by_name["GPM"].cells] == [0, 1, 2, 3, 4]
    assert {cell.method for cell in by_name["Multitask"].cells} == {"joint"}
    assert all(not cell.overrides and cell.protocol == "published" for cell in by_name["GPM"].cells)
    assert by_name["OGD"].cells == () and by_name["OGD"].reason == "no such method here"
    assert reproduction.reasons([by_name["OGD"], by_name["GEM"]]) == ["no such method here: OGD, GEM"]


def test_spreads_are_quoted_for_the_same_means_alone() -> None:
    rows = {row.method: row for row in reproduction.table_of("gpm:pmnist").rows}
    assert str(rows["GPM"].numbers["acc"]) == "93.91 ± 0.16" and rows["GPM"].n == 5
    assert str(rows["OGD"].numbers["acc"]) == "82.56"
    assert rows["GPM"].numbers["acc"].quoted == "cuber" and rows["OGD"].numbers["acc"].quoted == ""
    printed = {row.method: row for row in published.printed("gpm", "Table 1(a) as on the poster")}
    assert str(printed["GPM"].numbers["acc"]) == "93.91" and printed["GPM"].n is None


def test_a_row_is_completed_wherever_it_is_read() -> None:
    unlike = []
    for key, table in reproduction.known().items():
        rows = [row for name in table.about.table for row in published.rows_of(key.partition(":")[0], name)]
        unlike += [key for row in table.rows if row not in rows]
    assert unlike == []


@pytest.mark.parametrize("key", ["gpm:pmnist", "cuber:pmnist"])
def test_front_page_report_and_paper_give_the_same_verdicts(command: Any, key: str) -> None:
    folder = installation.ROOT / "results" / "published"
    stored = [result for result in store.load_all(folder) if isinstance(result, Result)]
    table, catalog = reproduction.table_of(key), Catalog()
    items = reproduction.wanted(table, Part(), catalog)
    keys = {cell.key for item in items for cell in item.cells}
    found = {result.cell.key: result for result in stored if result.cell.key in keys}
    lines = [line for line in reproduced(table, items, found, stored, Part(), catalog).lines if line.ours.n]
    assert {line.verdict for line in lines} == {"agrees", "above", "below"}

    source = f"{table.source}, {table.about.table[0]}"
    rows = [
        dict(zip(beside.HEADER, number.words, strict=True)) | {"protocol": number.protocol}
        for number in beside.published_beside(stored)
    ]
    of_report = {
        (row["method"], row["metric"], row["published"], row["ours"], row["verdict"])
        for row in rows
        if (row["benchmark"].split()[0], row["protocol"], row["paper"]) == ("permuted_mnist", "published", source)
    }
    assert of_report == {
        (line.method, METRICS[line.metric].label, str(line.number), ours_beside(line)[0], line.verdict)
        for line in lines
    }

    words = ("--paper-table", table.about.table[0], "--bench", "permuted_mnist", "--format", "csv", "--out", folder)
    told = csv.DictReader(command("table", "--paper", key.partition(":")[0], *words).out.splitlines())
    of_paper = {tuple(row[name] for name in ("our_method", "metric", "mean", "sd", "verdict")) for row in told}
    assert of_paper >= {(line.method, line.metric, line.number.mean, line.number.sd, line.verdict) for line in lines}


def test_orders_go_with_seeds_and_are_runs_of_one_row(make_result: Make) -> None:
    table = reproduction.table_of("gpm:superclass")
    [gpm] = [item for item in reproduction.wanted(table, Part(), Catalog()) if item.cells]
    assert [(cell.seed, cell.options["order"]) for cell in gpm.cells] == [(i, i) for i in range(5)]
    assert len({cell.group for cell in gpm.cells}) == 5
    matrix: list[list[float | None]] = [[0.5] * (i + 1) + [None] * (19 - i) for i in range(20)]
    results = [Result(cell, matrix) for cell in gpm.cells]
    assert len({result.cell.group for result in reproduction.as_one(results, table.about)}) == 1
    found = {result.cell.key: result for result in results}
    told = reproduced(table, [gpm], found, results, Part(), Catalog())
    assert [line.ours.n for line in told.lines] == [5] and told.aside == 0
    one_order = [Result(replace(cell, options=gpm.cells[0].options, overrides={}), matrix) for cell in gpm.cells]
    own = [row for row in table.rows if row.method == "GPM"]
    for given, n in ((results, 5), (one_order, 1)):  # in a report and in `table --paper`, too
        [line] = paper.beside_results(own, given, "published", ["acc"], gpm.here[:1], ["gpm"])
        assert line.ours.n == n


def test_a_choice_of_a_table() -> None:
    table = reproduction.table_of("ness:table1")
    items = reproduction.wanted(table, Part(("gpm", "olora"), "split_cifar100", (7,), 2), Catalog())
    assert [(item.here, [cell.seed for cell in item.cells]) for item in items] == [
        (("split_cifar100", "gpm"), [7]),
        (("split_cifar100", "olora"), [7]),
    ]
    assert {cell.training["epochs"] for item in items for cell in item.cells} == {2}


def test_papers_that_differ() -> None:
    spreads = {(spread.benchmark, spread.method): spread for spread in reproduction.between_papers()}
    gpm = spreads["10-split CIFAR-100", "GPM"]
    assert "72.48 (gpm)" in gpm.text and "71.63 (ness, re-run by NESS authors)" in gpm.text
    assert ("CIFAR-100 Superclass (20 tasks)", "GPM") not in spreads, "57.7 may be 57.72 rounded"


# What is said


def results_of(cells: tuple[Cell, ...], accuracy: float) -> list[Result]:
    matrix: list[list[float | None]] = [[accuracy] * (i + 1) + [None] * (2 - i) for i in range(3)]
    return [Result(cell, matrix, environment={"seconds": 1.0}) for cell in cells]


def told_of(results: list[Result], stored: list[Result] | None = None, part: Part | None = None) -> Any:
    table, part = reproduction.table_of("tiny:main"), part or Part()
    items = reproduction.wanted(table, part, Catalog())
    found = {result.cell.key: result for result in results}
    return reproduced(table, items, found, results if stored is None else stored, part, Catalog())


def cells_of(method: str, part: Part | None = None) -> tuple[Cell, ...]:
    items = reproduction.wanted(reproduction.table_of("tiny:main"), part or Part(), Catalog())
    [item] = [item for item in items if item.here == ("toy", method)]
    return item.cells


def test_a_table_ends_with_its_tally(write: Callable[..., Path]) -> None:
    write()
    told = told_of(results_of(cells_of("gpm"), 0.6) + results_of(cells_of("finetune"), 0.6))
    assert "tiny:main: 2 agree, 0 disagree, 3 undecided; undecided: 1 no spread, 2 not here." in told.tally
    write([LINES[0].replace("60.0,90.0", "70.0,0.1"), LINES[2]])
    told = told_of(results_of(cells_of("gpm"), 0.6))
    assert "1 disagree, 1 undecided; disagree: GPM on A stream, acc below; undecided: 1 not here" in told.tally


def test_another_budget_gets_no_verdict(write: Callable[..., Path]) -> None:
    write()
    short = Part(epochs=1)
    told = told_of(results_of(cells_of("gpm", short), 0.6), part=short)
    assert [line.verdict for line in told.lines[:2]] == ["other budget: 1 epoch"] * 2
    assert "0 agree" in told.tally


def test_results_that_do_not_belong_are_counted_and_not_averaged(write: Callable[..., Path]) -> None:
    write()
    own = results_of(cells_of("gpm"), 0.6)
    foreign = [
        replace(result, cell=replace(result.cell, **change))
        for result in results_of(cells_of("gpm"), 0.1)
        for change in ({"protocol": "sound"}, {"precision": "bf16"}, {"seed": 9}, {"config": {"energy": 0.5}})
    ]
    told = told_of(own, own + foreign)
    assert told.aside == 8 and "8 stored results of another budget" in told.tally
    assert told.lines[0].ours.mean == pytest.approx(60)


def test_methods_that_no_paper_prints_stand_in_a_table_of_their_own(write: Callable[..., Path]) -> None:
    write()
    cells, reasons = reproduction.cells_of(Stream("toy"), "ewc", reproduction.table_of("tiny:main"), Part(), Catalog())
    assert not reasons
    stored = results_of(tuple(cells), 0.4)
    told = told_of(results_of(cells_of("gpm"), 0.6), stored)
    assert told.unprinted is not None and told.unprinted.rows == ["ewc"]
    assert "| ewc" in told.render("md") and "ewc" in told.render("latex")
    assert told_of(results_of(cells_of("gpm"), 0.6)).unprinted is None


def test_a_method_that_is_told_more_stands_for_its_own_row_alone(write: Callable[..., Path]) -> None:
    """Of two rows on one printed benchmark; a method that the paper does not print is run as most rows are."""
    own = '[benchmarks_of.TRGP]\n"A stream" = { benchmark = "permuted_digits", scenario = "task-il-shared" }\n'
    names = NAMES.replace('"toy"', '"permuted_digits"').replace("[methods]", own + '[methods]\n"TRGP" = "trgp"')
    write([*LINES, LINES[0].replace("GPM", "TRGP")], names=names)
    table = reproduction.table_of("tiny:main")
    assert table.streams == [Stream("permuted_digits")]
    items = {item.method_here: item for item in reproduction.wanted(table, Part(), Catalog()) if item.cells}
    assert {name: {cell.scenario for cell in item.cells} for name, item in items.items()} == {
        "gpm": {"domain-il"}, "finetune": {"domain-il"}, "trgp": {"task-il-shared"},
    }  # fmt: skip
    [beside] = reproduction.wanted(table, Part(("ewc",)), Catalog())
    assert {cell.scenario for cell in beside.cells} == {"domain-il"}
    shown = told_of([*results_of(items["gpm"].cells, 0.6), *results_of(items["trgp"].cells, 0.7)]).render("md")
    assert "ours: permuted_digits, permuted_digits (task-il-shared), seeds 0, 1" in shown


OVER_CLASSES = [
    "A stream (CIL),metric: final ACC; 5 runs,MLP,GPM,60.0,90.0,,,Tiny (2026),Table 1,verified",
    "A stream (CIL),metric: ACC averaged over steps (AAA); 5 runs,MLP,GPM,70.0,90.0,,,Tiny (2026),Table 1,verified",
]
CIL = '"A stream (CIL)" = { benchmark = "toy", scenario = "class-il" }\n[methods]'


def test_a_paper_in_class_il_meets_our_runs_in_class_il_alone(write: Callable[..., Path]) -> None:
    write([*LINES, *OVER_CLASSES], names=NAMES.replace("[methods]", CIL))
    table = reproduction.table_of("tiny:main")
    items = {item.benchmark: item for item in reproduction.wanted(table, Part(("gpm",)), Catalog())}
    told, untold = items["A stream"].cells, items["A stream (CIL)"].cells
    assert [{cell.scenario for cell in cells} for cells in (told, untold)] == [{"task-il"}, {"class-il"}]
    outcome = told_of([*results_of(told, 0.6), *results_of(untold, 0.3)], part=Part(("gpm",)))
    found = {
        (line.row.benchmark, line.metric): (line.ours.mean, line.scenario) for line in outcome.lines if line.ours.n
    }
    assert {place: scenario for place, (_, scenario) in found.items()} == {
        ("A stream", "acc"): "task-il",
        ("A stream", "bwt"): "task-il",
        ("A stream (CIL)", "acc"): "class-il",
        ("A stream (CIL)", "aia"): "class-il",
    }
    assert found["A stream", "acc"][0] == pytest.approx(60) and found["A stream (CIL)", "aia"][0] == pytest.approx(30)
    alone = told_of(results_of(told, 0.6), part=Part(("gpm",)))
    assert [line.verdict for line in alone.lines if line.row.benchmark == "A stream (CIL)"] == ["no run"] * 2
    assert "| AIA" in outcome.render("md") and "ours: toy (class-il), seeds 0, 1" in outcome.render("md")


def test_the_length_of_a_stream_is_part_of_what_is_compared() -> None:
    """InfLoRA's three tables of ImageNet-R are of 5, 10 and 20 tasks; the rise of the energy goes with their number."""
    table = reproduction.table_of("inflora:imagenet_r")
    assert table.metrics == ["acc", "aia"] and table.benchmarks == ["split_imagenet_r"]
    items = [item for item in reproduction.wanted(table, Part(), Catalog()) if item.cells]
    steps = {cell.options["tasks"]: cell.config["energy_step"] for item in items for cell in item.cells}
    assert steps == {5: 0.004, 10: 0.002, 20: 0.001} and {item.method for item in items} == {"InfLoRA"}
    results = []
    for item in items:
        for cell in item.cells:
            assert (cell.scenario, cell.protocol) == ("class-il", "published")
            n = cell.options["tasks"]
            results.append(Result(cell, [[n / 100] * (i + 1) + [None] * (n - 1 - i) for i in range(n)]))
    outcome = reproduced(table, items, {result.cell.key: result for result in results}, results, Part(), Catalog())
    ours = {(line.row.benchmark, line.metric): (line.ours.mean, line.ours.n) for line in outcome.lines if line.ours.n}
    assert ours == {
        (f"ImageNet-R ({n} tasks, CIL)", metric): (pytest.approx(n), 5)
        for n in (5, 10, 20)
        for metric in ("acc", "aia")
    }
    beside = reproduction.wanted(table, Part(("finetune",)), Catalog())
    assert [item.benchmark for item in beside] == [f"split_imagenet_r (class-il, tasks={n})" for n in (10, 5, 20)]


def test_a_plan_tells_of_the_weights_that_are_missing(command: Any, tmp_path: Path) -> None:
    words = ("reproduce", "inflora:cifar100", "--out", tmp_path / "out", "--data", tmp_path)
    answer = command(*words, "--dry-run")
    assert answer.code == 0 and "| CIFAR-100 (10 tasks, CIL) | InfLoRA    | inflora | 0 of 5" in answer.out
    assert "weights of split_cifar100_vit: " in answer.out and ".safetensors is missing: put " in answer.out
    refused = command(*words)
    assert (refused.code, refused.err.count("\n")) == (2, 1) and "weights of the network are missing" in refused.err


# The command


@pytest.mark.slow
def test_the_verb_runs_resumes_and_writes(command: Any, write: Callable[..., Path], tmp_path: Path) -> None:
    write()
    words = ("reproduce", "tiny:main", "--epochs", "1", "--seeds", "0", "--out", tmp_path / "out")
    first = command(*words)
    assert first.code == 0 and first.out.startswith("2 cells: 0 done, 2 to run")
    assert "other budget: 1 epoch" in first.out and "0 agree, 0 disagree, 5 undecided" in first.out
    again = command(*words)
    assert (
        again.out.startswith("2 cells: 2 done, 0 to run") and again.out.split("\n", 1)[1] == first.out.split("\n", 1)[1]
    )
    written = tmp_path / "out" / "reproduce"
    assert sorted(path.name for path in written.iterdir()) == ["tiny-main.json", "tiny-main.md", "tiny-main.tex"]
    plain = json.loads((written / "tiny-main.json").read_text())
    assert plain["table"] == "tiny:main" and len(plain["lines"]) == 5 and plain["tally"] in again.out
    assert r"\begin{tabular}" in (written / "tiny-main.tex").read_text()


def test_a_dry_run_tells_what_each_row_lacks(command: Any, write: Callable[..., Path], tmp_path: Path) -> None:
    write()
    store.save_result(results_of(cells_of("gpm")[:1], 0.6)[0], tmp_path / "out")
    answer = command("reproduce", "tiny:main", "--dry-run", "--out", tmp_path / "out")
    assert answer.code == 0 and "4 cells: 1 done, 3 to run" in answer.out
    rows = {tuple(word.strip() for word in line.split("|")[1:-1]) for line in answer.out.splitlines() if "|" in line}
    assert ("A stream", "GPM", "gpm", "1 of 2", "seeds 1") in rows
    assert ("A stream", "Unheard-of", "--", "--", "no such method here") in rows
    assert ("Another stream", "GPM", "gpm", "--", "no such benchmark here") in rows


def test_data_that_is_not_there_is_a_line_for_each_source(command: Any, tmp_path: Path) -> None:
    words = ("reproduce", "ness:table1", "--dry-run", "--data", tmp_path / "data", "--out", tmp_path / "out")
    lines = command(*words).out.splitlines()
    named = [line for line in lines if line.startswith("data of")]
    assert len(named) == 7 and all(str(tmp_path / "data") in line for line in named)


def test_the_list(command: Any, write: Callable[..., Path], tmp_path: Path) -> None:
    write()
    answer = command("reproduce", "--out", tmp_path / "out")
    assert answer.code == 0
    assert re.search(r"\| tiny:main +\| Table 1 +\| toy +\| +2 of 4 \| +0 of 4 \|", answer.out)
    assert "tiny:main: no such benchmark here: Another stream" in answer.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gpm:pmnits"], "unknown table 'gpm:pmnits': did you mean 'gpm:pmnist'"),
        (["gmp:pmnist"], "unknown paper 'gmp': did you mean 'gpm'"),
        (["gpm"], "known: gpm:pmnist"),
        (["gpm:pmnist", "--only", "split_cifar100"], "known: permuted_mnist"),
        (["gpm:pmnist", "--precision", "bf16"], "leave --precision out"),
        (["gpm:pmnist", "--epochs", "0"], "--epochs must be at least 1"),
        (["--seeds", "1"], "--seeds goes with a table"),
        (["gpm:pmnist", "--methods", "nes"], "did you mean 'ness'"),
    ],
)
def test_a_wrong_request_is_one_line(command: Any, tmp_path: Path, words: list[str], says: str) -> None:
    answer = command("reproduce", *words, "--out", tmp_path)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert says in answer.err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("A stream,5 runs,MLP,,60.0,1.0,,,Tiny (2026),Table 1,verified", "line 3: it names no method"),
        (",5 runs,MLP,GPM,60.0,1.0,,,Tiny (2026),Table 1,verified", "line 3: it names no benchmark"),
        ("A stream,5 runs,MLP,EWC,60.0,1.0,,2,Tiny (2026),Table 1,verified", "line 3: bwt_std without bwt_mean"),
        ("A stream,5 runs,MLP,EWC,6O.0,1.0,,,Tiny (2026),Table 1,verified", "line 3: acc_mean is '6O.0', no number"),
        (LINES[0], "line 3: the same as line 2"),
    ],
)
def test_a_wrong_line_is_named(command: Any, write: Callable[..., Path], tmp_path: Path, line: str, says: str) -> None:
    folder = write([LINES[0], line])
    answer = command("reproduce", "tiny:main", "--dry-run", "--out", tmp_path)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert f"{folder / 'results.csv'}, {says}" in answer.err


@pytest.mark.parametrize(
    ("paper", "names", "says"),
    [
        (PAPER.replace("[0, 1]", '["a"]'), NAMES, "tiny.toml: Expected `int`"),
        (PAPER.replace('table = ["Table 1"]', 'table = ["Table 2"]'), NAMES, "unknown table of Tiny (2026) 'Table 2'"),
        ("source = ", NAMES, "tiny.toml: "),
        (PAPER, NAMES.replace('"gpm"', '"gmp"'), "names.toml: unknown name 'gmp'"),
    ],
)
def test_a_wrong_file_is_named(
    command: Any, write: Callable[..., Path], tmp_path: Path, paper: str, names: str, says: str
) -> None:
    write(LINES, paper, names)
    answer = command("reproduce", "tiny:main", "--dry-run", "--out", tmp_path)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert says in answer.err


def test_an_unknown_table_in_python() -> None:
    with pytest.raises(UserError, match="did you mean"):
        reproduction.table_of("gpm:pmnis")
    assert reproduction.reasons([Wanted("A", "B", Stream(), "", reason="why")]) == ["why: A"]
