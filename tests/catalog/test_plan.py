"""Requests become cells; executors are interchangeable; a cell's failure is a value."""

from pathlib import Path

import pytest
import torch
from driving import executed, watched

from bench.catalog import plan
from bench.catalog.catalog import Catalog
from bench.core import Result, UserError
from bench.execution import grid, runner
from bench.execution.events import CellFinished, CellStarted, EpochStarted
from bench.execution.executors import EXECUTORS


def cells_of(*methods: str, seeds=(0,), plugins=(), scenario="", **settings):
    request = plan.Request(methods, ["toy"], seeds, epochs=2, settings=settings, scenario=scenario)
    return Catalog.of(plugins).plan(request)[0]


def run(executor: str, cells, **resources) -> dict[str, Result]:
    ready, failed = grid.prepare(cells, runner.Resources(**resources))
    assert not failed
    return {r.cell.key: r for r in executed(executor, ready, runner.Resources(**resources))}


@pytest.mark.parametrize("tf32", [True, False])
def test_products_are_rounded_only_where_that_was_asked_for(tf32):
    """PyTorch's own default is to round in convolutions on a GPU."""
    seen = []

    def look(*_: object) -> None:
        seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))

    torch.backends.cudnn.allow_tf32 = not tf32
    try:
        result = watched(cells_of("finetune")[0], runner.Resources(tf32=tf32), look)
    finally:
        runner.set_arithmetic(runner.Resources())
    assert set(seen) == {(tf32, tf32)} and result.environment["tf32"] == tf32


@pytest.mark.ray
def test_ray_reports_progress_and_failures(plugin):
    path = plugin("dies", "def begin_task(self, task, data):\n    import os\n    os._exit(1)")
    cells = cells_of("dies", "finetune", plugins=[path])
    resources = runner.Resources(workers=1, catalog=Catalog.of((path,)), retries=0)
    events = list(EXECUTORS["ray"](cells, resources))
    results = {event.result.cell.method: event.result for event in events if isinstance(event, CellFinished)}
    assert "worker was lost" in str(results["dies"].error) and results["finetune"].error is None
    seen = {(event.cell.method, event.task) for event in events if isinstance(event, EpochStarted)}
    assert seen >= {("finetune", 0), ("finetune", 2)}
    assert [event.cell.method for event in events if isinstance(event, CellStarted)].count("finetune") == 1


def test_all_methods_start_from_the_same_network_and_stream():
    """After the first task, methods without a first-task rule of their own are one and the same."""
    results = run("serial", cells_of("finetune", "gpm", "ness", "inflora", "olora"))
    assert len({tuple(r.matrix[0]) for r in results.values()}) == 1


def test_settings_resolve_in_order():
    [plain], [changed] = cells_of("ness"), cells_of("ness", ness={"eps": 0.5, "lr": 0.3})
    recipe = Catalog().recipe("toy")
    assert plain.config["eps"] == recipe["ness"]["eps"] and plain.training["lr"] == recipe["training"]["lr"]
    assert changed.config["eps"] == 0.5 and changed.training["lr"] == 0.3
    assert changed.overrides["eps"] == [recipe["ness"]["eps"], 0.5]
    assert plain.overrides == {"epochs": [recipe["training"]["epochs"], 2]}
    assert plain.key != changed.key


def test_a_method_says_why_it_does_not_apply(plugin):
    reason = "return 'its proof needs SGD' if training.optimizer != 'sgd' else None"
    path = plugin("picky", f"@classmethod\ndef unsupported(cls, benchmark, training):\n    {reason}")
    request = plan.Request(["picky", "finetune"], ["toy"], [0], settings={"picky": {"optimizer": "adam"}})
    cells, unsupported = Catalog.of([path]).plan(request)
    assert [c.method for c in cells] == ["finetune"] and unsupported["picky", "toy"] == "its proof needs SGD"


@pytest.mark.parametrize(
    ("method", "setting"),
    [("ness", {"eps": 0.0}), ("gpm", {"energy": 1.5}), ("gpm", {"samples": 0}), ("inflora", {"rank": 0}),
     ("olora", {"rank": -1}), ("ewc", {"strength": -1.0}), ("finetune", {"lr": 0.0}), ("finetune", {"factor": 1.0})],
)  # fmt: skip
def test_settings_out_of_range_fail_before_work(method, setting):
    with pytest.raises(UserError, match=next(iter(setting))):
        cells_of(method, **{method: setting})


def test_a_failing_cell_is_a_value_with_its_traceback(plugin):
    path = plugin("broken", "def end_task(self, task, data):\n    raise RuntimeError('on purpose')")
    [cell] = cells_of("broken", plugins=[path])
    result = runner.run_cell(cell, runner.Resources(catalog=Catalog.of((path,))))
    assert result.error == "RuntimeError: on purpose" and "end_task" in str(result.traceback)
    assert result.environment["seconds"] > 0


def test_missing_data_fails_the_cells_of_that_benchmark_only(tmp_path, monkeypatch):
    def offline(*_):
        raise OSError("no network")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", offline)
    request = plan.Request(["finetune"], ["toy", "split_cifar100"], [0])
    ready, failed = grid.prepare(Catalog().plan(request)[0], runner.Resources(data=tmp_path))
    assert [c.benchmark for c in ready] == ["toy"]
    [lost] = failed
    assert all(part in str(lost.error) for part in ("cifar-100-python.tar.gz", "169 MB", str(tmp_path), "no network"))


def test_no_path_of_this_machine_is_stored():
    [result] = run("serial", cells_of("finetune"), data=Path("somewhere").resolve()).values()
    assert str(Path.cwd()) not in repr(result) and str(Path.home()) not in repr(result.environment)
