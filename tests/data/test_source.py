"""Data on disk that may be damaged, foreign or missing; and the splits of every bundled benchmark."""

import gzip
import hashlib
import io
import os
import pickle
import re
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, ClassVar

import numpy as np
import pytest
from conftest import write_tar
from sklearn.utils import shuffle

from bench.catalog.catalog import Catalog
from bench.core import DataError, Split, Task, slices
from bench.data.cifar import read_cifar100
from bench.data.formats.readers import read_pickle
from bench.data.mnist import read_idx
from bench.data.source import Archive, Source, legacy_shuffle

ARCHIVE = Archive("https://x.invalid/tiny.tar.gz", "tiny.tar.gz", "0" * 32, 169)
NOTHING = (np.zeros((0, 2, 2, 3), np.uint8), np.zeros(0, np.int64))
SOURCE = Source("tiny", (2, 2, 3), 2, 6, 4, (ARCHIVE,), read=lambda path: (NOTHING, NOTHING))


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (6, 2, 2, 3), np.uint8),
        "x_test": rng.integers(0, 256, (4, 2, 2, 3), np.uint8),
        "y_train": np.arange(6) % 2,
        "y_test": np.arange(4) % 2,
    }


def refused(folder: Path) -> str:
    """Return the message with which the prepared array is refused; it must name the file."""
    with pytest.raises(DataError) as caught:
        SOURCE.load_prepared(folder)
    assert str(folder / "tiny.npz") in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.uint64])
def test_a_good_array(tmp_path: Path, arrays: dict[str, np.ndarray], dtype: type) -> None:
    labels = {k: v.astype(dtype) for k, v in arrays.items() if k.startswith("y")}
    np.savez(tmp_path / "tiny.npz", **{**arrays, **labels, "classes": np.array(["a", "b"])})
    train, test = SOURCE.load_prepared(tmp_path)
    assert np.array_equal(train.x, arrays["x_train"])
    assert np.array_equal(test.y, arrays["y_test"])
    assert train.y.dtype == np.int64


Change = Callable[[dict[str, np.ndarray]], dict[str, Any]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: {"x_train": a["x_train"][:5], "y_train": a["y_train"][:5]}, "(5, 2, 2, 3)"),
        (lambda a: {"y_train": a["y_train"][:5]}, "y_train has shape (5,)"),
        (lambda a: {"y_test": a["y_test"][:, None]}, "y_test has shape (4, 1)"),
        (lambda a: {"x_test": a["x_test"].transpose(0, 3, 1, 2)}, "(4, 3, 2, 2)"),
        (lambda a: {"x_train": a["x_train"] / 255}, "x_train is float64, not uint8"),
        (lambda a: {"y_train": a["y_train"] * 1.0}, "y_train is float64, not integer"),
        (lambda a: {"y_train": a["y_train"] + 1}, "from 1 to 2"),
        (lambda a: {"y_test": a["y_test"] - 1}, "from -1 to 0"),
        (lambda a: {"y_test": a["y_test"] * 0}, "no image of class 1"),
        (lambda a: {"y_test": np.array([None] * 4)}, "cannot be read"),
    ],
)
def test_a_wrong_array_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], change: Change, says: str) -> None:
    np.savez(tmp_path / "tiny.npz", **{**arrays, **change(arrays)})
    assert says in refused(tmp_path)


@pytest.mark.parametrize("key", ["x_train", "y_train", "x_test", "y_test"])
def test_a_missing_array_is_named(tmp_path: Path, arrays: dict[str, np.ndarray], key: str) -> None:
    np.savez(tmp_path / "tiny.npz", **{k: v for k, v in arrays.items() if k != key})
    assert key in refused(tmp_path)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_array(tmp_path: Path, arrays: dict[str, np.ndarray], share: float) -> None:
    path = tmp_path / "tiny.npz"
    np.savez(path, **arrays)
    os.truncate(path, int(share * path.stat().st_size))
    refused(tmp_path)


