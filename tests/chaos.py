#!/usr/bin/env python3
"""Kill a grid again and again, rerun the same command, and compare what it ends with to an undisturbed serial run.

    python tests/chaos.py --kills 10
    python tests/chaos.py --days disk,raylet      only some of the days, and no kills

Kills a random worker, or the driver itself, at random moments with SIGKILL. Exits with 0 if every result equals the
serial one bit for bit and no finished cell was trained again. Then a small grid lives through other bad days, each of
which must end in the same bits: a full disk, a removed folder, swapped results, a killed raylet. Needs Linux (/proc).
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARK = "NESS_BENCH_CHAOS"  # in the environment of all processes of one grid


def start(words: list[str], mark: str, **more: Any) -> subprocess.Popen[str]:
    """The command line in a process of its own, marked, so that no other grid on this machine is harmed."""
    environment = {**os.environ, MARK: mark, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "run_bench.py"), *words]
    return subprocess.Popen(command, env=environment, text=True, stdout=-1, stderr=subprocess.STDOUT, **more)


def marked(mark: str) -> Iterator[tuple[int, str]]:
    """The living processes of a grid: id and command line. Workers rewrite their environment, so they are known by
    their parent."""
    parents = set()
    found: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            own = f"{MARK}={mark}".encode() in (folder / "environ").read_bytes()
        except (OSError, ValueError):
            continue  # it has just ended
        found[int(folder.name)] = (parent, line)
        if own:
            parents.add(int(folder.name))
            yield int(folder.name), line
    for process, (parent, line) in found.items():
        if parent in parents and process not in parents:
            yield process, line


def workers(mark: str) -> list[int]:
    """Those that run a cell now."""
    return [process for process, line in marked(mark) if line.startswith("ray::remote_cell")]


def kill_part(mark: str, part: str) -> int:
    """Kill the processes of a grid whose command line has this part. Return how many there were."""
    found = [process for process, line in marked(mark) if part in line.split(" ")[0]]
    for process in found:
        os.kill(process, signal.SIGKILL)
    return len(found)


def bits(path: Path) -> str:
    """Of a stored result: everything but clocks and the machine's state."""
    result = json.loads(path.read_text())
    tasks = [{k: v for k, v in task.items() if k != "seconds"} for task in result["tasks"]]
    return json.dumps([result["cell"], result["error"], result["matrix"], tasks], sort_keys=True)


def results(folder: Path) -> dict[str, Path]:
    """The result files, by their place in the folder."""
    return {str(path.relative_to(folder)): path for path in folder.glob("*/*/seed*-*.json")}


def succeeded(path: Path) -> bool:
    """Whether a stored result holds no error; one that is gone since it was listed does not count."""
    try:
        error: str | None = json.loads(path.read_text())["error"]
    except FileNotFoundError:
        return False
    if error is not None:
        print(f"{path.name} failed: {error[:120]}", flush=True)
    return error is None


