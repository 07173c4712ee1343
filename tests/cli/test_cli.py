"""The command line from end to end: in-process, on the toy benchmark, one epoch a task."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench import installation
from bench.analysis.columns import METRICS
from bench.catalog.catalog import Catalog
from bench.cli import main
from bench.execution import runner

Command = Callable[..., Any]


def quick(bench: str = "toy", seeds: str = "0,1") -> tuple[str, ...]:
    return "--bench", bench, "--seeds", seeds, "--epochs", "1", "--device", "cpu"


QUICK = quick()


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cells that were trained, in order."""
    trained: list[str] = []
    cell_events = runner.cell_events

    def record(cell: Any, *rest: Any) -> Any:
        trained.append(str(cell))
        return cell_events(cell, *rest)

    monkeypatch.setattr("bench.execution.executors.serial.cell_events", record)
    return trained


def stored(out: Path) -> dict[str, dict[str, Any]]:
    """The result files, by method and seed."""
    raw = [json.loads(path.read_text()) for path in out.glob("*/*/seed*.json")]
    return {f"{r['cell']['method']} {r['cell']['seed']}": r for r in raw}


def table_in(out: str) -> str:
    """What a run prints after its first line."""
    return out.split("\n", 1)[1]


def test_from_a_grid_to_a_table_and_again(command: Command, ran: list[str], tmp_path: Path) -> None:
    words = ("--methods", "finetune,gpm", *QUICK, "--out", tmp_path)
    first = command(*words)
    assert first.code == 0
    assert first.out.startswith("4 cells: 0 done, 4 to run")
    assert len(ran) == 4
    assert re.findall(r"^\[(\d)/4\] (\w+) on toy, seed \d: [\d.]+ s\b", first.err, re.M) == [
        ("1", "finetune"),
        ("2", "finetune"),
        ("3", "gpm"),
        ("4", "gpm"),
    ]
    assert re.search(r"^\| finetune +\|.*±", first.out, re.M)
    assert re.search(r"^\| gpm +\|.*±", first.out, re.M)
    assert re.search(r"toy with 1 epoch instead of \d+", first.out)
    assert "n = 2 (seeds 0, 1)" in first.out

    again = command(*words)
    assert again.code == 0
    assert again.out.startswith("4 cells: 4 done, 0 to run")
    assert table_in(again.out) == table_in(first.out)
    assert again.err == ""
    assert len(ran) == 4

    more = command("--methods", "finetune,gpm", *quick(seeds="0-2"), "--out", tmp_path)
    assert more.out.startswith("6 cells: 4 done, 2 to run")
    assert set(ran[4:]) == {"finetune on toy, seed 2", "gpm on toy, seed 2"}


def test_a_result_can_be_traced(command: Command, tmp_path: Path) -> None:
    command("--methods", "finetune", *quick(seeds="5"), "--out", tmp_path)
    result = stored(tmp_path)["finetune 5"]
    R = np.array(result["matrix"], dtype=float)
    assert R.shape == (3, 3)
    assert (np.isnan(R) == ~np.tri(3, dtype=bool)).all()
    assert ((np.tril(R) >= 0) & (np.tril(R) <= 1)).all()
    assert result["error"] is None
    assert result["cell"]["training"]["epochs"] == 1
    assert [task["epochs"] for task in result["tasks"]] == [1, 1, 1]
    assert {"packages", "device", "threads", "seconds", "process_peak_bytes"} <= set(result["environment"])
    manifest = json.loads(next((tmp_path / "tables").glob("*.json")).read_text())
    assert all((tmp_path / path).exists() for path in manifest["cells"])
    assert manifest["command"].endswith("--methods finetune --bench toy --seeds 5 --epochs 1")


