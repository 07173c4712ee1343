"""The files of printed numbers, line by line: results.csv and seeds.csv, as they stand in `printed/`."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from bench.core import UserError

FOLDER = Path(__file__).resolve().parent / "printed"
COLUMNS = {"acc": ("acc_mean", "acc_std"), "bwt": ("bwt_mean", "bwt_std")}  # of results.csv
TOLD = ("benchmark", "setting", "method", "source_paper", "source_table", "acc_mean")  # of every line


@cache
def printed_lines() -> list[dict[str, str]]:
    """Return the lines of results.csv. One that makes no sense is a `UserError` with its number."""
    path = FOLDER / "results.csv"
    found: list[dict[str, str]] = []
    seen: dict[tuple[str, ...], int] = {}
    for number, record in _numbered(path):
        complaint = _complaint(record)
        same = tuple(record.values())
        if same in seen and "one repeat" not in record["setting"]:  # of which there are several
            complaint = f"the same as line {seen[same]}"
        if complaint:
            raise UserError(f"{path}, line {number}: {complaint}")
        seen[same] = number
        found.append(record)
    return found


def _numbered(path: Path) -> list[tuple[int, dict[str, str]]]:
    with path.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        return [(reader.line_num, record) for record in reader]


def _complaint(record: Mapping[str, str | None]) -> str:
    """Return what is wrong with a line; '' if nothing."""
    for name in TOLD:
        if not record.get(name):
            return f"it names no {name}"
    for mean, sd in COLUMNS.values():
        if record[sd] and not record[mean]:
            return f"{sd} without {mean}"
        for name in (mean, sd):
            value = record[name] or "0"
            if not re.fullmatch(r"-?\d+(\.\d+)?", value):
                return f"{name} is '{value}', no number"
    return ""


@cache
def seed_lines() -> list[dict[str, str]]:
    """Return the lines of seeds.csv, a paper's run each."""
    with (FOLDER / "seeds.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
