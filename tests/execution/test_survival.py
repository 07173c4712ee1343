"""What a grid lives through: dying and hanging workers, a dying driver or Ray, full disks, nodes that come and go."""

import errno
import os
import random
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import chaos
import days
import grids
import pytest
from driving import executed

from bench import files, installation
from bench.catalog import plan
from bench.catalog.catalog import Catalog
from bench.cli import command_line
from bench.core import Cell, Result, UserError
from bench.execution import grid, runner, store
from bench.execution.events import CellFinished, CellFound, EpochStarted, Event, Trouble, Unsaved
from bench.execution.executors import ray as on_ray
from bench.execution.executors import ray_cluster as cluster
from bench.execution.executors.serial import run_serially
from bench.execution.machine import versions
from bench.execution.queue import Claims
from bench.execution.runner import Resources

Plugin = Callable[..., Path]

BODIES = {
    "dies": "def begin_task(self, task, data):\n    import os\n    os.kill(os.getpid(), 9)",
    "dies_once": """def begin_task(self, task, data):
    import os, pathlib
    flag = pathlib.Path(FLAGS, 'dies_once')
    if task == 2 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), 9)""",
    "raises": """def begin_task(self, task, data):
    import pathlib, uuid
    pathlib.Path(FLAGS, f'raises-{uuid.uuid4()}').touch()
    raise RuntimeError('on purpose')""",
    "hangs": "def begin_task(self, task, data):\n    import time\n    time.sleep(1000)",
    "prints": "def begin_task(self, task, data):\n    for _ in range(300_000):\n        print('x' * 80)",
    "forks": """def begin_task(self, task, data):
    import os
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)""",
}


@pytest.fixture
def bad_neighbours(plugin: Plugin, tmp_path: Path) -> Path:
    """A folder of methods that each do one bad thing."""
    for name, body in BODIES.items():
        path = plugin(name, body)
        path.write_text(path.read_text().replace("FLAGS", repr(str(tmp_path))))
    return tmp_path / "plugins"


def cells_of(*methods: str, plugins: tuple[Path, ...] = (), seeds: tuple[int, ...] = (0,)) -> list[Cell]:
    return Catalog.of(plugins).plan(plan.Request(methods, ["toy"], seeds, 1))[0]


class Watch:
    """What a driver tells."""

    def __init__(self) -> None:
        self.results: dict[str, Result] = {}
        self.warnings: list[str] = []
        self.events: list[tuple[str, int]] = []

    def see(self, event: Event) -> None:
        if isinstance(event, EpochStarted):
            self.events.append((event.cell.method, event.task))
        elif isinstance(event, CellFinished | CellFound):
            self.results[event.result.cell.method] = event.result
        elif isinstance(event, Trouble):
            self.warnings.append(event.text)


def driven(cells: list[Cell], out: Path, executor: str = "serial", **more: Any) -> tuple[Watch, list[Result]]:
    watch = Watch()
    resources = Resources(checkpoints=store.checkpoints(out), **more)
    unsaved = []
    for event in grid.run_grid(cells, [], resources, executor, out):
        watch.see(event)
        if isinstance(event, Unsaved):
            unsaved.append(event.result)
    return watch, unsaved


@pytest.mark.ray
def test_bad_neighbours(bad_neighbours: Path, tmp_path: Path) -> None:
    """One grid with all that end; what they do to themselves, they do not do to others."""
    plugins = (bad_neighbours,)
    names = {*BODIES, "gpm"} - {"hangs"}
    cells = cells_of(*names, plugins=plugins)
    out = tmp_path / "out"
    watch, unsaved = driven(cells, out, "ray", workers=2, catalog=Catalog.of(plugins), retries=1)
    found = watch.results
    assert set(found) == names and not unsaved
    assert "lost 2 times: its process died" in str(found["dies"].error)
    assert found["raises"].error == "RuntimeError: on purpose"
    assert len(list(tmp_path.glob("raises-*"))) == 1, "an exception is final: it would only be raised again"
    for name in ("dies_once", "prints", "forks", "gpm"):
        assert found[name].error is None, name
    assert found["dies_once"].environment["resumed_after"] == 2
    assert all((out / cell.path).exists() for cell in cells)
    [plain] = cells_of("dies_once", plugins=plugins)
    undisturbed = runner.run_cell(plain, Resources(catalog=Catalog.of(plugins)))  # its flag is up: it lives
    store.save_result(undisturbed, tmp_path / "calm")
    assert grids.bits(tmp_path / "calm" / plain.path) == grids.bits(out / plain.path)


