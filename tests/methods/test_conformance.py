"""Every registered method against every check of the contract, and every benchmark against its own."""

from pathlib import Path

import pytest

from bench.catalog import registry
from bench.tools import benchmark_checks, method_checks

BUNDLED = [
    name
    for name in registry.available("Benchmark")
    if registry.get_benchmark(name).data_state(Path()) == "bundled"  # of the others, see test_benchmarks.py
]


@pytest.mark.parametrize("check", method_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("method", registry.available("Method"))
def test_method(method, check):
    check(method)


@pytest.mark.parametrize("check", benchmark_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", BUNDLED)
def test_benchmark(name, check):
    check(name, data=Path())
