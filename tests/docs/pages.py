"""The pages of the documentation, taken apart: code blocks, commands, inline code and links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A code block: its language, the file it is to be saved as, if any, and its text."""

    language: str
    title: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """The arguments of every command of the suite in a block of shell commands, in order."""
        if self.language != "sh":
            return []
        return [words for line in self.text.splitlines() for part in line.split("&&") for words in arguments(part)]


def arguments(line: str) -> list[list[str]]:
    """The arguments of the suite's command line in one line of shell; none where the line calls something else."""
    words = shlex.split(line.strip().removesuffix("&"), comments=True)
    if words[:2] == ["python", "run_bench.py"]:
        return [words[2:]]
    if words[:1] == ["ness-bench"]:
        return [words[1:]]
    if "deploy/slurm.sh" in words:  # which passes on what follows
        return [words[words.index("deploy/slurm.sh") + 1 :]]
    if "--wrap" in words:
        return arguments(words[words.index("--wrap") + 1])
    return []


class Page(NamedTuple):
    """A page by its path below the repository, and its text."""

    name: str
    text: str

    @property
    def blocks(self) -> list[Block]:
        return [Block(*found.groups(default="")) for found in FENCE.finditer(self.text)]

    @property
    def prose(self) -> str:
        """The text without its code blocks."""
        return FENCE.sub("", self.text)

    @property
    def spans(self) -> list[str]:
        """The inline code, each on one line."""
        return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", self.prose)]

    @property
    def links(self) -> list[str]:
        """Where links and images lead."""
        return re.findall(r"\]\(([^)\s]+)\)", self.prose)


def page(path: Path) -> Page:
    """Read a page."""
    return Page(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))


OUTSIDE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [page(path) for path in [*OUTSIDE, *sorted(DOCS.rglob("*.md"))]]
BLOCKS = [(each.name, block) for each in PAGES for block in each.blocks]
