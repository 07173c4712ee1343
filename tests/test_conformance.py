"""Every registered method against every check of the contract, and every benchmark against its own."""

from pathlib import Path

import pytest

from bench import checks, registry, stream_checks


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("method", registry.available("Method"))
def test_method(method, check):
    check(method)


@pytest.mark.parametrize("check", stream_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", [n for n in registry.available("Benchmark") if n != "split_cifar100"])
def test_benchmark(name, check):
    check(name, data=Path())
