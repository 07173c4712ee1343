"""Live loggers get the curves of a cell, change nothing of it, and may fail."""

import random
import re
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.core import Cell, Result
from bench.execution import executors, grid, store
from bench.execution.events import CellFinished, EpochStarted, Trouble
from bench.execution.loggers import LOGGERS
from bench.execution.loggers.logger import Logger, Run, accuracies
from bench.execution.runner import Resources, cell_events, run_cell


def cells_of(*seeds: int, **settings: Any) -> list[Cell]:
    return Catalog().plan(Request(["er"], ["toy"], seeds, epochs=2, settings={"er": settings})).cells


class Noted(Logger):
    """Keeps what it is told, and draws from every random state that there is."""

    needs = "numpy"
    runs: list["Noted"] = []

    def __init__(self, run: Run) -> None:
        self.run, self.points, self.ends = run, list[tuple[str, int, dict[str, float]]](), list[bool]()
        Noted.runs.append(self)

    def add(self, axis: str, step: int, values: Mapping[str, float]) -> None:
        torch.rand(7)
        torch.manual_seed(len(self.points))
        np.random.rand(7)  # noqa: NPY002  the global state is meant
        random.random()
        self.points.append((axis, step, dict(values)))

    def close(self, failed: bool) -> None:
        self.ends.append(failed)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[Noted]:
    monkeypatch.setitem(LOGGERS, "noted", Noted)
    monkeypatch.setattr(Noted, "runs", [])
    return Noted.runs


def outcome(result: Result) -> tuple[object, ...]:
    """All of a result but the clock."""
    tasks = [{name: value for name, value in task.items() if name != "seconds"} for task in result.tasks]
    return result.cell.key, result.matrix, tasks, result.error


def test_curves_of_a_cell(noted: list[Noted], tmp_path: Path) -> None:
    [cell] = cells_of(0)
    result = run_cell(cell, Resources(log=("noted",), logs=tmp_path / "logs"))
    [run] = noted
    assert run.ends == [False] and run.run.name == str(cell.path.with_suffix(""))
    assert run.run.facts["method"] == "er" and run.run.facts["training.epochs"] == 2
    epochs = [(step, values) for axis, step, values in run.points if axis == "epoch"]
    assert [step for step, _ in epochs] == list(range(6))
    for _, values in epochs:
        assert set(values) == {"loss/train", "loss/validation", "learning_rate"}
        assert values["loss/train"] > 0 and values["learning_rate"] == cell.training["lr"]
    best = [min(values["loss/validation"] for _, values in epochs[2 * t : 2 * t + 2]) for t in range(3)]
    assert best == [task["validation_loss"] for task in result.tasks]
    tasks = [(step, values) for axis, step, values in run.points if axis == "task"]
    assert [step for step, _ in tasks] == [0, 1, 2]
    for t, values in tasks:
        seen = [values[f"accuracy/task_{j}"] for j in range(t + 1)]
        assert seen == result.matrix[t][: t + 1] and values["accuracy/seen"] == pytest.approx(np.mean(seen))


def test_the_accuracy_over_all_classes_has_a_curve(noted: list[Noted]) -> None:
    request = Request(["er"], ["toy"], [0], epochs=1, scenario="class-il")
    [cell] = Catalog().plan(request).cells
    result = run_cell(cell, Resources(log=("noted",)))
    [run] = noted
    assert run.run.facts["scenario"] == "class-il"
    curve = [values["accuracy/all_classes"] for axis, _, values in run.points if axis == "task"]
    assert len(curve) == 3 and curve == result.seen


def test_loggers_change_nothing(noted: list[Noted], tmp_path: Path) -> None:
    [cell] = cells_of(3)
    plain = run_cell(cell, Resources())
    logged = run_cell(cell, Resources(log=("noted", "tensorboard"), logs=tmp_path / "logs"))
    assert len(noted[0].points) == 9
    assert outcome(plain) == outcome(logged)
    assert {**plain.environment, "seconds": 0, "process_peak_bytes": 0} == {
        **logged.environment,
        "seconds": 0,
        "process_peak_bytes": 0,
    }