@pytest.mark.ray
def test_ray_stops_a_cell_that_hangs(bad_neighbours: Path, tmp_path: Path) -> None:
    """Alone: others may take as long on a busy machine."""
    cells = cells_of("hangs", plugins=(bad_neighbours,))
    watch, _ = driven(cells, tmp_path, "ray", workers=1, catalog=Catalog.of([bad_neighbours]), retries=1, time_limit=15)
    assert str(watch.results["hangs"].error).startswith("stopped after 0.25 minutes")
    assert (tmp_path / cells[0].path).exists()


@pytest.mark.slow
def test_a_serial_grid_stops_a_cell_that_hangs(bad_neighbours: Path, tmp_path: Path) -> None:
    cells = cells_of("hangs", "finetune", plugins=(bad_neighbours,))
    watch, _ = driven(cells, tmp_path / "out", catalog=Catalog.of([bad_neighbours]), time_limit=9)
    assert str(watch.results["hangs"].error).startswith("stopped after 0.15 minutes")
    assert watch.results["finetune"].error is None
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


@pytest.mark.parametrize("limit", [1e-9, 60.0])
def test_a_time_limit_holds_outside_of_the_main_thread(limit: float) -> None:
    """No signal comes there: time is looked at when an epoch has ended."""
    cells, results = cells_of("finetune"), []

    def work() -> None:
        for event in run_serially(cells, Resources(time_limit=limit)):
            if isinstance(event, CellFinished):
                results.append(event.result)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    [result] = results
    assert (result.error or "").startswith("stopped after") == (limit < 1)
    assert bool(result.matrix) == (limit > 1)


def test_a_method_that_prints_does_not_get_into_the_table(command: Any, plugin: Plugin, tmp_path: Path) -> None:
    path = plugin("chatty", "def begin_task(self, task, data):\n    print('look at me')")
    words = ("--plugin", path, "--methods", "chatty", "--bench", "toy", "--seeds", "0", "--epochs", "1")
    answer = command(*words, "--out", tmp_path / "out")
    assert answer.code == 0 and "look at me" not in answer.out and "look at me" in answer.err


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two results cannot be written when they come, nor when their checkpoints have made room; they are, once
    there is more."""
    tries = []
    write = files.write_text

    def full_at_first(path: Path, text: str) -> None:
        tries.append(path)
        if "toy" in str(path) and sum("toy" in str(p) for p in tries) <= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, text)

    monkeypatch.setattr(files, "write_text", full_at_first)
    cells = cells_of("finetune", "gpm", "ewc")
    watch, unsaved = driven(cells, tmp_path)
    assert not unsaved and all((tmp_path / cell.path).exists() for cell in cells)
    assert len(watch.warnings) == 3 and all("No space left" in line for line in watch.warnings)


@pytest.mark.slow
def test_a_disk_that_stays_full_is_told_and_exits_1(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_bytes

    def full(path: Path, content: bytes) -> None:
        if path.name.startswith("seed"):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(files, "write_bytes", full)
    words = ("--methods", "finetune", "--bench", "toy", "--seeds", "0", "--epochs", "1", "--out", tmp_path)
    answer = command(*words)
    assert answer.code == 1 and "not saved: finetune on toy, seed 0" in answer.err
    assert "| finetune" in answer.out, "the number is shown all the same"
    monkeypatch.undo()
    assert command(*words).code == 0


def words_for(plugin: Path, methods: str, out: Path) -> tuple[object, ...]:
    return "--plugin", plugin, "--methods", methods, "--bench", "toy", "--seeds", "0", "--epochs", "1", "--out", out


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_checkpoint_does_not_keep_its_own_result_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Beside it there is no room for the result, nor below the user's quota."""
    [cell] = cells_of("gpm")
    checkpoint = store.checkpoint(store.checkpoints(tmp_path), cell)
    write, there = files.write_bytes, []

    def full(path: Path, content: bytes) -> None:
        if path.name.startswith("seed"):
            there.append(checkpoint.exists())
            if there[-1]:
                raise OSError(number, os.strerror(number))
        write(path, content)

    monkeypatch.setattr(files, "write_bytes", full)
    watch, unsaved = driven([cell], tmp_path)
    assert there == [True, False] and not unsaved and not watch.warnings
    assert store.load_result(tmp_path / cell.path).matrix == watch.results["gpm"].matrix


