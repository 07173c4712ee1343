"""Settings from text and TOML into frozen dataclasses, checked once, with errors for people."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from bench.core import UserError

T = TypeVar("T")
LONGEST = 10_000  # characters of a value that is read as Python: what is nested deeper may end the process
NEAR = 2 / 3  # a name is suggested for one that is so much like it
HUGE = 2**63  # no whole number of a setting is beyond what PyTorch can count


class SettingError(UserError):
    """A setting that does not exist, or has a wrong value."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


def nearest(what: str, name: str, known: Iterable[str], listing: str = "") -> UserError:
    """The error for an unknown name: what was wrong, and the nearest right spelling or, where none is near, all names,
    as `listing` has them where it is given."""
    known = sorted(known)
    alike = {each: likeness(name.lower(), each.lower()) for each in known}
    near = max(known, key=alike.__getitem__, default="")
    hint = f"did you mean '{near}'?" if alike.get(near, 0) >= NEAR else listing or f"known: {', '.join(known)}"
    return UserError(f"unknown {what} '{name}': {hint}")


def likeness(typed: str, meant: str) -> float:
    """Return how much of two words is the same, from 0 to 1; the dashes that all options begin with do not count."""
    typed, meant = typed.removeprefix("--"), meant.removeprefix("--")
    letters = len(typed) + len(meant)
    if len(typed) > 3 * len(meant) or not letters:  # like nothing; and counting may take long
        return 0.0
    return 1 - slips(typed, meant) / letters


def slips(typed: str, meant: str) -> int:
    """Return in how few steps one word becomes another: a letter is added or dropped, or two neighbors are swapped."""
    before: list[int] = []
    row = list(range(len(meant) + 1))
    for i, letter in enumerate(typed, 1):
        earlier, before, row = before, row, [i]
        for j, other in enumerate(meant, 1):
            ways = [before[j] + 1, row[j - 1] + 1]
            if letter == other:
                ways.append(before[j - 1])
            if i > 1 and j > 1 and (letter, typed[i - 2]) == (meant[j - 2], other):
                ways.append(earlier[j - 2] + 1)
            row.append(min(ways))
    return row[-1]


def known_as(what: str, name: str, known: Iterable[str]) -> str:
    """Return a name as it is known, found without regard to case. Raises the error of `nearest` where it is not."""
    known = list(known)
    if name in known:
        return name
    alike = [each for each in known if each.lower() == name.lower()]
    if len(alike) != 1:
        raise nearest(what, name, known)
    return alike[0]


def require(holds: bool, message: str) -> None:
    """Raise `UserError` unless a condition holds."""
    if not holds:
        raise UserError(message)


def describe_fields(cls: type) -> str:
    """The fields of a settings class with their types, on one line."""
    return ", ".join(f"{name} ({spell(hint)})" for name, hint in _hints(cls).items())


def names(cls: type) -> set[str]:
    """The fields of a settings class."""
    return {f.name for f in fields(cls)}


def make_settings(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """A settings object from defaults and `values`, whose types are checked. `where` names their origin in errors."""
    hints = _hints(cls)
    for name in values:
        if name not in hints:
            raise SettingError(str(nearest(f"setting of {where}", name, hints)), name)
    coerced = {name: _coerce(value, hints[name], where, name) for name, value in values.items()}
    try:
        return cls(**coerced)
    except UserError as error:
        named = [name for name in re.findall(r"\w+", str(error)) if name in hints]
        raise SettingError(f"{where}: {error}", named[0] if named else "") from error


def parse_value(text: str) -> Any:
    """The value in NAME=VALUE of a command line: a Python literal, true or false, or else the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if len(text) > LONGEST:
        return text
    try:
        with warnings.catch_warnings(action="ignore"):  # of an odd escape in a string
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two: nested too deep
        return text


def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


def spell(hint: Any) -> str:
    """Return a type of a setting in words."""
    if get_origin(hint) is Literal:
        return " | ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"{get_args(hint)[0].__name__}, ..."
    return str(getattr(hint, "__name__", hint))


def _coerce(value: Any, hint: Any, where: str, name: str) -> Any:
    """`value` as `hint`: int, float, bool, str, a Literal, or a tuple of one of the first two. What is equal comes out
    the same, 4.0 as 4 and -0.0 as 0.0, for a cell's key is made of it."""
    if get_origin(hint) is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_coerce(item, get_args(hint)[0], where, name) for item in items)
    wrong = SettingError(f"{where}.{name} is {spell(hint)}, not {_spelled(value)}", name)
    if get_origin(hint) is Literal:
        alike = [one for one in get_args(hint) if one == value and isinstance(one, bool) == isinstance(value, bool)]
        if not alike:
            raise wrong
        return alike[0]
    if not isinstance(value, int | float if hint is float else hint) or isinstance(value, bool) != (hint is bool):
        raise wrong
    if hint not in (int, float):
        return value
    if not -HUGE < value < HUGE:  # nor NaN
        raise SettingError(f"{where}.{name} is too large or no number: {_spelled(value)}", name)
    if hint(value) != value:
        raise SettingError(f"{where}.{name} would be rounded to {hint(value)}: {_spelled(value)}", name)
    return hint(value) + hint(0)


def _spelled(value: Any) -> str:
    """Return a value as Python writes it, if it does."""
    try:
        return repr(value)
    except (ValueError, RecursionError):  # of thousands of digits, or nested too deep
        return f"a {type(value).__name__} too large to print"