def equal(a: Split, b: Split) -> bool:
    return np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_byte_is_refused_or_harmless(
    tmp_path: Path, arrays: dict[str, np.ndarray], save: Callable[..., None]
) -> None:
    """Wherever it lies: in the zip's structure, in an array's header, in its numbers."""
    path = tmp_path / "tiny.npz"
    save(path, **arrays)
    good = path.read_bytes()
    expected = SOURCE.load_prepared(tmp_path)
    outcomes = set()
    for place in range(0, len(good), 3):
        damaged = bytes([good[place] ^ 0x5A])
        path.write_bytes(good[:place] + damaged + good[place + 1 :])
        try:
            found = SOURCE.load_prepared(tmp_path)
        except DataError as error:
            outcomes.add("refused")
            assert str(path) in str(error)
        else:
            assert all(map(equal, found, expected))
    assert outcomes == {"refused"}


def test_a_file_of_another_kind(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path / "tiny.npz"
    refused(tmp_path)  # not there
    path.write_text("<html>not found</html>")
    refused(tmp_path)
    with path.open("wb") as file:
        np.save(file, arrays["x_train"])
    refused(tmp_path)


def npy(shape: str, dtype: str = "|u1", content: bytes = b"", more: str = "") -> bytes:
    """Return an array as a file, with a head that need not be true."""
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}{more}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + content


HOSTILE: dict[str, tuple[bytes, str]] = {
    "of 10 GB": (npy("(10000000000,)"), "has 0 bytes, not the 10000000000 of its head"),
    "of large numbers": (npy("(6, 2, 2, 3)", "|V400000000"), "not the 28800000000 of its head"),
    "of more than can be counted": (npy(f"({'9' * 400},)"), "has 0 bytes"),
    "of a bomb": (npy("(30000000,)", content=bytes(30_000_000)), "has shape (30000000,), not"),
    "of a negative size": (npy("(-6, 2, -2, 3)", content=bytes(72)), "(-6, 2, -2, 3)"),
    "that opens a string": (npy("(6, 2, 2, 3)", content=bytes(72), more=' """'), "cannot be read"),
    "that opens brackets": (npy("(" * 3000, content=bytes(72)), "cannot be read"),
    "of many minus signs": (npy("(" + "-" * 9000 + "6,)", content=bytes(72)), "cannot be read"),
    "of 4 GB": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + bytes(10**7), "version (2, 0)"),
    "of objects": (npy("(6, 2, 2, 3)", "|O", bytes(576)), "holds objects"),
    "of nothing": (b"", "cannot be read"),
}