@pytest.mark.parametrize("workers", [2, 3])
def test_a_small_disk_holds_the_results_of_cells_that_end_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, make_result: Callable[..., Result]
) -> None:
    """Checkpoints of the cells that are running fill what results leave, to the last byte."""
    write, limit, tries = files.write_bytes, 400_000, []

    def held(pattern: str) -> int:
        return sum(there.stat().st_size for there in tmp_path.rglob(pattern))

    def on_a_small_disk(path: Path, content: bytes) -> None:
        old = path.stat().st_size if path.exists() else 0
        tries.append(held("*.json") + held("*.npz") - old + len(content) <= limit)
        if not tries[-1]:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(files, "write_bytes", on_a_small_disk)
    results = [make_result("gpm", seed) for seed in range(2 * workers)]
    with Claims(tmp_path) as claims:
        keeper = grid.Keeper(tmp_path, claims)
        for n, result in enumerate(results):
            running = results[n : n + workers]
            for one in running:
                size = (limit - held("*.json")) // len(running)
                with suppress(OSError):
                    files.write_bytes(store.checkpoint(store.checkpoints(tmp_path), one.cell), bytes(size))
            assert keeper.keep(result) == []
    assert tries.count(False) >= len(results), "no result had room beside its checkpoint"
    assert not keeper.unsaved and len(list(store.load_all(tmp_path))) == len(results)
    assert not list(store.checkpoints(tmp_path).glob("*"))


def test_the_checkpoint_of_a_failed_cell_is_not_given_for_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that ran out of time goes on from there, and the result only says so."""
    folder = store.checkpoints(tmp_path)
    result = Result(cells_of("gpm")[0], error="stopped after 1 minutes")
    files.write_bytes(store.checkpoint(folder, result.cell), b"reached")

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_bytes", full)
    with Claims(tmp_path) as claims:
        assert len(grid.Keeper(tmp_path, claims).keep(result)) == 1
    assert store.checkpoint(folder, result.cell).exists()


def test_a_checkpoint_stays_where_the_disk_is_not_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to write, it would be lost for nothing."""

    def refused(result: Result, where: Path) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(store, "save_result", refused)
    [cell] = cells_of("gpm")
    watch, unsaved = driven([cell], tmp_path)
    assert [result.cell for result in unsaved] == [cell]
    assert len(watch.warnings) == 1 and "Permission denied" in watch.warnings[0]
    assert store.checkpoint(store.checkpoints(tmp_path), cell).exists()


REMOVES = """def begin_task(self, task, data):
    import pathlib, shutil
    out = pathlib.Path(OUT)
    if task == 1:
        shutil.rmtree(out)
        INSTEAD"""


@pytest.fixture
def removing(plugin: Plugin, tmp_path: Path) -> Callable[[str], Path]:
    """`removing(code)` is a method that removes the results folder on its way, and runs the code."""

    def write(code: str) -> Path:
        return plugin("zz", REMOVES.replace("OUT", repr(str(tmp_path / "out"))).replace("INSTEAD", code))

    return write


def test_a_removed_folder_is_made_again_with_all_results(
    command: Any, removing: Callable[[str], Path], tmp_path: Path
) -> None:
    """Those of this run, and those of an earlier one that the table shows."""
    out, path = tmp_path / "out", removing("pass")
    assert command(*words_for(path, "ewc", out)).code == 0
    answer = command(*words_for(path, "finetune,ewc,zz", out))
    assert answer.code == 0 and all(f"| {name} " in answer.out for name in ("finetune", "ewc", "zz"))
    assert f"2 results gone from {out} at the end; 2 written again" in answer.err
    found = [result for result in store.load_all(out) if isinstance(result, Result)]
    assert sorted(result.cell.method for result in found) == ["ewc", "finetune", "zz"]


