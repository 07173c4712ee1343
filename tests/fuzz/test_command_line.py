"""The command line under random words: whatever is typed is done, or refused on one line; a traceback never."""

import contextlib
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.cli.main import main, parser_of
from bench.tools.profiling.profile import ArmError
from bench.tools.profiling.setting import Setting, cell_of

LONG = ["x" * 256, "é" * 200, "x" * 5000, "a/" * 3000, "9" * 5000, "0x" + "f" * 5000, "," * 3000]
DEEP = ["[" * 150, "[" * 100_000, "(" * 80 + ")" * 80, "-" * 100_000 + "1", "{1:" * 60, "1" + "+1" * 20_000]
BYTES = ["\0", "a\0b", "\udcff", "\n", "a\nb", "\r", "\x1b[2J", "\x7f", "\u2028", "\ufeff", "é", "数", "٣", "²", "ﬁ"]
SIGNS = ["", " ", "-", "--", "---", "=", ",", ".", "..", "/", "~", "*", "|", "%s", "{}", "=1+1", "@x", "--help", "-h"]
NUMBERS = ["0", "-1", "1.5", "nan", "inf", "-inf", "1e999", "1e-400", "-0", "1_000", "10**9", "1j", "1e308", "9" * 30]
LITERALS = ["true", "None", "...", "b'x'", "'\\d'", "'open", "[1, 2]", "{1: 2}", "{[]: 1}", "1 is 1", "f'{x}'", "#"]
HOSTILE = [*LONG, *DEEP, *BYTES, *SIGNS, *NUMBERS, *LITERALS]

METHODS = ["finetune", "gpm", "ness", "ewc", "all", "default", "published", "training", "ness+sam", "gpm,finetune"]
ARMS = [*METHODS, "joint", "trgp", "finetune:precision=bf16", "gpm:energy=0.9", "gpm:energy=2", "gpm:lr", "ness:x=1"]
BENCHMARKS = ["toy", "digits", "permuted_digits", "toy,digits", "all", "everything", "default"]
FIELDS = ["lr", "epochs", "energy", "first_rule", "samples", "optimizer", "restore_best", "batch_size", "seed", ""]
COUNTS = ["1", "2", "3", "1000"]
SEEDS = ["0", "0-2", "1,5,9", "0-9,3-0", "0-0", "4294967295", "0-9999", "0-99999999999", "-1", "1-", "2-1"]
FILES = ["m.csv", "wild.csv", "deep.toml", "nested.toml", "huge.toml", "plugin.py", "deep.py", "nowhere", ".", "out"]
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12))


def or_hostile(*usual: str) -> st.SearchStrategy[str]:
    """Draw a usual value, one time in four a hostile one."""
    return st.integers(0, 3).flatmap(lambda n: st.sampled_from(usual) if n else TEXTS)


def joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map("".join)


OPTIONS = {
    "--methods": or_hostile(*ARMS),
    "--bench": or_hostile(*BENCHMARKS),
    "--seeds": st.one_of(or_hostile(*SEEDS), st.text("0123456789,- ", max_size=12)),
    "--seed": or_hostile(*SEEDS),
    "--protocol": or_hostile("published", "sound", "all"),
    "--metric": or_hostile("acc", "acc,bwt", "state"),
    "--set": st.one_of(
        joined(or_hostile(*METHODS, *BENCHMARKS), st.just("."), or_hostile(*FIELDS), st.just("="), TEXTS),
        joined(st.sampled_from(["gpm.", "toy.", "finetune."]), st.sampled_from(FIELDS), st.just("="), TEXTS),
        TEXTS,
    ),
    "--recipe": or_hostile(*FILES),
    "--plugin": or_hostile(*FILES, "numpy", "os.path", "bench.core", "__main__", "a..b"),
    "--out": or_hostile("out", "out/more", "m.csv", "m.csv/out"),
    "--data": or_hostile("data", "m.csv"),
    "--epochs": or_hostile(*COUNTS),
    "--samples": or_hostile(*COUNTS),
    "--rounds": or_hostile(*COUNTS),
    "--task": or_hostile(*COUNTS),
    "--copies": or_hostile(*COUNTS),
    "--scenario": or_hostile("task-il", "domain-il", "task-il-shared"),
    "--json": or_hostile("out.json", "m.csv/out.json"),
    "--to": or_hostile("report.html", "m.csv/report.html"),
    "--workers": or_hostile(*COUNTS),
    "--threads": or_hostile(*COUNTS),
    "--trials": or_hostile(*COUNTS),
    "--tasks": or_hostile(*COUNTS),
    "--search-seed": or_hostile(*COUNTS),
    "--gpus-per-cell": or_hostile("0", "0.5"),
    "--memory-per-cell": or_hostile("1", "0.5"),
    "--time-limit": or_hostile("1", "0.5"),
    "--executor": or_hostile("serial", "ray"),
    "--device": or_hostile("cpu", "auto", "cuda", "cuda:1", "mps"),
    "--precision": or_hostile("fp32", "bf16"),
    "--ray-address": or_hostile("auto", "127.0.0.1:1"),
    "--rerun": or_hostile("changed"),
    "--format": or_hostile("md", "csv", "latex"),
    "--caption": TEXTS,
    "--compare": or_hostile("theirs", "gpm"),
    "--zeros": or_hostile("measured", "unmeasured"),
    "--alpha": or_hostile("0.05", "1"),
    "--paper": or_hostile("gpm", "ness"),
    "--paper-table": or_hostile("Table 2"),
    "--only": or_hostile("pmnist", "digits"),
    "--method": or_hostile("theirs", "gpm", "all", "default"),
}
FLAGS = ["--percent", "--recipes", "--tf32", "--no-checkpoint", "--ranks", "--siunitx", "--dry-run", "--epoch", "-x"]
FIRST = {  # what a command may begin with; what trains, fetches or measures is only planned
    "run": st.just(["--dry-run"]),
    "tune": st.just(["--dry-run"]),
    "reproduce": or_hostile("gpm:pmnist", "gpm", ":").map(lambda word: [word, "--dry-run"]),
    "import": or_hostile(*FILES).map(lambda word: [word, "--method", "theirs", "--bench", "toy", "--seed", "0"]),
    "new": st.tuples(or_hostile("method", "benchmark"), or_hostile("mine", "class", "toy")).map(list),
    "profile": st.just([]),
    "report": st.just([]),
    "table": st.just([]),
    "list": st.just([]),
    "status": st.just([]),
    "data": st.just([]),
    "check": st.sampled_from([word for word in HOSTILE if word not in ("", ".", "..", "/")]).map(lambda word: [word]),
}


