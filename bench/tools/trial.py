"""A method on a toy stream with its parts in reach, as the checks and tests drive it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.core import UserError
from bench.execution.session import session_of
from bench.nn.network import Network
from bench.training.stage import TaskRecord

BUILT_IN = Catalog()


class Ground(NamedTuple):
    """Where a check runs: a benchmark, a protocol and a scenario, by default the benchmark's first."""

    benchmark: str
    protocol: str
    scenario: str = ""


PLAIN = Ground("toy", "published")  # a head a task, no normalization, no bias
SHARED = Ground("toy_shared", "sound")  # one head; normalization with frozen statistics, bias, groups, dropout
GROUNDS = (PLAIN, SHARED)
CLASSES = Ground("toy", "sound", "class-il")  # a head a task, and one answer over all of them


def request_for(name: str, ground: Ground, seed: int = 0, settings: dict[str, Any] | None = None) -> Request:
    """Return the request of a method on a ground."""
    where = Request([name], [ground.benchmark], [seed], None, {name: settings or {}}, [ground.protocol])
    return dataclasses.replace(where, scenario=ground.scenario)


class Run:
    """A method on the toy stream of a ground, with its parts in reach."""

    def __init__(
        self, name: str, catalog: Catalog = BUILT_IN, seed: int = 0, ground: Ground = PLAIN, **settings: Any
    ) -> None:
        cells, reasons = catalog.plan(request_for(name, ground, seed, settings))
        if not cells:
            raise UserError(f"it does not apply to {ground.benchmark}: {'; '.join(reasons.values())}")
        self.cell = cells[0]
        self.session = session_of(self.cell, catalog)
        self.network, self.method = self.session.network, self.session.method
        self.training, self.seed = self.session.training, self.session.seed
        self.tasks = list(self.session.tasks)
        self.records: list[TaskRecord] = []

    def learn(self, until: int | None = None, first: int = 0) -> list[list[float | None]]:
        """Learn the tasks from `first` up to `until`. Return the accuracy matrix."""
        R, self.records = dataclasses.replace(self.session, tasks=self.tasks[:until]).run(first)
        return R


def difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> str:
    """Where two sets of tensors differ, in words; empty where names and bits are the same."""
    if list(a) != list(b):
        return f"names {sorted(set(a) ^ set(b)) or 'in another order'}"
    gaps = {k: float((a[k] - b[k]).abs().max()) for k in a if a[k].shape == b[k].shape and not torch.equal(a[k], b[k])}
    gaps |= {k: float("inf") for k in a if a[k].shape != b[k].shape}
    worst = max(gaps, key=lambda k: gaps[k], default="")
    return f"{worst} by up to {gaps[worst]:.3g}" if gaps else ""


def snapshot(network: Network) -> dict[str, Tensor]:
    """A copy of all weights."""
    return {k: v.clone() for k, v in network.state_dict().items()}
