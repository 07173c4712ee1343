"""Ray's bad days: addresses that lead nowhere, nodes that go, and what is said of each."""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

import grids
import pytest
import torch
from driving import executed

from bench.catalog import plan
from bench.catalog.catalog import Catalog
from bench.core import Cell, Result, UserError
from bench.execution import runner
from bench.execution.events import CellFinished, CellStarted
from bench.execution.executors import ray as executor
from bench.execution.executors import ray_address, ray_watch
from bench.execution.executors import ray_cluster as cluster
from bench.execution.executors.ray import Attempt
from bench.execution.executors.ray_watch import LifeWatch, NodeWatch, other_node
from bench.execution.executors.ray_worker import NodeFault, demand_here, remote_cell
from bench.execution.runner import Resources

HERE = {"ray_version": metadata.version("ray"), "python_version": platform.python_version()}


@pytest.fixture
def listening() -> Iterator[str]:
    """The address of a port where something listens and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_port_is_one_line_in_bounded_time(listening: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_address, "PATIENCE", 2.0)
    start = time.monotonic()
    with pytest.raises(UserError, match=f"no Ray cluster answers at {listening}, though something listens") as caught:
        ray_address.demand_cluster(listening)
    assert time.monotonic() - start < 10 and "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1", ":6379", "host:port"])
def test_what_is_no_address_is_refused_without_asking(address: str) -> None:
    with pytest.raises(UserError, match="--ray-address"):
        ray_address.demand_cluster(address)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({**HERE, "ray_version": "2.9.1"}, f"runs Ray 2.9.1, and here is {HERE['ray_version']}: use the same"),
        ({**HERE, "python_version": "3.9.0"}, f"runs Python 3.9.0, and here is {HERE['python_version']}: use the same"),
        ({"ray_version": "2.9.1", "python_version": "3.9.0"}, "runs Ray 2.9.1, and here is .*; Python 3.9.0, and here"),
    ],
)
def test_a_mismatch_names_both_versions(told: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ray_address.demand_versions("head:6379", told)


@pytest.mark.parametrize("told", [HERE, {}])
def test_the_same_versions_and_unknown_ones_pass(told: dict[str, str]) -> None:
    assert ray_address.demand_versions("head:6379", told) is None  # type: ignore[func-returns-value]


def answering(code: int, out: str, err: str) -> Callable[..., Any]:
    """In the place of `subprocess.run`: a process that ended so."""
    return lambda command, **_: subprocess.CompletedProcess(command, code, out, err)


@pytest.mark.parametrize(
    ("err", "said"),
    [
        ("ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: ...", "asks for a token: set RAY_AUTH_MODE"),
        ("Check failed: ... Ray couldn't find an authentication token. Create ...", "ray get-auth-token"),
        ("gcs_client.cc: Failed to get cluster ID: TimedOut: Timed out", "no Ray cluster answers"),
    ],
)
def test_what_the_cluster_says_is_put_in_words(
    listening: str, monkeypatch: pytest.MonkeyPatch, err: str, said: str
) -> None:
    monkeypatch.setattr(subprocess, "run", answering(1, "", err))
    with pytest.raises(UserError, match=said):
        ray_address.demand_cluster(listening)


def test_a_ray_that_cannot_be_asked_is_left_to_say_it_itself(listening: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its inner interfaces are no promise: where they are others, it is joined as it stands."""
    asked = answering(1, "", "ImportError: cannot import name 'GcsClient'")
    monkeypatch.setattr(subprocess, "run", asked)
    assert ray_address.demand_cluster(listening) is None  # type: ignore[func-returns-value]
    monkeypatch.setattr(subprocess, "run", answering(0, json.dumps({**HERE, "ray_version": "0.1"}), ""))
    with pytest.raises(UserError, match="runs Ray 0"):
        ray_address.demand_cluster(listening)


def test_auto_is_asked_as_any_other_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it leads to a head that is not there any more."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"no Ray cluster at [\d.]+:1 \(Connection refused\)"):
        ray_address.demand_cluster("auto")


def test_auto_where_no_cluster_runs_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    err = "ConnectionError: Could not find any running Ray instance. Please specify ..."
    monkeypatch.setattr(subprocess, "run", answering(1, "", err))
    with pytest.raises(UserError, match="no Ray cluster runs on this machine: start one with `ray start --head`"):
        ray_address.demand_cluster("auto")


