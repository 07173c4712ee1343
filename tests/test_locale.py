"""Files are UTF-8 whatever the locale, and a locale that is not loses nothing."""

import ast
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.cli.main import main
from bench.core import Result
from bench.execution import store

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    path
    for folder in ("bench", "methods", "datasets", "docs/_hooks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "templates" not in path.parts
] + [ROOT / "run_bench.py"]
OPENERS = {"open", "fdopen", "read_text", "write_text", "TextIOWrapper", "NamedTemporaryFile"}
OTHER_OPENERS = {"os", "gzip", "tarfile", "archive", "Image", "network", "installed"}  # no text; the last: UTF-8 alone
PROCESSES = {"run", "Popen", "check_output"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def texts_by_locale(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls that read or write text in the encoding of the locale, as far as can be seen."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        owner, _, name = ast.unparse(node.func).rpartition(".")
        words = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in PROCESSES and words.keys() & {"text", "universal_newlines"} and "encoding" not in words:
            yield node
        opens = (
            name in OPENERS
            and owner.rpartition(".")[2] not in OTHER_OPENERS
            and (owner, name) != ("files", "write_text")
        )
        if opens and "encoding" not in words and not any(map(_is_binary, [*node.args, words.get("mode")])):
            yield node


def _is_binary(node: ast.AST | None) -> bool:
    """Return whether an argument is a mode such as "rb"."""
    return isinstance(node, ast.Constant) and bool(re.fullmatch(r"[rwxa]\+?b\+?|b[rwxa]", str(node.value)))


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("open(path)", True),
        ("path.open('w')", True),
        ("path.read_text()", True),
        ("path.write_text('b')", True),
        ("subprocess.run(words, text=True)", True),
        ("path.open('rb')", False),
        ("open(path, encoding='utf-8')", False),
        ("files.write_text(path, text)", False),
        ("subprocess.run(words, capture_output=True)", False),
    ],
)
def test_what_depends_on_the_locale_is_seen(line: str, seen: bool) -> None:
    assert bool(list(texts_by_locale(ast.parse(line)))) == seen


def test_every_text_is_read_and_written_in_a_named_encoding() -> None:
    assert len(SOURCES) > 100
    found = {
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in SOURCES
        for call in texts_by_locale(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set()


def run_under(variables: dict[str, str], folder: Path, *words: object) -> subprocess.CompletedProcess[bytes]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    line = [sys.executable, ROOT / "run_bench.py", *words, "--out", folder]
    return subprocess.run([str(word) for word in line], capture_output=True, env=own | variables, check=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder; the folder's own name does not count."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    own = str(folder).encode()
    return {str(path.relative_to(folder)): path.read_bytes().replace(own, b"") for path in files}


def test_in_a_terminal_without_utf8_a_table_keeps_its_columns(
    make_result: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signs are replaced before the columns are padded, in the main table and in the tests below it."""
    for method, acc in (("finetune", 50), ("ness", 60)):
        for seed in range(6):
            store.save_result(make_result(method, seed, acc + seed, benchmark="toy"), tmp_path)
    bytes_out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_out, encoding="ascii", write_through=True))
    assert main(["table", "--compare", "finetune", "--out", str(tmp_path)]) == 0
    tables = re.findall(r"(?:^\|.*\n?)+", bytes_out.getvalue().decode("ascii"), re.MULTILINE)
    assert len(tables) == 2 and "62.50 +- 1.87** (up) deg" in tables[0]
    for table in tables:
        assert len({len(line) for line in table.splitlines()}) == 1, table


@pytest.mark.slow
def test_a_locale_without_utf8_writes_the_same_bytes(make_result: Callable[..., Result], tmp_path: Path) -> None:
    """An ASCII locale: the terminal gets plain signs, and tables and pages the same as ever."""
    written = {}
    for name, variables in (("ascii", ASCII), ("utf-8", {"PYTHONUTF8": "1"})):
        for method in ("finetune", "gpm"):
            for seed in (0, 1):
                store.save_result(make_result(method, seed, 50 + seed, benchmark="toy"), tmp_path / name)
        answer = run_under(variables, tmp_path / name, "table")
        run_under(variables, tmp_path / name, "report")
        assert ("±" in answer.stdout.decode()) == (name == "utf-8")
        assert ("+-" in answer.stdout.decode()) == (name == "ascii")
        written[name] = contents(tmp_path / name)
    assert "report.html" in written["ascii"] and "±".encode() in written["ascii"]["report.html"]
    assert written["ascii"] == written["utf-8"]


@pytest.mark.slow
def test_a_cell_runs_and_a_method_is_begun_in_a_locale_without_utf8(tmp_path: Path) -> None:
    """A plugin with letters that ASCII lacks, in its file and in its path."""
    source = '"""Größe × Maß."""\n\nfrom bench import Method\n\n\nclass Own(Method):\n    """→"""\n'
    plugin = tmp_path / "grün" / "own.py"
    plugin.parent.mkdir()
    plugin.write_text(source, encoding="utf-8")
    words = ("--plugin", plugin, "--methods", "own", "--bench", "toy", "--seeds", "0", "--epochs", "1")
    answer = run_under(ASCII, tmp_path / "out", *words)
    assert b"| own" in answer.stdout
    assert len(list((tmp_path / "out" / "toy" / "own").glob("seed0-*.json"))) == 1
