"""What people have of their accuracy matrices is read; what cannot be one is refused, with the reason."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core import Benchmark, Result, UserError
from bench.execution import decoding
from bench.execution.imported import Matrix, Reading, as_result, read_matrix

R: Matrix = [[0.9, None, None], [0.8, 0.85, None], [0.7, 0.88, 0.95]]
LAST: Matrix = [[None] * 3, [None] * 3, [0.7, 0.88, 0.95]]
FULL: Matrix = [[0.9, 0.1, 0.2], [0.8, 0.85, 0.3], [0.7, 0.88, 0.95]]

READ = {
    "commas": "0.9,,\n0.8,0.85,\n0.7,0.88,0.95\n",
    "semicolons": "0.9;;\n0.8;0.85;\n0.7;0.88;0.95\n",
    "semicolons, decimal commas": "0,9;;\n0,8;0,85;\n0,7;0,88;0,95\n",
    "tabs": "0.9\t\t\n0.8\t0.85\t\n0.7\t0.88\t0.95\n",
    "tabs, decimal commas": "0,9\t\t\n0,8\t0,85\t\n0,7\t0,88\t0,95\n",
    "tabs at the ends": "0.9\tnan\tnan\t\n0.8\t0.85\tnan\t\n0.7\t0.88\t0.95\t\n",
    "blanks": "0.9000 nan nan\n0.8000 0.8500 nan\n0.7000 0.8800 0.9500\n",
    "blanks in columns": "  0.90    nan   nan\n  0.80   0.85   nan\n\n  0.70   0.88  0.95",
    "blanks, decimal commas": "0,9 - -\n0,8 0,85 -\n0,7 0,88 0,95\n".replace(" -", " 0,0"),
    "triangle": "0.9\n0.8,0.85\n0.7,0.88,0.95\n",
    "triangle of blanks": "0.9\n0.8 0.85\n0.7 0.88 0.95\n",
    "triangle of decimal commas": "0,9\n0,8 0,85\n0,7 0,88 0,95\n",
    "header": "a,b,c\n0.9,,\n0.8,0.85,\n0.7,0.88,0.95\n",
    "header in quotes": '"a, 1";"b";"c"\n0,9;;\n0,8;0,85;\n0,7;0,88;0,95\n',
    "header of numbers": "1,2,3\n0.9,,\n0.8,0.85,\n0.7,0.88,0.95\n",
    "header and index, by pandas": ",0,1,2\n0,0.9,,\n1,0.8,0.85,\n2,0.7,0.88,0.95\n",
    "header and named corner": "task;1;2;3\n1;0,9;;\n2;0,8;0,85;\n3;0,7;0,88;0,95\n",
    "index alone": "1 0.9\n2 0.8 0.85\n3 0.7 0.88 0.95\n",
    "names of lines": "task1,0.9,,\ntask2,0.8,0.85,\ntask3,0.7,0.88,0.95\n",
    "names in several words": "after task 1 0.9\nafter task 2 0.8 0.85\nafter task 3 0.7 0.88 0.95\n",
    "comment, by NumPy": "# acc of seed 0\n0.9 nan nan\n0.8 0.85 nan\n0.7 0.88 0.95\n",
    "printed by NumPy": "[[0.9   nan  nan]\n [0.8  0.85  nan]\n [0.7  0.88 0.95]]\n",
    "printed by Python": "[[0.9, None, None],\n [0.8, 0.85, None],\n [0.7, 0.88, 0.95]]\n",
    "dashes": "0.9,-,-\n0.8,0.85,--\n0.7,0.88,0.95\n",
    "blank lines, another system's": "\ufeff0.9,,\r\n\r\n0.8,0.85,\r\n0.7,0.88,0.95\r\n",
}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "m.txt"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_one_matrix_in_many_forms(tmp_path: Path, text: str) -> None:
    zeros = "unmeasured" if "0,0" in text else ""
    assert read_matrix(written(tmp_path, text), Reading(zeros=zeros)) == R


JOINT = {
    "one line": "0.7,0.88,0.95\n",
    "one line of blanks": "0.7 0.88 0.95\n",
    "one line, a comma at its end": "0.7,0.88,0.95,\n",
    "under a header": "a;b;c\n0,7;0,88;0,95\n",
    "empty lines above": ",,\n,,\n0.7,0.88,0.95\n",
    "lines of nan above": "nan nan nan\nnan nan nan\n0.7 0.88 0.95\n",
    "empty lines of tabs above": "\t\t\n\t\t\n0.7\t0.88\t0.95\n",
}


@pytest.mark.parametrize("text", JOINT.values(), ids=JOINT)
def test_a_last_line_alone(tmp_path: Path, text: str) -> None:
    assert read_matrix(written(tmp_path, text)) == LAST


def test_a_last_line_alone_under_zeros_is_asked_about(tmp_path: Path) -> None:
    path = written(tmp_path, "0 0 0\n0 0 0\n0.7 0.88 0.95\n")
    with pytest.raises(UserError, match="--zeros unmeasured"):
        read_matrix(path)
    assert read_matrix(path, Reading(zeros="unmeasured")) == LAST
    assert read_matrix(path, Reading(zeros="measured"))[0] == [0, 0, 0]


def test_what_is_imported_can_be_stored_and_has_the_right_metrics(tmp_path: Path) -> None:
    benchmark = Benchmark()
    benchmark.name, benchmark.num_tasks = "toy", 3  # type: ignore[misc]
    for text in (READ["triangle"], JOINT["one line"]):
        result = as_result(read_matrix(written(tmp_path, text)), "theirs", benchmark, 0, "m.txt")
        back: Result = decoding.decode(decoding.encode(result).encode())
        assert back.matrix == result.matrix
        assert back.R[-1].mean() == pytest.approx((0.7 + 0.88 + 0.95) / 3)


def test_zeros_above_the_diagonal_are_asked_about(tmp_path: Path) -> None:
    path = written(tmp_path, "0.9 0 0\n0.8 0.85 0.0\n0.7 0.88 0.95\n")
    with pytest.raises(UserError, match="all zeros above the diagonal: say --zeros unmeasured, or --zeros measured"):
        read_matrix(path)
    assert read_matrix(path, Reading(zeros="unmeasured")) == R
    assert read_matrix(path, Reading(zeros="measured"))[0] == [0.9, 0, 0]
    some = written(tmp_path, "0.9 0 0.2\n0.8 0.85 0.3\n0.7 0.88 0.95\n")
    assert read_matrix(some)[0] == [0.9, 0, 0.2], "one zero among numbers was measured"
    assert read_matrix(some, Reading(zeros="unmeasured"))[0] == [0.9, None, 0.2]
    with pytest.raises(UserError, match="did you mean 'unmeasured'"):
        Reading(zeros="unmesured")


def test_protocol_and_epochs_are_told_by_whoever_imports(command: Any, tmp_path: Path) -> None:
    """It stands in the column of that protocol, and another matrix under another protocol is not in its way."""
    path, out = written(tmp_path, READ["triangle"]), ("--out", tmp_path / "out")
    words = ("import", path, "--method", "theirs", "--bench", "toy", "--seed", "0", *out)
    assert command(*words).code == 0
    before = command("table", *out).out
    assert "sound" not in before and "epochs" not in before
    assert command(*words, "--protocol", "sound", "--epochs", "17").code == 0
    after = command("table", *out).out
    assert "toy (sound) ACC" in after and "at most 17 epochs a task" in after
    [row] = [line for line in after.splitlines() if line.startswith("| theirs")]
    assert row.count("84.33") == 2
    again = command(*words, "--protocol", "sound")
    assert again.code == 2 and "is there already" in again.err


@pytest.mark.parametrize(("words", "said"), [(("--protocol", "sund"), "'sound'"), (("--epochs", "0"), "at least 1")])
def test_conditions_that_are_none(command: Any, tmp_path: Path, words: tuple[str, str], said: str) -> None:
    path = written(tmp_path, READ["triangle"])
    answer = command("import", path, "--method", "theirs", "--bench", "toy", "--seed", "0", "--out", tmp_path, *words)
    assert answer.code == 2 and said in answer.err and answer.err.count("\n") == 1


TRANSPOSED = {
    "nothing below": "0.9,0.8,0.7\n,0.85,0.88\n,,0.95\n",
    "nan below": "0.9 0.8 0.7\nnan 0.85 0.88\nnan nan 0.95\n",
    "zeros below": "0.9 0.8 0.7\n0 0.85 0.88\n0 0 0.95\n",
    "percent": "90 80 70\n0 85 88\n0 0 95\n",
    "two tasks": "0.9,0.8\n,0.85\n",
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_a_transposed_matrix_is_refused_or_turned(tmp_path: Path, name: str) -> None:
    """Read as it stands, a good run would seem to have lost everything."""
    path = written(tmp_path, TRANSPOSED[name])
    percent = name == "percent"
    with pytest.raises(UserError, match=r"transposed.*--transpose"):
        read_matrix(path, Reading(percent))
    turned = read_matrix(path, Reading(percent, "unmeasured", transpose=True))
    size = len(turned)
    assert turned == [row[:size] for row in R[:size]]
    with pytest.raises(UserError, match="leave --transpose out"):
        read_matrix(written(tmp_path, READ["blanks"]), Reading(transpose=True))


@pytest.mark.parametrize(
    ("text", "percent", "says"),
    [
        ("90,,\n80,85,\n0.7,0.88,0.95\n", True, "line 3, column 1: 0.7 looks like a fraction, but 90 in line 1"),
        ("0.9,,\n0.8,0.85,\n70,88,95\n", False, "line 1, column 1: 0.9 looks like a fraction, but 70 in line 3"),
        ("90,,\n80,1,\n70,88,95\n", True, "line 2, column 2: 1 looks like a fraction"),
        (
            "task,1,2\n1,0.9,\n2,80,85\n",
            True,
            "line 2, column 2: 0.9 looks like a fraction, but 80 in line 3, column 2",
        ),
    ],
)
def test_percent_and_fractions_in_one_file(tmp_path: Path, text: str, percent: bool, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_matrix(written(tmp_path, text), Reading(percent))


def test_chance_above_the_diagonal_and_zeros_are_no_fractions(tmp_path: Path) -> None:
    matrix = read_matrix(written(tmp_path, "90,0.9,1.2\n0,85,0.5\n70,88,95\n"), Reading(percent=True))
    assert matrix[0] == pytest.approx([0.9, 0.009, 0.012])
    assert matrix[1] == pytest.approx([0, 0.85, 0.005])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0.9,0.8,0.7\n0.85,0.88\n0.95\n", "line 3: 1 columns for 3 rows"),
        ("hello world\n", "line 1, column 2: 'world' is no number"),
        ("# nothing\n\n", "is empty"),
        ("0.9,,\n0.8,,\n0.7,0.88,0.95\n", "line 2, column 2: an empty cell"),
        ("0.9;;\n0.8;x;\n0.7;0.88;0.95\n", "line 2, column 2: 'x' is no number"),
        ("1;0,9;;\n2;0,8;x;\n3;0,7;0,88;0,95\n", "line 2, column 3: 'x' is no number"),
        (",,\n,,\n,,\n", "an empty cell"),
        ("0.9,,\n0.8,0.85,\n0.7,0.88,\n", "line 3, column 3: an empty cell"),
        ("0.9,1e999\n0.8,0.7\n", "line 1, column 2: inf is no accuracy"),
    ],
)
def test_what_is_no_matrix(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_matrix(written(tmp_path, text))


def test_every_form_of_random_matrices_is_read_back(tmp_path: Path) -> None:
    """Square or triangle, with or without labels, whatever stands between: the same numbers, of any size."""
    generator = random.Random(0)
    for trial in range(300):
        size = generator.randrange(2, 12)
        values = np.random.default_rng(trial).uniform(0.01, 1, (size, size)).round(4)
        triangle, labels, header = (generator.random() < 0.5 for _ in range(3))
        separator, decimal = generator.choice(
            [(",", "."), (";", ","), (";", "."), ("\t", ","), ("\t", "."), (" ", ".")]
        )
        lines = [[f"{value:.4f}" for value in row[: i + 1 if triangle else size]] for i, row in enumerate(values)]
        lines = [[word.replace(".", decimal) for word in line] for line in lines]
        if labels:
            lines = [[str(i), *line] for i, line in enumerate(lines)]
        if header:
            corner = ["task"] if labels else []
            lines.insert(0, [*corner, *(f"t{i}" for i in range(size))])
        path = written(tmp_path, "\n".join(separator.join(line) for line in lines))
        found = np.array(read_matrix(path), dtype=float)
        expected = np.where(np.tri(size, dtype=bool) | (not triangle), values, np.nan)
        assert np.array_equal(found, expected, equal_nan=True), path.read_text()
    assert trial == 299


def test_a_full_matrix_stays_as_it_is(tmp_path: Path) -> None:
    text = "\n".join(" ".join(map(str, row)) for row in FULL)
    assert read_matrix(written(tmp_path, text)) == FULL