def test_a_later_table_takes_no_place_of_an_earlier_one(command: Command, tmp_path: Path) -> None:
    grids = [
        ("--methods", "finetune", *quick(seeds="0")),
        ("--methods", "gpm", *quick(seeds="0")),
        ("--methods", "finetune", *quick(seeds="0,1")),
        ("--methods", "finetune", *quick(seeds="0"), "--metric", "acc"),
        ("--methods", "gpm", *quick(seeds="0"), "--set", "gpm.energy=0.5"),
    ]
    contents: dict[str, bytes] = {}
    for n, words in enumerate(grids, 1):
        assert command(*words, "--out", tmp_path).code == 0
        found = {path.name: path.read_bytes() for path in (tmp_path / "tables").iterdir()}
        assert len(found) == 4 * n and contents.items() <= found.items()
        contents = found
    assert {name.rpartition("-")[0] for name in contents} == {"toy-1epochs"}
    command(*grids[0], "--out", tmp_path)
    again = {path.name: path.read_bytes() for path in (tmp_path / "tables").iterdir()}
    assert again == contents, "the same grid has the same files"
    page = command("report", "--out", tmp_path)
    assert page.code == 0
    text = (tmp_path / "report.html").read_text()
    assert "--methods finetune --bench toy --seeds 0 " in text and "--set gpm.energy=0.5" in text


def test_the_name_of_a_table_is_short_enough_for_a_file() -> None:
    from bench.catalog.plan import Request
    from bench.cli.commands.run import name_of_table

    request = Request(["a"], [f"{'x' * 90}{n}" for n in range(9)], [0], protocols=["published", "sound"])
    name = name_of_table(request, [], ["acc"])
    assert re.fullmatch(r"9-benchmarks-published-sound-[0-9a-f]{8}", name)


