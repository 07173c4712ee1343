#!/usr/bin/env python3
"""Kill a grid again and again, rerun the same command, and compare what it ends with to an undisturbed serial run.

    python tests/chaos.py --kills 10
    python tests/chaos.py --days disk,raylet      only some of the days, and no kills

Kills a random worker, or the driver itself, at random moments with SIGKILL. Exits with 0 if every result equals the
serial one bit for bit and no finished cell was trained again. Then a small grid lives through other bad days, each of
which must end in the same bits: a full disk, a removed folder, swapped results, swapped checkpoints, a killed raylet, a
stopped worker, a node whose network is cut. What this machine does not permit is skipped, and said. It needs Linux.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from days import DAYS, live_through
from grids import compare, results, start, succeeded, workers


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
