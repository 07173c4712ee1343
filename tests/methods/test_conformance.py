"""Every registered method against every check of the contract, and every benchmark against its own."""

from pathlib import Path

import pytest

from bench.catalog.catalog import Catalog
from bench.tools import benchmark_checks, method_checks
from bench.training.needs import TASK_ID

BUNDLED = [
    name
    for name in Catalog().available("Benchmark")
    if Catalog().benchmark(name).data_state(Path()) == "bundled"  # of the others, see test_benchmarks.py
]


CASES = [(name, *case) for name in Catalog().available("Method") for case in method_checks.cases(name)]
LONG = ("evaluation_changes_nothing", "global_random_state_is_untouched")


def param(method, check, ground):
    """A case of `test_method`; slow on the second ground, whose network is larger, and where the check takes long."""
    slow = ground == method_checks.SHARED or check.__name__ in LONG
    name = f"{method}-{check.__name__}-{ground.benchmark}"
    return pytest.param(method, check, ground, id=name, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(("method", "check", "ground"), [param(*case) for case in CASES])
def test_method(method, check, ground):
    check(method, ground=ground)


def test_every_method_that_needs_no_task_is_checked_on_both_grounds():
    everywhere = {name for name, _, ground in CASES if ground == method_checks.SHARED}
    methods = {name: Catalog().method(name) for name in Catalog().available("Method")}
    assert everywhere == {name for name, method in methods.items() if TASK_ID not in method.needs}


@pytest.mark.parametrize("check", benchmark_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", BUNDLED)
def test_benchmark(name, check):
    check(name, data=Path())
