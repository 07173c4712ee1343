"""The command data: what it says of data in every state, what it prepares, and that nothing half done is ever left."""

import errno
import functools
import hashlib
import http.server
import os
import re
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from bench.catalog.catalog import Catalog
from bench.core import DataError
from bench.data import source as data
from bench.data.source import Archive, Source

Command = Callable[..., Any]
LABELS = np.arange(6) % 3


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 2, 2), np.uint8)


def read(path: Path, *_: Path) -> tuple[data.Labelled, data.Labelled]:
    if path.read_bytes() != b"whole":
        raise DataError(f"{path} is not whole")
    return (images(1), LABELS), (images(2), LABELS)


def archive(name: str, **more: Any) -> Archive:
    known = {"url": f"https://x.invalid/{name}", "md5": hashlib.md5(b"whole").hexdigest()}
    return Archive(**{**known, **more}, name=name, megabytes=1)


def source(*archives: Archive, name: str = "tiny", **more: Any) -> Source:
    return Source(name, (2, 2), 3, 6, 6, archives or (archive("a"), archive("sub/b")), read, **more)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """`web(content, error)` is what every download writes, and then raises; returns the URLs asked for."""

    def arrange(content: bytes = b"whole", error: BaseException | None = None) -> list[str]:
        asked: list[str] = []

        def fake(self: object, url: str, file: BinaryIO, pooch: None) -> None:
            asked.append(url)
            file.write(content)
            if error:
                raise error

        monkeypatch.setattr("pooch.HTTPDownloader.__call__", fake)
        return asked

    return arrange


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# A source, prepared


def test_a_source_is_downloaded_verified_and_converted(tmp_path: Path, web: Callable[..., list[str]]) -> None:
    asked = web()
    folder = tmp_path / "deep" / "data"
    assert source().state(folder) == "missing, 2 MB to download"
    source().prepare(folder)
    assert files(folder) == {"a", "sub/b", "tiny.npz"}
    train, test = source().load_prepared(folder)
    assert np.array_equal(train.x, images(1))
    assert np.array_equal(test.x, images(2))
    source().prepare(folder)
    assert asked == ["https://x.invalid/a", "https://x.invalid/sub/b"]


