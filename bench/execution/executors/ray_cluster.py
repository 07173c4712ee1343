"""A Ray to run on: one of our own on this machine, or a cluster that is running and is handed the code."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import installation
from bench.catalog import discovery
from bench.catalog.catalog import Catalog
from bench.config import require
from bench.core import UserError
from bench.execution.executors import ray_address
from bench.execution.runner import Resources
from bench.stopping import stoppable

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@contextmanager
def connected(resources: Resources) -> Iterator[tuple[Any, Resources]]:
    """Yield Ray, and the resources as its workers see them. Raises `UserError` where it cannot be had, or would never
    run a cell."""
    import ray

    with ExitStack() as stack:
        nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        stack.enter_context(redirect_stdout(nowhere))  # where Ray tells of every worker it has lost
        if resources.address:
            shipped, where = _ship(resources, Path(stack.enter_context(tempfile.TemporaryDirectory())))
            if not ray.is_initialized():
                ray_address.demand_cluster(resources.address)
            options = {"address": resources.address, "runtime_env": where}
        else:
            shipped, options = resources, _own(resources)
            stack.enter_context(loopback())
        stack.callback(ray.shutdown)
        _start(ray, options)
        stack.enter_context(stoppable())  # Ray has put its own handlers in the place of ours, with a dump of the stack
        room = _room(ray, resources)
        yield ray, replace(shipped, workers=min(resources.workers or room, room))  # more would wait inside Ray


@contextmanager
def loopback() -> Iterator[None]:
    """Let a Ray that starts here listen on the loopback interface alone. On Linux it does so where it is told that
    nodes form no cluster, as on the systems after which the variable is named; who has set it, has decided."""
    from ray._private import ray_constants as constants

    if LOOPBACK in os.environ or not hasattr(constants, "ENABLE_RAY_CLUSTER"):
        yield
        return
    before = constants.ENABLE_RAY_CLUSTER
    os.environ[LOOPBACK], constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        del os.environ[LOOPBACK]
        constants.ENABLE_RAY_CLUSTER = before


def _own(resources: Resources) -> dict[str, Any]:
    """Return how a Ray of our own is started: on this machine's code, with room for the workers and no more."""
    variables = {"OMP_NUM_THREADS": str(resources.threads), "PYTHONPATH": os.pathsep.join(sys.path)}
    return {
        "address": "local",
        "num_cpus": resources.threads * resources.workers,
        "include_dashboard": False,
        "object_store_memory": 100_000_000,  # results are small
        "runtime_env": {"env_vars": variables},
    }


def _start(ray: Any, options: dict[str, Any], tries: int = 3) -> None:
    for left in reversed(range(tries)):
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
            return
        except Exception as error:  # Ray raises whatever it met
            ray.shutdown()
            text = " ".join(str(error).split())
            if "ersion mismatch" in text:  # in Ray's words, with both
                raise UserError(f"the cluster at {options['address']} runs other versions: {text}") from error
            if any(sign in f"{type(error).__name__}: {text}" for sign in ray_address.TOKEN):
                raise UserError(ray_address.token_wanted(options["address"])) from error
            if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
                remedy = "set RAY_TMPDIR to a folder that can be written"
                raise UserError(f"Ray cannot start: {error}; {remedy}") from error
            if options["address"] != "local" or not left:  # a busy machine may need another try
                raise UserError(f"Ray cannot start: {type(error).__name__}: {text}; see {_hint(options)}") from error


def _hint(options: dict[str, Any]) -> str:
    return "`ray status`" if options["address"] != "local" else "--executor serial, which needs no Ray"


def _room(ray: Any, resources: Resources) -> int:
    """Return how many cells fit. Raises `UserError` where no node could ever hold one: Ray would wait for it for
    ever."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = _asked(resources)
    for what, amount in asked.items():
        most = max((node["Resources"].get(what, 0.0) for node in nodes), default=0.0)
        if amount > most:
            unit = "bytes of " if what == "memory" else ""
            raise UserError(f"a cell asks for {amount:g} {unit}{what}, and the largest node of Ray has {most:g}")
    room = sum(room_of(node, resources) for node in nodes)
    wishes = ", ".join(f"{amount:g} {what}" for what, amount in asked.items() if amount)
    require(room > 0, f"no node of Ray has {wishes} together, which a cell asks for")
    return room


def room_of(node: dict[str, Any], resources: Resources) -> int:
    """Return how many cells a node of Ray could hold, were it empty."""
    has = node["Resources"]
    return min(int(has.get(what, 0.0) / amount) for what, amount in _asked(resources).items() if amount)


def _asked(resources: Resources) -> dict[str, float]:
    """Return what a cell asks of its node, by Ray's names."""
    return {"CPU": resources.threads, "GPU": resources.gpus_per_cell, "memory": resources.memory_per_cell}


def _ship(resources: Resources, folder: Path) -> tuple[Resources, dict[str, Any]]:
    """Copy the code, plugins included, to a folder that Ray hands to every node. Return the resources with plugins by
    their paths there, and the runtime environment."""
    parts = [installation.PACKAGE, *map(installation.extensions, discovery.FOLDERS.values())]
    for part in parts:
        if part.parent != installation.PACKAGE:  # in a wheel, the extensions lie inside the package
            shutil.copytree(part, folder / part.name, ignore=shutil.ignore_patterns("__pycache__"))
    plugins = tuple(_ship_plugin(plugin, folder, n) for n, plugin in enumerate(resources.catalog.plugins))
    where = {"working_dir": str(folder), "env_vars": {"OMP_NUM_THREADS": str(resources.threads)}}
    return replace(resources, catalog=Catalog(plugins)), where


def _ship_plugin(plugin: Path, folder: Path, n: int) -> Path:
    """Copy a file or folder to `plugins/<n>`, for a module of a package the whole package, so that it is importable.
    Return where the plugin lies in the copy."""
    top = plugin
    while (top.parent / "__init__.py").exists():
        top = top.parent
    place = folder if (top / "__init__.py").exists() else folder / "plugins" / str(n)
    if top.is_dir():
        shutil.copytree(top, place / top.name, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        place.mkdir(parents=True)
        shutil.copy(top, place)
        if top.with_suffix(".toml").exists():
            shutil.copy(top.with_suffix(".toml"), place)
    return (place / top.name / plugin.relative_to(top)).relative_to(folder)
