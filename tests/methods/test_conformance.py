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


CASES = [(name, *case) for name in registry.available("Method") for case in method_checks.cases(name)]


@pytest.mark.parametrize(
    ("method", "check", "ground"), CASES, ids=[f"{name}-{check.__name__}-{ground[0]}" for name, check, ground in CASES]
)
def test_method(method, check, ground):
    check(method, ground=ground)


def test_every_method_that_needs_no_task_is_checked_on_both_grounds():
    everywhere = {name for name, _, ground in CASES if ground == method_checks.SHARED}
    assert everywhere == set(registry.available("Method"))


@pytest.mark.parametrize("check", benchmark_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", BUNDLED)
def test_benchmark(name, check):
    check(name, data=Path())