def test_a_fresh_clone_is_told_of_the_published_results(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(installation.ROOT)
    answer = command("table", "--out", tmp_path)
    assert answer.code == 2 and "no results of these" in answer.err
    assert "come with the suite: `python run_bench.py table --out results/published`" in answer.err
    page = command("report", "--out", tmp_path)
    assert "`python run_bench.py report --out results/published --to report.html`" in page.err
    shown = command("table", "--out", "results/published", "--bench", "digits", "--methods", "ness,gpm")
    assert shown.code == 0 and "| ness" in shown.out and "(n=" not in shown.out
    none = command("table", "--out", "results/published", "--bench", "toy")
    assert none.code == 2 and "come with the suite" not in none.err
    monkeypatch.chdir(tmp_path)
    assert f"--out {installation.ROOT / 'results' / 'published'}`" in command("table", "--out", "x").err
    monkeypatch.setattr(installation, "is_checkout", lambda: False)
    assert "come with the suite" not in command("table", "--out", "x").err


def test_dry_run(command: Command, ran: list[str], tmp_path: Path) -> None:
    command("--methods", "finetune", *quick(seeds="0"), "--out", tmp_path)
    answer = command("--methods", "finetune", *QUICK, "--out", tmp_path, "--dry-run")
    assert answer.code == 0
    assert "2 cells: 1 done, 1 to run" in answer.out
    assert re.search(r"done +finetune on toy, seed 0", answer.out)
    assert re.search(r"to run +finetune on toy, seed 1", answer.out)
    assert len(ran) == 1


def test_list(command: Command, plugin: Callable[..., Path], tmp_path: Path) -> None:
    answer = command("list", "--plugin", plugin("mine"), "--data", tmp_path)
    assert answer.code == 0
    lines = {line.split()[0]: line for line in answer.out.splitlines() if line.startswith("  ")}
    assert set(lines) == {*Catalog().available("Method"), *Catalog().available("Benchmark"), "mine"}
    assert "arXiv" in lines["ness"]
    assert "The method mine." in lines["mine"]
    assert "domain-il" in lines["permuted_digits"]
    assert "missing, 169 MB" in lines["split_cifar100"]
    assert "bundled" in lines["digits"]
    (tmp_path / "cifar100.npz").touch()
    assert "data ready" in command("list", "--data", tmp_path).out


def test_the_table_verb(command: Command, ran: list[str], tmp_path: Path) -> None:
    run = command("--methods", "finetune,gpm", *QUICK, "--out", tmp_path)
    trained = len(ran)
    table = ("table", "--out", tmp_path)
    assert command(*table).out == table_in(run.out)
    latex = command(*table, "--format", "latex").out
    assert latex.startswith(r"\begin{table}")
    assert latex.rstrip().endswith(r"\end{table}")
    frame = pd.read_csv(io.StringIO(command(*table, "--format", "csv", "--metric", "acc,forgetting").out))
    assert set(frame["method"]) == {"finetune", "gpm"}
    assert set(frame["metric"]) == {"acc", "forgetting"}
    assert set(frame["benchmark"]) == {"toy (1 epoch)"}
    assert (frame["n"] == 2).all()
    R = np.array([stored(tmp_path)[f"gpm {seed}"]["matrix"][-1] for seed in (0, 1)])
    shown = frame[(frame["method"] == "gpm") & (frame["metric"] == "acc")].iloc[0]
    assert shown["mean"] == pytest.approx(100 * R.mean())
    assert shown["sd"] == pytest.approx(100 * R.mean(1).std(ddof=1))
    one = command(*table, "--methods", "gpm", "--seeds", "1")
    assert "finetune" not in one.out
    assert "n = 1 (seed 1)" in one.out
    assert len(ran) == trained


def test_every_metric_of_the_help_can_be_shown(command: Command, tmp_path: Path) -> None:
    help_text = main.parser_of("table").format_help()
    assert ", ".join(METRICS) in " ".join(help_text.split())
    answer = command("--methods", "ewc", *QUICK, "--out", tmp_path, "--metric", ",".join(METRICS))
    assert answer.code == 0
    assert all(metric.label in answer.out for metric in METRICS.values())


def test_set(command: Command, ran: list[str], tmp_path: Path) -> None:
    words = ("--methods", "gpm", "--bench", "toy", "--seeds", "0", "--out", tmp_path, "--epochs", "1")
    command(*words)
    answer = command(*words, "--set", "gpm.energy=0.5", "--set", "gpm.lr=0.01", "--set", "gpm.first_rule=reach")
    assert answer.code == 0
    assert len(ran) == 2  # another setting is another cell
    cells = [json.loads(path.read_text())["cell"] for path in tmp_path.glob("*/*/*.json")]
    changed = next(cell for cell in cells if "energy" in cell["overrides"])
    assert (changed["config"]["energy"], changed["training"]["lr"]) == (0.5, 0.01)
    assert changed["config"]["first_rule"] == "reach"
    assert re.search(r"^\| gpm \([^|]*energy=0\.5", answer.out, re.M)
    assert len(re.findall(r"^\| gpm", command("table", "--out", tmp_path).out, re.M)) == 2


def test_a_setting_that_is_the_recipes_is_the_same_cell(command: Command, ran: list[str], tmp_path: Path) -> None:
    words = ("--methods", "gpm", *quick(seeds="0"), "--out", tmp_path)
    command(*words)
    command(*words, "--set", "gpm.energy=0.97")
    assert len(ran) == 1


def test_results_of_an_edited_method_are_marked_and_can_be_run_again(
    command: Command, ran: list[str], plugin: Callable[..., Path], tmp_path: Path
) -> None:
    words = ("--methods", "mine", *QUICK, "--out", tmp_path / "out", "--plugin")
    old, new = (plugin("mine", body, folder) for folder, body in (("old", "x = 1"), ("new", "x = 2")))
    assert "°" not in command(*words, old).out
    answer = command(*words, new)
    assert (answer.code, len(ran)) == (0, 2)
    assert "changed since 2 of the results: --rerun changed" in answer.err
    assert "° changed since it was run: the method's code." in answer.out
    assert "°" in command("table", "--methods", "mine", "--out", tmp_path / "out", "--plugin", new).out
    again = command(*words, new, "--rerun", "changed")
    assert (again.code, len(ran)) == (0, 4)
    assert "°" not in again.out and "changed" not in again.err
    assert len(list((tmp_path / "out").glob("toy/mine/*.json"))) == 2  # in the place of the old ones
    assert command(*words, new, "--rerun", "changd").code == 2


def test_results_of_another_version_are_never_averaged(
    command: Command, ran: list[str], plugin: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    old, new = (plugin("mine", f"version = {n}", folder) for folder, n in (("old", 1), ("new", 2)))
    command("--methods", "mine", *quick(seeds="0,1"), "--out", out, "--plugin", old)
    answer = command("--methods", "mine", *quick(seeds="1"), "--out", out, "--plugin", new)
    assert len(ran) == 3 and "°" not in answer.out
    table = command("table", "--methods", "mine", "--out", out, "--plugin", new).out
    rows = re.findall(r"^\| (mine[^|]*?) *\| *([^|]*)", table, re.M)
    assert [name.partition(" [")[0] for name, _ in rows] == ["mine", "mine"]
    plain, other = sorted(rows, key=lambda row: "[" in row[0])
    assert "(n=1)" in plain[1] and "°" not in plain[1]
    assert "(n=" not in other[1] and "°" in other[1]
    assert "the method's version" in table and "under other settings or an older version" in table


# What goes wrong while running


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("def begin_task(self, task, data):\n    raise ValueError('boom in begin_task')", "ValueError: boom"),
        ("def penalty(self):\n    return float('nan')", "loss became nan"),
        ("def __init__(self, *args):\n    raise RuntimeError('boom at birth')", "RuntimeError: boom at birth"),
        ("def end_task(self, task, data):\n    data.earlier", "PermissionError: the method reads earlier"),
    ],
)
def test_a_failing_method_fails_alone(
    command: Command, plugin: Callable[..., Path], tmp_path: Path, ran: list[str], body: str, error: str
) -> None:
    words = ("--plugin", plugin("bad", body), "--methods", "bad,finetune", *QUICK, "--out", tmp_path / "out")
    answer = command(*words)
    assert answer.code == 1
    assert re.search(r"^\| bad +\| +failed \|", answer.out, re.M)
    assert re.search(r"^\| finetune +\| +[\d.]+ ±", answer.out, re.M)
    assert len(re.findall(rf"^failed: bad on toy, seed 0 and 1 more: .*{error}.*traceback in", answer.err, re.M)) == 1
    results = stored(tmp_path / "out")
    assert error in results["bad 0"]["error"]
    assert results["bad 0"]["traceback"].startswith("Traceback")
    assert results["finetune 1"]["error"] is None
    command(*words)
    assert ran[4:] == ["bad on toy, seed 0", "bad on toy, seed 1"]  # what failed is tried again, and nothing else