def test_curves_go_on_after_a_checkpoint(noted: list[Noted], tmp_path: Path) -> None:
    [cell] = cells_of(0)
    resources = Resources(checkpoints=store.checkpoints(tmp_path), log=("noted",), logs=tmp_path / "logs")
    events = cell_events(cell, resources)
    assert next(e for e in events if isinstance(e, EpochStarted) and (e.task, e.epoch) == (1, 1))
    events.close()
    run_cell(cell, resources)
    first, second = noted
    assert first.ends == [True], "an interruption ends a run"
    assert [step for axis, step, _ in first.points if axis == "epoch"] == [0, 1, 2]
    assert [step for axis, step, _ in second.points if axis == "epoch"] == [2, 3, 4, 5]
    assert (first.run.continued, second.run.continued) == (False, True)


def test_a_cell_that_fails_ends_its_run_as_failed(noted: list[Noted], tmp_path: Path) -> None:
    [cell] = cells_of(0, lr=1e9)
    result = run_cell(cell, Resources(log=("noted",), logs=tmp_path / "logs"))
    assert result.error and noted[0].ends == [True]


class Away(Noted):
    """Its server is away."""

    where = ""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._fail("begin")

    def add(self, axis: str, step: int, values: Mapping[str, float]) -> None:
        self._fail("add")

    def close(self, failed: bool) -> None:
        self._fail("close")

    def _fail(self, step: str) -> None:
        if self.where == step:
            raise ConnectionError(f"no answer to run {len(Noted.runs)}\nat all")