@pytest.mark.parametrize("error", ["", "ValueError"])
def test_a_folder_that_is_gone_for_good_is_told(
    command: Any, removing: Callable[[str], Path], tmp_path: Path, error: str
) -> None:
    """A file stands in its place. What was not saved is shown and named; the failing cell as well."""
    out, path = tmp_path / "out", removing("out.touch()")
    if error:
        path.write_text(path.read_text() + f"            raise {error}('on purpose')\n")
    answer = command(*words_for(path, "finetune,ewc,zz", out))
    assert answer.code == 1 and "| finetune" in answer.out and "Traceback" not in answer.err
    for name in ("finetune", "ewc", "zz"):
        assert f"not saved: {name} on toy, seed 0" in answer.err
    assert ("on purpose" in answer.err) == bool(error)


def test_a_folder_that_becomes_read_only_is_told(
    command: Any, plugin: Plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated, for root may write everywhere: nothing in it can be made, renamed or removed."""
    out, flag = tmp_path / "out", tmp_path / "flag"
    body = f"def begin_task(self, task, data):\n    import pathlib\n    pathlib.Path({str(flag)!r}).touch()"
    for name in ("open", "unlink", "mkdir", "replace"):
        usual = getattr(Path, name)

        def guarded(self: Path, *words: Any, usual: Any = usual, name: str = name, **more: Any) -> Any:
            writes = name != "open" or (words or ("r",))[0] not in ("r", "rb")
            if flag.exists() and self.is_relative_to(out) and writes:
                raise OSError(errno.EROFS, "Read-only file system")
            return usual(self, *words, **more)

        monkeypatch.setattr(Path, name, guarded)
    answer = command(*words_for(plugin("zz", body), "finetune,zz,ewc", out))
    assert answer.code == 1 and all(f"| {name} " in answer.out for name in ("finetune", "ewc", "zz"))
    assert "Read-only file system" in answer.err and "Traceback" not in answer.err
    on_disk = {result.cell.method for result in store.load_all(out) if isinstance(result, Result)}
    for name in ("finetune", "ewc", "zz"):
        assert (f"not saved: {name} on toy, seed 0" in answer.err) == (name not in on_disk)
    assert "zz" not in on_disk


def test_a_truncated_result_is_run_again(command: Any, tmp_path: Path) -> None:
    words = ("--methods", "finetune", "--bench", "toy", "--seeds", "0", "--epochs", "1", "--out", tmp_path)
    first = command(*words)
    [path] = tmp_path.glob("toy/*/seed*.json")
    before = grids.bits(path)
    path.write_text(path.read_text()[:100])
    again = command(*words)
    assert again.code == 0 and "is damaged" in again.err and grids.bits(path) == before
    assert again.out.split("\n", 1)[1].split("state")[0] == first.out.split("\n", 1)[1].split("state")[0]


def test_a_clock_that_jumps_stops_no_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, -(10**9), -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    watch, _ = driven(cells_of("finetune"), tmp_path, time_limit=100)
    assert watch.results["finetune"].error is None
    assert watch.results["finetune"].environment["seconds"] > 0


@pytest.mark.slow
def test_two_grids_share_a_folder_and_train_no_cell_twice(tmp_path: Path) -> None:
    """Two processes with the same command: each cell is trained by one of them, and both show all of them."""
    words = ["--methods", "finetune,gpm,olora", "--bench", "toy", "--seeds", "0,1", "--epochs", "4", "--device", "cpu"]
    both = [grids.start([*words, "--out", str(tmp_path)], f"grid{n}") for n in range(2)]
    outs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    trained = [line.split("] ")[1] for out in outs for line in out.splitlines() if line.startswith("[")]
    assert len({line.split(":")[0] for line in trained}) == 6
    tables = [[line for line in out.splitlines() if line.startswith("|")] for out in outs]
    assert tables[0] == tables[1] and len(tables[0]) == 5


@pytest.mark.slow
def test_status_tells_what_runs_and_forgets_what_died(command: Any, bad_neighbours: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--plugin", str(bad_neighbours), "--methods", "hangs,finetune", "--bench", "toy", "--seeds", "0"]
    driver = grids.start([*words, "--out", str(out), "--device", "cpu"], "hung")
    try:
        for _ in range(600):
            if "1 grid is running" in (answer := command("status", "--out", out)).out:
                break
            time.sleep(0.1)
        assert "grid of 2 cells" in answer.out and f"process {driver.pid}" in answer.out
    finally:
        driver.kill()
        driver.communicate()
    answer = command("status", "--out", out)
    assert "no grid is running" in answer.out and not list((out / ".grids").glob("*.json"))


def test_failures_end_with_the_command_that_runs_just_them_again(command: Any, plugin: Plugin, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    body = f"def end_task(self, task, data):\n    import pathlib\n    assert pathlib.Path({str(flag)!r}).exists()"
    path, out = plugin("flaky", body), tmp_path / "out"
    words = ("--methods", "finetune,flaky", "--bench", "toy", "--seeds", "0,1", "--epochs", "1", "--plugin", path)
    answer = command(*words, "--out", out, "--set", "finetune.lr=0.01")
    assert answer.code == 1
    line = answer.err.strip().splitlines()[-1]
    assert line.startswith("to run just these again: python run_bench.py --methods flaky --bench toy --seeds 0,1")
    flag.touch()
    again = command(*line.split("run_bench.py ")[1].split())
    assert again.code == 0 and again.out.startswith("2 cells: 0 done, 2 to run")


def test_addresses_that_lead_nowhere(command: Any, tmp_path: Path) -> None:
    words = ("--bench", "toy", "--methods", "finetune", "--seeds", "0", "--out", tmp_path, "--executor", "ray")
    for address, said in (("127.0.0.1:1", "no Ray cluster at 127.0.0.1:1"), ("nonsense", "auto or HOST:PORT")):
        answer = command(*words, "--ray-address", address)
        assert answer.code == 2 and said in answer.err and answer.err.count("\n") == 1
    answer = command(*words[:-2], "--ray-address", "auto")
    assert answer.code == 2 and "goes with --executor ray" in answer.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gpus-per-cell", "-1"), "at least 0"),
        (("--gpus-per-cell", "0.5"), "does not go with device cpu"),
        (("--time-limit", "0"), "--time-limit must be greater than 0"),
        (("--memory-per-cell", "-2"), "--memory-per-cell must be greater than 0"),
        (("--workers", "2", "--executor", "serial"), "one cell at a time"),
    ],
)
def test_wrong_resources(command: Any, words: tuple[str, ...], said: str) -> None:
    answer = command("--bench", "toy", "--device", "cpu", "--dry-run", *words)
    assert answer.code == 2 and said in answer.err and answer.err.count("\n") == 1


def test_an_unwritable_temporary_folder_is_named(tmp_path: Path) -> None:
    class Broken:
        class exceptions:  # noqa: N801
            pass

        @staticmethod
        def init(**_: Any) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

        @staticmethod
        def shutdown() -> None:
            pass

    with pytest.raises(UserError, match=f"Permission denied: '{tmp_path}'; set RAY_TMPDIR"):
        cluster._start(Broken, {"address": "local"})


@pytest.mark.ray
def test_memory_that_no_machine_has(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="asks for 1e\\+18 bytes of memory"):
        list(executed("ray", cells_of("finetune"), Resources(workers=1, memory_per_cell=1e18)))


class Nodes:
    """A Ray that tells of these nodes."""

    def __init__(self, *resources: dict[str, float]) -> None:
        self.resources = resources

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": own} for own in self.resources]


def test_room_is_counted_node_by_node() -> None:
    """Four CPUs here and a GPU there hold no cell that wants both: Ray would wait for ever."""
    asked = Resources(threads=4, gpus_per_cell=1.0)
    assert cluster._room(Nodes({"CPU": 32.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 4.0}), asked) == 3
    with pytest.raises(UserError, match="no node of Ray has 4 CPU, 1 GPU together"):
        cluster._room(Nodes({"CPU": 32.0}, {"CPU": 2.0, "GPU": 1.0}), asked)
    with pytest.raises(UserError, match="a cell asks for 1 GPU, and the largest node of Ray has 0"):
        cluster._room(Nodes({"CPU": 32.0}), asked)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def begin_task(self, task, data):\n    import sys\n    sys.exit('enough')", "SystemExit: enough"),
        (
            "def report(self):\n    import torch\n    return {'x': torch.zeros(1)}",
            "the method's report says x = a torch.Tensor",
        ),
    ],
)
def test_what_a_method_may_do_fails_it_alone(
    command: Any, plugin: Plugin, tmp_path: Path, body: str, said: str
) -> None:
    words = ("--plugin", plugin("odd", body), "--methods", "odd,finetune", "--bench", "toy", "--seeds", "0")
    answer = command(*words, "--epochs", "1", "--out", tmp_path / "out", "--no-checkpoint")
    assert answer.code == 1 and "failed: odd on toy, seed 0: " in answer.err and said in answer.err
    assert len(list((tmp_path / "out").glob("toy/*/*.json"))) == 2


def test_a_table_that_cannot_be_saved_is_shown(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = files.write_bytes

    def full(path: Path, content: bytes) -> None:
        if path.parent.name == "tables":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(files, "write_bytes", full)
    words = ("--methods", "finetune", "--bench", "toy", "--seeds", "0", "--epochs", "1", "--out", tmp_path)
    answer = command(*words)
    assert answer.code == 0 and "| finetune" in answer.out and "the table was not saved" in answer.err


def test_an_interrupted_grid_counts_what_is_on_disk(
    command: Any, plugin: Plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that was held because the disk was full is written once there is room, Ctrl-C or not."""
    path = plugin("stops", "def begin_task(self, task, data):\n    raise KeyboardInterrupt")
    write, tries = files.write_bytes, []

    def full_at_first(where: Path, content: bytes) -> None:
        tries.append(where)
        if where.name.startswith("seed") and sum(p.name.startswith("seed") for p in tries) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(where, content)

    monkeypatch.setattr(files, "write_bytes", full_at_first)
    words = ("--plugin", path, "--methods", "finetune,stops", "--bench", "toy", "--seeds", "0", "--epochs", "1")
    answer = command(*words, "--out", tmp_path / "out")
    assert answer.code == 130 and "interrupted: 1 cell kept; the same command runs the other 1" in answer.err
    assert len(list((tmp_path / "out").glob("toy/finetune/*.json"))) == 1


def test_two_values_by_set(command: Any) -> None:
    words = ("--bench", "toy", "--methods", "ness", "--dry-run", "--set", "ness.eps=0.1", "--set")
    answer = command(*words, "ness.eps=0.2")
    assert answer.code == 2 and "--set ness.eps is given two values" in answer.err
    assert command(*words, "ness.eps=0.1").code == 0


def test_a_printed_command_can_be_pasted() -> None:
    request = plan.Request(["gpm"], ["toy"], [0], settings={"gpm": {"layer_samples": (10, 10)}})
    line = command_line.command_line(request)
    assert shlex.split(line)[-1] == "gpm.layer_samples=(10, 10)"


def join(cluster: Any, name: str) -> None:
    """Add a node with two invented GPUs. The code that comes with the cells lies in a folder of its own, as on machines
    apart: in one folder, a node that joins unpacks it anew under the feet of the other's cells."""
    cluster.add_node(num_cpus=8, num_gpus=2, runtime_env_dir_name=f"runtime_resources_{name}")


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine; the first holds no cell."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    join(made, "first")
    made.wait_for_nodes()
    try:
        yield made
    finally:
        made.shutdown()


SHARES = """def begin_task(self, task, data):
    import os, pathlib, time
    pathlib.Path(FOLDER, f"{os.getpid()}.pid").touch()
    try:
        pathlib.Path(FOLDER, "first").touch(exist_ok=False)
        self.first = True
    except FileExistsError:
        while not (hasattr(self, "first") or pathlib.Path(FOLDER, "go").exists()):
            time.sleep(0.05)
def report(self):
    import os, bench, ray
    gpu, node = os.environ.get("CUDA_VISIBLE_DEVICES"), ray.get_runtime_context().get_node_id()
    return {"gpu": gpu, "code": bench.__file__, "node": node}"""


def reports(results: list[Result], name: str) -> set[str]:
    """What the cells tell of where they ran."""
    return {task["report"][name] for result in results for task in result.tasks}


@pytest.mark.ray
def test_a_cluster_shares_gpus_gets_the_code_and_outlives_a_node(nodes: Any, plugin: Plugin, tmp_path: Path) -> None:
    """Cells on quarters of two invented GPUs; then all but the first wait on a node that is lost, and run elsewhere."""
    path = plugin("shares", SHARES.replace("FOLDER", repr(str(tmp_path))))
    (tmp_path / "go").touch()
    resources = {"address": nodes.address, "gpus_per_cell": 0.25, "catalog": Catalog.of([path]), "workers": 0}
    cells = cells_of("shares", plugins=(path,), seeds=tuple(range(5)))
    results = list(executed("ray", cells, Resources(**resources)))
    assert [r.error for r in results] == [None] * 5
    assert reports(results, "gpu") == {"0", "1"}, "five cells at once, with one GPU visible to each"
    assert not any(str(installation.ROOT) in code for code in reports(results, "code")), "the code came with the cells"
    assert results[0].environment.get("commit") == versions.commit().get("commit")

    with pytest.raises(UserError, match="a cell asks for 3 GPU, and the largest node of Ray has 2"):
        list(executed("ray", cells, Resources(**{**resources, "gpus_per_cell": 3})))

    [lost] = nodes.worker_nodes
    for path_of_before in [*tmp_path.glob("*.pid"), tmp_path / "go", tmp_path / "first"]:
        path_of_before.unlink()
    later = []
    again = cells_of("shares", plugins=(path,), seeds=tuple(range(10, 13)))
    for event in on_ray.on_ray(again, Resources(**resources)):
        if not isinstance(event, CellFinished):
            continue
        if not later:  # the others are waiting on the node that goes
            join(nodes, "second")
            nodes.remove_node(lost, allow_graceful=False)
            for process in tmp_path.glob("*.pid"):  # a node that is lost takes its processes along
                with suppress(ProcessLookupError):
                    os.kill(int(process.stem), signal.SIGKILL)
            (tmp_path / "go").touch()
        later.append(event.result)
    assert [r.error for r in later] == [None] * 3
    assert sorted(r.cell.seed for r in later) == list(range(10, 13))
    assert len(reports(later, "node")) == 2, "some ran on the node that joined"


@pytest.mark.ray
def test_a_killed_head_of_ray_loses_no_finished_cell(tmp_path: Path) -> None:
    """Between cells and during them; whether the driver lives on or dies, the same command completes the grid."""
    words = ["--bench", "toy", "--methods", "finetune,gpm", "--seeds", "0-2", "--epochs", "8", "--device", "cpu"]
    command = [*words, "--executor", "ray", "--workers", "2", "--out", str(tmp_path / "ray")]
    monkey = chaos.Monkey(command, tmp_path / "ray", 0, random.Random(0), 1.0)
    for part in ("gcs_server", "raylet/raylet"):
        driver = grids.start(command, part)
        while driver.poll() is None and not grids.results(tmp_path / "ray"):
            time.sleep(0.1)
        for process, line in grids.marked(part):
            if part in line:
                os.kill(process, signal.SIGKILL)
        driver.communicate(timeout=240)
        monkey.look()
    monkey.run()
    calm = grids.start([*words, "--out", str(tmp_path / "serial")], "serial")
    calm.communicate()
    assert grids.compare(tmp_path / "serial", tmp_path / "ray") == 6


@pytest.mark.ray
def test_kills_at_random_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short form of `python tests/chaos.py`."""
    words = "--methods finetune,ness --seeds 0,1 --epochs 40 --kills 2"
    monkeypatch.setattr(sys, "argv", ["chaos.py", *words.split()])
    assert chaos.main() == 0


def test_a_day_that_this_machine_does_not_permit_is_skipped_and_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(days.shutil, "which", lambda name: None)
    monkeypatch.setattr(days, "start", lambda *words: None)
    monkeypatch.setattr(days, "finish", lambda driver: "")
    days.live_through(["partition"], tmp_path)
    assert capsys.readouterr().out == "partition: skipped, no network namespace may be made here\n"


@pytest.mark.ray
def test_out_of_memory_is_tried_again_and_then_told(
    plugin: Plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own monitor, told to find any use of memory too much."""
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.0001")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    path = plugin("leaks", "def begin_task(self, task, data):\n    import time\n    time.sleep(20)")
    cells = cells_of("leaks", plugins=(path,))
    [result] = executed("ray", cells, Resources(catalog=Catalog.of((path,)), retries=1))
    assert "lost 2 times: the machine ran out of memory" in str(result.error)


def test_gpu_memory_that_runs_out_says_what_to_change(plugin: Plugin) -> None:
    body = (
        "def begin_task(self, task, data):\n    import torch\n    raise torch.OutOfMemoryError('CUDA out of memory.')"
    )
    path = plugin("hungry", body)
    [cell] = cells_of("hungry", plugins=(path,))
    line = str(runner.run_cell(cell, Resources(catalog=Catalog.of((path,)), workers=4)).error)
    assert "CUDA out of memory" in line and "fewer --workers, a larger --gpus-per-cell" in line