@pytest.mark.parametrize("name", ["x_train", "y_test"])
@pytest.mark.parametrize(("content", "says"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_head(tmp_path: Path, arrays: dict[str, np.ndarray], name: str, content: bytes, says: str) -> None:
    """It takes no memory, whatever it promises."""
    path = tmp_path / "tiny.npz"
    np.savez(path, **{key: array for key, array in arrays.items() if key != name})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", content)
    assert path.stat().st_size < 10**5
    tracemalloc.start()
    try:
        assert says in refused(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Its list of files says what is expected, and there are thirty megabytes."""
    path = tmp_path / "tiny.npz"
    size = 128 + arrays["x_train"].size
    more = 3 * 10**7
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            tail = bytes(more) if name == "x_train" else b""
            archive.writestr(f"{name}.npy", content.getvalue() + tail)
    said = path.read_bytes()
    assert said.count(struct.pack("<I", size + more)) == 2
    path.write_bytes(said.replace(struct.pack("<I", size + more), struct.pack("<I", size)))
    tracemalloc.start()
    try:
        assert "cannot be read" in refused(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def test_a_zip_with_a_password(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path / "tiny.npz"
    np.savez(path, **arrays)
    listed = path.read_bytes()
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags of a file, there and in the list
        flags = listed.index(mark) + place
        listed = listed[:flags] + b"\x01" + listed[flags + 1 :]
    path.write_bytes(listed)
    assert "encrypted" in refused(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (bytes(5 * 10**7), "unpacks to more than"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 60_000, 2**31, 2**31), "holds 0 bytes of content, not the"),
        (b"\0\0\x08\x03" + bytes(5), "ends within its head"),
    ],
)
def test_a_hostile_idx_file(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=re.escape(str(path))) as caught:
        read_idx(path, 3)
    assert says in str(caught.value) and "\n" not in str(caught.value)


# The archive as published


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """A pickler like that of Python 2, which made the CIFAR archives: texts and bytes alike are plain strings."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, text: str | bytes) -> None:
        raw = text.encode("latin1") if isinstance(text, str) else text
        self.write(b"T" + struct.pack("<i", len(raw)) + raw)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def python2_pickle(content: object) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, 2).dump(content)
    return file.getvalue().replace(b"numpy._core.", b"numpy.core.")


def write_archive(path: Path, members: dict[str, bytes]) -> str:
    """Write a tar.gz, and return its md5."""
    return hashlib.md5(write_tar(path, members).read_bytes()).hexdigest()


@pytest.fixture
def cifar() -> ModuleType:
    return sys.modules[type(Catalog().benchmark("split_cifar100")).__module__]


def test_the_cifar_archive_from_download_to_tasks(
    tmp_path: Path, cifar: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are stored channel first and row by row; labels are the fine ones."""
    sizes = {"train": 20 * 100, "test": 2 * 100}
    rng = np.random.default_rng(0)
    flat = {part: rng.integers(0, 256, (n, 3072), np.uint8) for part, n in sizes.items()}
    labels = {part: rng.permutation(np.arange(n) % 100).tolist() for part, n in sizes.items()}
    members = {}
    for part, n in sizes.items():
        content = {"data": flat[part], "fine_labels": labels[part]}
        content |= {"coarse_labels": [0] * n, "filenames": ["a.png"] * n}
        members[f"cifar-100-python/{part}"] = python2_pickle(content)
    [archive] = cifar.CIFAR100.archives
    whole = replace(archive, md5=write_archive(tmp_path / archive.name, members))
    source = replace(cifar.CIFAR100, archives=(whole,), num_train=sizes["train"], num_test=sizes["test"])
    monkeypatch.setattr(cifar, "CIFAR100", source)
    benchmark = Catalog().benchmark("split_cifar100")
    assert benchmark.data_state(tmp_path) == "downloaded"
    benchmark.prepare(tmp_path)
    assert benchmark.data_state(tmp_path) == "ready"
    (tmp_path / archive.name).unlink()
    benchmark.prepare(tmp_path)  # needs no archive any more

    tasks = benchmark.stream(1, tmp_path)
    assert [(len(t.train), len(t.validation), len(t.test)) for t in tasks] == [(190, 10, 20)] * 10
    mean = np.array([125.3, 123.0, 113.9]) / 255
    sd = np.array([63.0, 62.1, 66.7]) / 255
    for task in tasks:
        own = [i for i, label in enumerate(labels["test"]) if label // 10 == task.index]
        stored = flat["test"][own].reshape(-1, 3, 32, 32) / 255
        wanted = (stored - mean[:, None, None]) / sd[:, None, None]
        np.testing.assert_allclose(task.test.x, wanted, atol=1e-5)
        assert task.test.y.tolist() == [labels["test"][i] % 10 for i in own]
        assert task.test.x.dtype == np.float32
        assert task.classes == tuple(str(10 * task.index + c) for c in range(10))


def test_an_archive_without_its_file(tmp_path: Path) -> None:
    path = tmp_path / "some.tar.gz"
    write_archive(path, {"cifar-100-python/test": b""})
    with pytest.raises(DataError, match="cifar-100-python/train"):
        read_cifar100(path)


class Evil:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.flag),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, protocol: int) -> None:
    flag = tmp_path / "flag"
    content = pickle.dumps({"data": Evil(flag)}, protocol)
    with pytest.raises(DataError, match=r"cifar.*mkdir"):
        read_pickle(io.BytesIO(content), "cifar")
    assert not flag.exists()
    pickle.loads(content)
    assert flag.exists()  # it would have


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x80\x02}", python2_pickle({"a": np.zeros(9)})[:-20], b"cos\n"])
def test_what_is_no_pickle_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="cifar"):
        read_pickle(io.BytesIO(content), "cifar")


def test_a_wrong_checksum(tmp_path: Path) -> None:
    (tmp_path / ARCHIVE.name).write_bytes(b"half")
    with pytest.raises(DataError, match=re.escape(str(tmp_path / ARCHIVE.name))) as caught:
        SOURCE.fetch(tmp_path)
    assert hashlib.md5(b"half").hexdigest() in str(caught.value)


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """`download(error)` makes every download write a piece of the file, then raise."""

    def arrange(error: BaseException) -> None:
        def fake(self: object, url: str, file: BinaryIO, pooch: None) -> None:
            file.write(b"half")
            raise error

        monkeypatch.setattr("pooch.HTTPDownloader.__call__", fake)

    return arrange


def test_missing_and_no_network(tmp_path: Path, download: Callable[[BaseException], None]) -> None:
    download(OSError("no route to host\nat all"))
    folder = tmp_path / "data"
    with pytest.raises(DataError) as caught:
        SOURCE.fetch(folder)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("no route to host", ARCHIVE.name, "169 MB", ARCHIVE.md5, "tiny.npz", str(folder)):
        assert part in message
    assert not (folder / ARCHIVE.name).exists()


def test_a_source_of_several_archives(tmp_path: Path, download: Callable[[BaseException], None]) -> None:
    """All are wanted; what is there is checked, and only what is missing is downloaded and asked for."""
    there, absent = (Archive(f"https://x.invalid/{n}", n, hashlib.md5(b"all").hexdigest(), 1.26) for n in "ab")
    source = replace(SOURCE, archives=(there, absent))
    assert source.state(tmp_path) == "missing, 2.5 MB to download"
    (tmp_path / "a").write_bytes(b"all")
    assert source.state(tmp_path) == "missing, 1.3 MB to download"
    download(OSError("no route"))
    with pytest.raises(
        DataError, match=r"no route; put b \(1.26 MB, md5 \w+, from https://x.invalid/b\) or a prepared"
    ):
        source.fetch(tmp_path)
    (tmp_path / "b").write_bytes(b"all")
    assert source.state(tmp_path) == "downloaded"
    assert source.fetch(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert "a (1.26 MB" in source.wanted(tmp_path)
    assert "b (1.26 MB" in source.wanted(tmp_path)


def test_an_interrupted_download_leaves_nothing_to_stumble_over(
    tmp_path: Path, download: Callable[[BaseException], None]
) -> None:
    download(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        SOURCE.fetch(tmp_path)
    assert not list(tmp_path.iterdir())


# Splits


@pytest.mark.parametrize(
    ("n", "seed", "first"),
    [
        (5000, 0, [398, 3833, 4836, 4572, 636]),
        (5000, 1, [2764, 4767, 3814, 3499, 2735]),
        (5000, 2, [3566, 4252, 1918, 4111, 1471]),
        (5000, 37, [4426, 2132, 2794, 2058, 4754]),
        (50_000, 1, [26247, 35067, 34590]),
        (60_000, 1, [15281, 21435, 44536]),
        (73_257, 1, [12213, 13532, 32094]),
        (16_853, 1, [13557, 6037, 7429]),
        (2500, 0, [53, 2391, 2310, 728, 850]),
    ],
)
def test_validation_indices(n: int, seed: int, first: list[int]) -> None:
    order = legacy_shuffle(n, seed)
    assert order[: len(first)].tolist() == first
    assert np.array_equal(order, shuffle(np.arange(n), random_state=seed))


def test_cifar_takes_its_validation_from_those_indices(cifar: ModuleType) -> None:
    """Images of one pixel that tells their place: the same indices for every task, as in GPM's code."""
    y = np.random.default_rng(0).permutation(np.arange(50_000) % 100)
    place = np.zeros(50_000, np.int64)
    for t in range(10):
        place[y // 10 == t] = np.arange(5000)
    digits = np.stack([place // 256, place % 256, 0 * place], axis=-1)
    x = digits.astype(np.uint8)[:, None, None]

    def places(split: Split) -> np.ndarray:
        pixels = split.x[..., 0, 0] * np.reshape(cifar.STD, 3) + np.reshape(cifar.MEAN, 3)
        return np.rint(pixels * 255).astype(int) @ [256, 1, 0]

    for t in (0, 9):
        task = cifar.make_task(t, Split(x, y), Split(x[:1000], y[:1000]), 37)
        assert places(task.validation)[:5].tolist() == [4426, 2132, 2794, 2058, 4754]
        assert sorted([*places(task.validation), *places(task.train)]) == list(range(5000))
        assert (len(task.train), len(task.validation)) == (4750, 250)


@pytest.mark.parametrize(
    ("n", "size", "batches", "last"),
    [
        (4750, 64, 75, 14),  # 10-split CIFAR-100: training, validation, test
        (250, 64, 4, 58),
        (1000, 64, 16, 40),
        (2375, 64, 38, 7),  # CIFAR-100 by superclass
        (125, 64, 2, 61),
        (47_500, 64, 743, 12),  # 5-Datasets
        (26_032, 64, 407, 48),
        (54_000, 10, 5400, 10),  # permuted MNIST
    ],
)
def test_batches_of_an_epoch(n: int, size: int, batches: int, last: int) -> None:
    cuts = slices(n, size)
    assert len(cuts) == batches
    assert cuts[-1].stop - cuts[-1].start == last


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 63, 64, 65, 128, 129])
@pytest.mark.parametrize("size", [1, 2, 4, 64])
def test_slices_cover_everything_once_and_leave_no_single(n: int, size: int) -> None:
    lengths = [s.stop - s.start for s in slices(n, size)]
    assert [i for s in slices(n, size) for i in range(n)[s]] == list(range(n))
    assert max(lengths) <= size + 1
    assert 1 not in lengths or n == 1 or size == 1


def images(split: Split) -> set[bytes]:
    return {x.tobytes() for x in split.x}


def same(a: list[Task], b: list[Task]) -> bool:
    for s, t in zip(a, b, strict=True):
        parts = (s.train, t.train), (s.validation, t.validation), (s.test, t.test)
        if not all(equal(u, v) for u, v in parts):
            return False
    return True


@pytest.mark.parametrize("name", ["digits", "permuted_digits", "toy"])
def test_streams_are_well_formed(name: str, tmp_path: Path) -> None:
    benchmark = Catalog().benchmark(name)
    tasks = benchmark.stream(0, tmp_path)
    assert [task.index for task in tasks] == list(range(benchmark.num_tasks))
    for task in tasks:
        assert len(task.classes) == benchmark.num_classes
        parts = (task.train, task.validation, task.test)
        for part in parts:
            assert part.x.shape == (len(part), *benchmark.input_shape)
            assert (part.x.dtype, part.y.dtype) == (np.float32, np.int64)
            assert set(part.y) == set(range(benchmark.num_classes))
        assert len(set.union(*map(images, parts))) == sum(map(len, parts))  # nothing is in two splits
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["digits", "permuted_digits", "toy"])
def test_streams_depend_on_the_seed_alone(name: str, tmp_path: Path) -> None:
    benchmark = Catalog().benchmark(name)
    first = benchmark.stream(3, tmp_path)
    np.random.seed(99)  # noqa: NPY002  must not matter
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert same(first, benchmark.stream(3, tmp_path / "elsewhere"))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert not same(first, benchmark.stream(4, tmp_path))


def test_digits_are_the_whole_set_in_shares_of_60_10_30(tmp_path: Path) -> None:
    tasks = Catalog().benchmark("digits").stream(0, tmp_path)
    sizes = np.array([(len(t.train), len(t.validation), len(t.test)) for t in tasks])
    assert sizes.sum() == 1797
    np.testing.assert_allclose(sizes / sizes.sum(1, keepdims=True), [[0.6, 0.1, 0.3]] * 5, atol=0.02)
    assert [task.classes for task in tasks] == [("0", "1"), ("2", "3"), ("4", "5"), ("6", "7"), ("8", "9")]
    assert all(t.train.x.min() >= 0 and t.train.x.max() <= 1 for t in tasks)


def test_permuted_digits_are_the_same_images_in_other_orders(tmp_path: Path) -> None:
    tasks = Catalog().benchmark("permuted_digits").stream(0, tmp_path)
    for task in tasks[1:]:
        assert np.array_equal(task.train.y, tasks[0].train.y)
        assert np.array_equal(np.sort(task.train.x), np.sort(tasks[0].train.x))
    assert len({task.train.x.tobytes() for task in tasks}) == len(tasks)