def test_a_download_over_http(tmp_path: Path) -> None:
    """From a server of our own: one file as published, and one that is another."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a").write_bytes(b"whole")
    (tmp_path / "web" / "b").write_bytes(b"other")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        source(archive("a", url=f"{url}/a")).prepare(tmp_path / "data")
        for name, reason in (("b", "damaged, or another file"), ("c", "404")):
            with pytest.raises(DataError, match=f"cannot download tiny: .*{reason}"):
                source(archive(name, url=f"{url}/{name}")).prepare(tmp_path / "other")
        server.shutdown()
    assert files(tmp_path / "data") == {"a", "tiny.npz"}
    assert not files(tmp_path / "other")


def test_what_is_there_is_not_fetched_again(tmp_path: Path, web: Callable[..., list[str]]) -> None:
    (tmp_path / "a").write_bytes(b"whole")
    asked = web(error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        source().prepare(tmp_path)
    assert files(tmp_path) == {"a"}
    assert asked == ["https://x.invalid/sub/b"]
    web()
    source().prepare(tmp_path)
    assert "tiny.npz" in files(tmp_path)


def test_a_download_that_was_killed_is_not_taken_for_whole(tmp_path: Path, web: Callable[..., list[str]]) -> None:
    """Even where no checksum is known."""
    left = tmp_path / ".a.0123.partial"
    left.write_bytes(b"half")
    asked = web()
    unknown = source(archive("a", md5=""))
    assert unknown.state(tmp_path) == "missing, 1 MB to download"
    unknown.prepare(tmp_path)
    assert asked == ["https://x.invalid/a"]
    assert not left.exists()


@pytest.mark.parametrize("md5", ["", "0" * 32])
def test_content_that_is_not_whole_is_never_prepared(tmp_path: Path, web: Callable[..., list[str]], md5: str) -> None:
    web(b"<html>")
    with pytest.raises(DataError, match=r"put a \(1 MB.* into") as caught:
        source(archive("a", md5=md5)).prepare(tmp_path)
    assert "\n" not in str(caught.value)
    assert "tiny.npz" not in files(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_a_source_that_may_not_be_handed_out(tmp_path: Path, web: Callable[..., list[str]]) -> None:
    asked = web()
    licensed = source(archive("folder", url="", md5="", note="ask its owners"))
    assert licensed.state(tmp_path) == "missing"
    with pytest.raises(DataError, match=r"tiny is missing: put folder .*no checksum known, ask its owners"):
        licensed.prepare(tmp_path)
    assert not asked


def test_classes_of_a_balanced_source_have_the_same_number_of_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "tiny.npz", x_train=images(), y_train=[0, 0, 0, 1, 1, 2], x_test=images(), y_test=LABELS)
    source().load_prepared(tmp_path)
    with pytest.raises(DataError, match="y_train has from 1 to 3 images of a class"):
        source(balanced=True).load_prepared(tmp_path)


@pytest.mark.parametrize("call", ["savez", "fsync"])
def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, web: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    web()
    source().fetch(tmp_path)

    def full(file: Any, **_: Any) -> None:
        if call == "savez":
            file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np if call == "savez" else os, call, full)
    with pytest.raises(DataError, match=r"cannot write .*tiny.npz: No space left on device; free some space"):
        source().prepare(tmp_path)
    assert files(tmp_path) == {"a", "sub/b"}
    monkeypatch.undo()
    source().prepare(tmp_path)
    assert files(tmp_path) == {"a", "sub/b", "tiny.npz"}


def test_interrupted_while_writing(
    tmp_path: Path, web: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    web()

    def interrupt(file: Any, **_: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupt)
    with pytest.raises(KeyboardInterrupt):
        source().prepare(tmp_path)
    assert files(tmp_path) == {"a", "sub/b"}


def test_a_folder_without_permission(
    tmp_path: Path, web: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated, for root may do everything: once to write, once even to look."""
    web()

    def forbidden(self: Path, *_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", forbidden)
        with pytest.raises(DataError, match=r"cannot use .*: Permission denied; choose another --data"):
            source().prepare(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", forbidden)
        with pytest.raises(DataError, match="cannot be reached: Permission denied; choose another --data"):
            source().state(tmp_path)


# The command


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """Two benchmarks that share a source, one of them with a second one, and one with a preparation of its own."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    body = """
        \"\"\"A benchmark.\"\"\"
        from bench.core import Benchmark, DataError
        from test_inventory import archive, source

        class Own(Benchmark):
            num_tasks, num_classes, input_shape = 1, 3, (1, 2, 2)

            def stream(self, seed, data):
                return []
        """
    body = textwrap.dedent(body)
    shared = "    def sources(self):\n        return [source()%s]\n"
    (folder / "one.py").write_text(body + shared % ', source(archive("c", md5=""), name="other")')
    (folder / "two.py").write_text(body + shared % "")
    own = '    def prepare(self, data):\n        raise DataError("no such thing")\n'
    (folder / "three.py").write_text(body + own)
    return folder


@pytest.fixture
def look(command: Command, plugin: Path, tmp_path: Path) -> Command:
    """`look(*words)` runs the command on the first two, with an empty folder of data."""
    folder = tmp_path / "data"
    folder.mkdir()
    return functools.partial(command, "data", "--plugin", plugin, "--data", folder, "--bench", "one,two")


def test_nothing_there(look: Command, tmp_path: Path, web: Callable[..., list[str]]) -> None:
    asked = web()
    answer = look()
    assert answer.code == 0
    assert answer.err == ""
    assert answer.out.count("tiny, for one, two: missing\n") == 1
    assert "other, for one: missing\n" in answer.out
    md5 = hashlib.md5(b"whole").hexdigest()
    path = tmp_path / "data" / "sub" / "b"
    assert f"  {path}: missing, 1 MB, md5 {md5}, from https://x.invalid/sub/b\n" in answer.out
    assert "no checksum known, from https://x.invalid/c" in answer.out
    assert "data --prepare" in answer.out
    assert not asked
    assert not files(tmp_path / "data")


def test_prepare_and_again(look: Command, tmp_path: Path, web: Callable[..., list[str]]) -> None:
    asked = web()
    answer = look("--prepare")
    assert answer.code == 0
    assert len(asked) == 3
    found = re.search(r"tiny, for one, two: ready\n  (\S+): \S+ MB, md5 (\w{32});", answer.out)
    assert found
    assert hashlib.md5(Path(found[1]).read_bytes()).hexdigest() == found[2]
    assert look("--prepare").out == look().out == answer.out
    assert len(asked) == 3


def test_downloaded_and_corrupt(look: Command, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir()
    for name in ("a", "sub/b", "c"):
        (folder / name).write_bytes(b"whole")
    answer = look()
    assert answer.code == 0
    assert "two: downloaded\n" in answer.out
    assert "other, for one: downloaded\n" in answer.out
    assert "as published" in answer.out
    assert "no checksum known: its content is checked" in answer.out
    (folder / "a").write_bytes(b"half")
    answer = look()
    assert answer.code == 1
    assert "tiny, for one, two: corrupt\n" in answer.out
    assert re.search(rf"{folder / 'a'}: \S+ MB, md5 \w+, not \w+: delete it; from https://x.invalid/a", answer.out)
    (folder / "tiny.npz").write_bytes(b"half")
    answer = look()
    assert answer.code == 1
    assert f"{folder / 'tiny.npz'} cannot be read" in answer.out
    assert files(folder) == {"a", "sub/b", "c", "tiny.npz"}


def test_one_failure_does_not_keep_the_rest_from_being_prepared(
    look: Command, command: Command, plugin: Path, tmp_path: Path, web: Callable[..., list[str]]
) -> None:
    web()
    (tmp_path / "data" / "a").write_bytes(b"half")
    answer = look("--prepare")
    assert answer.code == 1
    assert "failed: " in answer.out
    assert "Traceback" not in answer.out + answer.err
    assert "other, for one: ready\n" in answer.out
    assert "tiny.npz" not in files(tmp_path / "data")
    assert command("data", "--plugin", plugin, "--bench", "three", "--prepare").out == "three: no such thing\n"
    assert command("data", "--plugin", plugin, "--bench", "three").out == "three: bundled\n"


def test_interrupted(look: Command, tmp_path: Path, web: Callable[..., list[str]]) -> None:
    web(error=KeyboardInterrupt())
    answer = look("--prepare")
    assert answer.code == 130
    assert answer.err.startswith("interrupted: ")
    assert not files(tmp_path / "data")


def test_a_wrong_name(command: Command) -> None:
    answer = command("data", "--bench", "digitz")
    assert answer.code == 2
    assert "did you mean 'digits'?" in answer.err


def test_every_benchmark_says_what_it_reads(command: Command, tmp_path: Path) -> None:
    """Without --prepare, in an empty folder: every one is missing something or bundled, and nothing is written."""
    answer = command("data", "--data", tmp_path)
    assert answer.code == 0
    for name in Catalog().available("Benchmark"):
        assert re.search(rf"\b{name}\b", answer.out), name
    assert not files(tmp_path)