def test_interrupt_and_resume(command: Command, plugin: Callable[..., Path], tmp_path: Path, ran: list[str]) -> None:
    flag = tmp_path / "flag"
    body = (
        "def begin_task(self, task, data):\n"
        "    from pathlib import Path\n"
        f"    if not Path({str(flag)!r}).exists():\n"
        "        raise KeyboardInterrupt"
    )
    words = ("--plugin", plugin("slow", body), "--methods", "finetune,slow", *QUICK, "--out", tmp_path / "out")
    answer = command(*words)
    assert answer.code == 130
    assert answer.err.splitlines()[-1].startswith("interrupted: 2 cells kept; the same command runs the other 2")
    assert set(stored(tmp_path / "out")) == {"finetune 0", "finetune 1"}
    flag.touch()
    assert command(*words).code == 0
    assert ran[3:] == ["slow on toy, seed 0", "slow on toy, seed 1"]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", fail)


@pytest.mark.usefixtures("offline")
def test_missing_data_fails_its_cells_alone(command: Command, tmp_path: Path, ran: list[str]) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    answer = command("--methods", "finetune", *quick("split_cifar100,toy"), "--data", data, "--out", out)
    assert answer.code == 1
    assert ran == ["finetune on toy, seed 0", "finetune on toy, seed 1"]
    line = next(line for line in answer.err.splitlines() if line.startswith("failed: finetune on split_cifar100"))
    for part in ("cifar-100-python.tar.gz", "169 MB", str(data), "no route to host"):
        assert part in line
    assert "failed" in answer.out
    assert len(list(out.glob("split_cifar100/finetune/*.json"))) == 2


