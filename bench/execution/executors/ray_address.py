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

ASK = """
import sys
from ray._raylet import GcsClient
told = GcsClient(address=sys.argv[1]).internal_kv_get(b"CLUSTER_METADATA", namespace=b"cluster")
print(told.decode() if told else "{}")
"""
TOKEN = ("InvalidAuthToken", "AuthenticationError", "find an authentication token", "no authentication token")


def demand_cluster(address: str) -> None:
    """Ask the cluster at HOST:PORT which versions it runs. Raises `UserError` where nothing answers, a token is asked
    for, or the versions are not those here."""
    if address == "auto":
        return  # Ray finds it by the files of this machine
    host, colon, port = address.rpartition(":")
    require(bool(host and colon and port.isdecimal()), f"--ray-address is auto or HOST:PORT, not '{address}'")
    require(0 < int(port) < 2**16, f"--ray-address: a port is between 1 and 65535, not {port}")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        remedy = "start one with `ray start --head`, or leave --ray-address out"
        raise UserError(f"no Ray cluster at {address} ({error.strerror or error}): {remedy}") from None
    command = [sys.executable, "-c", ASK, address]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise UserError(silent(address)) from None
    told = asked.stdout.strip().splitlines()
    if asked.returncode == 0 and told:
        demand_versions(address, json.loads(told[-1]))
    elif any(sign in asked.stderr for sign in TOKEN):
        raise UserError(token_wanted(address))
    elif "TimedOut" in asked.stderr:
        raise UserError(silent(address))


def silent(address: str) -> str:
    """Said of a port where something listens and does not speak as Ray does."""
    remedy = "give the port that `ray start --head` has named"
    return f"no Ray cluster answers at {address}, though something listens there: {remedy}"


def token_wanted(address: str) -> str:
    """Said where a cluster lets in only who knows its token."""
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
