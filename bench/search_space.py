"""Where settings may be searched: ranges, as a method's `Config` declares them in `space`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.core import Training


def _demand_order(holds: bool, values: object) -> None:
    if not holds:
        raise ValueError(f"{values!r} is an empty range")


def _short(value: float, low: float, high: float) -> float:
    """Three digits, for people who read recipes; rounding does not leave the range."""
    return min(max(float(f"{value:.3g}"), low), high)


@dataclass(frozen=True)
class Linear:
    """Floats in [low, high], all alike, to three digits."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _demand_order(self.low < self.high, self)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def sample(self, generator: np.random.Generator) -> float:
        return _short(generator.uniform(self.low, self.high), self.low, self.high)


@dataclass(frozen=True)
class Log:
    """Floats in [low, high], all orders of magnitude alike, to three digits."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _demand_order(0 < self.low < self.high, self)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def sample(self, generator: np.random.Generator) -> float:
        return _short(math.exp(generator.uniform(math.log(self.low), math.log(self.high))), self.low, self.high)


@dataclass(frozen=True)
class Integers:
    """Integers from low to high, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _demand_order(self.low < self.high, self)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high

    def sample(self, generator: np.random.Generator) -> int:
        return int(generator.integers(self.low, self.high, endpoint=True))


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        _demand_order(len(self.options) > 0, self)

    def __contains__(self, value: object) -> bool:
        return value in self.options

    def sample(self, generator: np.random.Generator) -> Any:
        return self.options[int(generator.integers(len(self.options)))]


Range = Linear | Log | Integers | Choice
TRAINING: Mapping[str, Range] = {"lr": Log(1e-3, 0.3)}  # searched for every method; a `Config` may narrow it


def space_of(config: type) -> dict[str, Range]:
    """All that is searched for a method: of its training, and of its own `Config`."""
    return {**TRAINING, **getattr(config, "space", {})}


def complaints(config: type) -> Iterator[str]:
    """What is wrong with the space that a `Config`, whose fields have defaults, declares."""
    declared = getattr(config, "space", {})
    if not isinstance(declared, Mapping):
        yield f"space is a {type(declared).__name__}, not a dict of settings and their ranges"
        return
    defaults = asdict(Training()) | asdict(config())
    for name, values in declared.items():
        if name not in defaults:
            yield f"space has '{name}', which is no setting of Config or of Training"
        elif not isinstance(values, Range):
            yield f"the space of '{name}' is {values!r}, not a Linear, Log, Integers or Choice of bench.search_space"
        elif defaults[name] not in values:
            yield f"the default of '{name}', {defaults[name]!r}, lies outside its space, {values!r}"
