"""The documentation, followed: its commands are run and its Python is executed, page by page, on a small budget."""

import shutil
from pathlib import Path

import pytest
from pages import PAGES, ROOT, Block

from bench import installation
from bench.cli.main import COMMANDS

PUBLISHED = ROOT / "results" / "published"
CODED = [page for page in PAGES if page.name.startswith("docs/") and any(b.language != "text" for b in page.blocks)]
PARSED_ALONE = ("profile", "data")  # one measures for minutes, the other asks the network


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a few results, and the files that the tutorials write."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(installation, "results", lambda: tmp_path / "results")
    for method in ("ness", "gpm", "finetune"):
        shutil.copytree(PUBLISHED / "digits" / method, tmp_path / "results" / "digits" / method)
    for page in CODED:
        for block in page.blocks:
            if block.title.endswith((".py", ".toml")):
                (tmp_path / block.title).write_text(block.text, encoding="utf-8")
    (tmp_path / "matrix.csv").write_text("0.9\n0.8,0.9\n0.8,0.8,0.9\n0.7,0.8,0.8,0.9\n0.7,0.7,0.8,0.8,0.9\n")
    return tmp_path


def affordable(words: list[str], tutorial: bool) -> list[str]:
    """The words for a small budget: an epoch and a seed in tutorials, elsewhere just what would run."""
    words = ["results" if word == "results/published" else word for word in words]  # a few of those
    command = words[0] if words[:1] and words[0] in COMMANDS else "run"
    if command not in ("run", "tune", "reproduce"):
        return words
    if tutorial and command == "run" and "--dry-run" not in words:
        return [*without(words, "--seeds"), "--seeds", "0", "--epochs", "1"]
    words = [word for word in words if word != "--dry-run"]
    if "--device" in words:  # no GPU need be here
        words = without(words, "--device")
    if "--recipe" in words:  # no search was made
        words = without(words, "--recipe")
    return [*without(words, "--gpus-per-cell"), "--dry-run"]


def without(words: list[str], option: str) -> list[str]:
    """The words without an option and its value."""
    if option not in words:
        return words
    place = words.index(option)
    return words[:place] + words[place + 2 :]


@pytest.mark.slow
@pytest.mark.parametrize("page", CODED, ids=lambda page: page.name)
def test_a_page_can_be_followed(page, folder, command):
    steps = [follow(block, "tutorials/" in page.name, command) for block in page.blocks]
    assert len(steps) == len(page.blocks) > 0


def follow(block: Block, tutorial: bool, command) -> None:
    """Do what a block says; what it calls must end well."""
    if block.language == "python" and not block.title:
        exec(compile(block.text, "block", "exec"), {"__name__": "block"})
    for words in block.commands:
        if words[:1] and words[0] in PARSED_ALONE:
            continue
        answer = command(*affordable(words, tutorial))
        assert answer.code == 0, (words, answer.err)