def own_options(name: str) -> list[str]:
    """Return those of the options that a command takes."""
    told = re.findall(r"--[\w-]+", parser_of(name).format_usage())
    return [option for option in OPTIONS if option in told]


OWN = {name: own_options(name) for name in FIRST}
WORTH = ["run"] * 4 + ["table", "import"] * 2  # of more tries than the others


@st.composite
def commands(draw: Any) -> list[str]:
    """Draw the words of a command: its own first, some options with values, now and then a stray word."""
    name = draw(st.sampled_from([*FIRST, *WORTH]))
    words = [*draw(FIRST[name])]
    known = [*OPTIONS] if draw(st.integers(0, 9)) == 0 else OWN[name]
    for option in draw(st.lists(st.sampled_from(known), max_size=4, unique=True)):
        value = draw(OPTIONS[option])
        words += draw(st.sampled_from([[option, value], [f"{option}={value}"]]))
    if draw(st.integers(0, 4)) == 0:
        words.append(draw(st.one_of(st.sampled_from(FLAGS), TEXTS)))
    first = draw(or_hostile(name)) if draw(st.integers(0, 19)) == 0 else name
    return [first, *words]


def planned_only(arms: Sequence[str], setting: Setting, rounds: int) -> None:
    """Stand for a measurement: every arm that is about to be measured has a cell."""
    for arm in arms:
        assert cell_of(arm, setting).benchmark == setting.benchmark and rounds >= 1
    raise ArmError("not measured")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with files that options may name. No step is timed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NESS_BENCH_DATA", raising=False)
    monkeypatch.setattr("bench.cli.commands.run.warn_if_slower", lambda *_: None)
    monkeypatch.setattr("bench.cli.commands.tune.warn_if_slower", lambda *_: None)
    monkeypatch.setattr("bench.tools.profiling.profile.measure_arms", planned_only)
    (tmp_path / "m.csv").write_text("0.9,,\n0.8,0.85,\n0.7,0.88,0.95\n")
    (tmp_path / "wild.csv").write_text("[;\0\t1e999 -\n,,é\n\x1b[2J;nan\n")
    (tmp_path / "deep.toml").write_text("[gpm]\nlr = " + "[" * 10_000 + "]" * 10_000)
    (tmp_path / "nested.toml").write_text("[gpm.lr.a.b]\nc = 1\n[toy.x]\ny = 1979-05-27\n")
    (tmp_path / "huge.toml").write_text(f"[gpm]\nsamples = 0x{'f' * 5000}\nlr = inf\n")
    (tmp_path / "plugin.py").write_text("from bench.training.method import Method\n\n\nclass Own(Method):\n    pass\n")
    (tmp_path / "deep.py").write_text("x = " + "-" * 100_000 + "1\n")
    return tmp_path


def outcome(words: list[str]) -> str:
    """Return how a command ends: "done" or "refused". What is raised, or told on other than one line, is a fault."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()  # as strict as a terminal
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
            out.flush()
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = err.getvalue()
    assert "Traceback" not in said
    if code != 2:
        return "done"
    lines = [line for line in said.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and lines[0].isprintable(), said[:1000]
    assert len(said) < 10_000
    return "refused"


def fuzz(tries: int) -> Counter[str]:
    """Try so many commands, always the same ones, and return how they ended."""
    counts: Counter[str] = Counter()

    @settings(
        max_examples=tries,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(commands())
    def try_one(words: list[str]) -> None:
        counts["tries"] += 1
        counts[outcome(words)] += 1

    try_one()
    return counts


LONG_FORM = int(os.environ.get("NESS_BENCH_FUZZ", "400"))  # tries; NESS_BENCH_FUZZ=20000 takes a good part of an hour


@pytest.mark.parametrize("tries", [60, pytest.param(LONG_FORM, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("folder")
def test_no_words_end_in_a_traceback(tries: int, capsys: pytest.CaptureFixture[str]) -> None:
    counts = fuzz(tries)
    with capsys.disabled():
        print(f"\n{counts['tries']} tries: {counts['refused']} refused, {counts['done']} done, 0 tracebacks")
    assert counts["tries"] >= tries
    assert counts["refused"] > counts["done"] > 0
