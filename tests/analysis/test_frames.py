"""Results as frames and scalars, and matrices from elsewhere."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bench
from bench import installation
from bench.analysis import frames
from bench.analysis.tensorboard import write_scalars
from bench.catalog.catalog import Catalog
from bench.catalog.changes import Today
from bench.core import Result, UserError
from bench.execution import imported, store

Make = Callable[..., Result]
Command = Callable[..., Any]
TOY = "0.9,,\n0.8,0.85,nan\n0.7,0.88,0.95\n"  # three tasks


@pytest.fixture
def folder(tmp_path: Path, make_result: Make) -> Path:
    for result in (
        make_result("a", 0, acc=60, bwt=-10),
        make_result("a", 1, overrides={"rank": [1, 2]}, config={"rank": 2}),
        make_result("b", 0, error="E: boom"),
        make_result("c", 0, traits={"imported": True}),
    ):
        result.tasks = [{"state_bytes": 8, "trainable": 5, "old_samples_read": n} for n in (0, 3)]
        store.save_result(result, tmp_path / "out")
    return tmp_path / "out"


def load(folder: Path) -> pd.DataFrame:
    return bench.load_results(folder)


def test_one_row_a_cell(folder: Path, make_result: Make) -> None:
    frame = load(folder).set_index(["method", "seed"])
    assert len(frame) == 4
    row = frame.loc[("a", 0)]
    assert (row["acc"], row["bwt"]) == pytest.approx((0.6, -0.1))
    assert (row["state_bytes"], row["trainable"], row["old_samples_read"], row["seconds"]) == (8, 5, 3, 1)
    assert row["key"] == make_result("a", 0).cell.key
    assert frame["settings"].tolist() == ["", "rank=2", "", ""]
    assert frame["error"].notna().tolist() == [False, False, True, False]
    assert np.isnan(frame.loc[("b", 0), "acc"])
    assert frame["imported"].tolist() == [False, False, False, True]


def test_the_precision_is_a_column(folder: Path, make_result: Make) -> None:
    reduced = make_result("a", 0, precision="bf16")
    reduced.tasks = []
    store.save_result(reduced, folder)
    rows = load(folder)
    assert sorted(rows[(rows["method"] == "a") & (rows["seed"] == 0)]["precision"]) == ["bf16", "fp32"]
    assert set(bench.load_matrices(folder)["precision"]) == {"fp32", "bf16"}


def test_a_result_without_a_cost_record(folder: Path, make_result: Make) -> None:
    result = make_result("bare", 0)
    result.tasks, result.environment = [], {}
    store.save_result(result, folder)
    row = load(folder).set_index("method").loc["bare"]
    assert row[["state_bytes", "trainable", "seconds"]].isna().all()


def test_matrices_in_long_form(folder: Path) -> None:
    frame = bench.load_matrices(folder)
    assert len(frame) == 9  # three results, three measured entries each
    one = frame[(frame["method"] == "a") & (frame["seed"] == 0)]
    assert one[["after", "task"]].to_numpy().tolist() == [[0, 0], [1, 0], [1, 1]]
    assert one[one["after"] == 1]["accuracy"].mean() == pytest.approx(0.6)


def test_what_has_changed_since_is_a_column_and_damaged_files_are_a_warning(folder: Path, make_result: Make) -> None:
    edited = make_result("gpm", 0, benchmark="toy", source={"method": "another"})
    edited.tasks = []
    store.save_result(edited, folder)
    changed = load(folder).set_index("method")["changed"]
    assert "the method's code" in changed["gpm"]
    assert set(changed[["a", "b", "c"]].tolist()) == {""}  # imported, or not known here
    next(folder.glob("bench/a/*.json")).write_text("{")
    with pytest.warns(UserWarning, match="damaged"):
        assert len(load(folder)) == 4


def test_an_empty_folder_has_all_columns_and_none_is_an_error(tmp_path: Path) -> None:
    assert len(load(tmp_path)) == 0
    assert {"benchmark", "acc", "error", "key"} <= set(load(tmp_path).columns)
    with pytest.raises(UserError, match="nowhere"):
        bench.load_results(tmp_path / "nowhere")
    assert bench.load_results is frames.load_results
    with pytest.raises(AttributeError, match="load_result"):
        bench.load_result  # noqa: B018


def test_importing_bench_imports_nothing_heavy() -> None:
    probe = "import sys, bench; print({'pandas', 'torch', 'scipy', 'numpy', 'ray'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=installation.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_scalars(folder: Path, tmp_path: Path) -> None:
    results = [r for r in store.load_all(folder) if isinstance(r, Result)]
    runs = tmp_path / "runs"
    assert write_scalars(results, runs) == 3  # the failed one has none
    assert write_scalars(results[:1], runs) == 1
    events = list(runs.rglob("events.out.tfevents.*"))
    assert len(events) == 3  # written anew, not beside
    content = next(runs.glob("bench/a/seed0-*/events*")).read_bytes()
    for tag in (b"accuracy/task_0", b"accuracy/task_1", b"accuracy/seen", b"final/acc", b"final/bwt"):
        assert tag in content
    assert next(runs.glob("bench/a (rank=2)/*/events*"))


def test_scalars_without_their_library_or_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="choose another --tensorboard"):
        write_scalars([], tmp_path / "file")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match="pip install tensorboardX"):
        write_scalars([], tmp_path)


# Import


def bring(command: Command, tmp_path: Path, text: str, *more: object) -> Any:
    (tmp_path / "m.csv").write_text(text)
    usual = {"--method": "theirs", "--bench": "toy", "--seed": "3", "--out": tmp_path / "out"}
    names = [word for option, value in usual.items() if option not in more for word in (option, value)]
    return command("import", tmp_path / "m.csv", *names, *more)


def test_an_imported_matrix_is_a_marked_row(command: Command, tmp_path: Path) -> None:
    answer = bring(command, tmp_path, TOY)
    assert (answer.code, answer.err) == (0, "")
    path = Path(answer.out.split(": ")[1].strip())
    result = store.load_result(path)
    assert result.matrix == [[0.9, None, None], [0.8, 0.85, None], [0.7, 0.88, 0.95]]
    assert Today(Catalog()).changes(result.cell) == ()
    assert str(tmp_path) not in path.read_text()  # no path of this machine
    assert path == tmp_path / "out" / result.cell.path
    table = command("table", "--out", tmp_path / "out", "--metric", "acc,bwt,state,trainable,old,seconds")
    assert (table.code, table.err) == (0, "")
    row = next(line for line in table.out.splitlines() if line.startswith("| theirs §"))
    assert [word.strip() for word in row.strip("|").split("|")][1:] == ["84.33", "-8.50", "n/a", "n/a", "n/a", "n/a"]
    assert "§ accuracy matrix imported, not run here." in table.out
    assert "theirs §" in command("table", "--out", tmp_path / "out", "--methods", "theirs").out


def test_percent_and_fractions_are_the_same_matrix(command: Command, tmp_path: Path) -> None:
    first = bring(command, tmp_path, TOY)
    percent = bring(command, tmp_path, "90,,\n80,85,\n70,88,95\n\n", "--percent")
    assert (percent.code, percent.out) == (0, first.out)  # the key is the content's: the same file
    assert len(list((tmp_path / "out").rglob("*.json"))) == 1


def test_another_matrix_of_the_same_cell_is_not_replaced(command: Command, tmp_path: Path) -> None:
    bring(command, tmp_path, TOY)
    answer = bring(command, tmp_path, TOY.replace("0.95", "0.96"))
    assert answer.code == 2
    assert "remove" in answer.err
    assert len(list((tmp_path / "out").rglob("*.json"))) == 1


BOTH = """from pathlib import Path

