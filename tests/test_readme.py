"""The README, to the letter: its method is run, its other commands are at least understood."""

import html
import re
import shlex
from pathlib import Path

import pytest

from bench import installation
from bench.cli.main import COMMANDS
from bench.tools import front_page

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
METHOD = README[README.index("## Add a method") : README.index("## Documentation")]


def commands(text: str) -> list[list[str]]:
    """The arguments of every `python run_bench.py` in shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [part for block in blocks for line in block.splitlines() for part in line.split("&&")]
    return [shlex.split(line, comments=True)[2:] for line in lines if "python run_bench.py" in line]


@pytest.mark.slow
def test_the_method_works(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(installation, "results", lambda: tmp_path / "results")  # results go there
    [source] = re.findall(r"```python\n(.*?)```", METHOD, re.DOTALL)
    [name] = re.findall(r"Save it as `(\w+)\.py`", METHOD)
    (tmp_path / f"{name}.py").write_text(source)
    lines = commands(METHOD)
    assert [line[0] for line in lines] == ["check", "--plugin"]
    answers = [command(*line) for line in lines]
    assert [answer.code for answer in answers] == [0] * 2, answers
    assert all(name in answer.out for answer in answers)
    assert len(list(tmp_path.glob(f"results/digits/{name}/*.json"))) == 2


@pytest.mark.parametrize("line", commands(README.replace(METHOD, "")), ids=" ".join)
def test_every_other_command_is_understood(line, command, monkeypatch, tmp_path):
    monkeypatch.setattr(installation, "results", lambda: tmp_path / "results")
    if line[:1] == ["list"]:
        assert command(*line).code == 0
    elif line[:1] == ["data"]:
        monkeypatch.setattr("bench.data.source._download", lambda *_: 1 / 0)  # no test asks the network
        assert command(*line, "--data", tmp_path).code == ("--prepare" in line)
    elif line and line[0] in COMMANDS and line[0] != "reproduce":  # needs results
        answer = command(*line)
        assert answer.code == 2 and "no results" in answer.err
    else:
        dry = [] if "--dry-run" in line else ["--dry-run"]
        assert command(*line, *dry, "--out", tmp_path).code == 0


def test_it_is_read_in_a_minute():
    assert len(README.splitlines()) <= 150
    assert len(commands(README)) >= 8


def test_the_reproduced_numbers_are_those_of_the_committed_results():
    made = front_page.block(installation.ROOT / "results" / "published")
    assert made in README, "python -m bench.tools.front_page writes it anew"
    assert README.count(front_page.START) == README.count(front_page.END) == 1
    assert front_page.renewed(README, installation.ROOT / "results" / "published") == README


def test_its_marks_are_those_of_the_runs():
    rows = [line.split("|") for line in README.splitlines() if line.startswith("|") and "±" in line]
    names = [row[1].split() for row in rows]
    assert ["ER_Res", "*"] in names and any(name[:2] == ["ness", "†"] for name in names)
    assert all(f"\n{mark} " in README or f". {mark} " in README for name in names for mark in name[1:]), "explained"


def test_its_picture_shows_the_committed_results():
    """Its letters, for another version of the library draws the terminal otherwise."""
    published = installation.ROOT / "results" / "published"
    drawn = re.findall(r"<text[^>]*>(.*?)</text>", (published / front_page.PICTURE).read_text(encoding="utf-8"))
    shown = [html.unescape(line).replace("\xa0", " ").rstrip() for line in drawn]
    table = front_page.first_table(published).splitlines()
    assert len(table) == 9 and "--" not in table[2], "all seven methods have results"
    assert [line for line in shown if line.startswith("|")] == table
    assert str(front_page.PICTURE.name) in README
