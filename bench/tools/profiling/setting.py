"""Under what conditions `profile` measures, and what cell of the suite each of its arms is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request, demand_work
from bench.config import known_as, parse_value, require
from bench.core import PRECISIONS, Cell


@dataclass(frozen=True)
class Setting:
    """Under what conditions all arms run."""

    benchmark: str
    data: Path = Path("data")
    samples: int = 4750  # training images of a task
    later: int = 2  # the task measured beside the first, counted from 1
    threads: int = 2
    device: str = "cpu"
    copies: int = 1  # of each arm, at the same time
    eager: bool = False  # on a GPU: whether each kernel of a step is launched by itself, instead of a CUDA graph
    scenario: str = ""  # one of SCENARIOS; empty: the first of the benchmark's own
    catalog: Catalog = field(default_factory=Catalog)


def cell_of(arm: str, setting: Setting) -> Cell:
    """Return the cell of an arm, `name` or `name:setting=value`, at one epoch a task.

    `precision` is a setting here too, so that arms of either precision take turns. Raises `UserError` for what does
    not exist, does not apply to the benchmark, or has no later task.
    """
    name, *settings = arm.split(":")
    user = {}
    for text in settings:
        key, given, value = text.partition("=")
        require(bool(given), f"--methods takes NAME:setting=value, not '{arm}'")
        user[key] = parse_value(value)
    precision = known_as("precision", str(user.pop("precision", "fp32")), PRECISIONS)
    request = Request([name], [setting.benchmark], [1], 1, {name: user}, precision=precision, scenario=setting.scenario)
    plan = setting.catalog.plan(request)
    demand_work(plan, request, setting.catalog)
    [cell] = plan.cells
    require(not cell.traits["joint"], f"{name} has no later task to measure")
    return cell
