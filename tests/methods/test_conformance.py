"""Every registered method against every check of the contract, and every benchmark against its own."""

from pathlib import Path

import pytest

from bench.catalog.catalog import Catalog
from bench.tools import benchmark_checks, method_checks, trial
from bench.training.needs import TASK_ID

BUNDLED = [
    name
    for name in Catalog().available("Benchmark")
    if Catalog().benchmark(name).data_state(Path()) == "bundled"  # of the others, see test_benchmarks.py
]


CASES = [(name, *case) for name in Catalog().available("Method") for case in method_checks.cases(name)]
LONG = ("evaluation_changes_nothing", "global_random_state_is_untouched")
TRAINING = (  # the other checks that train, but for the one whether the toy tasks are learnt
    "same_seed_same_bits", "state_goes_round", "old_data_is_declared", "config_stays", "other_heads_stay",
    "names_survive", "images_stay", "result_goes_round", "answers_know_no_task", "statistics_stay",
)  # fmt: skip
ELSEWHERE = ("answers_know_no_task", "statistics_stay")  # what the first ground says nothing of
KINDS = ("finetune", "joint", "ewc", "er", "gpm", "olora")  # one method of each kind: none, all data, penalty, ...


def param(method, check, ground):
    """Return a case of `test_method`.

    It is slow on grounds but the first, where others stand for it, and for the long checks; and where a check trains a
    method of a kind that another one stands for.
    """
    again = check.__name__ in TRAINING and method not in KINDS
    elsewhere = ground != trial.PLAIN and check.__name__ not in ELSEWHERE
    slow = again or check.__name__ in LONG or elsewhere
    name = f"{method}-{check.__name__}-{ground.scenario or ground.benchmark}"
    return pytest.param(method, check, ground, id=name, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(("method", "check", "ground"), [param(*case) for case in CASES])
def test_method(method, check, ground):
    check(method, ground=ground)


def test_the_checks_and_methods_told_apart_exist():
    assert {*LONG, *TRAINING, *ELSEWHERE} <= {check.__name__ for _, check, _ in CASES}
    assert {*KINDS} <= {name for name, _, _ in CASES}


def test_every_method_that_needs_no_task_is_checked_on_all_grounds():
    names = Catalog().available("Method")
    without = {name for name in names if TASK_ID not in Catalog().method(name).needs}
    for other in (trial.SHARED, trial.CLASSES):
        assert {name for name, _, ground in CASES if ground == other} == without


@pytest.mark.parametrize("check", benchmark_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", BUNDLED)
def test_benchmark(name, check):
    check(name, data=Path())
