"""Where settings may be searched: ranges, as `setting(..., search=...)` declares them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


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
