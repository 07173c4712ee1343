"""How words on the command line are understood: help, versions, names in any case, a command after options."""

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import installation
from bench.cli.main import COMMANDS, understood
from bench.config import known_as, nearest
from bench.core import UserError

Command = Callable[..., Any]
DRY = ("--dry-run", "--device", "cpu", "--seeds", "0")


@pytest.fixture
def printed(command: Command, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What words print that end the process."""

    def call(*words: str) -> str:
        with pytest.raises(SystemExit) as caught:
            command(*words)
        assert caught.value.code == 0
        return capsys.readouterr().out

    return call


def test_the_version_is_that_of_the_package(printed: Callable[..., str]) -> None:
    project = tomllib.loads((installation.ROOT / "pyproject.toml").read_text())["project"]
    wanted = f"{project['name']} {project['version']}\n"
    assert printed("--version") == printed("table", "--version") == printed("--seeds", "0", "--version") == wanted


def test_help_is_the_help_of_a_command(printed: Callable[..., str], command: Command) -> None:
    assert printed("help") == printed("--help") == printed("help", "run")
    assert printed("help", "table") == printed("table", "--help") == printed("--help", "table")
    assert "--siunitx" in printed("help", "table") and "help COMMAND" in printed("help")
    assert command("help", "tabel").err.startswith("run_bench.py: unknown command 'tabel': did you mean 'table'?")
    assert "help takes one command, not table, report" in command("help", "table", "report").err
    assert "did you mean 'help'" in command("halp").err


def test_the_help_says_where_results_and_data_are(printed: Callable[..., str]) -> None:
    text = " ".join(printed("help").split())
    assert "data in the working folder" in text and "results in the working folder" in text
    assert installation.results() == Path("results")


def test_results_go_to_the_working_folder(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("--methods", "finetune", "--bench", "toy", "--epochs", "1", "--seeds", "0").code == 0
    assert len(list(tmp_path.glob("results/toy/finetune/*.json"))) == 1


@pytest.mark.parametrize(
    ("option", "meant"),
    [("--method", "--methods"), ("--benchmark", "--bench"), ("--dataset", "--bench"), ("--Benchmarks", "--bench"),
     ("--seed", "--seeds"), ("--SEEDS", "--seeds"), ("--output", "--out"), ("--dryrun", "--dry-run")],
)  # fmt: skip
def test_the_nearest_option_is_named(command: Command, option: str, meant: str) -> None:
    for words in ([option, "x"], [f"{option}=x"], ["run", option, "x"]):
        answer = command(*words)
        assert answer.code == 2 and answer.err.count("\n") == 1
        assert f"unknown option '{option}': did you mean '{meant}'?" in answer.err


def test_an_option_of_another_command_is_told(command: Command) -> None:
    assert command("--format", "latex").err.endswith("; it is an option of table\n")
    assert command("report", "--trials", "3").err.endswith("'--trials' of report; it is an option of tune\n")
    err = command("--bench", "digits", "status").err
    assert "unknown option '--bench' of status; it is an option of run, " in err and "did you mean" not in err
    assert "it is an option" not in command("--nonsense", "3").err


UNDERSTOOD = {
    "after an option": ("--seeds 0 table", "table"),
    "after a flag": ("--dry-run tune", "tune"),
    "after an option of its own": ("--format latex table", "table"),
    "before other options": ("--out x report --figures pdf", "report"),
    "after a flag of its own": ("--recipes list", "list"),
    "not a value": ("--to status report", "report"),
    "not the value before it": ("--methods table table", "table"),
    "with words of its own": ("--plugin x.py check mine.py", "check"),
    "in any case": ("TABLE", "table"),
    "none": ("--seeds 0", "run"),
    "none, but a value like one": ("--methods table", "run"),
}


@pytest.mark.parametrize(("words", "name"), UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_a_command_after_options(words: str, name: str) -> None:
    command, args = understood(words.split())
    assert command == name
    assert vars(args).keys() >= {"plugin", "data"}
    if "--methods" in words:
        assert args.methods == "table"


def test_two_commands_and_a_command_that_cannot_be_are_explained(command: Command) -> None:
    assert "'report' is one word too many" in command("table", "report").err
    answer = command("--trials", "3", "table")
    assert answer.code == 2 and "unknown option '--trials'" in answer.err and answer.err.count("\n") == 1
    assert "the command comes first, as in `python run_bench.py table`" in answer.err


ANY_CASE = [
    ("--methods", "NESS,Gpm", "--bench", "DIGITS"),
    ("--methods", "Default", "--bench", "Toy", "--protocol", "ALL", "--metric", "ACC,Bwt"),
    ("--methods", "gpm", "--set", "GPM.energy=0.9", "--executor", "SERIAL", "--precision", "BF16"),
    ("reproduce", "GPM:PMNIST", "--only", "Permuted_MNIST"),
]


@pytest.mark.parametrize("words", ANY_CASE, ids=" ".join)
def test_names_are_known_in_any_case(
    command: Command, tmp_path: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.cli.commands.run.warn_if_slower", lambda *_: None)
    device = ("--device", "CPU", *(word for word in DRY if word not in ("--device", "cpu")))
    answers = []
    for own in (words, tuple(w if w.startswith("--") else w.lower() for w in words)):
        answers.append(command(*own, *device, "--out", tmp_path))
    assert [answer.code for answer in answers] == [0, 0], answers[0].err
    assert answers[0].out == answers[1].out != ""


def test_a_name_is_exact_before_it_is_alike() -> None:
    assert known_as("name", "Ness", ["ness", "Ness"]) == "Ness"
    assert known_as("name", "NESS", ["ness", "gpm"]) == "ness"
    with pytest.raises(UserError, match="unknown name 'NESS': did you mean"):
        known_as("name", "NESS", ["ness", "Ness"])
    assert "did you mean 'ness'" in str(nearest("name", "NES", ["ness", "gpm"]))


def test_nothing_to_do_says_why(command: Command, tmp_path: Path) -> None:
    for dry in ((), ("--dry-run",)):
        answer = command("--methods", "ness+sam", "--bench", "digits", *dry, "--out", tmp_path / "out")
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
        assert "nothing to do: ness+sam does not apply to digits: its recipe has no table for ness+sam" in answer.err
        told = re.search(r"ness\+sam has a recipe for (.*)$", answer.err.strip())
        assert told and "split_cifar100" in told[1].split(", ")
    assert not (tmp_path / "out").exists()


def test_nothing_to_do_of_many_is_still_a_line(command: Command, tmp_path: Path) -> None:
    words = ("--methods", "ness+sam", "--bench", "toy,toy_shared,digits,permuted_digits", "--out", tmp_path)
    answer = command(*words)
    assert answer.code == 2 and answer.err.count("does not apply") == 3 and "and 1 more pair of them" in answer.err
    gone = command("--methods", "ness+sam", "--bench", "all", "--data", tmp_path / "data", "--out", tmp_path)
    assert gone.code == 2 and "skipped: split_cifar100, 3 cells" in gone.err
    assert gone.err.splitlines()[-1].startswith("run_bench.py: nothing to do: ness+sam does not apply to cifar100")


def test_what_does_not_apply_is_told_before_anything_runs(command: Callable[..., Any], tmp_path: Path) -> None:
    words = ("--methods", "finetune,hat,trgp", "--bench", "toy,digits", "--seeds", "0", "--out", tmp_path, "--dry-run")
    answer = command(*words, "--scenario", "class-il")
    assert answer.code == 0 and answer.out.startswith("2 cells")
    why = "it needs the task of every test image, which class-il does not tell"
    assert answer.err == f"left out: hat, trgp on toy, digits: {why}\n"
    assert command(*words).err == ""


PROBE = """
import sys
from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.execution import runner
from bench.execution.session import session_of

modules = []
def session(*args):
    modules.append(set(sys.modules))
    return session_of(*args)

import bench.execution.session
bench.execution.session.session_of = session
[cell] = Catalog().plan(Request(["finetune"], ["digits"], [0], 1)).cells
result = runner.run_cell(cell, runner.Resources())
assert result.error is None, result.error
late = set(sys.modules) - modules[0]
print(len([name for name in late if name.split(".")[0] in ("sklearn", "scipy", "pandas", "sympy", "torch")]))
print("sklearn.datasets" in modules[0], "torch._dynamo" in modules[0])
"""


@pytest.mark.slow
def test_no_cell_counts_the_import_of_packages() -> None:
    """Whatever the first cell of a process imports is there before its clock starts."""
    import subprocess

    done = subprocess.run([sys.executable, "-c", PROBE], cwd=installation.ROOT, capture_output=True, text=True)
    late, *ready = done.stdout.split()
    assert ready == ["True", "True"] and int(late) < 20, done.stderr  # of about a thousand


def test_all_commands_are_in_the_help(printed: Callable[..., str]) -> None:
    text = printed("help")
    assert [name for name in COMMANDS if not re.search(rf"\b{name}\b", text)] == []
