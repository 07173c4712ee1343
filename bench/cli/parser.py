"""Parsing words of the command line: errors on one line, with the nearest right spelling."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from bench.config import nearest
from bench.core import UserError

MEANT = {"--dataset": "--bench", "--datasets": "--bench", "--benchmark": "--bench", "--benchmarks": "--bench"}


class Once(argparse.Action):
    """An option with one value, which may not be given two different ones."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        given = vars(namespace).setdefault("_given", {})
        first = given.setdefault(self.dest, values)
        if first != values:
            raise UserError(f"{option} is given twice, as {first} and as {values}: which one?")
        setattr(namespace, self.dest, values)


class UnknownOptionError(UserError):
    """An option that a command does not take."""

    def __init__(self, option: str, known: Iterable[str]) -> None:
        known = list(known)
        meant = MEANT.get(option.lower(), option)
        error = nearest("option", option, known)
        super().__init__(f"unknown option '{option}': did you mean '{meant}'?" if meant in known else str(error))
        self.option = option


class Parser(argparse.ArgumentParser):
    """A parser whose errors are `UserError`s, and which takes no option by its beginning alone."""

    def __init__(self, *words: Any, **more: Any) -> None:
        more = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **more}
        super().__init__(*words, **more)
        self.register("action", None, Once)

    @property
    def options(self) -> list[str]:
        """Return all options, as they are typed."""
        return list(self._option_string_actions)

    def parse_some(self, words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Return what the words mean, and those that mean nothing here. Raises `UserError`."""
        for word in words:
            option, equals, value = word.partition("=")
            if option.startswith("--") and equals and value == "--":  # argparse takes it for the end of options
                self.error(f"argument {option}: '--' is no value")
        return self.parse_known_args(words)

    def parse_all(self, words: Sequence[str]) -> argparse.Namespace:
        """Return what the words mean. Raises `UserError`, with the nearest option for one that is not known."""
        args, unknown = self.parse_some(words)
        if unknown:
            option = unknown[0].partition("=")[0]
            if option.startswith("--"):
                raise UnknownOptionError(option, self._option_string_actions)
            self.error(f"'{unknown[0]}' is one word too many")
        return args

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")