from bench.core import Benchmark, Task


class Own(Benchmark):
    scenarios = ("task-il", "class-il")
    num_tasks, num_classes = 3, 2
    input_shape, backbone = (1, 6, 6), "convnet"

    def stream(self, seed: int, data: Path) -> list[Task]:
        return []
"""


def test_a_matrix_is_of_one_scenario(command: Command, tmp_path: Path) -> None:
    """The same method and seed may stand in both; another matrix in one of them may not."""
    (tmp_path / "both.py").write_text(BOTH)
    plugin = "--plugin", tmp_path / "both.py"
    (tmp_path / "m.csv").write_text(TOY)
    where = "--method", "theirs", "--bench", "both", "--seed", "0", "--out", tmp_path / "out", *plugin
    answers = [command("import", tmp_path / "m.csv", *where, *more) for more in ((), ("--scenario", "Class-IL"))]
    assert [answer.code for answer in answers] == [0, 0]
    paths = [Path(answer.out.split(": ")[1].strip()) for answer in answers]
    assert [store.load_result(path).cell.scenario for path in paths] == ["task-il", "class-il"]
    (tmp_path / "m.csv").write_text(TOY.replace("0.95", "0.96"))
    again = command("import", tmp_path / "m.csv", *where, "--scenario", "class-il")
    assert again.code == 2 and f"theirs on both in class-il, seed 0 is there already: remove {paths[1]}" in again.err
    show = "table", "--out", tmp_path / "out", "--metric", "acc", *plugin
    assert "both ACC" in command(*show).out and "both (class-il) ACC" in command(*show).out
    [header, *_] = command(*show, "--scenario", "class-il").out.splitlines()
    assert "both (class-il)" in header and header.count("|") == 3
    for words, part in (("class-li", "did you mean 'class-il'"), ("domain-il", "both has no scenario domain-il")):
        answer = command("import", tmp_path / "m.csv", *where, "--scenario", words)
        assert (answer.code, answer.err.count("\n")) == (2, 1) and part in answer.err


def test_a_matrix_is_of_one_length_of_stream(command: Command, tmp_path: Path) -> None:
    """Where an option of the benchmark decides how many tasks there are, it stands in the head of the column."""
    for n in (10, 20):
        (tmp_path / f"{n}.csv").write_text("\n".join(",".join(["0.5"] * (i + 1)) for i in range(n)))
    where = "--method", "theirs", "--bench", "split_cifar100_vit", "--seed", "0", "--out", tmp_path / "out"
    refused = command("import", tmp_path / "20.csv", *where)
    assert refused.code == 2 and "20 x 20, but split_cifar100_vit has 10 tasks" in refused.err
    assert command("import", tmp_path / "10.csv", *where).code == 0
    assert command("import", tmp_path / "20.csv", *where, "--set", "tasks=20").code == 0
    [header, *_] = command("table", "--out", tmp_path / "out", "--metric", "acc").out.splitlines()
    assert "split_cifar100_vit (class-il) ACC" in header and "split_cifar100_vit (class-il, tasks=20) ACC" in header
    for word, part in (
        ("tasks=15", "tasks"),
        ("task=20", "did you mean 'tasks'"),
        ("tasks", "OPTION=VALUE, not 'tasks'"),
    ):
        answer = command("import", tmp_path / "20.csv", *where, "--set", word)
        assert (answer.code, answer.err.count("\n")) == (2, 1) and part in answer.err


def test_a_cell_of_an_imported_matrix_can_win(command: Command, tmp_path: Path, make_result: Make) -> None:
    bring(command, tmp_path, TOY)
    other = make_result("a", 3, benchmark="toy", acc=10, traits={"imported": True})
    store.save_result(other, tmp_path / "out")
    assert "**84.33**" in command("table", "--out", tmp_path / "out", "--metric", "acc").out


BAD = {
    "empty": ("", (), ["is empty"]),
    "two headers": ("a,b,c\nd,e,f\n" + TOY, (), ["line 5: 3 columns for 4 rows"]),
    "text": (TOY.replace("0.85", "good"), (), ["line 2, column 2", "'good' is no number"]),
    "ragged": ("0.9\n0.8\n0.7,0.88,0.95\n", (), ["line 2: 1 columns for 3 rows", "square"]),
    "not square": ("0.9,0.8,0.7\n0.9,0.8,0.7\n", (), ["line 1: 3 columns for 2 rows"]),
    "gap": (TOY.replace("0.88", ""), (), ["line 3, column 2", "empty cell on or below the diagonal"]),
    "nan below": (TOY.replace("0.88", "nan"), (), ["line 3, column 2", "nan is no accuracy"]),
    "infinite": (TOY.replace("0.88", "inf"), (), ["line 3, column 2"]),
    "negative": (TOY.replace("0.88", "-0.1"), (), ["line 3, column 2: -0.1 is no accuracy between 0 and 1"]),
    "percent unsaid": ("90,,\n80,85,\n70,88,95\n", (), ["line 1, column 1: 90", "--percent"]),
    "over 100": ("90,,\n80,850,\n70,88,95\n", ("--percent",), ["line 2, column 2: 850", "100"]),
    "fractions as percent": (TOY, ("--percent",), ["leave --percent out"]),
    "blank line": (TOY.replace("0.85", "x").replace("\n", "\n\n"), (), ["line 3, column 2"]),
    "tasks": ("0.9,\n0.8,0.7\n", (), ["2 x 2", "toy has 3 tasks"]),
    "taken": (TOY, ("--method", "gpm"), ["--method gpm", "gpm-imported"]),
    "name": (TOY, ("--method", "../up"), ["--method '../up'"]),
    "benchmark": (TOY, ("--bench", "toi"), ["did you mean 'toy'"]),
    "seed": (TOY, ("--seed", "1,2"), ["--seed", "1,2"]),
    "seed text": (TOY, ("--seed", "x"), ["x"]),
}


@pytest.mark.parametrize(("text", "more", "parts"), BAD.values(), ids=BAD.keys())
def test_a_bad_matrix_is_one_line(
    command: Command, tmp_path: Path, text: str, more: tuple[str, ...], parts: list[str]
) -> None:
    answer = bring(command, tmp_path, text, *more)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    for part in parts:
        assert part in answer.err
    assert not (tmp_path / "out").exists()


def test_a_matrix_that_cannot_be_read(tmp_path: Path, command: Command) -> None:
    (tmp_path / "image").write_bytes(b"\x89PNG\xff")
    for name in ("nowhere", "", "image"):
        with pytest.raises(UserError, match=str(tmp_path)):
            imported.read_matrix(tmp_path / name)
    assert command("import", tmp_path / "nowhere").code == 2


def test_a_matrix_written_by_numpy_or_a_spreadsheet(tmp_path: Path) -> None:
    R = np.where(np.tri(4, dtype=bool), np.random.default_rng(0).random((4, 4)), np.nan)
    np.savetxt(tmp_path / "m.csv", R, delimiter=",")
    assert np.array_equal(Result(None, imported.read_matrix(tmp_path / "m.csv")).R, R, equal_nan=True)  # type: ignore[arg-type]
    (tmp_path / "m.csv").write_bytes("\ufeff0.5, \r\n1,0\r\n".encode())
    assert imported.read_matrix(tmp_path / "m.csv") == [[0.5, None], [1, 0]]
    assert json.dumps(imported.read_matrix(tmp_path / "m.csv"))
