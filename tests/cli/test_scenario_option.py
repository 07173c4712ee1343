"""--scenario on the command line: by name, refused before anything runs, and part of every command that is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.execution import store
from bench.tools import tuned_recipe
from bench.tools.tuning_search import Search

Command = Callable[..., Any]


def test_a_scenario_that_is_none(command: Command, tmp_path: Path) -> None:
    answer = command("--bench", "digits", "--scenario", "class_il", "--out", tmp_path)
    assert answer.code == 2
    assert "unknown scenario 'class_il': did you mean 'class-il'?" in answer.err
    assert not list(tmp_path.iterdir())


def test_a_scenario_that_a_benchmark_has_not(command: Command, tmp_path: Path) -> None:
    answer = command("--bench", "digits,permuted_digits", "--scenario", "CLASS-IL", "--out", tmp_path)
    assert answer.code == 2
    has = "it is run in domain-il or task-il-shared"
    assert answer.err.strip().endswith(f"permuted_digits has no scenario class-il: {has}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scenario", ["class-il", "domain-il", "task-il-shared"])
def test_all_benchmarks_are_those_that_have_it(command: Command, tmp_path: Path, scenario: str) -> None:
    words = ("--bench", "all", "--methods", "finetune", "--seeds", "0", "--dry-run", "--out", tmp_path)
    answer = command(*words, "--scenario", scenario)
    assert answer.code == 0
    catalog = Catalog()
    everything = [name for name in catalog.available("Benchmark") if catalog.benchmark(name).in_all]
    have = {name for name in everything if scenario in catalog.benchmark(name).scenarios}
    without = [name for name in everything if name not in have]
    assert have and without
    told = [line for line in answer.err.splitlines() if f"it has no scenario {scenario}" in line]
    assert [line.split(": ")[1] for line in told] == without
    assert {line.strip().partition(":")[0] for line in answer.out.splitlines() if ": data " in line} <= have


def test_a_dry_run_says_the_scenario_and_a_run_stores_it(command: Command, tmp_path: Path) -> None:
    words = ("--bench", "toy", "--methods", "er,hat", "--seeds", "0", "--epochs", 1, "--scenario", "class-il")
    dry = command(*words, "--dry-run", "--out", tmp_path)
    assert dry.code == 0
    assert "1 cell: 0 done, 1 to run" in dry.out
    assert "to run  er on toy in class-il, seed 0" in dry.out
    assert command(*words, "--out", tmp_path).code == 0
    [result] = list(store.load_all(tmp_path))
    assert not isinstance(result, str)
    assert result.cell.scenario == "class-il" and len(result.seen) == 3
    again = command(*words, "--dry-run", "--out", tmp_path)
    assert "1 cell: 1 done, 0 to run" in again.out
    other = command(*words[:-2], "--dry-run", "--out", tmp_path)
    assert "2 cells: 0 done, 2 to run" in other.out, "the same without --scenario is another cell"
    [table] = (tmp_path / "tables").glob("*.md")
    assert "class-il" in table.name


def test_the_command_that_runs_a_failure_again_says_the_scenario(command: Command, tmp_path: Path) -> None:
    words = ("--bench", "toy", "--methods", "er", "--seeds", "0", "--epochs", 1, "--scenario", "class-il")
    answer = command(*words, "--set", "er.lr=1e9", "--out", tmp_path)
    assert answer.code == 1
    [line] = [line for line in answer.err.splitlines() if line.startswith("to run just these again")]
    assert "--scenario class-il" in line


def test_the_list_says_which_scenarios_there_are(command: Command) -> None:
    [line] = [line for line in command("list").out.splitlines() if line.startswith("  digits")]
    assert "[task-il, class-il; 5 tasks" in line


def test_a_recipe_of_a_search_is_for_its_scenario(command: Command, tmp_path: Path) -> None:
    request = Request(["ewc"], ["toy"], [0], scenario="class-il")
    assert tuned_recipe.stem(request) == "toy-class-il"
    recipe = tmp_path / "toy.toml"
    recipe.write_text(tuned_recipe.to_toml({}, request, Search(1, 3, 0), "tune", {}) + "[ewc]\nlr = 0.05\n")
    words = ("--bench", "toy", "--methods", "ewc", "--recipe", recipe, "--out", tmp_path, "--dry-run")
    assert command(*words, "--scenario", "class-il").code == 0
    refused = command(*words)
    assert refused.code == 2
    assert "is for --scenario class-il, not the default: its line 'scenario' says so" in refused.err
