"""Settings under random values, by each road that leads to them: what is set is in force as it was meant, or refused on
one line. A value that is silently another would stand in a table as if it had been asked for."""

import ast
import dataclasses
import json
import os
import random
import tomllib
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.catalog.catalog import Catalog
from bench.catalog.plan import Plan, Request
from bench.cli import options
from bench.cli.main import parser_of
from bench.config import make_settings
from bench.core import Cell, Result, Training, UserError
from bench.execution import decoding

LONG_FORM = int(os.environ.get("NESS_BENCH_FUZZ", "120"))  # tries of each test
SHORT_AND_LONG = pytest.mark.parametrize("tries", [25, pytest.param(LONG_FORM, marks=pytest.mark.slow)])
CATALOG = Catalog()
METHODS = [*CATALOG.available("Method")]
BENCHMARKS = [*CATALOG.available("Benchmark")]

WHOLE = ["0", "1", "-1", "2", "64", "0x10", "0b11", "0o17", "1_000", "+5", "9007199254740993", "9223372036854775807"]
WHOLE += ["9223372036854775808", "-9223372036854775809", "9" * 30, "9" * 5000, "007", "1__0", " 3", "٣", "²"]
DECIMAL = ["0.5", "-0.5", "1.", ".5", "0.97", "1e-5", "1E3", "1e999", "-1e999", "1e-400", "0.1e1", "-0.0", "-0", "5."]
DECIMAL += ["nan", "inf", "-inf", "NaN", "Infinity", "1j", "0.30000000000000004", "1e22", "4.0", "2.0", "64.0", "1,5"]
WORDS = ["true", "True", "TRUE", "false", "yes", "on", "None", "null", "sgd", "SGD", "adam", "'sgd'", '"adam"', "below"]
WORDS += ["reach ", "samples", "batch", "unit", "none", "first", "", " ", "=", "a=b", "\0", "é", "\udcff", "b'sgd'"]
NESTED = ["[0.95, 0.99]", "(0.5,)", "(1, 2.0, True)", "[[1]]", "[]", "()", "{}", "{1: 2}", "{1}", "[1, [2]]", "['a']"]
NESTED += ["[" * 200, "[" * 50 + "]" * 50, "[nan]", "[1e999]", "[1" + ", 1" * 3000 + "]", "1 if 1 else 2", "[true]"]
TEXTS = [*WHOLE, *DECIMAL, *WORDS, *NESTED]
SIGNS = "0123456789.-+eE_xjn[](),{}'\" tTfF=:#\\\n"


def some_text(generator: random.Random, near: Any) -> str:
    """Return the text of a value: one of the above, or one near a value that fits; a little changed now and then."""
    text = generator.choice(TEXTS)
    if generator.random() < 0.5:
        text = near_to(near, generator)
    if generator.random() < 0.3 and len(text) < 100:
        place = generator.randrange(len(text) + 1)
        text = text[:place] + generator.choice(SIGNS) + text[place + generator.randrange(2) :]
    return text


def near_to(value: Any, generator: random.Random) -> str:
    """Return a value as Python writes it, or another of its kind."""
    if isinstance(value, bool):
        return str(generator.random() < 0.5)
    if isinstance(value, int | float):
        return str(value * generator.choice([1, 1, 2, 3, 0.5, 1.0, -1]))
    if isinstance(value, tuple | list):
        return str([generator.choice([0.5, 0.97, 1, 7, 125.0]) for _ in range(generator.randrange(4))])
    return str(value)


