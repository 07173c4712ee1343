"""Every registered method against every check of the contract, and every benchmark against its own."""

from pathlib import Path

import numpy as np
import pytest

from bench import registry
from bench.checks import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("method", registry.available("Method"))
def test_method(method, check):
    check(method)


@pytest.mark.parametrize("name", [n for n in registry.available("Benchmark") if n != "split_cifar100"])
def test_benchmark(name):
    benchmark = registry.get_benchmark(name)
    tasks, again, other = (benchmark.stream(seed, Path()) for seed in (3, 3, 4))
    assert [t.index for t in tasks] == list(range(benchmark.num_tasks))
    for task, same in zip(tasks, again, strict=True):
        for part in ("train", "validation", "test"):
            split, twin = getattr(task, part), getattr(same, part)
            assert split.x.dtype == np.float32 and split.y.dtype == np.int64
            assert split.x.shape == (len(split), *benchmark.input_shape)
            assert set(split.y) == set(range(benchmark.num_classes))
            assert np.array_equal(split.x, twin.x) and np.array_equal(split.y, twin.y)
    assert not np.array_equal(tasks[0].train.x, other[0].train.x)
