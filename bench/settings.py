"""The declaration of a setting, all in one place: default, meaning, unit, bounds, and where `tune` searches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.search_space import Range

KEY = "setting"  # of a field's metadata


@dataclass(frozen=True)
class Declared:
    """What is declared of a setting, beside its type and its default. Bounds hold for every number of a tuple."""

    meaning: str
    unit: str = ""
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    search: Range | None = None

    def allows(self, value: float) -> bool:
        """Return whether a number lies within the bounds. NaN lies nowhere."""
        over = (self.above is None or value > self.above) and (self.at_least is None or value >= self.at_least)
        under = (self.below is None or value < self.below) and (self.at_most is None or value <= self.at_most)
        return over and under

    @property
    def bounds(self) -> str:
        """Return the bounds in words; empty where there are none."""
        low = self.above if self.above is not None else self.at_least
        high = self.below if self.below is not None else self.at_most
        if low is not None and high is not None:
            left = "(" if self.above is not None else "["
            right = ")" if self.below is not None else "]"
            return f"in {left}{low:g}, {high:g}{right}"
        words = {
            "greater than": self.above,
            "at least": self.at_least,
            "less than": self.below,
            "at most": self.at_most,
        }
        return "".join(f"{word} {bound:g}" for word, bound in words.items() if bound is not None)


def setting(
    default: Any,
    meaning: str,
    *,
    unit: str = "",
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    search: Range | None = None,
) -> Any:
    """Return the declaration of a field of a frozen settings class: `eps: float = setting(0.1, "...", above=0)`."""
    stated = Declared(meaning, unit, above, at_least, below, at_most, search)
    return dataclasses.field(default=default, metadata={KEY: stated})


def declared(cls: type) -> dict[str, Declared]:
    """Return what is declared of the settings of a class, by name; those that are plain fields are left out."""
    return {field.name: field.metadata[KEY] for field in dataclasses.fields(cls) if KEY in field.metadata}


def complaints(settings: Any) -> Iterator[str]:
    """Yield, in words, what lies outside its bounds."""
    for name, stated in declared(type(settings)).items():
        value = getattr(settings, name)
        for number in value if isinstance(value, tuple) else (value,):
            if stated.bounds and not stated.allows(number):
                yield f"{name} must be {stated.bounds}, not {number}"


def space_of(*classes: type) -> dict[str, Range]:
    """Return the ranges that settings declare to be searched in, by name."""
    stated = {name: one for cls in classes for name, one in declared(cls).items()}
    return {name: one.search for name, one in stated.items() if one.search is not None}
