"""What several test files need: the command line in-process, plugins, and made-up results."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.core import Cell, Result

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: toy networks gain nothing from threads that wait for each other

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run_bench.py is a script beside the library


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """`command("list")` runs the command line in-process: exit code, standard output and error."""
    import run_bench

    def call(*words: object) -> Answer:
        capsys.readouterr()
        code = run_bench.main([str(word) for word in words])
        return Answer(code, *capsys.readouterr())

    return call


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[..., Path]:
    """`plugin(name, body)` writes a method whose class body is given; returns its file."""

    def write(name: str, body: str = "pass", folder: str = "plugins") -> Path:
        path = tmp_path / folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        path.write_text(f'"""The method {name}."""\n\nfrom bench.method import Method\n\n\nclass Own(Method):\n{lines}')
        return path

    return write


@pytest.fixture
def make_result() -> Callable[..., Result]:
    """A result whose ACC is `acc` and whose BWT is `bwt`, both in percent, over two tasks."""

    def make(method: str = "a", seed: int = 0, acc: float = 50, bwt: float = 0, **more: Any) -> Result:
        error = more.pop("error", None)
        training = {"epochs": 1, "lr": 0.1}
        cell = Cell(**{"benchmark": "bench", "training": training, "config": {}, **more}, method=method, seed=seed)
        last = [(acc + bwt / 2) / 100, (acc - bwt / 2) / 100]
        matrix = [] if error else [[last[0] - bwt / 100, None], last]
        return Result(cell, matrix, [{"task": 0}, {"task": 1}], error, environment={"seconds": 1.0})

    return make
