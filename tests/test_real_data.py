"""CIFAR-100 as it is; skipped where the prepared array is absent (see the README for where it goes)."""

import os
from pathlib import Path

import pytest
import torch

from bench import backbones, registry
from bench.activations import input_grams
from bench.core import Split, Task, Training
from bench.method import TrainingData
from bench.subspace import null_basis
from bench.trainer import run_stream

DATA = Path(os.environ.get("NESS_BENCH_DATA", "data"))
pytestmark = pytest.mark.skipif(not (DATA / "cifar100.npz").exists(), reason="no cifar100.npz in $NESS_BENCH_DATA")


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return registry.get_benchmark("split_cifar100").stream(1, DATA)


def test_sizes_and_classes(tasks):  # B1
    assert [(len(t.train), len(t.validation), len(t.test)) for t in tasks] == [(4750, 250, 1000)] * 10
    assert [t.classes for t in tasks] == [tuple(str(c) for c in range(10 * t, 10 * t + 10)) for t in range(10)]
    assert all(set(split.y) == set(range(10)) for t in tasks for split in (t.train, t.validation, t.test))


def test_normalisation_is_that_of_the_lineage(tasks):
    """By constants of CIFAR-10: close to standard, and not exactly."""
    x = torch.from_numpy(tasks[0].train.x)
    assert float(x.mean().abs()) < 0.2 and 0.9 < float(x.std()) < 1.2
    assert float(x.amin()) == pytest.approx(-125.3 / 63.0, abs=1e-4)


def test_null_ranks_of_the_untrained_network(tasks):  # K-11, tolerance 10 %
    torch.manual_seed(1)
    network = backbones.build(registry.get_benchmark("split_cifar100"))
    train = tasks[0].train
    data = TrainingData(0, torch.from_numpy(train.x[:2432]), torch.from_numpy(train.y[:2432]), 64)
    grams = input_grams(network, data, 0)
    ranks = [null_basis(gram, 1e-3)[0].shape[1] for gram in grams.values()]
    for rank, expected in zip(ranks, (3, 333, 117, 777, 1908), strict=True):
        assert rank == pytest.approx(expected, rel=0.1)
    *full, _ = grams.values()  # the last layer has full rank only with all 4,750 images
    assert [null_basis(gram, 1e-3, "frobenius")[0].shape[1] for gram in full] == [0] * 4


def test_real_images_are_learnt(tasks):
    def cut(split: Split, n: int) -> Split:
        return Split(split.x[:n], split.y[:n])

    short = [Task(t.index, t.classes, cut(t.train, 640), t.validation, cut(t.test, 500)) for t in tasks[:2]]
    torch.manual_seed(0)
    network = backbones.build(registry.get_benchmark("split_cifar100"))
    cls = registry.get_method("ness")
    R, records = run_stream(network, cls(network, cls.Config()), short, Training(lr=0.02, epochs=4), seed=0)
    assert R[0][0] > 0.25 and R[1][1] > 0.2
    assert records[1]["report"]["rank"]["backbone.fc5"] > 1500
