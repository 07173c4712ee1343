"""What is said of a grid's time before it runs: from where, how much, and what is not known."""

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import installation
from bench.catalog import plan
from bench.catalog.catalog import Catalog
from bench.core import Cell, Result
from bench.execution import machine, store
from bench.execution.forecast import budget
from bench.execution.forecast.budget import (
    CALIBRATED,
    ELSEWHERE,
    HERE,
    Forecast,
    Guess,
    describe_forecast,
    foresee,
    measured,
    shared,
)
from bench.execution.runner import Resources

Asked = list[tuple[str, str]]  # what was timed, and of which method


def cells_of(methods: str = "finetune", seeds: Sequence[int] = (0,), epochs: int | None = 4, **more: Any) -> list[Cell]:
    return Catalog().plan(plan.Request(methods.split(","), ["toy"], seeds, epochs, **more))[0]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No GPU, and no results that are published."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(installation, "published", lambda: tmp_path / "root" / "published")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What is asked of calibrations, which find 2 s an epoch, 1 s beside, and bfloat16 thrice as slow, in no time."""
    asked: Asked = []

    def calibrate(orders: Sequence[Any], resources: Resources, limit: float) -> dict[str, dict[str, Any]]:
        asked.extend((order.what, order.cell.method) for order in orders)
        answers: dict[str, dict[str, Any]] = {"pace": {"epoch": 2.0, "rest": 1.0}, "speed": {"bf16": 3.0, "gpu": None}}
        wrong = {"error": "ValueError: boom"}
        return {order.key: wrong if order.cell.method == "gpm" else answers[order.what] for order in orders}

    monkeypatch.setattr(budget, "LIMIT", 9.0)
    monkeypatch.setattr(budget, "calibrate", calibrate)
    return asked


def result_of(cell: Cell, seconds: float = 10, training: float = 8, **environment: Any) -> Result:
    """Three tasks, each of the cell's epochs, whose training took so many of the seconds."""
    facts = {"device": "cpu", "threads": 1, "tf32": False, "cpu": machine.cpu(), "seconds": seconds, **environment}
    record = {"epochs": cell.training["epochs"], "seconds": {"begin": 0.0, "train": training / 3, "end": 0.0}}
    matrix: list[list[float | None]] = [[0.5] * (t + 1) + [None] * (2 - t) for t in range(3)]
    return Result(cell, matrix, [dict(record) for _ in range(3)], environment=facts)


def test_it_is_the_mean_of_cells_of_the_kind_measured_on_this_machine(tmp_path: Path) -> None:
    cell, *others = cells_of(seeds=range(4))
    for other, seconds in zip(others, (10, 20), strict=False):
        store.save_result(result_of(other, seconds), tmp_path)
    store.save_result(result_of(others[2], 1000, cpu="another"), tmp_path)
    assert measured(cell, Resources(), tmp_path) == Guess(15, HERE, False)


def test_other_epochs_count_where_there_are_no_others_and_are_a_bound(tmp_path: Path) -> None:
    [short], [cell] = cells_of(epochs=2, seeds=[1]), cells_of(epochs=8)
    store.save_result(result_of(short, 10, training=6), tmp_path)
    assert measured(cell, Resources(), tmp_path) == Guess(pytest.approx(10 - 6 + 4 * 6), HERE, True)
    [constant] = cells_of(epochs=8, settings={"finetune": {"patience": 0}})
    assert measured(constant, Resources(), tmp_path) is None, "other settings are another kind"
    store.save_result(result_of(replace(cell, seed=1), 77), tmp_path)
    assert measured(cell, Resources(), tmp_path) == Guess(77, HERE, False)


def test_published_results_count_as_measured_elsewhere(tmp_path: Path) -> None:
    published, out = tmp_path / "root" / "published", tmp_path / "out"
    [cell] = cells_of()
    assert measured(cell, Resources(), out) is None
    facts = result_of(cell, 30)
    del facts.environment["cpu"]  # as in results from before it was stored
    store.save_result(facts, published)
    assert measured(cell, Resources(), out) == Guess(30, ELSEWHERE, False)
    store.save_result(result_of(replace(cell, seed=1), 10), out)
    assert measured(cell, Resources(), out) == Guess(10, HERE, False)


