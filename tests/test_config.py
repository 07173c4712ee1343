"""Settings from text: typed, checked once, with errors that name the nearest spelling."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from bench.config import describe_fields, make_settings, nearest, parse_value, slips
from bench.core import Training, UserError


@dataclass(frozen=True)
class Settings:
    energy: float = 0.9
    samples: int = 10
    online: bool = False
    rule: Literal["below", "reach"] = "below"
    layers: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("False", False),
        ("(1, 2)", (1, 2)),
        ("[1, 2]", [1, 2]),
        ("nuclear", "nuclear"),
        ("'3'", "3"),
    ],
)
def test_parse(text: str, value: Any) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize("text", ["", "{[]: 1}", "{[1]}", "__import__('os')", "1 +", "nan", "\0", "-" * 9 + "'a'"])
def test_parse_never_fails_and_never_runs_code(text: str) -> None:
    assert parse_value(text) == text


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("energy", 1, 1.0),
        ("energy", 0.5, 0.5),
        ("samples", 3, 3),
        ("online", True, True),
        ("rule", "reach", "reach"),
        ("layers", [1, 2], (1, 2)),
        ("layers", 4, (4,)),
    ],
)
def test_values_become_the_declared_type(name: str, given: Any, value: Any) -> None:
    built = getattr(make_settings(Settings, {name: given}, "m"), name)
    assert built == value
    assert type(built) is type(value)


@pytest.mark.parametrize(
    ("name", "given", "spelling"),
    [
        ("energy", "high", "float"),
        ("energy", True, "float"),
        ("samples", 1.5, "int"),
        ("samples", True, "int"),
        ("online", 1, "bool"),
        ("online", "yes", "bool"),
        ("rule", "above", "below | reach"),
        ("rule", ["below"], "below | reach"),
        ("layers", (1, "two"), "int"),
    ],
)
def test_a_wrong_type_is_refused_by_name(name: str, given: Any, spelling: str) -> None:
    with pytest.raises(UserError) as caught:
        make_settings(Settings, {name: given}, "m")
    assert f"m.{name} is {spelling}" in str(caught.value)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown setting of m 'enregy': did you mean 'energy'"):
        make_settings(Settings, {"enregy": 1}, "m")
    far = str(nearest("method", "xyz", ["gpm", "ewc"]))
    assert "did you mean" not in far
    assert far.endswith("known: ewc, gpm")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("gmp", "gpm"),
        ("toi", "toy"),
        ("NES", "ness"),
        ("--output", "--out"),
        ("bfloat16", "bf16"),
        ("cifar100", "split_cifar100"),
    ],
)
def test_the_nearest_name_is_told_alone(typed: str, meant: str) -> None:
    error = nearest("name", typed, ["sgp", "toy", "ness", "--out", "bf16", "--version", "split_cifar100", "gpm"])
    assert str(error) == f"unknown name '{typed}': did you mean '{meant}'?"


@pytest.mark.parametrize("typed", ["status", "--status", "--to", "xyz", "", "x" * 100_000])
def test_a_name_that_is_like_none_gets_all(typed: str) -> None:
    assert str(nearest("name", typed, ["--version", "gpm"])) == f"unknown name '{typed}': known: --version, gpm"


@pytest.mark.parametrize(
    ("typed", "meant", "steps"),
    [("gpm", "gpm", 0), ("gmp", "gpm", 1), ("gm", "gpm", 1), ("gmp", "sgp", 2), ("", "ab", 2)],
)
def test_two_letters_that_are_swapped_are_one_slip(typed: str, meant: str, steps: int) -> None:
    assert slips(typed, meant) == slips(meant, typed) == steps


def test_describe_names_every_field_with_its_type() -> None:
    expected = "energy (float), samples (int), online (bool), rule (below | reach), layers (int, ...)"
    assert describe_fields(Settings) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0),
        ("lr", -1),
        ("lr", float("nan")),
        ("epochs", 0),
        ("batch_size", 0),
        ("eval_batch_size", 0),
        ("momentum", -0.1),
        ("weight_decay", -1),
        ("patience", -1),
        ("factor", 1),
        ("rho", 0),
        ("optimizer", "sdg"),
        ("sam", "second"),
    ],
)
def test_training_refuses_what_makes_no_sense(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"finetune.*{name}") as caught:
        make_settings(Training, {name: value}, "finetune")
    assert "\n" not in str(caught.value)
