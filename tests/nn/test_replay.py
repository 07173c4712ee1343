"""Which samples stay in a memory and which are drawn from it, against known answers."""

import numpy as np
import pytest
import torch

from bench.nn.replay import Rings, draw, integer_below, joined, put, reservoir_slots


def kept(rule: str, seed: int) -> list[int]:
    """Return what a reservoir of four holds of 0..19, by numpy's legacy generator, as the released codes have it."""
    legacy = np.random.RandomState(seed)
    samples: dict[str, torch.Tensor] = {}
    for start in range(0, 20, 5):  # in batches, as in training
        slots = reservoir_slots(start, 5, 4, lambda n: legacy.randint(0, n), rule)  # type: ignore[arg-type]
        samples = put(samples, {"y": torch.arange(start, start + 5)}, slots)
    return samples["y"].tolist()


@pytest.mark.parametrize(
    ("rule", "seed", "known"),
    [("recent", 0, [5, 18, 13, 11]), ("recent", 1, [11, 12, 2, 5]),
     ("uniform", 0, [6, 18, 13, 11]), ("uniform", 1, [10, 11, 2, 4])],
)  # fmt: skip
def test_the_reservoirs_of_the_released_codes(rule: str, seed: int, known: list[int]) -> None:
    """A-GEM's code has the rule "recent"; mammoth and MER have Vitter's."""
    assert kept(rule, seed) == known


@pytest.mark.parametrize(("rule", "shares"), [("uniform", [0.4] * 5), ("recent", [0.25, 0.25, 0.5, 0.5, 0.5])])
@pytest.mark.slow
def test_how_likely_each_sample_is_to_stay(rule: str, shares: list[float]) -> None:
    generator = torch.Generator().manual_seed(0)
    counts, runs = np.zeros(5), 4000
    for _ in range(runs):
        slots = reservoir_slots(0, 5, 2, integer_below(generator), rule)  # type: ignore[arg-type]
        counts[put({}, {"y": torch.arange(5)}, slots)["y"].tolist()] += 1
    assert counts / runs == pytest.approx(shares, abs=4 * 0.5 / runs**0.5)


def test_a_ring_keeps_the_last_of_each_class() -> None:
    rings = Rings(2)
    labels = torch.tensor([3, 5, 3, 3, 5, 5, 5])
    for part in (slice(0, 3), slice(3, 7)):
        rings.add({"y": labels[part], "number": torch.arange(7)[part]})
    found = sorted(zip(rings.samples["y"].tolist(), rings.samples["number"].tolist(), strict=True))
    assert found == [(3, 2), (3, 3), (5, 5), (5, 6)]


def test_a_draw_has_distinct_samples_and_their_rows_together() -> None:
    samples = {"x": torch.arange(10.0)[:, None], "y": torch.arange(10)}
    drawn = draw(samples, 4, torch.Generator().manual_seed(0))
    assert len(set(drawn["y"].tolist())) == 4
    assert drawn["x"].flatten().tolist() == drawn["y"].tolist()
    assert sorted(draw(samples, 99, torch.Generator())["y"].tolist()) == list(range(10))
    other = draw(samples, 4, torch.Generator().manual_seed(1))
    assert not torch.equal(drawn["y"], other["y"])


def test_put_replaces_grows_and_leaves_out() -> None:
    samples = put({}, {"y": torch.tensor([7, 8])}, [0, 1])
    samples = put(samples, {"y": torch.tensor([1, 2, 3, 4])}, [2, None, 0, 2])
    assert samples["y"].tolist() == [3, 8, 4]
    assert put(samples, {"y": torch.tensor([9])}, [None]) is samples
    assert joined({}, samples) is samples
    assert joined(samples, samples)["y"].tolist() == [3, 8, 4, 3, 8, 4]
