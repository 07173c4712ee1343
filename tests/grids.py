"""Grids as processes of their own: start them, find and kill their parts, and compare what they end with. Needs Linux
(/proc)."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARK = "NESS_BENCH_CHAOS"  # in the environment of all processes of one grid
UNCALIBRATED = """
import sys
from bench.cli.main import main
from bench.execution.forecast import budget
budget.LIMIT = 0.0  # a calibration is a process that imports torch, for toy tasks that take no longer
sys.exit(main())
"""


def start(
    words: list[str], mark: str, variables: Mapping[str, str] = MappingProxyType({}), **more: Any
) -> subprocess.Popen[str]:
    """The command line in a process of its own, marked, so that no other grid on this machine is harmed. It says
    nothing of the time that it may take. `variables` join those of the environment."""
    environment = {**os.environ, MARK: mark, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", UNCALIBRATED, *words]
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
        say_once(f"{path.name} failed: {error[:120]}")
    return error is None


@cache
def say_once(line: str) -> None:
    """Print a line, the first time that it is to be said."""
    print(line, flush=True)


def compare(undisturbed: Path, disturbed: Path) -> int:
    """The number of results. Raises AssertionError where the two folders differ."""
    here, there = results(undisturbed), results(disturbed)
    assert sorted(here) == sorted(there), sorted(set(here) ^ set(there))
    for name in here:
        assert bits(here[name]) == bits(there[name]), f"{name} differs"
    return len(here)


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
        time.sleep(0.01)
