"""NESS-Bench: methods x benchmarks x seeds, turned into a table.

  {program}                                        the default methods on the embedded digits, three seeds
  {program} --methods ness,gpm --bench all         methods on every benchmark whose data is here or can be downloaded
  {program} status                                 the progress of a grid that runs in another terminal
  {program} tune                                   better settings, chosen on validation data
  {program} list                                   methods and benchmarks; with --recipes, every setting and its source
  {program} data --prepare                         download and prepare the data of all benchmarks
  {program} table --metric acc,bwt,forgetting      a table of what has been run
  {program} table --paper NAME                     a paper's published table beside ours
  {program} reproduce gpm:pmnist                   rerun a paper's table, with a verdict on each number
  {program} report                                 one HTML page of what has been run, with its figures
  {program} new method NAME                        a file to start your own method from, and its test
  {program} check NAME.py                          check yours against what every method and benchmark must satisfy
  {program} import matrix.csv --help               a row for an accuracy matrix computed elsewhere
  {program} profile                                what methods cost in time, memory and arithmetic
  {program} help COMMAND                           the options of a command, as with COMMAND --help

Finished cells (a method on a benchmark with a seed) are kept in the results folder and never run twice: the same
command continues where it stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from bench.catalog.catalog import Catalog
from bench.cli.arguments import add_common
from bench.cli.commands import warn
from bench.cli.parser import Parser, UnknownOptionError
from bench.cli.terminal import speak_plainly
from bench.config import known_as, require, slips
from bench.core import UserError
from bench.installation import demand_system, demand_whole, program
from bench.stopping import Stopped, stoppable
from bench.text import for_terminal

COMMANDS = {  # the module of each, in bench.cli.commands; imported only when it is called
    "run": "run",
    "status": "status",
    "tune": "tune",
    "list": "list",
    "data": "data",
    "table": "table",
    "report": "report",
    "import": "import_matrix",
    "new": "new",
    "check": "check",
    "profile": "profile",
    "reproduce": "reproduce",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, call, print. Return the exit code: 0; 1 a cell failed; 2 a wrong request; 130 interrupted, 129
    and 143 where a signal asked for it (SIGHUP, SIGTERM)."""
    words = list(sys.argv[1:] if argv is None else argv)
    speak_plainly(sys.stdout, sys.stderr)
    try:
        demand_system()
        demand_whole()
        command, args = understood(words)
        args.command = command
        args.catalog = Catalog.of(args.plugin)
        for path in args.catalog.left_aside():
            warn(f"{path} is ignored: its name is that of no method or benchmark, but of a copy or of an editor's file")
        with stoppable():
            code: int = command_of(command).main(args)
        return code
    except Stopped as stop:
        return stop.code
    except UserError as error:
        print(f"{program().split()[-1]}: {for_terminal(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def understood(words: Sequence[str]) -> tuple[str, argparse.Namespace]:
    """Return the command that words ask for, `run` where they name none, and what the others mean to it.

    Raises `UserError`; and SystemExit once a help that was asked for is printed.
    """
    if not words or words[0].startswith("-"):
        return _without_command(words)
    first = known_as("command", words[0], [*COMMANDS, "help"])
    if first == "help":
        require(len(words) <= 2, f"help takes one command, not {', '.join(words[1:])}")
        return understood([*words[1:], "--help"])
    return first, _parsed(first, words[1:])


def _without_command(words: Sequence[str]) -> tuple[str, argparse.Namespace]:
    """Return the same for words that begin with an option: the command may come after it."""
    asking = ("-h", "--help", "--version")
    _, unknown = parser_of("run").parse_some([word for word in words if word not in asking])
    named = [word for word in unknown if word in COMMANDS]
    for name in named:
        place = len(words) - 1 - list(reversed(words)).index(name)  # its last, for the first may be a value
        try:
            return name, _parsed(name, [*words[:place], *words[place + 1 :]])
        except UserError as error:
            if name == named[-1]:
                raise UserError(f"{error}; the command comes first, as in `{program()} {name}`") from error
    return "run", _parsed("run", words)


def _parsed(name: str, words: Sequence[str]) -> argparse.Namespace:
    """Return what words mean to a command. An option of other commands is told as such, unless it is nearly its own."""
    try:
        return parser_of(name).parse_all(words)
    except UnknownOptionError as error:
        others = [other for other in COMMANDS if error.option in parser_of(other).options]
        if not others or any(slips(error.option, own) == 1 for own in parser_of(name).options):
            raise
        raise UserError(f"unknown option '{error.option}' of {name}; it is an option of {', '.join(others)}") from error


def command_of(name: str) -> ModuleType:
    """Return the module of a command."""
    return import_module(f"bench.cli.commands.{COMMANDS[name]}")


def parser_of(name: str) -> Parser:
    """Return the parser of a command, with the options that all commands take."""
    about = str(__doc__).format(program=program())
    known = f"commands: {', '.join(COMMANDS)} (default: run)"
    more = f"{known}; `{program()} COMMAND --help` has the options of each"
    parser = Parser(f"{program()} {name}", description=about, epilog=more)
    add_common(parser)
    command_of(name).add_arguments(parser)
    return parser