def test_another_order_of_tasks_takes_as_long(tmp_path: Path) -> None:
    [cell], [other] = cells_of(), cells_of(seeds=[1])
    for each, order in ((cell, 2), (other, 1)):
        each.overrides["toy.order"] = (0, order)
    store.save_result(result_of(other), tmp_path)
    assert measured(cell, Resources(), tmp_path) == Guess(10, HERE, False)


DIFFERENT = {
    "threads": lambda r: r.environment.update(threads=2),
    "device": lambda r: r.environment.update(device="Some GPU"),
    "arithmetic": lambda r: r.environment.update(tf32=True),
    "failure": lambda r: vars(r).update(error="E: boom", matrix=[]),
    "batch": lambda r: r.cell.training.update(batch_size=7),
    "setting": lambda r: r.cell.overrides.update(rho=[1, 2]),
    "no time": lambda r: r.environment.pop("seconds"),
    "imported": lambda r: r.tasks[0].pop("seconds"),
}


@pytest.mark.parametrize("change", DIFFERENT.values(), ids=DIFFERENT)
def test_other_work_is_not_counted(tmp_path: Path, change: Callable[[Result], None]) -> None:
    [cell], [other] = cells_of(), cells_of(seeds=[1])
    store.save_result(result_of(other), tmp_path)
    assert measured(cell, Resources(), tmp_path) is not None
    result = result_of(other)
    for path in tmp_path.glob("toy/*/*.json"):
        path.unlink()
    change(result)
    store.save_result(result, tmp_path)
    assert measured(cell, Resources(), tmp_path) is None


def test_what_is_not_measured_is_calibrated_once_for_all_seeds(tmp_path: Path, asked: Asked) -> None:
    cells = cells_of("finetune,ewc", seeds=range(3))
    store.save_result(result_of(cells[0]), tmp_path)
    forecast = foresee(cells, Resources(), tmp_path)
    assert asked == [("pace", "ewc"), ("speed", "ewc")]
    assert [(cell.method, guess) for cell, guess in forecast.guesses] == [
        *[("finetune", Guess(10, HERE, False))] * 3,
        *[("ewc", Guess(1 + 4 * 2, CALIBRATED, True))] * 3,
    ]
    assert forecast.with_speed("bf16") == pytest.approx(3 * 57) and forecast.with_speed("gpu") is None
    again = foresee(cells_of("ewc", epochs=7), Resources(), tmp_path)
    assert [guess.seconds for _, guess in again.guesses] == [15] and len(asked) == 2, "it is kept, for any epochs"