@pytest.mark.parametrize("where", ["begin", "add", "close"])
def test_a_server_that_is_away_is_one_warning(
    noted: list[Noted], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    monkeypatch.setitem(LOGGERS, "away", Away)
    monkeypatch.setattr(Away, "where", where)
    cells = cells_of(0, 1)
    resources = Resources(log=("away", "noted"), logs=tmp_path / "logs")
    events = list(grid.run_grid(cells, [], resources, "serial", tmp_path))
    [warning] = [event.text for event in events if isinstance(event, Trouble)]
    assert re.fullmatch("--log away: no answer to run [12] at all; the run goes on without it", warning)
    results = [event.result for event in events if isinstance(event, CellFinished)]
    assert [result.error for result in results] == [None, None]
    others = [run for run in noted if type(run) is Noted]
    assert [len(run.points) for run in others] == [9, 9], "the other logger goes on"
    assert [outcome(result) for result in results] == [outcome(run_cell(cell, Resources())) for cell in cells]


def test_a_mean_needs_every_task() -> None:
    assert accuracies([0.5, 0.7, None], 1) == {
        "accuracy/task_0": 0.5,
        "accuracy/task_1": 0.7,
        "accuracy/seen": pytest.approx(0.6),
    }
    assert accuracies([None, 0.7], 1) == {"accuracy/task_1": 0.7}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the event files of TensorBoard in a folder: records of a length, a checksum, a message and another one."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_is_read_back(tmp_path: Path) -> None:
    [cell] = cells_of(0)
    resources = Resources(log=("tensorboard",), logs=tmp_path / "logs")
    result = run_cell(cell, resources)
    place = tmp_path / "logs" / "tensorboard" / cell.path.with_suffix("")
    run_cell(cell, resources)  # anew: no curve is doubled
    curves = scalars(place)
    assert len(curves.pop("loss/train")) == 6 and len(curves.pop("loss/validation")) == 6
    assert [value for _, value in curves.pop("learning_rate")] == pytest.approx([cell.training["lr"]] * 6)
    assert [step for step, _ in curves.pop("accuracy/seen")] == [0, 1, 2]
    assert set(curves) == {f"accuracy/task_{j}" for j in range(3)}
    for j in range(3):
        expected = [row[j] for row in result.matrix if row[j] is not None]
        assert [value for _, value in curves[f"accuracy/task_{j}"]] == pytest.approx(expected)
    assert not list(store.load_all(tmp_path)), "no curve is taken for a result"


@pytest.mark.ray
def test_each_worker_of_ray_writes_its_own_run(tmp_path: Path) -> None:
    cells = cells_of(0, 1)
    there = Resources(workers=2, log=("tensorboard",), logs=tmp_path / "logs")
    results = [e.result for e in executors.EXECUTORS["ray"](cells, there) if isinstance(e, CellFinished)]
    for cell in cells:
        curves = scalars(tmp_path / "logs" / "tensorboard" / cell.path.with_suffix(""))
        assert len(curves["loss/train"]) == 6 and len(curves["accuracy/task_0"]) == 3
    alone = {cell.key: outcome(run_cell(cell, Resources())) for cell in cells}
    assert {result.cell.key: outcome(result) for result in results} == alone


@pytest.mark.ray
def test_trouble_in_workers_of_ray_is_one_warning(tmp_path: Path) -> None:
    """As on a node without the results folder."""
    resources = Resources(workers=2, log=("tensorboard",), logs=tmp_path / "nowhere" / "logs")
    events = list(grid.run_grid(cells_of(0, 1), [], resources, "ray", tmp_path))
    [warning] = [event.text for event in events if isinstance(event, Trouble)]
    assert f"there is no {tmp_path / 'nowhere'} on this machine" in warning
    assert [event.result.error for event in events if isinstance(event, CellFinished)] == [None, None]


class TestStandIns:
    """Packages that are not installed here, by modules that record how they are called. Nothing of them is tested."""

    def test_wandb(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        rows: list[dict[str, float]] = []
        axes: dict[str, str] = {}
        begun: list[dict[str, Any]] = []
        ended: list[int] = []

        def init(**words: Any) -> SimpleNamespace:
            begun.append(words)
            return SimpleNamespace(
                define_metric=lambda name, step_metric: axes.update({name: step_metric}),
                log=rows.append,
                finish=lambda exit_code: ended.append(exit_code),
            )

        module = ModuleType("wandb")
        module.init, module.Settings = init, dict  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "wandb", module)
        [cell] = cells_of(0)
        run_cell(cell, Resources(log=("wandb",), logs=tmp_path / "logs"))
        assert [run["name"] for run in begun] == [str(cell.path.with_suffix(""))] and ended == [0]
        assert begun[0]["group"] == "toy/er" and begun[0]["config"]["seed"] == 0
        assert [row["epoch"] for row in rows if "epoch" in row] == list(range(6))
        assert [row["task"] for row in rows if "task" in row] == [0, 1, 2]
        assert axes["loss/train"] == "epoch" and axes["accuracy/task_2"] == "task"


def test_wandb_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The package itself, where it is installed."""
    pytest.importorskip("wandb").teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    [cell] = cells_of(0)
    events = list(cell_events(cell, Resources(log=("wandb",), logs=tmp_path / "logs")))
    assert not [event for event in events if isinstance(event, Trouble)]
    [written] = (tmp_path / "logs" / "wandb").rglob("*.wandb")
    content = written.read_bytes()
    assert all(name in content for name in (b"loss/validation", b"accuracy/task_2", b"training.epochs"))


def test_wandb_that_nobody_is_logged_in_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("wandb").teardown()  # it reads its variables once a process
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    events = list(cell_events(cells_of(0)[0], Resources(log=("wandb",), logs=tmp_path / "logs")))
    [warning] = [event.text for event in events if isinstance(event, Trouble)]
    assert warning.startswith("--log wandb: ") and "\n" not in warning
    assert events[-1].result.error is None


def test_mlflow_in_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from mlflow.tracking import MlflowClient

    cells = cells_of(0, 1)
    for cell in cells:
        events = list(cell_events(cell, Resources(log=("mlflow",), logs=tmp_path / "logs")))
        assert not [event for event in events if isinstance(event, Trouble)]
    client = MlflowClient((tmp_path / "logs" / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("ness-bench")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {str(cell.path.with_suffix("")) for cell in cells}
    for run in runs:
        assert run.info.status == "FINISHED" and run.data.params["training.epochs"] == "2"
        assert [m.step for m in client.get_metric_history(run.info.run_id, "loss/train")] == list(range(6))
        assert len(client.get_metric_history(run.info.run_id, "accuracy/task_0")) == 3


def test_mlflow_whose_server_is_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    events = list(cell_events(cells_of(0)[0], Resources(log=("mlflow",), logs=tmp_path / "logs")))
    [warning] = [event.text for event in events if isinstance(event, Trouble)]
    assert warning.startswith("--log mlflow: ") and "\n" not in warning
    assert events[-1].result.error is None