def test_damaged_data_is_named_before_training(command: Command, tmp_path: Path) -> None:
    (tmp_path / "cifar100.npz").write_bytes(b"PK\x03\x04 half")
    words = ("--methods", "finetune", *quick("split_cifar100,toy"), "--data", tmp_path)
    answer = command(*words, "--out", tmp_path / "out")
    assert answer.code == 1
    assert re.search(rf"failed: .*split_cifar100, seed 0 and 1 more: {tmp_path}/cifar100\.npz", answer.err)
    assert answer.err.count("failed: finetune on split_cifar100") == 1, "one line for one cause"
    assert "failed: finetune on toy" not in answer.err


def older(text: str) -> str:
    return text.replace('"schema": ', '"schema": -')


@pytest.mark.parametrize("damage", [lambda text: text[:100], older])
def test_an_unreadable_result_runs_again(
    command: Command, tmp_path: Path, ran: list[str], damage: Callable[[str], str]
) -> None:
    words = ("--methods", "finetune", *QUICK, "--out", tmp_path)
    first = command(*words)
    bad, good = sorted(tmp_path.glob("toy/finetune/*.json"))
    before = good.read_bytes()
    bad.write_text(damage(bad.read_text()))
    table = command("table", "--out", tmp_path)
    assert (table.code, table.err.count("\n")) == (0, 1)
    assert f"warning: {bad}" in table.err
    answer = command(*words)
    assert answer.code == 0
    assert f"warning: {bad}" in answer.err
    assert "runs again" in answer.err
    assert ran[2:] == ["finetune on toy, seed 0"]
    assert good.read_bytes() == before
    assert table_in(answer.out).split("\n\n")[0] == table_in(first.out).split("\n\n")[0]


# Requests that cannot be met


