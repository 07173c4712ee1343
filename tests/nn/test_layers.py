"""Our layers compute what torch's do; the masks of dropout are what they say."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.catalog.catalog import Catalog
from bench.core import Split, Task, Training
from bench.nn import architectures
from bench.nn.layers import Dropout, LocalResponseNorm, keep_mask
from bench.nn.network import Network
from bench.tools.profiling.arms import plain
from bench.training.loop import Session


def seeded_mask(x: Tensor, p: float, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return keep_mask(x, p)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_a_mask_drops_at_its_rate_everywhere_and_keeps_the_mean(p: float) -> None:
    mask = seeded_mask(torch.empty(256, 8, 16, 16), p)
    assert mask.unique().tolist() == [0.0, pytest.approx(1 / (1 - p), rel=1e-4)]
    kept = (mask != 0).float()
    n = kept.numel()
    deviation = (p * (1 - p) / n) ** 0.5
    assert abs(float(kept.mean()) - (1 - p)) < 5 * deviation + 2**-17
    for dims in [(1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)]:  # no sample, channel, row or column is preferred
        share = kept.mean(dims)
        deviation = (p * (1 - p) * len(share) / n) ** 0.5
        assert float((share - (1 - p)).abs().max()) < 5 * deviation + 2**-17


def test_the_probability_is_the_nearest_multiple_of_a_65536th_and_the_factor_exact_for_it() -> None:
    mask = seeded_mask(torch.empty(4, 100), 0.2, seed=1)
    cut = round(0.2 * 65536)
    assert float(mask.max()) == pytest.approx(65536 / (65536 - cut), rel=1e-7)
    assert torch.equal(seeded_mask(torch.empty(4, 100), cut / 65536, seed=1), mask)


def test_masks_are_independent_of_each_other_and_neighbors_within_one_too() -> None:
    torch.manual_seed(0)
    first, second = (keep_mask(torch.empty(400_000, 1), 0.5).flatten() - 1 for _ in range(2))
    limit = 5 / len(first) ** 0.5
    assert abs(float((first * second).mean())) < limit
    for distance in (1, 2, 3, 4, 5, 8, 64):  # four elements share a random number
        assert abs(float((first[distance:] * first[:-distance]).mean())) < limit


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 4, 2), (2, 3, 5), (7,), (0, 4)])
def test_one_seed_gives_one_mask_whatever_the_layout(shape: tuple[int, ...]) -> None:
    x = torch.ones(shape)
    mask = seeded_mask(x, 0.3)
    assert mask.shape == x.shape
    assert torch.equal(mask, seeded_mask(x, 0.3))
    if len(shape) == 4:
        assert torch.equal(mask, seeded_mask(x.contiguous(memory_format=torch.channels_last), 0.3))
        assert not torch.equal(mask, seeded_mask(x, 0.3, seed=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_scales_what_it_keeps_and_its_gradient_alike(dtype: torch.dtype) -> None:
    x = torch.randn(6, 4, 5, 5, dtype=dtype, requires_grad=True)
    torch.manual_seed(3)
    out = Dropout(0.4)(x)
    assert out.dtype == dtype
    out.sum().backward()
    mask = seeded_mask(x, 0.4, seed=3)
    assert torch.equal(out.detach(), x.detach() * mask)
    assert x.grad is not None
    assert torch.equal(x.grad, mask)


def test_dropout_does_nothing_in_evaluation_or_at_zero_and_all_at_one() -> None:
    x = torch.randn(3, 4)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert not Dropout(1.0)(x).any()


@pytest.mark.parametrize(("size", "beta"), [(4, 0.75), (5, 0.75), (3, 0.5), (1, 0.75)])
def test_local_response_normalization_is_torchs_with_its_gradient(size: int, beta: float) -> None:
    x = torch.randn(2, 7, 4, 3, dtype=torch.float64, requires_grad=True)
    ours, theirs = (kind(size, alpha=0.3, beta=beta, k=1.5) for kind in (LocalResponseNorm, nn.LocalResponseNorm))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(x)
    [own] = torch.autograd.grad((ours(x) * weight).sum(), x)
    [other] = torch.autograd.grad((theirs(x) * weight).sum(), x)
    torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


def two_tasks(shape: tuple[int, ...], num_classes: int) -> list[Task]:
    """Random images in float64, of classes that can be told apart."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(2, num_classes, *shape))

    def split(t: int, n: int) -> Split:
        y = np.arange(n) % num_classes
        return Split(centers[t, y] + generator.normal(size=(n, *shape)), y)

    return [Task(t, (), split(t, 48), split(t, 16), split(t, 40)) for t in range(2)]


def without_dropout(network: Network) -> Network:
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return network


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", ["split_cifar100", "cifar100_superclass", "five_datasets"])
def test_without_dropout_a_run_is_that_of_torchs_layers_in_its_usual_layout(benchmark: str) -> None:
    description = Catalog().benchmark(benchmark)
    torch.manual_seed(0)
    ours = without_dropout(architectures.build(description)).double()
    theirs = copy.deepcopy(ours)
    plain(theirs.backbone)
    theirs.channels_last = False
    kinds = {type(layer) for layer in theirs.modules()}
    assert not kinds & {Dropout, LocalResponseNorm}
    tasks = two_tasks(description.input_shape, description.num_classes)
    training = Training(lr=0.02, epochs=2, batch_size=16)
    fine_tuning = Catalog().method("finetune")
    R, records = Session(ours, fine_tuning(ours), tasks, training, seed=1).run()
    other, others = Session(theirs, fine_tuning(theirs), tasks, training, seed=1).run()
    assert other == R
    for record, twin in zip(records, others, strict=True):
        assert record.validation_loss == pytest.approx(twin.validation_loss, rel=1e-6)
    for (name, weight), twin_weight in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weight, twin_weight, rtol=1e-6, atol=1e-6, msg=name)
