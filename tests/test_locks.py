"""Locks keep other processes out, die with their owner, and may be wanting."""

import errno
import fcntl
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from bench import locks
from bench.execution.events import Trouble
from bench.execution.grid import run_grid
from bench.execution.queue import Claims
from bench.execution.runner import Resources

CONTEXT = multiprocessing.get_context("spawn")


def hold(path: Path, byte: int | None, pipe: Connection) -> None:
    """Take a lock, say so, and keep it until told to end."""
    with path.open("ab") as file:
        pipe.send(locks.acquire(file) if byte is None else locks.acquire_byte(file, byte))
        pipe.recv()


@pytest.mark.parametrize("byte", [None, 7])
def test_a_lock_of_another_process(byte: int | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    here, there = CONTEXT.Pipe()
    other = CONTEXT.Process(target=hold, args=(path, byte, there))
    other.start()
    assert here.recv() is True
    with path.open("ab") as file:
        mine = (lambda: locks.acquire(file, wait=False)) if byte is None else (lambda: locks.acquire_byte(file, 7))
        assert mine() is False
        assert locks.acquire_byte(file, 8) is True, "other bytes are free"
        other.kill()
        other.join()
        assert mine() is True


def test_a_byte_is_given_back(tmp_path: Path) -> None:
    with (tmp_path / "file").open("ab") as file:
        assert locks.acquire_byte(file, 3)
        locks.release_byte(file, 3)
        here, there = CONTEXT.Pipe()
        other = CONTEXT.Process(target=hold, args=(tmp_path / "file", 3, there))
        other.start()
        assert here.recv() is True
        here.send("end")
        other.join()


def enter(folder: Path, log: Path) -> None:
    with locks.alone(folder), log.open("a") as file:
        file.write("in ")
        file.flush()
        time.sleep(0.2)
        file.write("out ")


def test_one_process_at_a_time_is_in_a_folder(tmp_path: Path) -> None:
    log = tmp_path / "log"
    others = [CONTEXT.Process(target=enter, args=(tmp_path, log)) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert log.read_text() == "in out in out in out "


@pytest.fixture(params=["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this a file system without locks."""

    def fail(*_: Any) -> None:
        raise OSError(getattr(errno, request.param), "none here")

    monkeypatch.setattr(fcntl, "flock", fail)
    monkeypatch.setattr(fcntl, "lockf", fail)


@pytest.mark.usefixtures("without_locks")
def test_a_file_system_without_locks(tmp_path: Path) -> None:
    with (tmp_path / "file").open("ab") as file, pytest.raises(locks.NoLocksError):
        locks.acquire(file)
    with locks.alone(tmp_path):
        pass
    with Claims(tmp_path) as claims:
        assert "one command at a time" in claims.trouble
        assert claims.claim("0" * 12) and claims.claim("0" * 12)
        claims.release("0" * 12)


@pytest.mark.usefixtures("without_locks")
def test_a_grid_says_so_once_and_goes_on(tmp_path: Path) -> None:
    [event] = run_grid([], [], Resources(), "serial", tmp_path)
    assert isinstance(event, Trouble) and str(tmp_path) in event.text


@pytest.mark.usefixtures("without_locks")
def test_a_command_says_so_once_and_ends_well(command: Callable[..., Any], tmp_path: Path) -> None:
    """And another command is told of no grid that runs."""
    words = ("--bench", "toy", "--methods", "finetune", "--seeds", "0,1", "--epochs", 1, "--out", tmp_path)
    answer = command(*words)
    assert answer.code == 0 and "| finetune" in answer.out
    assert answer.err.count("this file system has no locks") == 1
    assert f"{tmp_path}: 2 results, " in command("status", "--out", tmp_path).out


def test_another_error_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", fail)
    with (tmp_path / "file").open("ab") as file, pytest.raises(OSError, match="broken"):
        locks.acquire(file)