def test_auto_with_another_version_or_an_unknown_ray(listening: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray whose inner interfaces are others finds its cluster itself."""

    def run(command: list[str], **_: Any) -> Any:
        out = listening if command[2] == ray_address.FIND else json.dumps({**HERE, "ray_version": "0.1"})
        return subprocess.CompletedProcess(command, 0, out, "")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(UserError, match=f"at {listening} runs Ray 0.1"):
        ray_address.demand_cluster("auto")
    monkeypatch.setattr(subprocess, "run", answering(1, "", "ImportError: cannot import name 'services'"))
    assert ray_address.demand_cluster("auto") is None  # type: ignore[func-returns-value]


class Nodes:
    """A Ray that tells of these nodes: by id, whether they are alive and what they have."""

    class exceptions:  # noqa: N801
        RayError = OSError

    def __init__(self, **alive: bool) -> None:
        self.alive, self.has, self.looks = alive, {"CPU": 2.0}, 0

    def nodes(self) -> list[dict[str, Any]]:
        self.looks += 1
        return [{"NodeID": name, "Alive": alive, "Resources": self.has} for name, alive in self.alive.items()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that `time.monotonic` tells, to be set."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_node_is_gone_within_two_minutes_of_its_cut(clock: list[float]) -> None:
    """Ray calls it dead after 68 seconds; others stay, and so does one that comes back."""
    ray = Nodes(a=True, b=True, c=True)
    watch, told = NodeWatch(ray), {}
    for second in range(150):
        clock[0] = 1000.0 + second
        ray.alive.update(a=second < 68, c=not 68 <= second < 80)
        for name in watch.gone({"a", "b", "c"}):
            told.setdefault(name, second)
    assert list(told) == ["a"] and 68 < told["a"] < 120
    assert ray.looks < 40, "not at every turn of the loop"


def test_nobody_is_asked_where_nothing_runs(clock: list[float]) -> None:
    ray = Nodes()
    assert NodeWatch(ray).gone(set()) == set() and ray.looks == 0


def test_a_node_that_is_not_listed_any_more_is_gone(clock: list[float]) -> None:
    watch = NodeWatch(Nodes(b=True))
    assert watch.gone({"a", "b"}) == set()
    clock[0] += 30
    assert watch.gone({"a", "b"}) == {"a"}


def test_a_stopped_process_is_missed_within_two_minutes(clock: list[float]) -> None:
    """While one that goes on is not, nor one that has ended, nor one that never said that it is there."""
    a, b, c, d = names = [("a", 1), ("b", 1), ("c", 2), ("d", 1)]
    watch, told = LifeWatch(), {}
    for second in range(300):
        clock[0] = 1000.0 + second
        signs = {name for name in names if second % 10 == 0} - {d} - ({a} if second > 50 else set())
        for name in watch.heard(signs, {a, b, d} | ({c} if second < 90 else set())):
            told.setdefault(name, second)
    assert list(told) == [a] and 50 < told[a] <= 50 + 120


def test_a_cell_of_which_nothing_is_heard_is_told_from_a_silent_one(clock: list[float]) -> None:
    """And is told again and again, a while apart, until it gives a sign or is not there any more."""
    heard, mute = names = [("a", 1), ("b", 1)]
    watch, told = LifeWatch(), []
    for second in range(500):
        clock[0] = 1000.0 + second
        signs = {heard} if second % 10 == 0 else set()
        assert watch.heard(signs | ({mute} if second == 350 else set()), set(names)) <= {mute}
        told += [(second, name) for name in watch.mute()]
    assert [name for _, name in told] == [mute] * 3
    assert all(100 <= second < 350 for second, _ in told), "once it has given a sign, it is silent and not mute"
    assert watch.heard({heard}, {heard}) == watch.mute() == set()


FAMILY = """
import subprocess, sys, time
code = "open('/proc/self/comm', 'w').write({!r}); import time; print(flush=True); time.sleep(60)"
if sys.argv[1:]:
    names = ('ray::one', 'ray::two', 'other')
    workers = [subprocess.Popen([sys.executable, '-c', code.format(name)], stdout=-1) for name in names]
    for worker in workers:
        worker.stdout.readline()
    print(*(worker.pid for worker in workers), flush=True)
time.sleep(60)
"""


def test_stopped_workers_are_found_and_others_are_not() -> None:
    """Not one that goes on, nor what is no worker, nor one of a Ray that another process has started."""
    raylet = subprocess.Popen([sys.executable, "-c", FAMILY, "raylet"], stdout=subprocess.PIPE, text=True)
    try:
        assert raylet.stdout is not None
        one, two, other = map(int, raylet.stdout.readline().split())
        assert ray_watch.stopped_workers(os.getpid()) == set()
        os.kill(other, signal.SIGSTOP)
        os.kill(one, signal.SIGSTOP)
        while not ray_watch.stopped_workers(os.getpid()):
            time.sleep(0.01)
        assert ray_watch.stopped_workers(os.getpid()) == {one}
        assert ray_watch.stopped_workers(os.getppid()) == set()
        os.kill(one, signal.SIGCONT)
        while ray_watch.stopped_workers(os.getpid()):
            time.sleep(0.01)
    finally:
        for process in (one, two, other, raylet.pid):
            os.kill(process, signal.SIGKILL)
        raylet.communicate()


def test_another_attempt_at_a_silent_cell_has_its_own_time(clock: list[float]) -> None:
    watch = LifeWatch()
    watch.heard({("a", 1)}, {("a", 1)})
    for _ in range(40):
        clock[0] += 5
        missed = watch.heard(set(), {("a", 1)})
    assert missed == {("a", 1)}
    assert watch.heard({("a", 2)}, {("a", 2)}) == set()
    clock[0] += 5
    assert watch.heard({("a", 1)}, {("a", 2)}) == set(), "a late sign of the first is none of the second"


def test_whoever_could_not_hear_calls_nobody_silent(clock: list[float]) -> None:
    """An hour in which this process was stopped itself, and then an hour without the queue."""
    watch, one = LifeWatch(), {("a", 1)}
    watch.heard(one, one)
    clock[0] += 3600
    assert watch.heard(set(), one) == set()
    for _ in range(720):
        clock[0] += 5
        watch.unheard()
    assert watch.heard(set(), one) == set()


def test_a_queue_that_often_answers_late_delays_little(clock: list[float]) -> None:
    """As on a busy machine: a stopped process is missed all the same."""
    watch, one = LifeWatch(), {("a", 1)}
    watch.heard(one, one)
    missed: set[Any] = set()
    seconds = 0
    while not missed:
        clock[0] += 1
        seconds += 1
        if seconds % 4:
            watch.unheard()
        else:
            missed = watch.heard(set(), one)
    assert 100 <= seconds < 150


def test_another_node_lives_is_not_the_faulty_one_and_has_room() -> None:
    resources = Resources(threads=2)
    assert other_node(Nodes(a=True, b=False, c=True).nodes(), "a", resources) == "c"
    assert other_node(Nodes(a=True, b=False).nodes(), "a", resources) is None
    assert other_node(Nodes(a=True, b=True).nodes(), "a", Resources(threads=3)) is None


class Turns:
    """In the place of the pool: it ends every cell by what is told for it, one after the other."""

    outcomes: list[Any]
    others: bool
    lost: bool

    def __init__(self, ray: Any, resources: Resources) -> None:
        self.running: dict[int, Attempt] = {}
        self.heard: list[Any] = []

    def has_room(self) -> bool:
        return not self.running

    def start(self, attempt: Attempt) -> None:
        self.running[0] = attempt

    def start_elsewhere(self, attempt: Attempt, faulty: str) -> bool:
        if self.others:
            self.running[0] = Attempt(attempt.cell, attempt.count, elsewhere=True)
        return self.others

    def lost_a_node(self) -> bool:
        return self.lost

    def collect(self) -> list[Any]:
        return [(self.running.pop(0), self.outcomes.pop(0))] if self.running else []


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Result]]:
    """`turns(outcomes, cells)`: the results of a grid on a Ray that is none."""

    def ready(resources: Resources) -> Any:
        return nullcontext((None, resources))

    def run(
        outcomes: list[Any],
        cells: list[Cell],
        others: bool = True,
        lost: bool = False,
        connect: Any = ready,
        **more: Any,
    ) -> list[Result]:
        monkeypatch.setattr(executor, "Pool", Turns)
        monkeypatch.setattr(executor, "connected", connect)
        monkeypatch.setattr(Turns, "outcomes", outcomes, raising=False)
        monkeypatch.setattr(Turns, "others", others, raising=False)
        monkeypatch.setattr(Turns, "lost", lost, raising=False)
        events = list(executor.on_ray(cells, Resources(**more)))
        return [event.result for event in events if isinstance(event, CellFinished)]

    return run


def test_a_fault_of_one_node_is_tried_once_on_another(turns: Any, make_result: Any) -> None:
    good, bad = make_result(), make_result(error="no data there")
    fault = NodeFault(bad, "a")
    assert turns([fault, good], [good.cell]) == [good]
    assert turns([fault, fault], [good.cell]) == [bad], "once, and not for ever"
    assert turns([fault], [good.cell], others=False) == [bad], "there is no other node"


def test_what_went_with_a_lost_node_is_looked_for_again(turns: Any, make_result: Any) -> None:
    """As often as a lost process is tried again, and no more."""
    good, bad = make_result(), make_result(error="no plugin there")
    fault = NodeFault(bad, "a")
    assert turns([fault, fault, good], [good.cell], lost=True) == [good]
    assert turns([fault] * 6, [good.cell], lost=True) == [bad]


def test_a_cell_whose_node_died_is_tried_again_and_in_the_end_told(turns: Any, make_result: Any) -> None:
    good = make_result()
    assert turns(["NodeDiedError", good], [good.cell], address="head:1") == [good]
    [lost] = turns(["NodeDiedError"] * 3, [good.cell], address="head:1")
    assert lost.error == "the worker was lost 3 times: its node was lost (NodeDiedError)"


def test_a_cell_whose_process_is_stopped_each_time_says_so(turns: Any, make_result: Any) -> None:
    [lost] = turns(["Silent"] * 3, [make_result().cell])
    assert "was lost 3 times: it gave no sign of life for 100 seconds, as a stopped one does" in str(lost.error)


def test_a_ray_of_our_own_that_is_lost_is_started_again(turns: Any, make_result: Any) -> None:
    """What ran then runs in the next one, and nothing that had ended runs twice."""
    first, second, third = (make_result(seed=seed) for seed in range(3))
    cells = [first.cell, second.cell, third.cell]
    assert turns([first, "LocalRayletDiedError", second, third], cells) == [first, second, third]


def test_where_ray_is_lost_for_good_every_cell_is_told(turns: Any, make_result: Any) -> None:
    """Of our own after three, of a cluster at once: those are not ours to start."""
    cells = [make_result(seed=seed).cell for seed in range(3)]
    ends = turns(["LocalRayletDiedError"] * 3, cells)
    assert [result.cell.seed for result in ends] == [0, 1, 2]
    assert str(ends[0].error).startswith("the worker was lost 3 times: Ray on its node was lost")
    assert all(str(result.error).startswith("not run, for Ray on this machine was lost") for result in ends[1:])
    joined = turns(["LocalRayletDiedError"], cells, address="head:1")
    assert sorted(result.cell.seed for result in joined) == [0, 1, 2]
    assert all("did not come up again" in str(result.error) for result in joined)


def test_a_ray_that_does_not_come_up_again_is_told(turns: Any, make_result: Any, monkeypatch: Any) -> None:
    """While one that never came up ends the command, as before."""
    cells = [make_result(seed=seed).cell for seed in range(2)]
    starts: list[int] = []

    def once(resources: Resources) -> Any:
        starts.append(1)
        if len(starts) > 1:
            raise UserError("Ray cannot start")
        return nullcontext((None, resources))

    ends = turns(["LocalRayletDiedError"], cells, connect=once)
    assert len(starts) == 2 and sorted(result.cell.seed for result in ends) == [0, 1]
    with pytest.raises(UserError, match="Ray cannot start"):
        turns([], cells, connect=once)


def toy_cell() -> Cell:
    [cell] = Catalog().plan(plan.Request(["finetune"], ["toy"], (0,), 1))[0]
    return cell


def test_a_gpu_that_is_not_there_is_one_line_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    events = list(runner.cell_events(toy_cell(), Resources(device="cuda")))
    assert [type(event) for event in events] == [CellStarted, CellFinished], "no epoch was begun"
    line = str(events[-1].result.error)
    assert line.startswith("PyTorch finds no GPU where the cell runs (CUDA_VISIBLE_DEVICES: 7)")
    with pytest.raises(UserError, match="PyTorch finds no GPU"):
        demand_here(toy_cell(), Resources(device="cuda"))


def test_what_a_node_lacks_is_a_line_before_the_cell_begins(plugin: Callable[..., Path], tmp_path: Path) -> None:
    """A plugin that is not there, or data that are not and cannot be fetched: another node may have them."""
    path = plugin("mine")
    catalog = Catalog.of([path])
    [cell] = catalog.plan(plan.Request(["mine"], ["toy"], (0,), 1)).cells
    demand_here(cell, Resources(catalog=catalog))
    path.unlink()
    with pytest.raises(UserError, match=f"no plugin at {path}"):
        demand_here(cell, Resources(catalog=Catalog.of([path])))
    [cell] = Catalog().plan(plan.Request(["finetune"], ["mini_imagenet"], (0,), 1)).cells
    with pytest.raises(UserError, match="mini"):
        demand_here(cell, Resources(data=tmp_path))


@pytest.mark.parametrize("place", ["set_arithmetic", "reset_peak", "measure_peak_bytes", "demand_device"])
def test_no_part_of_a_cell_raises_out_of_it(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Neither what comes before the training nor what comes after it."""

    def broken(*words: Any) -> None:
        raise RuntimeError("CUDA error: invalid argument")

    monkeypatch.setattr(runner, place, broken)
    result = runner.run_cell(toy_cell(), Resources())
    assert result.error == "RuntimeError: CUDA error: invalid argument" and not result.matrix
    assert "broken" in str(result.traceback)


def test_a_gpu_that_answers_no_question_fails_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*words: Any) -> str:
        raise RuntimeError("no CUDA-capable device is detected")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", broken)
    result = runner.run_cell(toy_cell(), Resources(device="cuda"))
    assert result.error == "RuntimeError: no CUDA-capable device is detected"
    assert result.environment["device"] == "cuda"


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_process_and_no_dump(tmp_path: Path, number: int) -> None:
    """Those of Ray included; what was done stays, and the exit code is what a shell calls the signal."""
    mark = f"signal-{number}"
    words = ["--bench", "toy", "--methods", "finetune", "--seeds", "0-9", "--epochs", "60", "--device", "cpu"]
    driver = grids.start([*words, "--executor", "ray", "--workers", "1", "--out", str(tmp_path)], mark)
    while driver.poll() is None and not grids.results(tmp_path):
        time.sleep(0.1)
    there = [process for process, _ in grids.marked(mark)]
    assert len(there) > 3, "Ray and its worker are among them"
    driver.send_signal(number)
    out, _ = driver.communicate(timeout=120)
    assert driver.returncode == 128 + number
    assert "the same command runs the other" in out and "***" not in out and "Traceback" not in out
    for _ in range(100):
        left = [process for process in there if Path(f"/proc/{process}").exists()]
        if not left:
            break
        time.sleep(0.1)
    assert not left and not list(grids.marked(mark))