BAD = {
    "verb": (["tabel"], ["tabel", "table"]),
    "method": (["--methods", "fintune"], ["fintune", "'finetune'"]),
    "benchmark": (["--bench", "digit"], ["digit", "'digits'"]),
    "metric": (["--metric", "bwtt"], ["bwtt", "'bwt'"]),
    "metric of table": (["table", "--metric", "bwtt"], ["'bwt'"]),
    "format": (["table", "--format", "latx"], ["latx", "'latex'"]),
    "executor": (["--executor", "rays"], ["rays", "'ray'"]),
    "device": (["--device", "cud"], ["cud", "'cuda'"]),
    "option": (["--epoch", "3"], ["--epoch"]),
    "set: no field": (["--set", "gpm"], ["--set", "gpm"]),
    "set: no value": (["--set", "gpm.energy"], ["--set", "gpm.energy"]),
    "set: method": (["--set", "gpn.energy=1"], ["gpn", "'gpm'"]),
    "set: field": (["--set", "gpm.enregy=1"], ["'enregy': did you mean 'energy'?"]),
    "set: field like none": (["--set", "gpm.xyzzy=1"], ["energy (float)", "samples (int)", "lr (float)"]),
    "set: no fields": (["--set", "finetune.x=1"], ["finetune", "none of its own", "epochs (int)"]),
    "set: type": (["--set", "gpm.samples=many"], ["gpm.samples", "int", "many"]),
    "set: literal": (["--set", "gpm.first_rule=above"], ["gpm.first_rule", "below | reach", "above"]),
    "set: range": (["--set", "gpm.lr=-1"], ["gpm", "lr", "-1"]),
    "set: deep": (["--set", f"gpm.lr={'[' * 100_000}"], ["gpm.lr", "float", "characters left out"]),
    "set: minus minus": (["--set", f"gpm.lr={'-' * 9_000}1"], ["gpm.lr", "float"]),
    "set: huge": (["--set", "gpm.samples=" + "9" * 5000], ["gpm.samples", "int"]),
    "set: huge in hexadecimal": (["--set", "gpm.samples=0x" + "f" * 5000], ["gpm.samples", "too large"]),
    "set: huge for a float": (["--set", "gpm.lr=" + "9" * 400], ["gpm.lr", "too large"]),
    "set: infinite": (["--set", "gpm.lr=1e999"], ["gpm.lr", "too large", "inf"]),
    "set: NUL": (["--set", "gpm.first_rule=a\0b"], ["gpm.first_rule", "a\\x00b"]),
    "set: odd": (["--set", "gpm.lr={[]: 1}"], ["gpm.lr", "float"]),
    "seeds: empty": (["--seeds", ""], ["--seeds"]),
    "seeds: text": (["--seeds", "a,b"], ["--seeds", "a,b"]),
    "seeds: float": (["--seeds", "1.5"], ["--seeds", "1.5"]),
    "seeds: negative": (["--seeds=-1"], ["--seeds", "-1"]),
    "seeds: backwards": (["--seeds", "3-1"], ["--seeds", "3-1"]),
    "seeds: repeated": (["--seeds", "1,2,1"], ["--seeds", "repeats"]),
    "seeds: overlap": (["--seeds", "0-3,2"], ["--seeds", "repeats"]),
    "seeds: which is backwards": (["--seeds", "0-9,3-0"], ["'0-9,3-0'", "3-0 runs backwards", "0-3"]),
    "seeds: which is no number": (["--seeds", "0-9,b"], ["'b' in '0-9,b'"]),
    "seeds: which repeats": (["--seeds", "0-3,2"], ["repeats seed 2"]),
    "seeds: 5,000 digits": (["--seeds", "9" * 5000], ["--seeds", "characters left out", "2**32"]),
    "seeds: beyond": (["--seeds", "4294967296"], ["4294967296"]),
    "seeds: too many": (["--seeds", "0-5000,6000-12000"], ["at most 10,000"]),
    "seeds: --": (["--seeds=--"], ["--seeds", "'--'"]),
    "epochs: 0": (["--epochs", "0"], ["--epochs", "0"]),
    "epochs: text": (["--epochs", "few"], ["--epochs", "few"]),
    "workers": (["--executor", "ray", "--workers", "0"], ["--workers", "0"]),
    "serial workers": (["--workers", "2"], ["--workers", "ray"]),
    "threads": (["--threads", "0"], ["--threads", "0"]),
    "no cuda": (["--device", "cuda"], ["--device cuda"]),
    "logger": (["--log", "tensorboard,wanb"], ["wanb", "'wandb'"]),
    "no logger": (["--log", ""], ["no logger is named"]),
    "no second gpu": (["--device", "cuda:1"], ["--device cuda:1", "--device cpu"]),
    "no mps": (["--device", "mps"], ["--device mps", "--device cpu"]),
    "epochs: huge": (["--epochs", "9" * 20], ["--epochs", "too large"]),
    "epochs: 5,000 digits": (["--epochs", "9" * 5000], ["--epochs", "too large"]),
    "time limit: nan": (["--time-limit", "nan"], ["--time-limit", "nan"]),
    "name: too long": (["--data", "x" * 256], ["File name too long"]),
    "name: NUL": (["--data", "a\0b"], ["a\\x00b", "null"]),
    "name: line break": (["--methods", "a\nb"], ["'a\\nb'"]),
    "name: escape sequence": (["--bench", "\x1b[2J"], ["'\\x1b[2J'"]),
    "name: half a character": (["--bench", "\udcff"], ["\\udcff"]),
    "plugin: too long": (["--plugin", "x" * 256], ["File name too long"]),
    "plugin: NUL": (["--plugin", "a\0.py"], ["a\\x00.py"]),
    "no plugin": (["--plugin", "/nowhere/x.py"], ["/nowhere/x.py"]),
    "no methods": (["--methods", ""], ["method"]),
    "no benchmark": (["--bench", ","], ["benchmark"]),
    "no metric": (["--metric", ","], ["metric"]),
}


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing trains, nothing is fetched, and there is no CUDA device."""

    def fail(*_: Any) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr("bench.execution.executors.serial.cell_events", fail)
    monkeypatch.setattr("bench.execution.grid.prepare", fail)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_a_logger_that_is_not_installed(command: Any, untouched: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert_refused(command("--log", "tensorboard", "--log", "mlflow"), "--log mlflow", "pip install mlflow")


def test_profile_refuses_a_device_that_is_not_here(command: Any, untouched: None) -> None:
    assert_refused(command("profile", "--device", "cuda:0"), "--device cuda:0", "--device cpu")


def test_ray_hands_out_gpus_itself(command: Any, untouched: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.execution.machine.find_device", lambda wanted: wanted)
    remedy = "CUDA_VISIBLE_DEVICES=1"
    assert_refused(command("--executor", "ray", "--device", "cuda:1"), "--executor serial", remedy, "--device cuda")
    there = ("--executor", "ray", "--ray-address", "auto")
    assert_refused(command(*there, "--device", "mps"), "--device mps", "--ray-address")


def assert_refused(answer: Any, *parts: str) -> None:
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert "Traceback" not in answer.err
    for part in parts:
        assert part in answer.err


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("words", "parts"), BAD.values(), ids=BAD.keys())
def test_a_bad_request_is_one_line(command: Command, tmp_path: Path, words: list[str], parts: list[str]) -> None:
    assert_refused(command(*words, *(["--out", tmp_path / "out"] if words != ["tabel"] else [])), *parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("untouched")
def test_a_folder_that_cannot_be_written(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "results"
    assert_refused(command("--methods", "finetune", *QUICK, "--out", out), str(out), "--out")


@pytest.mark.usefixtures("untouched")
def test_a_broken_plugin_is_one_line(command: Command, plugin: Callable[..., Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("class Broken(Method:\n")
    assert_refused(command("--plugin", broken, "--out", tmp_path / "out"), str(broken), "line 1")
    raising = plugin("raising", "1 / 0")
    assert_refused(command("--plugin", raising, "--out", tmp_path / "out"), str(raising), "ZeroDivisionError")


NESTED = {
    "deep": ("[gpm]\nlr = " + "[" * 10_000 + "]" * 10_000, ["nested too deep"]),
    "tables in a table": ("[gpm.lr.a]\nb = 1\n", ["gpm.lr is float", "{'a': {'b': 1}}"]),
    "a date": ("[gpm]\nlr = 1979-05-27\n", ["gpm.lr is float"]),
    "huge": (f"[gpm]\nsamples = 0x{'f' * 5000}\n", ["gpm.samples", "too large"]),
    "infinite": ("[gpm]\nlr = inf\n", ["gpm.lr", "too large"]),
    "a table for a name": ("[bench]\nx = 1\n", ["'bench'"]),
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("text", "parts"), NESTED.values(), ids=NESTED)
def test_an_odd_recipe_is_one_line(command: Command, tmp_path: Path, text: str, parts: list[str]) -> None:
    (tmp_path / "odd.toml").write_text(text)
    words = ("--methods", "gpm", "--recipe", tmp_path / "odd.toml", "--out", tmp_path / "out")
    assert_refused(command(*words), *parts)


@pytest.mark.usefixtures("untouched")
def test_a_deeply_nested_plugin_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "deep.py").write_text("x = " + "-" * 100_000 + "1\n")
    assert_refused(command("--plugin", tmp_path / "deep.py", "--out", tmp_path / "out"), "deep.py", "nested too deep")


def test_a_new_name_is_short_enough_for_a_file(command: Command, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(command("new", "method", "x" * 256), "longer than 100 letters")
    assert_refused(command("new", "method", "__main__"), "taken by a Python module")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("untouched")
def test_a_table_of_nothing(command: Command, tmp_path: Path) -> None:
    assert_refused(command("table", "--out", tmp_path), str(tmp_path))


def test_not_applicable_under_another_budget(command: Command, plugin: Callable[..., Path], tmp_path: Path) -> None:
    file = plugin(
        "picky", "@classmethod\ndef unsupported(cls, benchmark, training):\n    return 'it needs a transformer'"
    )
    words = ("--plugin", file, "--methods", "finetune,picky", *QUICK, "--out", tmp_path / "out", "--metric", "acc")
    answer = command(*words)
    assert answer.code == 0
    assert re.search(r"^\| picky +\| +n/a \|$", answer.out, re.M)
    assert "picky does not apply to toy: it needs a transformer" in answer.out


PROBE = """
import sys
from bench.cli.main import main
try:
    code = main(sys.argv[2:])
