"""Who is still there: the nodes of a Ray cluster, and the processes of the cells."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.execution.executors.ray_cluster import room_of
from bench.execution.runner import Resources

LOOK = 5.0  # seconds between two looks at which nodes of a cluster are alive
FAREWELL = 20.0  # seconds after a node's death in which Ray may tell of its cells itself
SILENCE = 100.0  # seconds without a sign of life after which a process counts as lost
AGAIN = 12.0  # of these, seconds in which signs must have been able to come through
Name = tuple[str, int]  # the key of a cell, and which attempt at it


class NodeWatch:
    """Tells which nodes of a cluster are gone."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self.looked = -math.inf
        self.missed: dict[str, float] = {}  # since when a node was not seen alive

    def gone(self, nodes: set[str]) -> set[str]:
        """Return those of these nodes that Ray has not seen alive for a while."""
        now = time.monotonic()
        if nodes and now - self.looked > LOOK:
            self.looked = now  # Ray raises where its head does not answer; then nobody is called gone
            with suppress(self.ray.exceptions.RayError):
                self._look(nodes, now)
        return {node for node, since in self.missed.items() if node in nodes and now - since > FAREWELL}

    def _look(self, nodes: set[str], now: float) -> None:
        alive = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        self.missed = {node: self.missed.get(node, now) for node in nodes - alive}


def other_node(nodes: Iterable[dict[str, Any]], faulty: str, resources: Resources) -> str | None:
    """Return the id of a living node that could hold a cell and is not the faulty one; None where there is none."""
    for node in nodes:
        if node["Alive"] and node["NodeID"] != faulty and room_of(node, resources):
            return str(node["NodeID"])
    return None


class LifeWatch:
    """Tells which processes give no sign of life any more, such as a stopped one, of which Ray says nothing.

    Only the seconds in which they could be heard count: none while this process was stopped itself, and not all while
    the queue that carries the signs did not answer.
    """

    def __init__(self) -> None:
        self.looked = time.monotonic()
        self.silent: dict[Name, float] = {}  # seconds, of each cell that was handed to Ray
        self.known: set[Name] = set()  # those whose process has been heard once

    def heard(self, signs: set[Name], running: set[Name]) -> set[Name]:
        """Note the signs that came since the last look. Return those of the running ones that were silent too long."""
        passed = self._passed()
        self.known = (self.known | signs) & running
        before = self.silent.keys() & running
        self.silent = dict.fromkeys(running, 0.0) | {name: self.silent[name] + passed for name in before - signs}
        return self._too_long() & self.known

    def mute(self) -> set[Name]:
        """Return those of which nothing was ever heard for as long; each again only after another while. Their cells
        may wait for a node, or their processes may be stopped."""
        found = self._too_long() - self.known
        self.silent |= dict.fromkeys(found, 0.0)
        return found

    def _too_long(self) -> set[Name]:
        return {name for name, seconds in self.silent.items() if seconds > SILENCE}

    def unheard(self) -> None:
        """Note that the queue has not answered in time: what was said may come later, or is lost. So nobody is called
        silent before signs have come through for another while."""
        passed = self._passed()
        most = SILENCE - AGAIN
        self.silent = {name: max(was, min(was + passed, most)) for name, was in self.silent.items()}

    def _passed(self) -> float:
        """Return the seconds since the last look, which are many only where this process was stopped."""
        now = time.monotonic()
        passed, self.looked = now - self.looked, now
        return min(passed, LOOK)


def stopped_workers(driver: int) -> set[int]:
    """Return the processes that are stopped among the workers of a Ray that the process `driver` has started: those
    that call themselves `ray::` and were started by what it has started. Where there is no /proc, none are seen."""
    parents, stopped = {}, set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended in the meantime
            head, _, tail = path.read_bytes().rpartition(b")")
            state, parent = tail.split()[:2]
            process = int(path.parent.name)
            parents[process] = int(parent)
            if state == b"T" and head.partition(b"(")[2].startswith(b"ray::"):
                stopped.add(process)
    return {process for process in stopped if parents.get(parents[process]) == driver}


def end_process(process: int) -> None:
    """Kill a process of this machine, stopped or not."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
