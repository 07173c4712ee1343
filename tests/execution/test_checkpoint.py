"""A killed cell goes on at its next task and ends with the bits of an undisturbed one."""

import dataclasses
import errno
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import watched

from bench import files
from bench.catalog import plan
from bench.catalog.catalog import Catalog
from bench.core import Result
from bench.execution import checkpoint, runner, store

METHODS = [name for name in Catalog().available("Method") if Catalog().method(name).stage != "all"]


class Killed(BaseException):
    """As a kill does, passes every handler of errors."""


def cell_of(method: str, benchmark: str = "toy", protocol: str = "published", scenario: str = ""):
    request = plan.Request([method], [benchmark], [0], 2, {}, [protocol], scenario=scenario)
    return Catalog().plan(request)[0][0]


def bits(result: Result) -> object:
    """Everything but the clock, as it is stored."""
    tasks = [{k: v for k, v in task.items() if k != "seconds"} for task in result.tasks]
    return json.loads(json.dumps([result.matrix, tasks]))


def killed(cell, folder: Path, task: int) -> None:
    """Run a cell until the first epoch of a task."""

    def kill(cell, t, epoch):
        if t == task:
            raise Killed

    with pytest.raises(Killed):
        watched(cell, runner.Resources(checkpoints=folder), kill)


def resumed(cell, folder: Path) -> tuple[Result, list[int]]:
    """The result, and the tasks that were trained for it."""
    tasks: list[int] = []
    return watched(cell, runner.Resources(checkpoints=folder), lambda c, t, e: tasks.append(t)), tasks


@pytest.mark.parametrize("task", [1, 2])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_a_killed_cell_goes_on_with_the_same_bits(method: str, task: int, tmp_path: Path) -> None:
    cell = cell_of(method)
    killed(cell, tmp_path, task)
    result, trained = resumed(cell, tmp_path)
    assert min(trained) == task and result.environment["resumed_after"] == task
    assert result.error is None and bits(result) == bits(runner.run_cell(cell, runner.Resources()))


@pytest.mark.parametrize("protocol", ["published", "sound"])
@pytest.mark.slow
def test_a_shared_head_goes_on_with_the_same_bits(protocol: str, tmp_path: Path) -> None:
    cell = cell_of("gpm", "permuted_digits", protocol)
    killed(cell, tmp_path, 2)
    assert bits(resumed(cell, tmp_path)[0]) == bits(runner.run_cell(cell, runner.Resources()))


@pytest.mark.parametrize("method", ["er", "ewc"])
def test_a_cell_over_all_classes_goes_on_with_the_same_bits(method: str, tmp_path: Path) -> None:
    cell = cell_of(method, scenario="class-il")
    killed(cell, tmp_path, 1)
    result, trained = resumed(cell, tmp_path)
    assert min(trained) == 1 and result.environment["resumed_after"] == 1
    assert bits(result) == bits(runner.run_cell(cell, runner.Resources()))
    assert len(result.seen) == 3 and result.confusion is not None


def test_the_time_before_counts(tmp_path: Path) -> None:
    cell = cell_of("finetune")
    killed(cell, tmp_path, 2)
    path = tmp_path / f"{cell.key}.npz"
    rewritten(path, lambda about, arrays: about.update(seconds=1000.0))
    assert resumed(cell, tmp_path)[0].environment["seconds"] > 1000


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-400] + bytes(400)])
@pytest.mark.slow
def test_a_damaged_checkpoint_costs_time_only(damage, tmp_path: Path) -> None:
    cell = cell_of("ness")
    killed(cell, tmp_path, 2)
    path = tmp_path / f"{cell.key}.npz"
    path.write_bytes(damage(path.read_bytes()))
    result, trained = resumed(cell, tmp_path)
    assert min(trained) == 0 and "damaged" in result.environment["checkpoint"]
    assert bits(result) == bits(runner.run_cell(cell, runner.Resources()))


@pytest.mark.slow
def test_a_checkpoint_of_other_code_or_another_machine_is_not_used(tmp_path: Path) -> None:
    cell = cell_of("finetune")
    killed(cell, tmp_path, 2)
    tasks: list[int] = []
    watched(cell, runner.Resources(checkpoints=tmp_path, threads=2), lambda c, t, e: tasks.append(t))
    assert min(tasks) == 0


def test_another_cell_does_not_find_it(tmp_path: Path) -> None:
    cell = cell_of("finetune")
    killed(cell, tmp_path, 2)
    assert min(resumed(dataclasses.replace(cell, seed=1), tmp_path)[1]) == 0


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, np.ndarray]], None]) -> None:
    """Change what a checkpoint says, and its arrays, and seal it again as if it had been saved so."""
    about, arrays = checkpoint.unpacked(path.read_bytes())
    said = dict(about)
    change(said, arrays)
    path.write_bytes(checkpoint.packed(said, arrays))


def first(arrays: dict[str, np.ndarray]) -> str:
    return next(name for name in arrays if name.startswith("network."))


