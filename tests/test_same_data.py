"""Results on different data are not averaged, and it is said."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import same_data
from bench.analysis import table as tables
from bench.catalog.catalog import Catalog
from bench.catalog.changes import Today, tell_apart
from bench.core import Cell, Result

Runs = dict[str, str]  # method -> a fingerprint a seed; "-" where there is no result


def run_on(runs: Runs, **more: Any) -> list[Result]:
    """Results on data whose fingerprints are a letter and the seed, for a stream's fingerprint depends on the seed."""
    found = []
    for method, letters in runs.items():
        for seed, letter in enumerate(letters):
            cell = Cell("toy", method, seed, {}, {}, **more)
            if letter != "-":
                found.append(Result(cell, [[0.5]], environment={"data": f"{letter}{seed}00"} if letter != "?" else {}))
    return found


def rows_of(results: list[Result]) -> dict[str, list[str]]:
    """What is averaged: the data of each row."""
    rows: dict[str, list[str]] = {}
    for result in tell_apart(results, lambda cell: cell.method, Today(Catalog())):
        row = f"{result.cell.method} {result.cell.traits.get('other', '')}".strip()
        rows.setdefault(row, []).append(result.environment.get("data", "?")[:2])
    return rows


@pytest.mark.parametrize(
    ("runs", "rows"),
    [
        ({"gpm": "aaa", "ewc": "aaa"}, {"gpm": ["a0", "a1", "a2"], "ewc": ["a0", "a1", "a2"]}),
        ({"gpm": "aaa", "ewc": "bbb"}, {"gpm": ["a0", "a1", "a2"], "ewc": ["b0", "b1", "b2"]}),  # each is one thing
        (
            {"gpm": "abb", "ewc": "bbb", "si": "bbb"},
            {"gpm a000": ["a0"], "gpm": ["b1", "b2"], "ewc": ["b0", "b1", "b2"], "si": ["b0", "b1", "b2"]},
        ),
        (  # one of them is a mixture, and nothing tells which
            {"gpm": "ab", "ewc": "bb"},
            {"gpm a000": ["a0"], "gpm": ["b1"], "ewc b000": ["b0"], "ewc": ["b1"]},
        ),
        (  # through a third
            {"gpm": "aa-", "ewc": "-bb", "si": "a-b", "er": "aab", "mas": "aab"},
            {"gpm": ["a0", "a1"], "ewc b100": ["b1"], "ewc": ["b2"], "si": ["a0", "b2"]}
            | {"er": ["a0", "a1", "b2"], "mas": ["a0", "a1", "b2"]},
        ),
        ({"gpm": "?ab", "ewc": "bab"}, {"gpm": ["?", "a1", "b2"], "ewc": ["b0", "a1", "b2"]}),  # imported, or old
    ],
)
def test_results_on_different_data_are_not_averaged(runs: Runs, rows: dict[str, list[str]]) -> None:
    assert rows_of(run_on(runs)) == rows


def test_data_differ_only_within_one_stream() -> None:
    """With another option or version of the benchmark they are other data by right; a failed run has none."""
    results = run_on({"gpm": "aa"}) + run_on({"ewc": "bb"}, options={"n": 2})
    results += run_on({"si": "cc"}, versions={"benchmark": 2})
    failed = [replace(result, matrix=[], error="broken") for result in run_on({"er": "dd"})]
    assert same_data.differing([*results, *failed]) == []
    assert same_data.differing([*results, *run_on({"er": "-b"})]) == [("toy", 1)]


def test_different_data_are_said_below_the_table() -> None:
    apart = tell_apart(run_on({"gpm": "abb", "ewc": "bbb", "si": "bbb"}), lambda cell: cell.method, Today(Catalog()))
    table = tables.summarize([(result.cell, result) for result in apart], ["acc"])
    assert table.rows == ["gpm [a000]", "gpm", "ewc", "si"]
    assert table.entries["gpm", ("toy", "acc")].n == 2
    assert "[a000]: run on other data than the row of that name" in table.notes
    assert "not all rows rest on the same data: toy, seed 0" in table.notes
    assert not any("older version" in note for note in table.notes)
    alike = tables.summarize([(result.cell, result) for result in run_on({"gpm": "aa", "ewc": "aa"})], ["acc"])
    assert not any("data" in note for note in alike.notes)


FIELD = '''"""A field whose images come from a file."""
from pathlib import Path

import numpy as np

from bench.core import Benchmark, Split, Task


class Field(Benchmark):
    num_tasks, num_classes, input_shape, backbone = 2, 2, (1, 6, 6), "convnet"

    def stream(self, seed, data):
        scale = float(Path(__file__).with_suffix(".txt").read_text())
        generator = np.random.default_rng(seed)

        def split(n):
            y = np.arange(n) % 2
            x = scale * y.reshape(n, 1, 1, 1) + generator.normal(size=(n, 1, 6, 6))
            return Split(x.astype(np.float32), y)

        return [Task(t, ("a", "b"), split(24), split(8), split(16)) for t in range(2)]
'''


