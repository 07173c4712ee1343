"""The parts of the documentation that are made from the code when the site is built, so that they cannot go stale."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.catalog.catalog import Catalog  # noqa: E402
from bench.cli.arguments import add_common  # noqa: E402
from bench.cli.main import COMMANDS, command_of, parser_of  # noqa: E402
from bench.cli.parser import Parser  # noqa: E402
from bench.config import spell  # noqa: E402
from bench.core import Training  # noqa: E402
from bench.settings import Declared, declared  # noqa: E402

FIGURES = ROOT / "results" / "published" / "figures"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the published figures to the site. Called by MkDocs."""
    for path in sorted(FIGURES.iterdir()):
        files.append(File.generated(config, f"figures/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Fill in what the marks of a page ask for. Called by MkDocs for every page."""
    for mark, make in MADE.items():
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    return markdown


def reproduced() -> str:
    """Return the table of reproduced numbers, as the README has it between its marks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("-->")
    return rest.partition("<!--")[0].strip()


def command_line() -> str:
    """Return a section for every command, with a table of its options."""
    common = Parser(add_help=False)
    add_common(common)
    parts = ["## Options of every command", _options(common, known=())]
    shared = [action.dest for action in common._actions]
    for name in COMMANDS:
        module = command_of(name)
        parser = parser_of(name)
        purpose = " ".join(str(module.__doc__).partition("\n\n")[0].partition(": ")[2].split())
        purpose = purpose[:1].upper() + purpose[1:]
        parts += [f"## {name}", purpose, f"```text\n{_usage(parser)}\n```", _options(parser, known=shared)]
    return "\n\n".join(filter(None, parts))


def _usage(parser: argparse.ArgumentParser) -> str:
    words = " ".join(str(action.metavar or action.dest) for action in parser._get_positional_actions())
    return " ".join(filter(None, [parser.prog, words, "[options]"]))


def _options(parser: argparse.ArgumentParser, known: Sequence[str]) -> str:
    """Return a table of a parser's arguments without those that are known already; empty where there are none."""
    formatter = parser._get_formatter()
    rows = []
    for action in parser._actions:
        if action.dest in (*known, "help"):
            continue
        words = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        if action.option_strings and action.nargs != 0:
            words += f" {action.metavar or action.dest.upper()}"
        rows.append([f"`{words}`", formatter._expand_help(action) if action.help else ""])
    return _table(["option", "meaning"], rows) if rows else ""


def settings() -> str:
    """Return a section of settings for the training loop, for every method and for every benchmark that has some."""
    catalog = Catalog()
    parts = ["## Training", _settings(Training, Training.protocols), "## Methods"]
    for name in catalog.available("Method"):
        method = catalog.declaration(name)
        parts += [f"### {name}", _settings(method.Config, method.protocols)]
    parts.append("## Benchmarks")
    for name in catalog.available("Benchmark"):
        benchmark = catalog.benchmark(name)
        if fields(benchmark.Config):
            parts += [f"### {name}", _settings(benchmark.Config, benchmark.protocols)]
    return "\n\n".join(parts)


def _settings(cls: type, protocols: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of the fields of a settings class, and what the protocols make of them."""
    hints, stated = get_type_hints(cls), declared(cls)
    rows = [
        [f"`{field.name}`", _kind(hints[field.name]), f"`{field.default!r}`", *_facts(stated.get(field.name))]
        for field in fields(cls)
    ]
    head = ["setting", "type", "default", "meaning", "searched in"]
    table = _table(head, rows) if rows else "No settings of its own."
    lines = [
        f"Under `{protocol}`: " + ", ".join(f"`{name} = {value!r}`" for name, value in values.items()) + "."
        for protocol, values in protocols.items()
    ]
    return "\n\n".join([table, *lines])


def _kind(hint: Any) -> str:
    """Return a type, or the values that there are."""
    return ", ".join(f"`{word}`" for word in spell(hint).split(" | "))


def _facts(stated: Declared | None) -> Iterator[str]:
    if stated is None:
        yield from ("", "")
        return
    yield "; ".join(filter(None, [stated.meaning, stated.unit and f"in units of {stated.unit}", stated.bounds]))
    yield f"`{stated.search!r}`" if stated.search else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


MADE: dict[str, Callable[[], str]] = {
    "<!-- made: reproduced numbers -->": reproduced,
    "<!-- made: command line -->": command_line,
    "<!-- made: settings -->": settings,
}