def meant(text: str) -> Any:
    """Return the value that a text on the command line stands for: a literal of Python, true or false, or itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def same(value: Any, wanted: Any) -> bool:
    """Whether a setting is what was meant: a number of exactly that size, a truth, a word, or several numbers."""
    if isinstance(value, tuple | list):
        several = wanted if isinstance(wanted, list | tuple) else [wanted]
        return len(value) == len(several) and all(map(same, value, several))
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return isinstance(wanted, type(value) if isinstance(value, str) else int | float) and bool(value == wanted)


class Draw(NamedTuple):
    """A request for one cell, and which setting of it is set."""

    method: str
    benchmark: str
    whose: str  # one of the two
    field: str

    @property
    def name(self) -> str:
        """Return the setting as `settings_of` names it."""
        return f".{self.field}" if self.whose == self.benchmark else self.field

    @property
    def usual(self) -> Any:
        """Return the value that it has where it is not set."""
        return settings_of(usual_cells(self.method, self.benchmark)[0]).get(self.name)


def drawn(generator: random.Random) -> Draw:
    """Return what to set, at times under a wrong name."""
    while not usual_cells(method := generator.choice(METHODS), benchmark := generator.choice(BENCHMARKS)):
        continue  # a method that does not apply there
    names = {method: [*names_of(CATALOG.method(method).Config), *names_of(Training)]}
    names[benchmark] = names_of(CATALOG.benchmark(benchmark).Config)
    whose = benchmark if names[benchmark] and generator.random() < 0.25 else method
    field = generator.choice(names[whose])
    if generator.random() < 0.05:
        field = generator.choice([field.upper(), field[:-1], "", "lr ", "training.lr", "__class__", "é"])
    return Draw(method, benchmark, whose, field)


def names_of(cls: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


@cache
def usual_cells(method: str, benchmark: str) -> list[Cell]:
    return CATALOG.plan(Request([method], [benchmark], [0])).cells


def settings_of(cell: Cell) -> dict[str, Any]:
    """All settings of a cell by name; those of its benchmark with a dot before."""
    return cell.training | cell.config | {f".{name}": value for name, value in cell.options.items()}


def judge(cell: Cell, usual: Cell, name: str, wanted: Any) -> None:
    """Raise AssertionError unless a cell has the setting as it was meant and all others as usual; and unless the same
    settings have the same key, whatever they were written like, and others another."""
    now, before = settings_of(cell), settings_of(usual)
    assert same(now[name], wanted), f"{name} is {now[name]!r}, and {wanted!r} was meant"
    changed = {field for field in now if now[field] != before[field]}
    assert changed <= {name}, "another setting has changed"
    assert (cell.key != usual.key) == bool(changed), f"{name} = {wanted!r} has the key of other settings"
    stored = decoding.decode(decoding.encode(Result(cell, error="none")).encode()).cell
    assert stored.key == cell.key and same(settings_of(stored)[name], wanted)


def outcome(plan: Callable[[], Plan], draw: Draw, wanted: Any) -> str:
    """Return how a request ends: "refused" or "equal". Whatever else it raises is a fault."""
    try:
        found = plan()
    except UserError as error:
        assert str(error) and len(str(error)) < 10_000
        return "refused"
    if not found.cells:
        assert all(found.not_applicable.values())
        return "refused"
    [cell], [usual] = found.cells, usual_cells(draw.method, draw.benchmark)
    judge(cell, usual, draw.name, wanted)
    return "equal"


def asked(draw: Draw, *more: str) -> Plan:
    """Return the plan of a command line, with more words."""
    words = ["--methods", draw.method, "--bench", draw.benchmark, "--seeds", "0", *more]
    args = parser_of("run").parse_all(words)
    args.catalog = CATALOG
    return CATALOG.plan(options.make_request(args))


def tell(what: str, counts: Counter[str], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        numbers = f"{counts['refused']} refused, {counts['equal']} equal"
        print(f"\n{what}: {sum(counts.values())} tries: {numbers}, 0 changed in silence, 0 tracebacks")
    assert counts["refused"] > 0 < counts["equal"]


@SHORT_AND_LONG
def test_a_setting_of_the_command_line_is_as_meant_or_refused(tries: int, capsys: pytest.CaptureFixture[str]) -> None:
    generator = random.Random(0)
    counts: Counter[str] = Counter()
    for _ in range(tries):
        draw = drawn(generator)
        text = some_text(generator, draw.usual)
        plan = partial(asked, draw, f"--set={draw.whose}.{draw.field}={text}")
        counts[outcome(plan, draw, meant(text))] += 1
    tell("--set", counts, capsys)


def some_toml(generator: random.Random, near: Any) -> str:
    """Return the text of a value in TOML, or nearly."""
    if generator.random() < 0.3:
        return generator.choice(TOML)
    text = some_text(generator, near)
    if text.isidentifier() and generator.random() < 0.8:
        text = f'"{text}"'
    return {'"True"': "true", '"False"': "false"}.get(text, text).replace("(", "[").replace(")", "]")


@SHORT_AND_LONG
def test_a_setting_of_a_recipe_is_as_meant_or_refused(
    tries: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = random.Random(1)
    counts: Counter[str] = Counter()
    path = tmp_path / "mine.toml"
    for _ in range(tries):
        draw = drawn(generator)
        text = some_toml(generator, draw.usual)
        path.write_bytes(f'["{draw.whose}"]\n"{draw.field}" = {text}\n'.encode(errors="surrogateescape"))
        counts[outcome(partial(asked, draw, "--recipe", str(path)), draw, in_toml(path, draw))] += 1
    tell("--recipe", counts, capsys)


def in_toml(path: Path, draw: Draw) -> Any:
    """Return the value that stands in a file; None where none can be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")).get(draw.whose, {}).get(draw.field)
    except (ValueError, RecursionError):
        return None


