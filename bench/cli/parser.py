"""Parsing words of the command line: errors on one line, with the nearest right spelling."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from bench.config import nearest
from bench.core import UserError


class Once(argparse.Action):
    """An option with one value, which may not be given two different ones."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        given = vars(namespace).setdefault("_given", {})
        if given.setdefault(self.dest, values) != values:
            raise UserError(f"{option} is given twice, as {given[self.dest]} and as {values}: which one?")
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are `UserError`s, and which takes no option by its beginning alone."""

    def __init__(self, *words: Any, **more: Any) -> None:
        more = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **more}
        super().__init__(*words, **more)
        self.register("action", None, Once)

    def parse_all(self, words: Sequence[str]) -> argparse.Namespace:
        """Return what the words mean. Raises `UserError`, with the nearest option for one that is not known."""
        for word in words:
            option, equals, value = word.partition("=")
            if option.startswith("--") and equals and value == "--":  # argparse takes it for the end of options
                self.error(f"argument {option}: '--' is no value")
        args, unknown = self.parse_known_args(words)
        if unknown:
            option = unknown[0].partition("=")[0]
            if option.startswith("--"):
                raise nearest("option", option, self._option_string_actions)
            self.error(f"'{unknown[0]}' is one word too many")
        return args

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")
