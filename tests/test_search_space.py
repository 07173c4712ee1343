"""Where settings are searched: ranges, what a `Config` declares, and that none of it decides a number."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.catalog import registry
from bench.config import build, names
from bench.core import UserError
from bench.search_space import Choice, Integers, Linear, Log, Range, space_of

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


@pytest.mark.parametrize("name", registry.available("Method"))
def test_spaces_hold_settings_that_the_method_takes(name: str) -> None:
    config = registry.get_method(name).Config
    assert "lr" in space_of(config) and "space" not in names(config)
    for seed in range(20):
        sample = {k: v.sample(np.random.default_rng(seed)) for k, v in config.space.items()}
        assert build(config, sample, name)


@pytest.mark.parametrize("benchmark", registry.available("Benchmark"))
def test_the_recipes_lie_inside(benchmark: str) -> None:
    recipe = registry.recipe(benchmark)
    for name in registry.available("Method"):
        for field, values in space_of(registry.get_method(name).Config).items():
            used = [recipe.get(table, {}).get(field) for table in ("training", name)]
            assert all(value is None or value in values for value in used), (name, field, used)


CONFIG = "@dataclass(frozen=True)\nclass Config(Method.Config):\n    eps: float = 0.1"
IMPORTS = ("from dataclasses import dataclass\n", "from bench.search_space import Log\n")


@pytest.fixture
def searched(plugin: Callable[..., Path]) -> Callable[..., Path]:
    """A method whose `Config` has eps = 0.1 and, unless empty, a space."""

    def write(space: str, more: str = "", folder: str = "own", default: str = "0.1") -> Path:
        body = CONFIG.replace("0.1", default) + (f"\n    space = {space}" if space else "")
        path = plugin("mine", body + more, folder)
        text = path.read_text().replace(
            "from bench.training.method", "".join(IMPORTS[: 2 if space else 1]) + "from bench.training.method"
        )
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("{'epss': Log(0.01, 1)}", "space has 'epss'"),
        ("{'eps': Log(1, 2)}", "the default of 'eps', 0.1, lies outside its space, Log(low=1, high=2)"),
        ("{'eps': (0.01, 1)}", "(0.01, 1), not a Linear, Log"),
        ("[1]", "space is a list"),
    ],
)
def test_a_wrong_space_is_one_line(searched: Callable[..., Path], space: str, said: str) -> None:
    with pytest.raises(UserError, match="line 12") as caught:
        registry.get_method("mine", [searched(space)])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_method_may_narrow_the_rate(searched: Callable[..., Path]) -> None:
    path = searched("{'eps': Log(0.01, 1), 'lr': Log(0.005, 0.05)}")
    assert space_of(registry.get_method("mine", [path]).Config) == {"lr": Log(0.005, 0.05), "eps": Log(0.01, 1)}


def test_where_to_search_is_not_part_of_a_cell(searched: Callable[..., Path]) -> None:
    """Another space does not outdate a result; another default does, and so does a variable that is called space."""

    def digest(folder: str, *words: str, **more: str) -> str:
        return registry.digest("Method", "mine", [searched(*words, **more, folder=folder)])

    plain = digest("a", "")
    assert plain == digest("b", "{'eps': Log(0.01, 1)}") == digest("c", "{'lr': Log(0.01, 1)}")
    local = "\n\ndef penalty(self):\n    space = "
    others = [digest("d", "", default="0.2"), digest("e", "", local + "1"), digest("f", "", local + "2")]
    assert len({plain, *others}) == 4