CHANGES: dict[str, Callable[[Cell], Cell]] = {
    "code": lambda cell: replace(cell, source={**cell.source, "method": "0" * 12}),
    "config": lambda cell: replace(cell, config={**cell.config, "strength": 9.0}),
    "training": lambda cell: replace(cell, training={**cell.training, "batch_size": 3}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_calibration_is_of_one_code_setting_and_machine(change: Callable[[Cell], Cell]) -> None:
    [cell], resources = cells_of("ewc"), Resources()
    key = budget.key_of("pace", cell, resources)
    assert key == budget.key_of("pace", replace(cell, seed=5, training={**cell.training, "epochs": 1}), resources)
    assert key != budget.key_of("pace", change(cell), resources)
    assert key != budget.key_of("pace", cell, replace(resources, threads=2))


def test_an_error_is_told_and_tried_again(tmp_path: Path, asked: Asked) -> None:
    cells = cells_of("finetune,gpm", seeds=range(2))
    said = budget.line(cells, Resources(), "serial", tmp_path)
    assert said.startswith("at most 18 s for 2 of them (calibrated); ")
    assert said.endswith("unknown: gpm on toy (ValueError: boom)")
    foresee(cells, Resources(), tmp_path)
    assert asked.count(("pace", "gpm")) == 2 and asked.count(("pace", "finetune")) == 1
    assert budget.line(cells_of("gpm"), Resources(), "serial", tmp_path).startswith("time unknown; unknown: gpm on toy")


def test_on_a_cluster_and_without_time_nothing_is_calibrated(
    tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = cells_of("finetune,ewc,ness,olora")
    said = budget.line(cells, Resources(address="auto", workers=0), "ray", tmp_path)
    monkeypatch.setattr(budget, "LIMIT", 0.0)
    assert said == budget.line(cells, Resources(), "serial", tmp_path)
    assert said == (
        "time unknown; unknown: finetune on toy, ewc on toy, ness on toy and 1 more "
        "(not calibrated yet: the same command continues with it)"
    )
    assert asked == [] and list(tmp_path.iterdir()) == []


def test_a_damaged_file_and_a_folder_that_cannot_be_written_stop_nothing(tmp_path: Path, asked: Asked) -> None:
    (tmp_path / ".calibration.json").write_text("{")
    assert foresee(cells_of(), Resources(), tmp_path).seconds == [9]
    assert set(json.loads((tmp_path / ".calibration.json").read_text()).popitem()[1]) == {"bf16", "gpu"}
    assert foresee(cells_of(), Resources(), tmp_path / ".calibration.json").seconds == [9]


def forecast_of(*seconds: float, source: str = HERE, **speed: float | None) -> Forecast:
    guesses = [(cell, Guess(s, source, False)) for cell, s in zip(cells_of(seeds=range(9)), seconds, strict=False)]
    return Forecast(guesses, speeds={"toy": speed})


def test_workers_share_the_time_but_not_the_longest_cell() -> None:
    assert shared([10, 10, 10, 10], 2) == 20 + budget.RAY
    assert shared([40, 1], 2) == 40 + budget.RAY


def test_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(machine, "has_bf16", lambda: False)
    forecast = forecast_of(20, 40, 60)
    assert describe_forecast(forecast, Resources(), "serial") == (
        "about 2 min (measured here); with --executor ray --workers 3 at best 70 s; "
        "no bf16 instructions in this CPU; no GPU here"
    )
    assert describe_forecast(forecast, Resources(workers=2), "ray").startswith(
        "about 70 s (measured here); one at a time 2 min; "
    )
    assert describe_forecast(forecast, Resources(workers=0, address="auto"), "ray").startswith(
        "about 2 min of one worker's time"
    )
    timed = describe_forecast(forecast_of(20, 40, bf16=0.5, gpu=0.1), Resources(), "serial")
    assert timed.endswith("; steps in bf16 would make it 30 s; on the GPU 6 s")
    forecast.guesses[0] = (forecast.guesses[0][0], Guess(20, CALIBRATED, True))
    assert describe_forecast(forecast, Resources(threads=4), "serial").startswith(
        "at most 2 min (1 calibrated, 2 measured here); no bf16"
    )


def test_a_gpu_that_is_not_used_is_named_and_one_that_is_used_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_cuda", lambda: True)
    assert describe_forecast(forecast_of(20), Resources(), "serial").endswith("there is a GPU: --device cuda")
    assert (
        describe_forecast(forecast_of(20), Resources(device="cuda"), "serial")
        == "about 20 s (measured here); bf16 was not timed"
    )


# On the command line


@pytest.mark.slow
def test_a_run_says_it_first_and_computes_the_same(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a calibration, in a process of its own, and without: the same bits."""
    words = ("--methods", "gpm", "--bench", "toy", "--seeds", "0", "--epochs", "1", "--device", "cpu")
    plain = command(*words, "--out", tmp_path / "plain")
    assert plain.out.startswith(
        "1 cell: 0 done, 1 to run (serial, 1 at a time, cpu, CPU threads each: 1): time unknown"
    )
    monkeypatch.setattr(budget, "LIMIT", 300.0)
    timed = command(*words, "--out", tmp_path / "timed")
    assert ": under 1 s (calibrated); " in timed.out.split("\n")[0] and "bf16 would make it" in timed.out
    assert timed.out.split("\n")[1:] == plain.out.split("\n")[1:]
    matrices = [store.load_result(path).matrix for path in sorted(tmp_path.glob("*/toy/gpm/*.json"))]
    assert len(matrices) == 2 and matrices[0] == matrices[1]
    done = command(*words, "--out", tmp_path / "timed", "--dry-run").out
    assert done.startswith("1 cell: 1 done, 0 to run (serial, 1 at a time, cpu, CPU threads each: 1)\n")


def test_a_dry_run_on_digits_is_told_by_what_is_published(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()  # the root is the repository's again
    monkeypatch.setattr(budget, "calibrate", pytest.fail)
    answer = command("--dry-run", "--device", "cpu", "--out", tmp_path / "out")
    assert re.search(r"\(measured (here|elsewhere)\); ", answer.out.split("\n")[0])  # by the processor's name
    assert "unknown" not in answer.out
    assert not (tmp_path / "out").exists()