except SystemExit as exit:
    code = exit.code or 0
slow = {'torch', 'ray', 'sklearn', 'pandas', 'scipy', 'matplotlib'}
heavy = sorted({name.split('.')[0] for name in sys.modules} & slow)
print('HEAVY', *heavy)
sys.exit(code != int(sys.argv[1]))
"""


QUICK_ANSWERS = [
    (0, ["list"]),
    (0, ["list", "--recipes"]),
    (0, ["--help"]),
    (0, ["table", "--help"]),
    (0, ["--dry-run", "--device", "cpu", "--out", "{}"]),
    (0, ["tune", "--dry-run", "--device", "cpu", "--out", "{}"]),
    (2, ["--methods", "fintune"]),
    (2, ["--set", "ness.epz=3"]),
    (2, ["--set", "ness.eps=-1"]),
    (2, ["--device", "cud"]),
]


@pytest.mark.parametrize(("code", "words"), QUICK_ANSWERS)
@pytest.mark.slow
def test_quick_answers_import_nothing_heavy(code: int, words: list[str], tmp_path: Path) -> None:
    probe = [sys.executable, "-c", PROBE, str(code), *(word.format(tmp_path) for word in words)]
    done = subprocess.run(probe, cwd=installation.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["HEAVY"]


@pytest.mark.parametrize("form", [["md"], ["csv"], ["latex", "--siunitx"], ["md", "--methods", "finetune"]])
@pytest.mark.slow
def test_a_table_of_stored_results_imports_nothing_heavy(command: Command, tmp_path: Path, form: list[str]) -> None:
    command("--methods", "finetune,gpm", *QUICK, "--out", tmp_path)
    words = ["table", "--out", str(tmp_path), "--format", *form]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, "0", *words], cwd=installation.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    *table, heavy = done.stdout.rstrip("\n").split("\n")
    assert heavy.split() == ["HEAVY"] and "\n".join(table) + "\n" == command(*words).out


def test_help_is_for_newcomers(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for part in (
        "--methods",
        "--bench",
        "--seeds",
        "--set",
        "--epochs",
        "--executor",
        "list",
        "table",
        "python run_bench",
    ):
        assert part in text


def test_two_values_of_one_option(command: Command) -> None:
    answer = command("--bench", "toy", "--bench", "digits", "--dry-run")
    assert_refused(answer, "--bench is given twice, as toy and as digits")
    assert command("--bench", "toy", "--bench", "toy", "--dry-run").code == 0


@pytest.mark.parametrize("option", ["--methods", "--bench"])
def test_a_file_that_was_not_named_as_a_plugin(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").touch()
    answer = command("run", option, "mine", "--dry-run")
    assert answer.code == 2 and "add --plugin mine.py" in answer.err and len(answer.err.splitlines()) == 1
    answer = command("run", option, "mime", "--dry-run")
    assert answer.code == 2 and "known: " in answer.err