def listeners() -> dict[str, tuple[str, str]]:
    """The TCP sockets that listen on this machine: address in hexadecimal digits and inode, by both."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {f"{words[1]} {words[9]}": (words[1].split(":")[0], words[9]) for words in lines if words[3] == "0A"}


@pytest.mark.ray
def test_a_ray_of_our_own_listens_on_loopback_alone() -> None:
    """IPv4, or IPv4 as IPv6 writes it; and what was set for it is as it was afterwards."""
    before, variables = listeners(), dict(os.environ)
    with cluster.connected(Resources()) as (ray, _):
        assert ray.get(ray.remote(lambda: 3).remote()) == 3
        new = [address for key, (address, _) in listeners().items() if key not in before]
    assert len(new) >= 3
    assert set(new) <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert cluster.LOOPBACK not in os.environ and variables.keys() - os.environ.keys() == set()


@pytest.mark.ray
def test_a_killed_raylet_ends_nothing(tmp_path: Path) -> None:
    """The whole grid, with one raylet killed in it: exit 0, each result, no traceback."""
    words = ["--bench", "toy", "--methods", "finetune", "--seeds", "0-2", "--epochs", "20", "--device", "cpu"]
    driver = grids.start([*words, "--executor", "ray", "--workers", "1", "--out", str(tmp_path)], "raylet-days")
    while driver.poll() is None and not grids.results(tmp_path):
        time.sleep(0.1)
    assert grids.kill_part("raylet-days", "raylet/raylet") == 1
    out, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, out
    assert len(grids.results(tmp_path)) == 3 and "Traceback" not in out and "failed" not in out


DROWSY = """
def end_task(self, task, data):
    import os, pathlib, signal
    flag = pathlib.Path({flag!r})
    if not flag.exists():
        flag.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_stopped_worker_is_killed_and_its_cell_runs_again(
    plugin: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops itself after its first task, once; Ray alone would wait for it for ever."""
    flag = tmp_path / "process"
    path = plugin("drowsy", DROWSY.format(flag=str(flag)))
    monkeypatch.setattr(ray_watch, "SILENCE", 25.0)
    catalog = Catalog.of([path])
    cells = catalog.plan(plan.Request(["drowsy"], ["toy"], (0, 1), 1))[0]
    start = time.monotonic()
    results = executed("ray", cells, Resources(workers=2, catalog=catalog))
    assert [result.error for result in results] == [None, None]
    assert time.monotonic() - start > 25
    assert not Path("/proc", flag.read_text()).exists(), "the stopped one is gone"


@pytest.mark.ray
@pytest.mark.slow
def test_a_worker_that_is_stopped_before_its_first_sign_is_killed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number is not known, for it has told nothing; Ray alone would wait for it for ever."""
    flag = tmp_path / "process"

    def drowsy(*words: Any) -> Any:
        if not flag.exists():
            flag.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGSTOP)
        return remote_cell(*words)

    monkeypatch.setattr(ray_watch, "SILENCE", 15.0)
    monkeypatch.setattr(executor, "remote_cell", drowsy)
    results = executed("ray", [toy_cell()], Resources(workers=1))
    assert [result.error for result in results] == [None]
    assert not Path("/proc", flag.read_text()).exists(), "the stopped one is gone"