ODD = {
    "a row too few": lambda about, arrays: about["rows"].pop(),
    "all rows": lambda about, arrays: about.update(rows=about["rows"] * 5, records=about["records"] * 5),
    "bits of nothing": lambda about, arrays: about.update(bfloat16=["method.no_such"]),
    "bits of floats": lambda about, arrays: about.update(bfloat16=[first(arrays)]),
    "no rows": lambda about, arrays: about.update(rows=[], records=[]),
    "a word for a row": lambda about, arrays: about.update(rows=["abc"] * len(about["rows"])),
    "records that are none": lambda about, arrays: about.update(records=[{"epochs": "many"}] * len(about["records"])),
    "no seconds": lambda about, arrays: about.pop("seconds"),
    "no facts": lambda about, arrays: about.update(facts=None),
    "an unknown device": lambda about, arrays: about.update(devices={"basis": "cpu"}),
    "a missing array": lambda about, arrays: arrays.pop(first(arrays)),
    "another shape": lambda about, arrays: arrays.update({first(arrays): arrays[first(arrays)][:1]}),
    "another type": lambda about, arrays: arrays.update({first(arrays): arrays[first(arrays)].astype(float)}),
    "an array of another name": lambda about, arrays: arrays.update(other=np.zeros(2)),
    "not a number": lambda about, arrays: arrays.update({first(arrays): np.full_like(arrays[first(arrays)], np.nan)}),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_an_odd_checkpoint_is_not_used(change: Any, tmp_path: Path) -> None:
    cell = cell_of("ewc")
    killed(cell, tmp_path, 2)
    rewritten(tmp_path / f"{cell.key}.npz", change)
    result, trained = resumed(cell, tmp_path)
    assert min(trained) == 0 and "was not used" in result.environment["checkpoint"]
    assert result.error is None and "resumed_after" not in result.environment


def test_arrays_of_another_seed_under_this_name_are_not_used(tmp_path: Path) -> None:
    cell = cell_of("finetune")
    other = dataclasses.replace(cell, seed=1)
    for one in (cell, other):
        killed(one, tmp_path, 2)
    (tmp_path / f"{cell.key}.npz").write_bytes((tmp_path / f"{other.key}.npz").read_bytes())
    result, trained = resumed(cell, tmp_path)
    assert min(trained) == 0 and "another machine or cell" in result.environment["checkpoint"]
    assert bits(result) == bits(runner.run_cell(cell, runner.Resources()))


def test_swapped_arrays_are_noticed(tmp_path: Path) -> None:
    """Every file of the archive is whole, and the arrays are those of a later state: no digest knows them."""
    cell = cell_of("finetune")
    killed(cell, tmp_path, 2)
    path = tmp_path / f"{cell.key}.npz"
    with np.load(path) as file:
        arrays = dict(file)
    name = first(arrays)
    np.savez(path, **{**arrays, name: arrays[name] + 1})
    result, trained = resumed(cell, tmp_path)
    assert min(trained) == 0 and "damaged" in result.environment["checkpoint"]


def with_head(head: str) -> Callable[[Path], None]:
    """Return what puts an archive in a place, whose array says of itself what need not be true."""

    def write(place: Path) -> None:
        text = head.encode() + b" " * (-(len(head) + 11) % 64) + b"\n"
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr("about.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)

    return write


ELSE: dict[str, Callable[[Path], None]] = {
    "folder": Path.mkdir,
    "dangling link": lambda place: place.symlink_to("nowhere"),
    "pipe that nobody writes to": os.mkfifo,
    "more bytes than there are": with_head("{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000000000,), }"),
    "a string that is opened": with_head("{'descr': '|u1', 'fortran_order': False, 'shape': (3,), } " + '"""'),
    "brackets that are opened": with_head("(" * 3000),
}


@pytest.mark.parametrize("put", ELSE.values(), ids=ELSE)
def test_something_else_in_the_place_of_a_checkpoint(put: Callable[[Path], None], tmp_path: Path) -> None:
    """The cell starts anew, and says so where there is something."""
    cell = cell_of("finetune")
    place = tmp_path / f"{cell.key}.npz"
    put(place)
    there = place.exists()
    result, trained = resumed(cell, tmp_path)
    assert result.error is None and min(trained) == 0
    assert ("checkpoint" in result.environment) == there


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner.run_cell(cell_of("finetune"), runner.Resources())
    assert not list(tmp_path.iterdir())


def test_a_failing_method_leaves_no_checkpoint(plugin, tmp_path: Path) -> None:
    path = plugin("breaks", "def begin_task(self, task, data):\n    assert task < 2")
    [cell] = Catalog.of([path]).plan(plan.Request(["breaks"], ["toy"], [0], 1))[0]
    result = runner.run_cell(cell, runner.Resources(catalog=Catalog.of((path,)), checkpoints=tmp_path / "c"))
    assert "AssertionError" in str(result.error) and not list((tmp_path / "c").glob("*"))


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_costs_the_checkpoint_and_not_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "write_bytes", full_disk)
    result = runner.run_cell(cell_of("finetune"), runner.Resources(checkpoints=tmp_path))
    assert result.error is None and "No space left" in result.environment["checkpoint"]


def test_a_grid_deletes_the_checkpoint_once_the_result_is_stored(command, tmp_path: Path) -> None:
    words = ("--bench", "toy", "--methods", "finetune", "--seeds", "0", "--epochs", "2", "--out", tmp_path)
    cell = cell_of("finetune")
    killed(cell, store.checkpoints(tmp_path), 2)
    answer = command(*words)
    assert answer.code == 0 and not list(store.checkpoints(tmp_path).glob("*"))
    result = store.load_result(tmp_path / cell.path)
    assert result.environment["resumed_after"] == 2
    assert bits(result) == bits(runner.run_cell(cell, runner.Resources()))