@SHORT_AND_LONG
def test_a_setting_in_the_file_of_a_method_is_as_meant_or_refused(
    tries: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipe that a method brings for a benchmark, in NAME.toml beside it."""
    generator = random.Random(2)
    counts: Counter[str] = Counter()
    (tmp_path / "own.py").write_text(OWN)
    [usual] = Catalog.of([tmp_path / "own.py"]).plan(Request(["own"], ["toy"], [0])).cells
    path = tmp_path / "own.toml"
    for _ in range(max(tries // 3, 25)):
        field = generator.choice([*settings_of(usual)])
        text = some_toml(generator, settings_of(usual)[field])
        path.write_bytes(f"[toy]\n{field} = {text}\n".encode(errors="surrogateescape"))
        try:
            [cell] = Catalog.of([tmp_path / "own.py"]).plan(Request(["own"], ["toy"], [0])).cells
        except UserError:
            counts["refused"] += 1
            continue
        judge(cell, usual, field, tomllib.loads(path.read_text(encoding="utf-8"))["toy"][field])
        counts["equal"] += 1
    tell("NAME.toml", counts, capsys)


OWN = """
from dataclasses import dataclass
from typing import Literal

from bench.core import Settings
from bench.settings import setting
from bench.training.method import Method


class Own(Method):
    @dataclass(frozen=True)
    class Config(Settings):
        energies: tuple[float, ...] = setting((), "of layers", at_least=0, at_most=1)
        counts: tuple[int, ...] = setting((3, 5), "of samples", at_least=1)
        power: Literal[4, 2] = setting(4, "of what is added up")
        kind: Literal["a", "b"] = setting("a", "of two")
        word: str = setting("", "any")
        flag: bool = setting(False, "whether")
        share: float = setting(0.5, "of all", above=0, below=1)
        count: int = setting(7, "of things")
"""
TOML = [
    "1979-05-27",
    "07:32:00",
    "1979-05-27T07:32:00Z",
    "[1, 2.0]",
    "[true]",
    "{a = 1}",
    "[[1], [2]]",
    '"""a\nb"""',
    "4",
]
TOML += [
    "[0.5, 0.5]",
    "[3, 5]",
    "[]",
    "4.0",
    "'a'",
    '"b"',
    '"\\u0000"',
    "0.5",
    "false",
    "7",
    "+7",
    "-0.0",
    "inf",
    "-nan",
]


@SHORT_AND_LONG
def test_settings_are_read_back_as_they_were_stored(tries: int, capsys: pytest.CaptureFixture[str]) -> None:
    """From the JSON of a result, and whatever else stands in its place there."""
    generator = random.Random(3)
    counts: Counter[str] = Counter()
    for _ in range(tries):
        draw = drawn(generator)
        cls = generator.choice([CATALOG.method(draw.method).Config, CATALOG.benchmark(draw.benchmark).Config, Training])
        stored = json.loads(json.dumps(dataclasses.asdict(cls())))
        assert make_settings(cls, stored, "stored") == cls()
        field = generator.choice([*stored, draw.field])
        value = meant(some_text(generator, stored.get(field)))
        try:
            made = make_settings(cls, {**stored, field: value}, "stored")
        except UserError:
            counts["refused"] += 1
            continue
        assert same(getattr(made, field), value)
        assert make_settings(cls, json.loads(json.dumps(dataclasses.asdict(made))), "stored") == made
        counts["equal"] += 1
    tell("stored settings", counts, capsys)
