"""What is said, and left out, before a grid runs: benchmarks without data, data, cells and time by benchmark."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.cli.commands import announce
from bench.cli.grid import Grid, by_benchmark
from bench.execution.forecast.budget import HERE, Forecast, Guess, describe_part
from bench.execution.runner import Resources

Command = Callable[..., Any]
QUICK = ("--methods", "finetune", "--seeds", "0", "--epochs", "1", "--device", "cpu")
DOWNLOADED = {
    *("cifar100_superclass", "five_datasets", "permuted_mnist"),
    *("split_cifar100", "split_cifar100_tiny_vit", "split_cifar100_vit"),
}
WITHOUT_DATA = DOWNLOADED | {"mini_imagenet", "split_imagenet_r"}  # on a machine without a network
WITHOUT_WEIGHTS = {"split_cifar100_vit", "split_imagenet_r"}


def skipped(err: str) -> dict[str, str]:
    return dict(re.findall(r"^skipped: (\w+), \d cells?: (.*)$", err, re.MULTILINE))


@pytest.mark.slow
def test_the_command_of_the_front_page_succeeds_without_data_and_network(command: Command, tmp_path: Path) -> None:
    words = ("--methods", "ness,gpm", "--bench", "all", *QUICK[2:], "--data", tmp_path / "data")
    answer = command(*words, "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    lines = skipped(answer.err)
    assert lines.keys() == WITHOUT_DATA
    assert all("cannot be downloaded: no network in tests" in lines[name] for name in DOWNLOADED)
    assert "may not be downloaded" in lines["mini_imagenet"]
    assert all(line.endswith("--bench everything insists") for line in lines.values())
    assert answer.err.index("skipped:") < answer.err.index("[1/4]"), "before anything runs"
    assert answer.out.startswith("4 cells: 0 done, 4 to run")
    header = answer.out.splitlines()[1]
    assert "digits (1 epoch) ACC" in header and "permuted_digits (1 epoch) ACC" in header
    assert not any(name in answer.out for name in WITHOUT_DATA)
    [manifest] = (tmp_path / "out" / "tables").glob("*.json")
    assert "--bench digits,permuted_digits --seeds 0" in json.loads(manifest.read_text())["command"]


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", fail)


@pytest.mark.usefixtures("no_download")
def test_everything_insists(command: Command, tmp_path: Path) -> None:
    where = "--data", tmp_path / "data", "--out", tmp_path / "out"
    refused = command(*QUICK, "--bench", "everything", *where)
    assert refused.code == 2 and "weights of the network are missing" in refused.err and skipped(refused.err) == {}
    named = sorted({"digits", *WITHOUT_DATA} - WITHOUT_WEIGHTS)
    answer = command(*QUICK, "--bench", ",".join(named), *where)
    assert answer.code == 1 and skipped(answer.err) == {}
    stored = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/finetune/*.json")]
    assert {result["cell"]["benchmark"] for result in stored if result["error"]} == {*named} - {"digits"}
    assert len(stored) == len(named)


@pytest.mark.usefixtures("no_download")
def test_a_download_that_begins_and_fails_is_skipped_too(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.data.availability.trouble_at", lambda address: "")
    words = (*QUICK, "--bench", "all", "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert skipped(command(*words, "--dry-run").err).keys() == {"mini_imagenet", *WITHOUT_WEIGHTS}
    answer = command(*words)
    assert answer.code == 0 and skipped(answer.err).keys() == WITHOUT_DATA
    assert "cannot download cifar100: no route to host" in skipped(answer.err)["split_cifar100"]


def test_settings_of_a_skipped_benchmark_are_no_error(command: Command, tmp_path: Path) -> None:
    words = (*QUICK, "--bench", "all", "--set", "cifar100_superclass.order=1", "--data", tmp_path / "data")
    answer = command(*words, "--out", tmp_path / "out", "--dry-run")
    assert answer.code == 0 and "cifar100_superclass" in skipped(answer.err)


def test_stored_results_need_no_data(
    command: Command, tmp_path: Path, make_result: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.catalog.catalog import Catalog
    from bench.catalog.plan import Request
    from bench.execution import store

    for cell in Catalog().plan(Request(["finetune"], ["permuted_mnist"], [0, 1])).cells[:1]:
        result = make_result()
        result.cell = cell
        result.matrix = [[0.5] * 10 for _ in range(10)]
        result.tasks = [{} for _ in range(10)]
        store.save_result(result, tmp_path / "out")
    words = ("--methods", "finetune", "--bench", "all", "--data", tmp_path / "data", "--out", tmp_path / "out")
    whole = command(*words, "--seeds", "0", "--dry-run")
    assert skipped(whole.err).keys() == WITHOUT_DATA - {"permuted_mnist"}
    assert "permuted_mnist: data missing, 11.5 MB to download; 1 cell, 0 to run\n" in whole.out
    part = command(*words, "--seeds", "0,1", "--dry-run")
    assert "permuted_mnist, 1 cell: " in part.err and skipped(part.err).keys() == WITHOUT_DATA
    assert re.search(r"done +finetune on permuted_mnist, seed 0", part.out)
    assert "permuted_mnist, seed 1" not in part.out


def test_a_dry_run_tells_data_cells_and_time_of_each_benchmark(command: Command, tmp_path: Path) -> None:
    words = ("--methods", "finetune,gpm", "--epochs", "1", "--device", "cpu", "--out", tmp_path)
    command(*words, "--bench", "toy", "--seeds", "0")
    answer = command(*words, "--bench", "toy,toy_shared", "--seeds", "0,1", "--dry-run")
    lines = answer.out.splitlines()
    assert re.fullmatch(r"  toy: data bundled; 4 cells, 2 to run: (about \d+|under 1) s", lines[1])
    assert lines[2] == "  toy_shared: data bundled; 4 cells, 4 to run: time unknown"
    assert lines[3].startswith("  done ")


def test_the_time_of_a_benchmark_is_that_of_its_cells(make_result: Callable[..., Any]) -> None:
    cells = [make_result(method, benchmark=name).cell for name in ("x", "y") for method in ("a", "b")]
    guesses = [(cells[0], Guess(10, HERE, False)), (cells[2], Guess(50, HERE, False)), (cells[3], Guess(7, HERE, True))]
    forecast = Forecast(guesses, {"why": ["b on x"]})
    assert describe_part(forecast, "x") == "about 10 s, without b"
    assert describe_part(forecast, "y") == "at most 57 s"
    assert describe_part(forecast, "z") == "time unknown"
    assert describe_part(Forecast([(cells[0], Guess(0.2, HERE, True))]), "x") == "under 1 s"


def test_nothing_to_run_takes_no_time(tmp_path: Path, command: Command) -> None:
    command(*QUICK, "--bench", "toy", "--out", tmp_path)
    assert (
        "  toy: data bundled; 1 cell, 0 to run\n"
        in command(*QUICK, "--bench", "toy", "--out", tmp_path, "--dry-run").out
    )
    assert list(by_benchmark(Grid([]), Forecast(), Resources())) == []


def test_one_cell_is_one(capsys: pytest.CaptureFixture[str], make_result: Callable[..., Any]) -> None:
    announce("cell", [make_result().cell], [], "serial", Resources())
    announce("cell", [], [], "serial", Resources())
    assert re.findall(r"^\d+ cells?", capsys.readouterr().out, re.MULTILINE) == ["1 cell", "0 cells"]


def test_what_is_said_of_the_time_cannot_move_the_cursor(
    capsys: pytest.CaptureFixture[str], make_result: Callable[..., Any]
) -> None:
    """It may quote the error of a method that was timed."""
    announce("cell", [make_result().cell], [], "serial", Resources(), lambda: "time unknown (\x1b[31mred \u202egnorts)")
    assert capsys.readouterr().out.endswith(": time unknown (\\x1b[31mred \\u202egnorts)\n")
