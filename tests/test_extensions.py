"""What can be added from outside, without an edit of the library: a metric, a table format, an executor. Methods and
benchmarks are plugins, see tests/catalog/test_plugins.py."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.analysis import render
from bench.analysis.columns import METRICS, Metric
from bench.analysis.table import Table
from bench.execution import executors
from bench.execution.events import CellEvent
from bench.execution.executors.serial import run_serially

WORDS = ("--methods", "finetune", "--bench", "toy", "--seeds", "0,1", "--epochs", "1", "--out")


def test_a_metric(command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worst = Metric("WORST", "accuracy on the worst task at the end, %", lambda result: float(result.R[-1].min()))
    monkeypatch.setitem(METRICS, "worst", worst)
    answer = command(*WORDS, tmp_path, "--metric", "acc,worst")
    assert answer.code == 0 and "WORST: accuracy on the worst task at the end, %" in answer.out, answer.err
    assert "WORST" in command("table", "--out", tmp_path, "--metric", "worst").out


def test_a_table_format(command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows_alone(table: Table) -> str:
        return "\n".join(table.rows)

    monkeypatch.setitem(render.FORMATS, "rows", rows_alone)
    command(*WORDS, tmp_path)
    assert command("table", "--out", tmp_path, "--format", "rows").out == "finetune\n"


def test_an_executor(command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def noted(cells: executors.CellQueue, resources: executors.Resources) -> Iterator[CellEvent]:
        for event in run_serially(cells, resources):
            seen.append(type(event).__name__)
            yield event

    monkeypatch.setitem(executors.EXECUTORS, "noted", noted)
    answer = command(*WORDS, tmp_path, "--executor", "noted")
    assert answer.code == 0 and "(noted, " in answer.out
    assert seen.count("CellFinished") == 2 and seen.count("EpochStarted") == 6
