"""Bad days of a grid, each of which must end in the bits of an undisturbed one. What this machine does not permit is
skipped, and said."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from grids import compare, finish, kill_part, results, start, wait_for, workers

TOY = ["--bench", "toy", "--epochs", "20", "--device", "cpu"]
SMALL = [*TOY, "--methods", "finetune,gpm", "--seeds", "0-2"]
ON_RAY = ["--executor", "ray", "--workers", "1"]
OPEN = {"RAY_AUTH_MODE": "disabled"}  # of a cluster: a token may lie in the home folder


class NotPermittedError(Exception):
    """This machine does not let us have such a day."""


def disk(out: Path) -> None:
    """No room for a result: exit 1, and what is not saved is said; with room, the same command completes the grid."""
    words, more = [*SMALL, "--out", str(out)], {}
    out.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(out)], capture_output=True)
    filler = out / "filler"
    if mounted.returncode == 0:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
    else:
        print("  no tmpfs may be mounted here: files are limited to 500 bytes in its place", flush=True)
        more["preexec_fn"] = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (500, 500))
    try:
        said = finish(start(words, "disk", **more), 1)
        assert "not saved" in said, said
        if mounted.returncode == 0:
            filler.unlink()
            subprocess.run(["mount", "-o", "remount,size=16m", str(out)], check=True)
        finish(start(words, "disk"))
        shutil.copytree(out, out.with_suffix(".copy"))
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", str(out)], check=True)
    shutil.copytree(out.with_suffix(".copy"), out, dirs_exist_ok=True)


def folder(out: Path) -> None:
    """The results folder is removed on the way: it is there again at the end, and complete."""
    driver = start([*SMALL, "--out", str(out)], "folder")
    wait_for(driver, lambda: len(results(out)) == 2)
    gone = out.rename(out.with_suffix(".gone"))  # at once, for a checkpoint may be written in the meantime
    finish(driver)
    shutil.rmtree(gone)


def swapped_result(out: Path) -> None:
    """The results of two seeds change places: both are found out, and run again."""
    finish(start([*SMALL, "--out", str(out)], "result"))
    one, two = sorted(path for path in results(out).values() if path.parent.name == "gpm")[:2]
    swap(one, two)
    said = finish(start([*SMALL, "--out", str(out)], "result"))
    assert "4 done, 2 to run" in said, said


def swap(one: Path, two: Path) -> None:
    """Let two files change their contents."""
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def swapped_checkpoint(out: Path) -> None:
    """A cell is killed, and the checkpoint of another seed or of another method put in the place of its own: it starts
    anew, and says so."""
    stranger = b""
    for method, seed in (("finetune", "0"), ("finetune", "1"), ("gpm", "1"), ("gpm", "2")):
        words = [*TOY, "--methods", method, "--seeds", seed, "--out", str(out)]
        path = interrupted(words, out)
        own = path.read_bytes()
        path.write_bytes(stranger or own)
        said = finish(start(words, "checkpoint"))
        assert ("not used" in said) == bool(stranger), said
        stranger = own
    finish(start([*SMALL, "--out", str(out)], "checkpoint"))


def interrupted(words: list[str], out: Path) -> Path:
    """Kill a command of one cell after one of its tasks. Return the checkpoint that is left."""
    folder = out / ".checkpoints"
    for _ in range(20):
        driver = start(words, "checkpoint")
        done = len(results(out))
        wait_for(driver, lambda: list(folder.glob("*.npz")))
        driver.kill()
        driver.communicate()
        if left := list(folder.glob("*.npz")):
            return left[0]
        newest = max(results(out).values(), key=lambda path: path.stat().st_mtime)
        assert len(results(out)) == done + 1, "it has ended in the meantime"
        newest.unlink()
    raise AssertionError("each time it was killed too late")


def stopped(out: Path) -> None:
    """A worker is stopped, as by Ctrl-Z, and nobody lets it go on: it is killed, and its cell runs again."""
    driver = start([*SMALL, *ON_RAY, "--out", str(out)], "stopped")
    stop_within_a_cell(driver, out)
    began = time.monotonic()
    before = len(results(out))
    wait_for(driver, lambda: len(results(out)) > before)
    print(f"  the next result came {time.monotonic() - began:.0f} s after the stop", flush=True)
    finish(driver)


def stop_within_a_cell(driver: subprocess.Popen[str], out: Path) -> None:
    """Stop the worker of a grid between two tasks of a cell, of which there is a checkpoint then."""
    while True:
        wait_for(driver, lambda: workers("stopped") and list((out / ".checkpoints").glob("*.npz")))
        for worker in workers("stopped"):
            os.kill(worker, signal.SIGSTOP)
            if list((out / ".checkpoints").glob("*.npz")):
                return
            os.kill(worker, signal.SIGCONT)  # its cell has ended in the meantime


HEAD, NODE, PORT = "10.213.77.1", "10.213.77.2", 6391
RAY = str(Path(sys.executable).with_name("ray"))
QUIETLY: dict[str, Any] = {"env": {**os.environ, **OPEN}, "stderr": subprocess.DEVNULL}
USUAL = ["--block", "--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0"]


def partition(out: Path) -> None:
    """The network of a node is cut while it runs a cell, as by a pulled cable: the cell runs elsewhere in minutes."""
    space = f"chaos{os.getpid()}"
    inside = ["ip", "netns", "exec", space]
    with ExitStack() as stack:
        stack.enter_context(namespace(space))
        stack.enter_context(node("--head", "--include-dashboard=false", f"--port={PORT}", "--num-cpus=0", at=HEAD))
        wait_until_open(HEAD, PORT)
        join = [f"--address={HEAD}:{PORT}", "--num-cpus=1"]
        stack.enter_context(node(*join, at=NODE, inside=inside))
        wait_for_cpu()
        words = [*SMALL, *ON_RAY, "--ray-address", f"{HEAD}:{PORT}", "--out", str(out)]
        driver = start(words, "partition", OPEN)
        wait_for(driver, lambda: results(out))
        subprocess.run([*inside, "ip", "link", "set", f"{space}b", "down"], check=True)
        began, before = time.monotonic(), len(results(out))
        stack.enter_context(node(*join, at=HEAD))
        wait_for(driver, lambda: len(results(out)) > before)
        print(f"  the next result came {time.monotonic() - began:.0f} s after the cut", flush=True)
        finish(driver)


@contextmanager
def namespace(name: str) -> Iterator[None]:
    """A network of its own beside this machine's, with a cable between the two. Processes that are left in it are
    killed at the end."""
    setup = [
        f"ip netns add {name}",
        f"ip link add {name}a type veth peer name {name}b netns {name}",
        f"ip addr add {HEAD}/24 dev {name}a",
        f"ip link set {name}a up",
        f"ip -n {name} addr add {NODE}/24 dev {name}b",
        f"ip -n {name} link set {name}b up",
        f"ip -n {name} link set lo up",
    ]
    try:
        for line in setup:
            if shutil.which("ip") is None or subprocess.run(line.split(), capture_output=True).returncode:
                raise NotPermittedError("no network namespace may be made here")
        yield
    finally:
        if shutil.which("ip"):
            left = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            subprocess.run(["ip", "link", "del", f"{name}a"], capture_output=True)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@contextmanager
def node(*words: str, at: str, inside: Sequence[str] = ()) -> Iterator[None]:
    """A node of a Ray cluster with this address, ended with all its processes."""
    command = [*inside, RAY, "start", *words, f"--node-ip-address={at}", *USUAL]
    process = subprocess.Popen(command, **QUIETLY, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:  # it cannot take leave of its cluster
            process.kill()


def wait_for_cpu() -> None:
    """Wait until a node with a CPU has joined the cluster."""
    code = f"import ray; ray.init(address='{HEAD}:{PORT}'); print(ray.cluster_resources())"
    for _ in range(20):
        asked = subprocess.run([sys.executable, "-c", code], **QUIETLY, stdout=subprocess.PIPE, text=True)
        if "'CPU': 1.0" in asked.stdout:
            return
        time.sleep(1)
    raise AssertionError("no node has joined")


def wait_until_open(host: str, port: int) -> None:
    """Wait until something listens there, a minute at most."""
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens at {host}:{port}")


def raylet(out: Path) -> None:
    """Ray is killed under the grid: it is started again, and the command ends well."""
    driver = start([*SMALL, *ON_RAY, "--out", str(out)], "raylet")
    wait_for(driver, lambda: results(out))
    assert kill_part("raylet", "raylet/raylet") == 1
    finish(driver)


DAYS: dict[str, Callable[[Path], None]] = {
    "disk": disk,
    "folder": folder,
    "result": swapped_result,
    "checkpoint": swapped_checkpoint,
    "raylet": raylet,
    "stop": stopped,
    "partition": partition,
}


def live_through(days: list[str], place: Path) -> None:
    """Let a small grid live through some bad days; each must end with the bits of an undisturbed one."""
    calm = place / "calm"
    finish(start([*SMALL, "--out", str(calm)], "calm"))
    for name in days:
        began = time.monotonic()
        try:
            DAYS[name](place / name)
        except NotPermittedError as reason:
            print(f"{name}: skipped, {reason}", flush=True)
            continue
        count = compare(calm, place / name)
        print(f"{name}: {count} results equal, {time.monotonic() - began:.0f} s", flush=True)