@pytest.mark.ray
def test_a_plugin_that_one_node_lacks_runs_on_the_other(
    plugin: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node is told from the other by a variable that its processes have; the first cell meets the bad one."""
    from ray.cluster_utils import Cluster

    path = plugin("picky", "def report(self):\n    import os\n    return {'node': os.environ.get('NODE', '')}")
    path.write_text(f"import os\nfrom bench.core import UserError\nTOUCH\n{path.read_text()}")
    flag = tmp_path / "met"
    touch = (
        f"if os.environ.get('NODE') == 'bad':\n    open({str(flag)!r}, 'w').close()\n    raise UserError('not here')"
    )
    path.write_text(path.read_text().replace("TOUCH", touch))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for name in ("bad", "good"):
            monkeypatch.setenv("NODE", name)
            made.add_node(num_cpus=1)
        monkeypatch.delenv("NODE")
        made.wait_for_nodes()
        catalog = Catalog.of([path])
        cells = catalog.plan(plan.Request(["picky"], ["toy"], (0, 1), 1))[0]
        resources = Resources(address=made.address, workers=2, catalog=catalog)
        results = executed("ray", cells, resources)
    finally:
        made.shutdown()
    assert flag.exists(), "the bad node was tried"
    assert [result.error for result in results] == [None, None]
    assert {task["report"]["node"] for result in results for task in result.tasks} == {"good"}


@pytest.mark.ray
def test_a_cluster_with_a_token(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, and with another, the command says how to give it; with it, the grid runs."""
    token = "0123456789abcdef" * 2
    own = {**os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["ray", "start", "--head", "--block", "--num-cpus=1", "--include-dashboard=false", f"--port={port}"]
    words += ["--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0"]
    words[0] = str(Path(sys.executable).with_name("ray"))
    head = subprocess.Popen(words, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        request = ("--bench", "toy", "--methods", "finetune", "--seeds", "0", "--epochs", "1", "--device", "cpu")
        request += ("--out", str(tmp_path / "out"), "--executor", "ray", "--ray-address", f"127.0.0.1:{port}")
        answer = command(*request)
        assert answer.code == 2 and answer.err.count("\n") == 1
        assert f"the Ray cluster at 127.0.0.1:{port} asks for a token: set RAY_AUTH_MODE=token" in answer.err
        line = [sys.executable, "run_bench.py", *request]
        for given, code in (("f" * 32, 2), (token, 0)):
            done = subprocess.run(line, env={**own, "RAY_AUTH_TOKEN": given}, capture_output=True, text=True)
            assert done.returncode == code, done.stderr
            assert ("asks for a token" in done.stderr) == (code == 2)
    finally:
        head.terminate()
        head.wait(timeout=60)


def wait_for_port(port: int) -> None:
    """Wait until something listens there."""
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens at {port}")
