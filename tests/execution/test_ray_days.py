"""Ray's bad days: addresses that lead nowhere, nodes that go, and what is said of each."""

import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from bench.core import UserError
from bench.execution.executors import ray_address

HERE = {"ray_version": metadata.version("ray"), "python_version": platform.python_version()}


@pytest.fixture
def listening() -> Iterator[str]:
    """The address of a port where something listens and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_port_is_one_line_in_bounded_time(listening: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_address, "PATIENCE", 2.0)
    start = time.monotonic()
    with pytest.raises(UserError, match=f"no Ray cluster answers at {listening}, though something listens") as caught:
        ray_address.demand_cluster(listening)
    assert time.monotonic() - start < 10 and "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1", ":6379", "host:port"])
def test_what_is_no_address_is_refused_without_asking(address: str) -> None:
    with pytest.raises(UserError, match="--ray-address"):
        ray_address.demand_cluster(address)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({**HERE, "ray_version": "2.9.1"}, f"runs Ray 2.9.1, and here is {HERE['ray_version']}: use the same"),
        ({**HERE, "python_version": "3.9.0"}, f"runs Python 3.9.0, and here is {HERE['python_version']}: use the same"),
        ({"ray_version": "2.9.1", "python_version": "3.9.0"}, "runs Ray 2.9.1, and here is .*; Python 3.9.0, and here"),
    ],
)
def test_a_mismatch_names_both_versions(told: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ray_address.demand_versions("head:6379", told)


@pytest.mark.parametrize("told", [HERE, {}])
def test_the_same_versions_and_unknown_ones_pass(told: dict[str, str]) -> None:
    assert ray_address.demand_versions("head:6379", told) is None  # type: ignore[func-returns-value]


def answering(code: int, out: str, err: str) -> Callable[..., Any]:
    """In the place of `subprocess.run`: a process that ended so."""
    return lambda command, **_: subprocess.CompletedProcess(command, code, out, err)


@pytest.mark.parametrize(
    ("err", "said"),
    [
        ("ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: ...", "asks for a token: set RAY_AUTH_MODE"),
        ("Check failed: ... Ray couldn't find an authentication token. Create ...", "ray get-auth-token"),
        ("gcs_client.cc: Failed to get cluster ID: TimedOut: Timed out", "no Ray cluster answers"),
    ],
)
def test_what_the_cluster_says_is_put_in_words(
    listening: str, monkeypatch: pytest.MonkeyPatch, err: str, said: str
) -> None:
    monkeypatch.setattr(subprocess, "run", answering(1, "", err))
    with pytest.raises(UserError, match=said):
        ray_address.demand_cluster(listening)


def test_a_ray_that_cannot_be_asked_is_left_to_say_it_itself(listening: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its inner interfaces are no promise: where they are others, it is joined as it stands."""
    asked = answering(1, "", "ImportError: cannot import name 'GcsClient'")
    monkeypatch.setattr(subprocess, "run", asked)
    assert ray_address.demand_cluster(listening) is None  # type: ignore[func-returns-value]
    monkeypatch.setattr(subprocess, "run", answering(0, json.dumps({**HERE, "ray_version": "0.1"}), ""))
    with pytest.raises(UserError, match="runs Ray 0"):
        ray_address.demand_cluster(listening)


@pytest.mark.ray
def test_a_cluster_with_a_token(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, and with another, the command says how to give it; with it, the grid runs."""
    token = "0123456789abcdef" * 2
    own = {**os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["ray", "start", "--head", "--block", "--num-cpus=1", "--include-dashboard=false", f"--port={port}"]
    words += ["--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0"]
    words[0] = str(Path(sys.executable).with_name("ray"))
    head = subprocess.Popen(words, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        request = ("--bench", "toy", "--methods", "finetune", "--seeds", "0", "--epochs", "1", "--device", "cpu")
        request += ("--out", str(tmp_path / "out"), "--executor", "ray", "--ray-address", f"127.0.0.1:{port}")
        answer = command(*request)
        assert answer.code == 2 and answer.err.count("\n") == 1
        assert f"the Ray cluster at 127.0.0.1:{port} asks for a token: set RAY_AUTH_MODE=token" in answer.err
        line = [sys.executable, "run_bench.py", *request]
        for given, code in (("f" * 32, 2), (token, 0)):
            done = subprocess.run(line, env={**own, "RAY_AUTH_TOKEN": given}, capture_output=True, text=True)
            assert done.returncode == code, done.stderr
            assert ("asks for a token" in done.stderr) == (code == 2)
    finally:
        head.terminate()
        head.wait(timeout=60)


def wait_for_port(port: int) -> None:
    """Wait until something listens there."""
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens at {port}")