@pytest.fixture
def field(command: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """`field(scale, seeds)` runs fine-tuning on the field after its file was corrected to this scale."""
    path = tmp_path / "field.py"
    path.write_text(FIELD)

    def run(scale: float, seeds: str, methods: str = "finetune") -> Any:
        path.with_suffix(".txt").write_text(str(scale))
        words = ("--plugin", path, "--bench", "field", "--methods", methods, "--seeds", seeds, "--executor", "serial")
        return command(*words, "--epochs", 1, "--metric", "acc", "--out", tmp_path / "out")

    return run


def rows_in(out: str, method: str = "finetune") -> dict[str, str]:
    """Return what a table shows of each row of a method."""
    rows = [line.strip("|").split("|") for line in out.splitlines() if line.startswith(f"| {method}")]
    return {name.strip(): shown.strip() for name, shown in rows}


SAID = "the data of field have changed since its results were run, as of seed 0"


@pytest.mark.parametrize("asked", ["0-2", "2"])
def test_a_third_seed_on_a_corrected_file_is_not_averaged_with_two_old_ones(
    field: Callable[..., Any], command: Callable[..., Any], tmp_path: Path, asked: str
) -> None:
    """Not even where the old ones are not asked for: a table of the folder has all of them."""
    assert SAID not in field(0.1, "0,1").err
    answer = field(3.0, asked)
    assert answer.code == 0 and answer.err.count(SAID) == 1
    shown = command("table", "--out", tmp_path / "out", "--plugin", tmp_path / "field.py", "--metric", "acc").out
    name, apart = rows_in(shown).items()
    assert name[0] == "finetune" and "± " in name[1] and "(n=2)" in name[1]
    assert "±" not in apart[1] and "(n=1)" in apart[1], "the new one"
    assert "not all rows rest on the same data: field, seeds 0, 1" in shown
    if asked == "0-2":
        assert rows_in(answer.out) == rows_in(shown)


def test_another_method_on_the_corrected_file_does_not_hide_the_change(field: Callable[..., Any]) -> None:
    """Its results come first in the folder, and the data of their seeds are what they are now."""
    field(0.1, "0-2", "ness")
    assert SAID in field(3.0, "0-2", "finetune").err
    answer = field(3.0, "0-3", "ness")
    assert SAID in answer.err
    rows = rows_in(answer.out, "ness")
    assert len(rows) == 2 and sorted("(n=3)" in row for row in rows.values()) == [False, True]


def corrected(old: int, new: int) -> list[Result]:
    """Results of seeds on data `a`, and after them of seeds on data `b`, which tell what those of the old ones are."""
    told = {str(seed): f"b{seed}00" for seed in range(old)}
    results = run_on({"gpm": "a" * old + "b" * new})
    return [*results[:old], *(replace(r, environment={**r.environment, "data_of": told}) for r in results[old:])]


@pytest.mark.parametrize(("old", "new"), [(7, 2), (3, 3), (5, 1)])
def test_old_data_that_are_no_fewer_keep_the_row_of_their_name(old: int, new: int) -> None:
    rows = rows_of(corrected(old, new))
    assert rows == {"gpm": [f"a{i}" for i in range(old)], f"gpm b{old}00": [f"b{old + i}" for i in range(new)]}


def test_old_data_that_are_fewer_stand_apart_together() -> None:
    assert rows_of(corrected(2, 3)) == {"gpm a000": ["a0", "a1"], "gpm": ["b2", "b3", "b4"]}


def test_a_file_that_was_corrected_twice_makes_three_rows() -> None:
    [last] = run_on({"gpm": "---c"})
    told = {"0": "c000", "1": "c100", "2": "c200"}
    results = [*corrected(2, 1), replace(last, environment={**last.environment, "data_of": told})]
    assert rows_of(results) == {"gpm": ["a0", "a1"], "gpm b200": ["b2"], "gpm c300": ["c3"]}


def test_most_seeds_on_a_corrected_file_keep_the_row_of_their_name(field: Callable[..., Any]) -> None:
    field(0.1, "0")
    answer = field(3.0, "0-3")
    assert SAID in answer.err
    rows = rows_in(answer.out)
    assert len(rows) == 2 and "(n=3)" in rows["finetune"] and "±" in rows["finetune"]


def test_data_that_have_not_changed_are_said_nothing_of(field: Callable[..., Any]) -> None:
    field(0.1, "0,1")
    answer = field(0.1, "0-2")
    assert "have changed" not in answer.err and list(rows_in(answer.out)) == ["finetune"]
    assert "(n=" not in rows_in(answer.out)["finetune"]