class Monkey:
    """Runs a command until it has been disturbed enough and ends well."""

    def __init__(self, words: list[str], out: Path, kills: int, rng: random.Random, quiet: float) -> None:
        self.words, self.out, self.left, self.rng, self.quiet = words, out, kills, rng, quiet
        self.killed: list[str] = []
        self.finished: dict[str, int] = {}  # result files seen, with the time they were written

    def run(self, limit: int = 60) -> None:
        """Start the command, and start it again whenever it was killed."""
        for _ in range(limit):
            mark = uuid.uuid4().hex
            driver = start(self.words, mark)
            if self._disturb(driver, mark):
                driver.communicate()
                continue
            out, _ = driver.communicate(timeout=1800)
            self.look()
            if driver.returncode == 0:
                return
            print(f"the command ended with {driver.returncode}: {out[-600:]}", flush=True)
        raise AssertionError(f"not done after {limit} starts")

    def _disturb(self, driver: subprocess.Popen[str], mark: str) -> bool:
        """Kill at random moments until the driver is killed, or the grid ends. Whether the driver was."""
        while self.left and driver.poll() is None:
            self._wait(driver, self.rng.uniform(0.1, 1) * self.quiet)
            victims = workers(mark)
            if driver.poll() is not None or not victims:
                continue
            if self.rng.random() < 0.4:
                self._kill(driver.pid, "driver")
                return True
            self._kill(self.rng.choice(victims), "worker")
        return False

    def _kill(self, process: int, what: str) -> None:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.left -= 1
        self.killed.append(what)
        print(f"killed a {what}, {self.left} kills to go; {len(results(self.out))} results", flush=True)

    def _wait(self, driver: subprocess.Popen[str], seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and driver.poll() is None:
            self.look()
            time.sleep(0.1)

    def look(self) -> None:
        """Note what is finished; raises if what was finished has been written again, or is gone. A cell whose worker
        was killed too often has failed, and the next command runs it again."""
        now = {name: path.stat().st_mtime_ns for name, path in results(self.out).items() if succeeded(path)}
        for name, written in self.finished.items():
            assert now.get(name) == written, (
                f"{name} was finished and has been {'lost' if name not in now else 'redone'}"
            )
        self.finished = now


def compare(undisturbed: Path, disturbed: Path) -> int:
    """The number of results. Raises AssertionError where the two folders differ."""
    here, there = results(undisturbed), results(disturbed)
    assert sorted(here) == sorted(there), sorted(set(here) ^ set(there))
    for name in here:
        assert bits(here[name]) == bits(there[name]), f"{name} differs"
    return len(here)


SMALL = ["--bench", "toy", "--methods", "finetune,gpm", "--seeds", "0-2", "--epochs", "20", "--device", "cpu"]
ON_RAY = ["--executor", "ray", "--workers", "1"]


def finish(driver: subprocess.Popen[str], code: int = 0) -> str:
    """Wait for the end of a command. Return what it said."""
    out, _ = driver.communicate(timeout=900)
    assert driver.returncode == code, (driver.returncode, out)
    assert "Traceback" not in out, out
    return out


def wait_for(driver: subprocess.Popen[str], what: Callable[[], Any]) -> None:
    """Wait until something is the case; raises where the command ends before."""
    while not what():
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.05)


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
    "raylet": raylet,
}


def live_through(days: list[str], place: Path) -> None:
    """Let a small grid live through some bad days; each must end with the bits of an undisturbed one."""
    calm = place / "calm"
    finish(start([*SMALL, "--out", str(calm)], "calm"))
    for name in days:
        began = time.monotonic()
        DAYS[name](place / name)
        count = compare(calm, place / name)
        print(f"{name}: {count} results equal, {time.monotonic() - began:.0f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="finetune,ewc,gpm,ness,inflora,olora", help="of the cells")
    parser.add_argument("--seeds", default="0-9", help="of the cells; 6 methods x 10 seeds are 60 cells")
    parser.add_argument("--epochs", default="60", help="of a task, at most")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--workers", default="2")
    parser.add_argument("--quiet", type=float, default=4.0, help="seconds between kills, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the killing")
    parser.add_argument("--days", default=",".join(DAYS), help="bad days after the kills; given, there are no kills")
    args = parser.parse_args()
    days = [name for name in args.days.split(",") if name]
    if any(word.startswith("--days") for word in sys.argv):
        with tempfile.TemporaryDirectory() as folder:
            live_through(days, Path(folder))
        return 0
    words = ["--bench", "toy", "--methods", args.methods, "--seeds", args.seeds, "--epochs", args.epochs]
    words += ["--device", "cpu"]
    with tempfile.TemporaryDirectory() as folder:
        calm, wild = Path(folder) / "serial", Path(folder) / "ray"
        serial = start([*words, "--out", str(calm)], "serial")
        out, _ = serial.communicate()
        assert serial.returncode == 0, out
        ray = ["--executor", "ray", "--workers", args.workers, "--out", str(wild)]
        monkey = Monkey(words + ray, wild, args.kills, random.Random(args.seed), args.quiet)
        monkey.run()
        count = compare(calm, wild)
        print(
            f"{count} results equal to the serial run's, after {len(monkey.killed)} kills: {', '.join(monkey.killed)}"
        )
        if args.kills == parser.get_default("kills"):
            live_through(days, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
