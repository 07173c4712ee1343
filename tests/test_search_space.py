"""Where settings are searched: ranges, what a `Config` declares, and that none of it decides a number."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bench.catalog import identity
from bench.catalog.catalog import Catalog
from bench.config import make_settings, names
from bench.core import Settings, Training, UserError
from bench.search_space import Choice, Integers, Linear, Log, Range
from bench.settings import Declared, setting, space_of

RANGES: list[Range] = [Linear(0.9, 0.995), Linear(-1, 1), Log(1e-4, 0.1234), Integers(2, 5), Choice((0.0, 0.9))]


@pytest.mark.parametrize("values", RANGES, ids=str)
def test_samples_lie_inside_and_reach_both_ends(values: Range) -> None:
    samples = [values.sample(np.random.default_rng(seed)) for seed in range(300)]
    assert all(sample in values for sample in samples)
    low, high = (min(values.options), max(values.options)) if isinstance(values, Choice) else (values.low, values.high)
    assert min(samples) <= low + 0.05 * (high - low) and max(samples) >= high - 0.05 * (high - low)
    assert {type(sample) for sample in samples} == {int if isinstance(values, Integers) else float}
    assert samples[7] == values.sample(np.random.default_rng(7))


def test_a_logarithmic_range_treats_orders_of_magnitude_alike() -> None:
    samples = [Log(1e-4, 1.0).sample(np.random.default_rng(seed)) for seed in range(400)]
    counts = np.histogram(np.log10(samples), bins=4, range=(-4, 0))[0]
    assert counts.min() > 70  # of 400 in four


def test_rounding_does_not_leave_the_range() -> None:
    narrow = Log(0.12341, 0.12344)
    assert all(narrow.sample(np.random.default_rng(seed)) in narrow for seed in range(20))


@pytest.mark.parametrize("make", [lambda: Linear(1, 1), lambda: Log(0, 1), lambda: Integers(3, 2), lambda: Choice(())])
def test_an_empty_range_is_refused(make: Callable[[], Range]) -> None:
    with pytest.raises(ValueError, match="empty range"):
        make()


@pytest.mark.parametrize("name", Catalog().available("Method"))
def test_spaces_hold_settings_that_the_method_takes(name: str) -> None:
    config = Catalog().method(name).Config
    space = space_of(config)
    assert set(space) <= names(config) and "lr" in space_of(Training, config)
    for seed in range(20):
        sample = {field: values.sample(np.random.default_rng(seed)) for field, values in space.items()}
        assert make_settings(config, sample, name)


@pytest.mark.parametrize("benchmark", Catalog().available("Benchmark"))
def test_the_recipes_lie_inside(benchmark: str) -> None:
    recipe = Catalog().recipe(benchmark)
    checked = 0
    for name in Catalog().available("Method"):
        for field, values in space_of(Training, Catalog().method(name).Config).items():
            used = [recipe[table][field] for table in ("training", name) if field in recipe.get(table, {})]
            assert all(value in values for value in used), (name, field, used)
            checked += len(used)
    assert checked >= len(Catalog().available("Method")), "the rate, at least"


HEAD = (
    "from dataclasses import dataclass\nfrom bench.search_space import Log\nfrom bench.settings import setting\n"
    "@dataclass(frozen=True)\nclass Config(Method.Config):\n"
)


@pytest.mark.parametrize(
    ("declaration", "said"),
    [
        ("setting(0.1, 'of it', search=Log(1, 2))", "the default of 'eps', 0.1, lies outside Log(low=1, high=2)"),
        ("setting(0.1, 'of it', search=(0.01, 1))", "search of 'eps' is (0.01, 1), not a Linear, Log"),
        ("setting(0.1, 'of it', above=1)", "a default of Config is out of bounds: eps must be greater than 1, not 0.1"),
        ("setting(0.1, 'of it')\n    space = {'eps': Log(0.01, 1)}", "space is no part of Config now"),
    ],
)
def test_a_wrong_declaration_is_one_line(plugin: Callable[..., Path], declaration: str, said: str) -> None:
    path = plugin("mine", f"{HEAD}    eps: float = {declaration}")
    path.write_text(f"from bench.search_space import Log\nfrom bench.settings import setting\n{path.read_text()}")
    with pytest.raises(UserError, match=r"line 1[345]") as caught:
        Catalog.of([path]).method("mine")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_where_to_search_is_not_part_of_a_cell(plugin: Callable[..., Path]) -> None:
    """Another range, bound or meaning does not outdate a result, nor does a default, which is in the cell; other code
    does."""

    def digest(folder: str, declaration: str, more: str = "") -> str:
        path = plugin("mine", f"{HEAD}    eps: float = {declaration}{more}", folder)
        return identity.digest_of(path.read_text())

    plain = digest("a", "setting(0.1, 'of it')")
    assert plain == digest("b", "setting(0.1, 'of all', above=0, search=Log(0.01, 1))")
    assert plain == digest("c", "setting(0.2, 'of it')")
    local = "\n\ndef penalty(self):\n    space = "
    others = [digest("e", "setting(0.1, 'of it')", local + "1"), digest("f", "setting(0.1, 'of it')", local + "2")]
    assert len({plain, *others}) == 3


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "said"),
    [
        ({"above": 0}, [1e-9, 5], [0, -1], "greater than 0"),
        ({"at_least": 1}, [1, 5], [0.99], "at least 1"),
        ({"below": 2}, [1.9, -5], [2], "less than 2"),
        ({"at_most": 2}, [2, -5], [2.1], "at most 2"),
        ({"above": 0, "at_most": 1}, [0.5, 1], [0, 1.5], "in (0, 1]"),
        ({"at_least": 0, "below": 1}, [0, 0.5], [1, -0.1], "in [0, 1)"),
    ],
)
def test_bounds(bounds: dict[str, float], inside: list[float], outside: list[float], said: str) -> None:
    stated = Declared("of it", **bounds)  # type: ignore[arg-type]
    assert stated.bounds == said
    assert [stated.allows(value) for value in (*inside, *outside, float("nan"))] == [
        *[True] * len(inside), *[False] * len(outside), False
    ]  # fmt: skip


def test_bounds_hold_for_every_number_of_a_tuple_and_however_settings_are_made() -> None:
    @dataclass(frozen=True)
    class Own(Settings):
        shares: tuple[float, ...] = setting((), "of it", above=0, at_most=1)

    assert Own((0.5, 1.0)).shares == (0.5, 1.0)
    for make in (lambda: Own((0.5, 1.5)), lambda: make_settings(Own, {"shares": [0.5, 1.5]}, "own")):
        with pytest.raises(UserError, match=r"shares must be in \(0, 1\], not 1.5"):
            make()
