"""What the documentation says exists: its commands parse, its code compiles, its links lead somewhere."""

import ast
import re
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
from pages import BLOCKS, DOCS, PAGES, ROOT, Page, arguments

from bench.analysis.columns import METRICS
from bench.catalog.catalog import Catalog
from bench.cli.main import COMMANDS, parser_of
from bench.core import Cell, Result
from bench.execution import decoding
from bench.training.method import NO_HOOKS, Method

LANGUAGES = {"sh", "python", "toml", "text", "bibtex"}
OTHERS = {"--index-url", "--nodes", "--array", "--cpus-per-task", "--wrap", "--kills"}  # of pip, SLURM, our scripts
OWN = {"l2_anchor", "rotated_digits", "anchor", "matrix", "my_idea", "my_stream"}  # that the tutorials make


def parsed(words: list[str]):
    """What the real parser makes of the words. Raises `UserError`."""
    command = words[0] if words and not words[0].startswith("-") else "run"
    return parser_of(command).parse_all(words[words[:1] == [command] :])


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def commands_of(page: Page) -> list[list[str]]:
    """All commands of a page: those of its blocks, and those in its sentences."""
    told = [words for span in page.spans if "\n" not in span for words in arguments(span) if "NAME" not in span]
    return [words for block in page.blocks for words in block.commands] + told


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_understood(page):
    names = {*Catalog().available("Method"), *Catalog().available("Benchmark"), *Catalog().variants(), *OWN}
    for words in commands_of(page):
        args = vars(parsed([word for word in words if word != "COMMAND"]))
        chosen = [*str(args.get("methods") or "").split(","), *str(args.get("bench") or "").split(",")]
        chosen += [setting.partition(".")[0] for setting in args.get("set") or []]
        assert set(chosen) <= {*names, "", "all", "everything", "default"}, words
    assert "```" not in page.prose  # every block was found


def test_there_are_commands_to_understand():
    assert sum(len(commands_of(page)) for page in PAGES) > 60


def test_every_option_is_one():
    parsers = [parser_of(name) for name in COMMANDS]
    known = {option for parser in parsers for option in parser._option_string_actions}
    told = {option for page in PAGES for span in page.spans for option in re.findall(r"(?<!\S)--[a-z][\w-]*", span)}
    assert len(told) > 20 and told <= known | OTHERS, told - known


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_every_block_is_in_its_language(page, block):
    assert block.language in LANGUAGES, f"{page}: a block in '{block.language}'"
    match block.language:
        case "python":
            ast.parse(block.text)
        case "toml":
            assert tomllib.loads(block.text)
        case "sh":
            done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    places = [link.partition("#")[0] for link in page.links if not link.startswith(("http", "#"))]
    missing = [place for place in places if place and not _exists(page.name, place)]
    assert not missing


def _exists(name: str, place: str) -> bool:
    if "figures/" in place and name.startswith("docs/"):  # the site takes them from the published results
        return (ROOT / "results" / "published" / "figures" / Path(place).name).exists()
    return (ROOT / name).parent.joinpath(place).exists()


def test_every_method_and_benchmark_is_explained():
    explained = set(re.findall(r"^### .*\(`(\w+)`\)$", text_of("explanation/methods.md"), re.MULTILINE))
    assert explained == set(Catalog().available("Method"))
    listed = set(re.findall(r"^\| `(\w+)` \|", text_of("reference/benchmarks.md"), re.MULTILINE))
    assert listed == set(Catalog().available("Benchmark"))


def test_every_hook_and_declaration_is_listed():
    hooks = {name for name, value in vars(Method).items() if callable(value) and not name.startswith("_")}
    declared = {*get_type_hints(Method), "Config", "old_data", "unsupported", "memory"} - {"config"}
    told = set(re.findall(r"^\| `(\w+)(?:\([\w, ]*\))?` \|", text_of("reference/hooks.md"), re.MULTILINE))
    assert told == (hooks | declared) - set(NO_HOOKS)


def test_every_metric_is_defined():
    page = text_of("explanation/metrics.md")
    missing = [name for name, m in METRICS.items() if f"**{m.label}**" not in page and f"| `{name}` |" not in page]
    assert not missing


def test_every_field_of_a_result_is_described():
    told = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\|([^|]*)\|", text_of("reference/result-file.md"), re.M))))
    forms = (decoding.TaskForm, decoding.EnvironmentForm)
    stored = {name for form in forms for name in get_type_hints(form)}
    stored |= {field.name for cls in (Result, Cell) for field in fields(cls)} | {decoding.CHECKSUM}
    assert told == stored
