"""The identity of a cell: what is added to it later leaves every older key as it was."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from bench.catalog.catalog import Catalog
from bench.core import ADDED_LATER, ONLY_SCENARIOS, Benchmark, Cell
from bench.execution import store

PUBLISHED = Path(__file__).parents[1] / "results/published"


def test_published_results_keep_their_keys():
    files = sorted(PUBLISHED.glob("*/*/seed*-*.json"))
    keys = [store.load_result(path).cell.key for path in files]
    assert keys == [path.stem.rpartition("-")[2] for path in files]
    assert len(keys) > 100


def test_a_key_is_that_of_a_cell_that_tells_no_scenario():
    cell = Cell("digits", "er", 3, {"lr": 0.1}, {}, options={}, versions={"suite": 2})
    identity = {"benchmark": "digits", "method": "er", "seed": 3, "training": {"lr": 0.1}, "config": {}}
    identity |= {"options": {}, "protocol": "published", "versions": {"suite": 2}}
    assert cell.key == hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    assert cell.scenario == "task-il"


def test_class_incremental_cells_have_keys_of_their_own():
    cell = Cell("digits", "er", 0, {}, {})
    other = replace(cell, scenario="class-il")
    assert other.key != cell.key and other.group != cell.group
    assert replace(cell, scenario="domain-il").key == cell.key  # of which a benchmark has one alone
    assert str(cell) == "er on digits, seed 0"
    assert str(other) == "er on digits in class-il, seed 0"


def test_a_setting_that_is_new_leaves_keys_where_it_has_the_value_of_before():
    cell = Cell("digits", "er", 0, {"lr": 0.1}, {})
    assert ADDED_LATER
    for name, before in ADDED_LATER.items():
        assert replace(cell, training={"lr": 0.1, name: before}).key == cell.key
        assert replace(cell, training={"lr": 0.1, name: "another"}).key != cell.key


def test_results_that_tell_no_scenario_are_of_the_one_that_their_benchmark_had():
    paths = list(PUBLISHED.glob("*/*/seed*-*.json"))
    older = [path for path in paths if "scenario" not in json.loads(path.read_text())["cell"]]
    cells = [store.load_result(path).cell for path in older]
    found = {(cell.benchmark, cell.scenario) for cell in cells}
    catalog = Catalog()
    assert found == {(name, catalog.benchmark(name).scenario) for name, _ in found}
    assert {scenario for _, scenario in found} == set(ONLY_SCENARIOS)


def test_a_benchmark_says_its_scenarios_or_its_only_one():
    class One(Benchmark):
        scenario = "domain-il"

    class Two(Benchmark):
        scenarios = ("class-il", "task-il")

    assert (One.scenario, One.scenarios) == ("domain-il", ("domain-il",))
    assert (Two.scenario, Two.scenarios) == ("class-il", ("class-il", "task-il"))
    assert (Benchmark.scenario, Benchmark.scenarios) == ("task-il", ("task-il",))
