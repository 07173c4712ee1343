"""`new` writes files that work as they are, and never over anything."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import files, installation
from bench.tools import scaffold

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to write to."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python(*words: str) -> str:
    """What a fresh interpreter says; it must end well."""
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(installation.ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_is_new_passes_its_own_tests(command: Command, here: Path) -> None:
    answer = command("new", "method", "pull_back")
    assert answer.code == 0 and "wrote pull_back.py, test_pull_back.py" in answer.out
    assert command("new", "benchmark", "stripes").code == 0
    written = {path.name for path in here.iterdir()}
    assert written == {"pull_back.py", "test_pull_back.py", "stripes.py", "stripes.toml", "test_stripes.py"}
    said = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_pull_back.py", "test_stripes.py")
    assert "24 passed" in said
    python("-m", "ruff", "format", "--check", "--isolated", "--line-length", "120", str(here))


def test_what_is_new_runs(command: Command, here: Path) -> None:
    command("new", "method", "pull_back")
    command("new", "benchmark", "stripes")
    plugins = ("--plugin", "pull_back.py", "--plugin", "stripes.py")
    words = ("--methods", "pull_back", "--bench", "stripes", "--seeds", "0", "--epochs", "1", "--out", here / "out")
    answer = command(*plugins, *words, "--device", "cpu")
    assert answer.code == 0 and "pull_back" in answer.out


@pytest.mark.parametrize("kind", scaffold.KINDS)
@pytest.mark.parametrize(
    ("name", "class_name"), [("my_idea2", "MyIdea2"), ("tensor", "Tensor"), ("none", "None"), ("_x", "X")]
)
def test_the_class_has_the_name_of_the_file_and_hides_nothing(kind: str, name: str, class_name: str) -> None:
    text = scaffold.render(kind, name)[f"{name}.py"]
    tree = ast.parse(text)
    [found] = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert found in (class_name, class_name + kind.title()) and found not in {"None", *imported}
    assert 40 <= len(text.splitlines()) <= 55
    assert not {"my_method", "MyMethod", "my_benchmark", "MyBenchmark"} & set(text.split())


REFUSED = {
    "kind": (["metod", "x1"], "did you mean 'method'"),
    "no identifier": (["method", "my-idea"], "'my-idea' cannot name a method"),
    "path": (["method", "../x"], "cannot name"),
    "keyword": (["method", "lambda"], "cannot name"),
    "no letter": (["method", "_1"], "cannot name"),
    "word": (["benchmark", "all"], "cannot name"),
    "method": (["method", "gpm"], "the name 'gpm' is taken by"),
    "benchmark": (["benchmark", "toy"], "the name 'toy' is taken by"),
    "module": (["method", "random"], "Python module"),
    "no name": (["method"], "--help"),
}


@pytest.mark.parametrize(("words", "said"), REFUSED.values(), ids=REFUSED)
def test_a_name_that_cannot_be(command: Command, here: Path, words: list[str], said: str) -> None:
    answer = command("new", *words)
    assert (answer.code, answer.out) == (2, "") and said in answer.err and answer.err.count("\n") == 1
    assert not list(here.iterdir())


@pytest.mark.parametrize("file", ["stripes.py", "stripes.toml", "test_stripes.py"])
def test_nothing_is_overwritten(command: Command, here: Path, file: str) -> None:
    (here / file).write_text("mine")
    answer = command("new", "benchmark", "stripes")
    assert answer.code == 2 and f"{file} is there already" in answer.err
    assert [path.read_text() for path in here.iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_written(command: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, text: str) -> None:
        raise PermissionError(13, "Permission denied", f".{path}.partial")

    monkeypatch.setattr(files, "write_text", fail)
    answer = command("new", "method", "pull_back")
    assert answer.code == 2 and "cannot write pull_back.py: Permission denied" in answer.err
