"""Stored results, checkpoints and tables under random damage: refused, or the same as before; never a number that is
wrong and looks right."""

import csv
import io
import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench import installation
from bench.analysis import render
from bench.analysis.table import summarize
from bench.core import Result
from bench.execution import decoding
from bench.execution.checkpoint import Checkpoint
from bench.text import printable
from bench.tools.trial import Run

LONG_FORM = int(os.environ.get("NESS_BENCH_FUZZ", "3000"))
SHORT_AND_LONG = pytest.mark.parametrize("tries", [150, pytest.param(LONG_FORM, marks=pytest.mark.slow)])
TOKENS = [
    b"0",
    b"1",
    b"-1",
    b"null",
    b"true",
    b"NaN",
    b"1e999",
    b'""',
    b"[]",
    b"{}",
    b'"a"',
    b"\0",
    b"\xff",
    b",",
    b"]",
]
LETTERS = "aZ0 |\\\n\r\t$%&#_{}^~<>[]*=+-@'\"`,;:\0\x1b\u2028±†‡°εβΩ≤é数ñﬁ½⁴😀\u0301\ufeff"


def damaged(good: bytes, generator: random.Random) -> bytes:
    """Return bytes with one thing amiss: a bit, a byte, a token, a piece that is lost, doubled or moved, a cut."""
    content = bytearray(good)
    a, b = sorted(generator.randrange(len(good) + 1) for _ in range(2))
    kind = generator.randrange(8)
    if kind <= 2:
        content[a - 1] ^= 1 << generator.randrange(8)
    elif kind == 3:
        content[a - 1] = generator.randrange(256)
    elif kind == 4:
        content[a : a + generator.randrange(6)] = generator.choice(TOKENS)
    elif kind == 5:
        del content[a : min(b, a + 300)]
    elif kind == 6:
        content[a:a] = content[a : min(b, a + 300)]
    else:
        del content[a:]
    return bytes(content)


def number_changed(good: bytes, generator: random.Random) -> bytes:
    """Return JSON text with one of its numbers, such as an accuracy, another; its form stays right."""
    numbers = list(re.finditer(rb"(?<=[\s\[:])-?\d+(\.\d+)?(?=[,\s\]])", good))
    one = generator.choice(numbers)
    return good[: one.start()] + str(generator.choice([0, 1, 0.5, 2, -1, 7])).encode() + good[one.end() :]


def tell(what: str, counts: Counter[str], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        numbers = f"{counts['refused']} refused, {counts['equal']} equal"
        print(f"\n{what}: {sum(counts.values())} tries: {numbers}, 0 changed in silence, 0 tracebacks")


@SHORT_AND_LONG
def test_a_damaged_result_is_refused_or_equal(tries: int, capsys: pytest.CaptureFixture[str]) -> None:
    generator = random.Random(0)
    paths = sorted((installation.ROOT / "results" / "published").glob("*/*/seed*.json"))
    results = [decoding.decode(path.read_bytes()) for path in generator.sample(paths, 20)]
    counts: Counter[str] = Counter()
    for _ in range(tries):
        result = generator.choice(results)
        good = decoding.encode(result).encode()
        harm = number_changed if generator.random() < 0.3 else damaged
        try:
            found = decoding.decode(harm(good, generator))
        except ValueError as error:
            assert str(error)
            counts["refused"] += 1
            continue
        assert found == result
        counts["equal"] += 1
    tell("results", counts, capsys)
    assert counts["refused"] > 10 * counts["equal"] and counts.total() == tries


@SHORT_AND_LONG
def test_a_damaged_checkpoint_is_refused_or_equal(
    tries: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it is refused, network and method are as they were."""
    generator = random.Random(0)
    half, other = Run("gpm"), Run("gpm")
    rows = half.learn(2)
    checkpoint = Checkpoint(tmp_path, half.cell, {})
    records = json.loads(json.dumps([record.plain() for record in half.records]))
    checkpoint.save(half.session, rows, records, 1.0)
    good = checkpoint.path.read_bytes()
    fresh = {name: weight.clone() for name, weight in other.network.state_dict().items()}
    counts: Counter[str] = Counter()
    for i in range(tries):
        checkpoint.path.write_bytes(damaged(good, generator) if i else good)
        checkpoint.trouble = ""
        reached = checkpoint.load(other.session)
        if checkpoint.trouble:
            assert reached == ([], [], 0.0)
            assert same(other.network.state_dict(), fresh) and not other.method.memory
            counts["refused"] += 1
            continue
        assert reached == (rows, records, 1.0)
        assert same(other.network.state_dict(), half.network.state_dict())
        assert same(other.method.state(), half.method.state())
        counts["equal"] += 1
        other.network.load_state_dict(fresh)
        other.method.memory = {}
    tell("checkpoints", counts, capsys)
    assert counts["refused"] > counts["equal"] > 0 and counts.total() == tries


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@SHORT_AND_LONG
def test_whatever_a_name_is_a_table_keeps_its_form(
    tries: int, make_result: Callable[..., Result], capsys: pytest.CaptureFixture[str]
) -> None:
    generator = random.Random(0)
    counts: Counter[str] = Counter()
    plain = [make_result("a"), make_result("other")]
    lines_of_latex = render.to_latex(summarize([(row.cell, row) for row in plain], ("acc",))).count("\n")
    for _ in range(tries):
        name = "".join(generator.choices(LETTERS, k=generator.randrange(1, 9)))
        rows = make_result(name), make_result("other")
        table = summarize([(row.cell, row) for row in rows], ("acc",))
        markdown = [line for line in render.to_markdown(table).splitlines() if line.startswith("|")]
        assert len(markdown) == 4 and len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in markdown}) == 1
        lines = list(csv.reader(io.StringIO(render.to_csv(table))))
        assert len(lines) == 3 and lines[1][1].removeprefix("'") in (printable(name), printable(name).removeprefix("'"))
        latex = render.to_latex(table)
        bare = re.sub(r"\\[${}&%#_\\]", "", latex)
        assert bare.count("$") % 2 == 0 and bare.count("{") == bare.count("}"), repr(name)
        assert latex.count("\n") == lines_of_latex
        counts["equal"] += 1
    tell("tables", counts, capsys)
    assert counts.total() == tries
