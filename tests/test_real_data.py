"""CIFAR-100 and MNIST as they are; skipped where the prepared array is absent (see docs/how-to/data.md)."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.catalog import recipes
from bench.catalog.catalog import Catalog
from bench.core import Split, Task, Training
from bench.nn import architectures
from bench.nn.activations import input_grams
from bench.nn.subspace import null_basis
from bench.training.data import TrainingData
from bench.training.loop import Session

DATA = Path(os.environ.get("NESS_BENCH_DATA", "data"))


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (DATA / f"{name}.npz").exists(), reason=f"no {name}.npz in $NESS_BENCH_DATA")


cifar = needs("cifar100")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return Catalog().benchmark("split_cifar100").stream(1, DATA)


@cifar
def test_sizes_and_classes(tasks):
    assert [(len(t.train), len(t.validation), len(t.test)) for t in tasks] == [(4750, 250, 1000)] * 10
    assert [t.classes for t in tasks] == [tuple(str(c) for c in range(10 * t, 10 * t + 10)) for t in range(10)]
    assert all(set(split.y) == set(range(10)) for t in tasks for split in (t.train, t.validation, t.test))


@cifar
def test_normalisation_is_that_of_the_lineage(tasks):
    """By constants of CIFAR-10: close to standard, and not exactly."""
    x = torch.from_numpy(tasks[0].train.x)
    assert float(x.mean().abs()) < 0.2 and 0.9 < float(x.std()) < 1.2
    assert float(x.amin()) == pytest.approx(-125.3 / 63.0, abs=1e-4)


@cifar
def test_null_ranks_of_the_untrained_network(tasks):
    """Of the inputs of its five layers by the rule of NESS's code, known to a tenth: weights and images are random."""
    torch.manual_seed(1)
    network = architectures.build(Catalog().benchmark("split_cifar100"))
    train = tasks[0].train
    data = TrainingData(0, torch.from_numpy(train.x[:2432]), torch.from_numpy(train.y[:2432]), 64)
    grams = input_grams(network, data, 0)
    ranks = [null_basis(gram, 1e-3)[0].shape[1] for gram in grams.values()]
    for rank, expected in zip(ranks, (3, 333, 117, 777, 1908), strict=True):
        assert rank == pytest.approx(expected, rel=0.1)
    *full, _ = grams.values()  # the last layer has full rank only with all 4,750 images
    assert [null_basis(gram, 1e-3, "frobenius")[0].shape[1] for gram in full] == [0] * 4


@cifar
def test_real_images_are_learnt(tasks):
    def cut(split: Split, n: int) -> Split:
        return Split(split.x[:n], split.y[:n])

    short = [Task(t.index, t.classes, cut(t.train, 640), t.validation, cut(t.test, 500)) for t in tasks[:2]]
    torch.manual_seed(0)
    network = architectures.build(Catalog().benchmark("split_cifar100"))
    cls = Catalog().method("ness")
    R, records = Session(network, cls(network, cls.Config()), short, Training(lr=0.02, epochs=4), seed=0).run()
    assert R[0][0] > 0.25 and R[1][1] > 0.2
    assert records[1].report["rank"]["backbone.fc5"] > 1500


@cifar
@pytest.mark.parametrize("layout", ["correct", "scrambled"])
def test_superclasses(layout):
    """Images are read as they are stored, or with colours and pixels mixed, as GPM's code reads them."""
    benchmark = Catalog().benchmark("cifar100_superclass", {"layout": layout, "normalised": False})
    tasks = benchmark.stream(1, DATA)
    assert [(len(t.train), len(t.validation), len(t.test)) for t in tasks] == [(2375, 125, 500)] * 20
    # Three neighbours in a row, taken for colours, differ less than what then lies side by side.
    x = np.concatenate([task.test.x for task in tasks])
    colour, step = (float(np.abs(np.diff(x, axis=axis)).mean()) for axis in (1, 3))
    assert (colour > 1.5 * step, step > 1.5 * colour) == (layout == "correct", layout == "scrambled")


@needs("mnist-12k")
def test_permuted_digits_of_mnist_are_learnt(monkeypatch):
    """A tenth of MNIST, so named: standardised by the constants of all of it, and one epoch of the recipe learns it."""
    benchmark = Catalog().benchmark("permuted_mnist")
    module = sys.modules[type(benchmark).__module__]
    monkeypatch.setattr(module, "MNIST", replace(module.MNIST, name="mnist-12k", num_train=10_000, num_test=2_000))
    tasks = benchmark.stream(1, DATA)
    assert [(len(t.train), len(t.validation), len(t.test)) for t in tasks] == [(9000, 1000, 2000)] * 10
    assert abs(tasks[0].train.x.mean()) < 0.02 and abs(tasks[0].train.x.std() - 1) < 0.02
    torch.manual_seed(0)
    network = architectures.build(benchmark)
    cls = Catalog().method("gpm")
    training, config = recipes.resolve("gpm", cls, Catalog().recipe("permuted_mnist"), {"epochs": 1})
    R, _ = Session(network, cls(network, config, torch.Generator()), tasks[:2], training, seed=0).run()
    assert R[0][0] > 0.8 and R[1][0] > 0.8 and R[1][1] > 0.75
