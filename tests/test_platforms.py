"""Linux and macOS run everything; Windows is refused in one line, and not by a traceback."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bench
from bench.core import UserError

ROOT = Path(__file__).resolve().parents[1]
LINE = "NESS-Bench runs on Linux and macOS: on Windows, install and run it inside WSL"
ON_WINDOWS = """
import argparse, difflib, hashlib, importlib.util, msgspec, numpy, pathlib, platform, secrets, sys, tempfile
sys.platform = "win32"
sys.modules |= dict.fromkeys(("fcntl", "resource"))  # an import of one raises ImportError
"""


@pytest.mark.parametrize("words", [(), ("list",), ("table", "--help"), ("no such command",)])
def test_the_command_line_refuses_windows(command: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str]) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    answer = command(*words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.endswith(f": {LINE}\n") and answer.err.count("\n") == 1


def test_nothing_of_posix_alone_is_imported_before_the_refusal() -> None:
    script = ON_WINDOWS + "from bench.cli.main import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f": {LINE}\n") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["run", "table", "Method"])
def test_the_library_refuses_windows(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert callable(getattr(bench, name))
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UserError, match="WSL"):
        getattr(bench, name)
