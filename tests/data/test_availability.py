"""Whether data can be had: what is there is not asked for, what is not is asked for and not fetched."""

import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.core import Benchmark
from bench.data import availability
from bench.data.availability import trouble_at  # the real one, which no other test calls
from bench.data.cifar import CIFAR100
from bench.data.source import Archive, Source


class Server(http.server.BaseHTTPRequestHandler):
    """Has every file but /gone, sends /endless without end, and never answers /silent."""

    def do_GET(self) -> None:
        if self.path == "/silent":
            time.sleep(1)
            return
        self.send_response(404 if self.path == "/gone" else 200)
        self.end_headers()
        while self.path == "/endless":
            try:
                self.wfile.write(bytes(1000))
            except OSError:
                return

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_address_is_asked_and_nothing_is_fetched(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = server.removeprefix("http://")
    assert trouble_at(f"{server}/file") == ""
    assert trouble_at(f"{server}/endless") == ""
    assert trouble_at(f"{server}/gone") == f"{host} answers 404 Not Found"
    monkeypatch.setattr(availability, "PATIENCE", 0.2)
    assert trouble_at(f"{server}/silent") == f"no answer from {host} within 0.2 s"


def test_a_server_that_is_not_there_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert trouble_at("http://127.0.0.1:9/x") == "no connection to 127.0.0.1:9"
    assert "no-scheme" in trouble_at("no-scheme")


def benchmark_of(name: str, *sources: Source) -> Benchmark:
    benchmark = Benchmark()
    benchmark.name = name
    vars(benchmark)["sources"] = lambda: sources
    return benchmark


def with_archives(name: str, *urls: str) -> Source:
    archives = tuple(Archive(url, f"{name}-{i}", "", 1) for i, url in enumerate(urls))
    return replace(CIFAR100, name=name, archives=archives)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses asked; those that end in /gone have nothing."""
    asked: list[str] = []

    def ask(address: str) -> str:
        asked.append(address)
        return "gone" if address.endswith("/gone") else ""

    monkeypatch.setattr(availability, "trouble_at", ask)
    return asked


def test_only_what_is_missing_is_asked_for_and_once(asked: list[str], tmp_path: Path) -> None:
    here, away = with_archives("here", "u/here"), with_archives("away", "u/1", "u/2")
    (tmp_path / "here.npz").touch()
    (tmp_path / "away-0").touch()
    benchmarks = [benchmark_of("a", here, away), benchmark_of("b", away), benchmark_of("bundled")]
    assert availability.unavailable(benchmarks, tmp_path) == {}
    assert asked == ["u/2"]


def test_a_benchmark_is_unavailable_where_one_of_its_files_is(asked: list[str], tmp_path: Path) -> None:
    private = with_archives("private", "")
    found = availability.unavailable(
        [
            benchmark_of("half", with_archives("fine", "u/1"), with_archives("lost", "u/2", "u/gone")),
            benchmark_of("ours", private),
            benchmark_of("fine", with_archives("fine", "u/1")),
        ],
        tmp_path,
    )
    assert found.keys() == {"half", "ours"}
    assert found["half"] == "lost is not in the data folder and cannot be downloaded: gone"
    assert "private is not in the data folder and may not be downloaded" in found["ours"]
    (tmp_path / "private-0").touch()
    assert availability.unavailable([benchmark_of("ours", private)], tmp_path) == {}


def test_what_cannot_be_prepared_is_told_and_the_rest_is_ready(tmp_path: Path) -> None:
    (tmp_path / "torn-0").write_bytes(b"half a file")
    torn = benchmark_of("torn", with_archives("torn", "u/1"))
    found = availability.unprepared([torn, benchmark_of("bundled")], tmp_path)
    assert found.keys() == {"torn"} and str(tmp_path / "torn-0") in found["torn"]
