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


def rows_in(out: str) -> dict[str, str]:
    """Return what a table shows of each row."""
    rows = [line.strip("|").split("|") for line in out.splitlines() if line.startswith("| finetune")]
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
    assert len(rows_in(shown)) == 3 and all("±" not in row for row in rows_in(shown).values())
    assert "not all rows rest on the same data: field, seeds 0, 1" in shown
    if asked == "0-2":
        assert rows_in(answer.out) == rows_in(shown)


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
