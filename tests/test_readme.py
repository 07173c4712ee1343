"""The README, to the letter: its tutorial is run, its other commands are at least understood."""

import re
import shlex
from pathlib import Path

import pytest

from bench import installation
from bench.cli.main import COMMANDS
from bench.tools import front_page

README = (Path(__file__).parent.parent / "README.md").read_text()
TUTORIAL = README[README.index("## Your own method") : README.index("| hook |")]


def commands(text: str) -> list[list[str]]:
    """The arguments of every `python run_bench.py` in shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [part for block in blocks for line in block.splitlines() for part in line.split("&&")]
    return [shlex.split(line, comments=True)[2:] for line in lines if "python run_bench.py" in line]


@pytest.mark.slow
def test_the_tutorial_works(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(installation, "results", lambda: tmp_path / "results")  # results go there
    [source] = re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)
    name = re.findall(r"Save it as `(\w+)\.py`", TUTORIAL)[0]
    (tmp_path / f"{name}.py").write_text(source)
    assert len(source.splitlines()) < 60
    lines = commands(TUTORIAL)
    assert [line[0] for line in lines] == ["check", "--plugin", "table", "report"]
    answers = [command(*line) for line in lines]
    assert [answer.code for answer in answers] == [0] * 4
    assert all(name in answer.out for answer in answers[:3])
    assert name in (tmp_path / "results" / "report.html").read_text()


@pytest.mark.parametrize("line", commands(README.replace(TUTORIAL, "")), ids=" ".join)
def test_every_other_command_is_understood(line, command, monkeypatch, tmp_path):
    monkeypatch.setattr(installation, "results", lambda: tmp_path / "results")
    if line[:1] in (["list"], ["status"]):
        assert command(*line).code == 0
    elif line[:1] == ["data"]:
        monkeypatch.setattr("bench.data.source._download", lambda *_: 1 / 0)  # no test asks the network
        assert command(*line, "--data", tmp_path).code == ("--prepare" in line)
    elif "--recipe" in line:  # needs a search
        answer = command(*line)
        assert answer.code == 2 and "results/tune/digits.toml: No such file" in answer.err
    elif line and line[0] in COMMANDS and line[0] not in ("tune", "reproduce"):  # needs results, or a file
        answer = command(*line)
        assert answer.code == 2 and ("no results" in answer.err or "matrix.csv" in answer.err)
    else:
        dry = [] if "--dry-run" in line else ["--dry-run"]
        assert command(*line, *dry, "--out", tmp_path).code == 0


def test_the_python_of_the_readme_runs(monkeypatch, tmp_path):
    """On the toy stream, one seed and one epoch: what it calls is there, and writes what it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(installation, "results", lambda: tmp_path / "results")
    [source] = re.findall(r"```python\n(import bench\n.*?)```", README, re.DOTALL)
    exec(source.replace('"digits", seeds=3', '"toy", seeds=1, epochs=1'), {})
    assert "ness" in (tmp_path / "report.html").read_text() and len(list(tmp_path.glob("results/toy/*/*.json"))) == 2


def test_the_reproduced_numbers_are_those_of_the_committed_results():
    made = front_page.block(installation.ROOT / "results" / "published")
    assert made in README, "python -m bench.tools.front_page writes it anew"
    assert README.count(front_page.START) == README.count(front_page.END) == 1
    assert front_page.renewed(README, installation.ROOT / "results" / "published") == README
