"""What answers at the address of a Ray cluster. It is asked in a process of its own before Ray joins, for Ray may wait
for minutes, and end its whole process where the cluster will not have it."""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import sys
from importlib import metadata

from bench.config import require
from bench.core import UserError

PATIENCE = 30.0  # seconds until an address counts as silent; importing Ray is among them

FIND = """
from ray._private import services
print(services.canonicalize_bootstrap_address("auto"))
"""
ASK = """
import sys
from ray._raylet import GcsClient
told = GcsClient(address=sys.argv[1]).internal_kv_get(b"CLUSTER_METADATA", namespace=b"cluster")
print(told.decode() if told else "{}")
"""
TOKEN = ("InvalidAuthToken", "AuthenticationError", "find an authentication token", "no authentication token")


def demand_cluster(address: str) -> None:
    """Ask the cluster at HOST:PORT which versions it runs; "auto" is the one that Ray finds by this machine's files and
    processes, or by RAY_ADDRESS. Raises `UserError` where nothing answers, a token is asked for, or the versions are
    not those here."""
    found = _find_cluster() if address == "auto" else address
    if found is None:
        return
    host, colon, port = found.rpartition(":")
    require(bool(host and colon and port.isdecimal()), f"--ray-address is auto or HOST:PORT, not '{found}'")
    require(0 < int(port) < 2**16, f"--ray-address: a port is between 1 and 65535, not {port}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        remedy = "start one with `ray start --head`, or leave --ray-address out"
        raise UserError(f"no Ray cluster at {found} ({error.strerror or error}): {remedy}") from None
    asked = _ask(ASK, found)
    told = asked.stdout.strip().splitlines()
    if asked.returncode == 0 and told:
        demand_versions(found, json.loads(told[-1]))
    elif any(sign in asked.stderr for sign in TOKEN):
        raise UserError(token_wanted(found))
    elif "TimedOut" in asked.stderr:
        raise UserError(silent(found))


def _find_cluster() -> str | None:
    """Return HOST:PORT of the cluster that Ray would join by itself; None where it cannot be asked, and is left to say
    it. Raises `UserError` where there is none."""
    asked = _ask(FIND, "auto")
    found = asked.stdout.strip().splitlines()
    if asked.returncode == 0 and found:
        return found[-1]
    if "Could not find any running Ray" in asked.stderr:
        remedy = "start one with `ray start --head`, or name its head by --ray-address HOST:PORT"
        raise UserError(f"no Ray cluster runs on this machine: {remedy}")
    return None


def _ask(code: str, address: str) -> subprocess.CompletedProcess[str]:
    """Run a few lines of Python in a process of their own. Raises `UserError` where they do not end."""
    command = [sys.executable, "-c", code, address]
    try:
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise UserError(silent(address)) from None


def silent(address: str) -> str:
    """Return what is said of a port where something listens and does not speak as Ray does."""
    remedy = "give the port that `ray start --head` has named"
    return f"no Ray cluster answers at {address}, though something listens there: {remedy}"


def token_wanted(address: str) -> str:
    """Return what is said where a cluster lets in only who knows its token."""
    token = "RAY_AUTH_TOKEN to what `ray get-auth-token` prints on its head"
    return f"the Ray cluster at {address} asks for a token: set RAY_AUTH_MODE=token, and {token}"


def demand_versions(address: str, told: dict[str, str]) -> None:
    """Raise `UserError` where a cluster runs another Ray or another Python, with both versions of each that differs."""
    here = {"Ray": metadata.version("ray"), "Python": platform.python_version()}
    there = {"Ray": told.get("ray_version"), "Python": told.get("python_version")}
    apart = [
        f"{name} {there[name]}, and here is {here[name]}" for name in here if there[name] not in (None, here[name])
    ]
    if apart:
        raise UserError(f"the Ray cluster at {address} runs {'; '.join(apart)}: use the same versions")
