"""Files of foreign origin, written here as their authors write them: whole ones, and damaged, wrong or hostile ones."""

import gzip
import io
import itertools
import os
import pickle
import re
import signal
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_tar
from PIL import Image
from scipy.io import savemat

from bench.core import DataError
from bench.data.formats import readers

RNG = np.random.default_rng(0)
Reader = Callable[[Path], readers.Labelled]


def pixels(n: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (n, *shape), np.uint8)


class Evil:
    """A pickle that would make a folder."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.flag),)


def write_mat(path: Path, x: object, y: object) -> Path:
    savemat(path, {"X": x, "y": y}, do_compression=True)
    return path


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_folders(folder: Path, classes: int = 3, per_class: int = 4, side: int = 8) -> list[Path]:
    for c in range(classes):
        (folder / f"n{c:02}").mkdir(parents=True)
        for i in range(per_class):
            image = Image.new("RGB", (side, side), (10 * c, i, 0))
            image.save(folder / f"n{c:02}" / f"{i}.png")
    return sorted(folder.iterdir())


def refused(path: Path, read: Reader) -> str:
    """Return the one line with which a file is refused; it must name the file."""
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Whole files


def test_mat_has_images_last_and_ten_for_zero(tmp_path: Path) -> None:
    x = pixels(20, 32, 32, 3)
    y = np.arange(1, 21) % 10
    stored = np.where(y == 0, 10, y)
    path = write_mat(tmp_path / "train_32x32.mat", x.transpose(1, 2, 3, 0), stored[:, None])
    images, labels = readers.read_mat(path)
    assert np.array_equal(images, x)
    assert images.dtype == np.uint8
    assert labels.tolist() == y.tolist()
    assert labels.dtype == np.int64


def test_batches_are_joined_and_their_channels_come_last(tmp_path: Path) -> None:
    x = pixels(30, 3, 32, 32)
    y = RNG.integers(0, 10, 30)
    names = [f"cifar-10-batches-py/data_batch_{b}" for b in (1, 2, 3)]
    members = {}
    for b, name in enumerate(names):
        part = slice(10 * b, 10 * b + 10)
        batch = {"data": x[part].reshape(10, -1), "labels": y[part].tolist()}
        members[name] = pickle.dumps(batch, 2)
    path = write_tar(tmp_path / "c.tar.gz", members)
    images, labels = readers.read_batches(path, names)
    assert np.array_equal(images, x.transpose(0, 2, 3, 1))
    assert np.array_equal(labels, y)
    assert readers.read_batches(path, names[1:2])[1].tolist() == y[10:20].tolist()
    assert [p.name for p in tmp_path.iterdir()] == ["c.tar.gz"]  # nothing is unpacked


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_zip_of_pickles(tmp_path: Path, protocol: int) -> None:
    x = pixels(20, 1, 32, 32)
    y = RNG.integers(0, 10, 20).astype(np.uint8)
    content = pickle.dumps({"features": x, "labels": y}, protocol)
    path = write_zip(tmp_path / "n.zip", {"a.pkl": content, "__MACOSX/._a.pkl": b"junk", "../b.pkl": b"junk"})
    images, labels = readers.read_zip(path, "a.pkl")
    assert np.array_equal(images, x[:, 0])
    assert np.array_equal(labels, y)
    assert labels.dtype == np.int64
    assert [p.name for p in tmp_path.rglob("*")] == ["n.zip"]


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("listed", [list, np.array])
def test_pickled_images(tmp_path: Path, protocol: int, listed: Callable[..., object]) -> None:
    """As one array, or a list of arrays with labels that may be scalars of numpy."""
    x = pixels(6, 8, 8, 3)
    y = RNG.integers(0, 3, 6)
    path = tmp_path / "train.pkl"
    path.write_bytes(pickle.dumps({"images": listed(x), "labels": listed(y)}, protocol))
    images, labels = readers.read_images(path, 8)
    assert np.array_equal(images, x)
    assert np.array_equal(labels, y)
    assert readers.read_images(path, 4)[0].shape == (6, 4, 4, 3)


def test_resizing_is_that_of_torchvision() -> None:
    from torchvision.transforms import Resize

    image = Image.fromarray(pixels(1, 50, 30, 3)[0])
    assert np.array_equal(readers._resized(np.asarray(image), 16), np.asarray(Resize((16, 16))(image)))


def test_folders_of_images_in_the_order_of_names(tmp_path: Path) -> None:
    write_folders(tmp_path, side=12)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "n00" / ".DS_Store").touch()
    Image.new("L", (5, 9), 77).save(tmp_path / "n02" / "3.png")  # grey, and not square
    images, labels = readers.read_folders(readers.class_folders(tmp_path, 3), 4, 8)
    assert images.shape == (12, 8, 8, 3)
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    first = images[:11, 0, 0, :2].tolist()  # of each image but the grey one
    assert first == [[10 * c, i] for c in range(3) for i in range(4)][:11]
    assert (images[11] == 77).all()


# Files that are not whole, not what they say, or not meant well


def mat(path: Path) -> Reader:
    labels = np.arange(20) % 10 + 1
    write_mat(path, pixels(20, 32, 32, 3).transpose(1, 2, 3, 0), labels[:, None])
    return readers.read_mat


def tar(path: Path) -> Reader:
    batch = {"data": pixels(20, 3072), "labels": [i % 10 for i in range(20)]}
    write_tar(path, {"b": pickle.dumps(batch, 4)})
    return lambda p: readers.read_batches(p, ["b"])


def zipped(path: Path) -> Reader:
    content = {"features": pixels(20, 1, 32, 32), "labels": np.arange(20) % 10}
    write_zip(path, {"a.pkl": pickle.dumps(content, 4)})
    return lambda p: readers.read_zip(p, "a.pkl")


def pickled(path: Path) -> Reader:
    content = {"images": list(pixels(20, 8, 8, 3)), "labels": [i % 10 for i in range(20)]}
    path.write_bytes(pickle.dumps(content))
    return lambda p: readers.read_images(p, 8)


BY_OURS = [tar, zipped, pickled]


def with_mat(values: list[Any]) -> list[Any]:
    """Return every file with every value; a .mat, which takes a process each, is slow but for the first value."""
    mats = [pytest.param(mat, value, marks=pytest.mark.slow if i else ()) for i, value in enumerate(values)]
    return [*mats, *itertools.product(BY_OURS, values)]


@pytest.mark.parametrize(("write", "share"), with_mat([0.3, 0, 0.01, 0.9, 0.98]))
def test_a_truncated_file(tmp_path: Path, write: Callable[[Path], Reader], share: float) -> None:
    path = tmp_path / "file"
    read = write(path)
    read(path)
    os.truncate(path, int(share * path.stat().st_size))
    refused(path, read)


@pytest.mark.parametrize(
    ("write", "step", "least"), [pytest.param(mat, 16, 10, marks=pytest.mark.slow), (tar, 1, 20), (zipped, 1, 20)]
)
def test_a_damaged_byte_raises_nothing_but_data_errors(
    tmp_path: Path, write: Callable[[Path], Reader], step: int, least: int
) -> None:
    """A .mat takes a process each, so that not all places are tried."""
    path = tmp_path / "file"
    read = write(path)
    good = path.read_bytes()
    refusals = 0
    head = range(min(300, len(good)))
    somewhere = RNG.integers(0, len(good), 100).tolist()
    for place in sorted({*head, *somewhere})[::step]:
        damaged = bytes([good[place] ^ 0x5A])
        path.write_bytes(good[:place] + damaged + good[place + 1 :])
        try:
            read(path)
        except DataError as error:
            refusals += 1
            assert str(path) in str(error)
            assert "\n" not in str(error)
    assert refusals > least


@pytest.mark.parametrize(("write", "content"), with_mat([b"<html>not found</html>", b"", b"\x80\x04."]))
def test_another_file(tmp_path: Path, write: Callable[[Path], Reader], content: bytes) -> None:
    path = tmp_path / "file"
    read = write(path)
    path.write_bytes(content)
    refused(path, read)
    path.unlink()
    refused(path, read)
    path.mkdir()
    refused(path, read)


def test_pickles_that_would_run_code(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    hostile = pickle.dumps({"data": Evil(flag), "features": 0, "images": 0, "labels": 0})
    plain = tmp_path / "c.pkl"
    plain.write_bytes(hostile)
    write_tar(tmp_path / "a", {"b": hostile})
    write_zip(tmp_path / "b", {"a.pkl": hostile})
    assert "mkdir" in refused(tmp_path / "a", lambda p: readers.read_batches(p, ["b"]))
    assert "mkdir" in refused(tmp_path / "b", lambda p: readers.read_zip(p, "a.pkl"))
    assert "mkdir" in refused(plain, lambda p: readers.read_images(p, 8))
    assert not flag.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"images": pixels(4, 8, 8, 3)}, "labels"),
        ({"labels": [0]}, "images"),
        ({"images": pixels(4, 8, 8, 3), "labels": [0, 1, 2]}, "4 images, but labels are int64 of shape (3,)"),
        ({"images": pixels(4, 8, 8, 3), "labels": ["a", "b", "c", "d"]}, "4 images, but labels"),
        ({"images": pixels(4, 8, 8, 3) / 255, "labels": [0, 1, 2, 3]}, "images are float64, not uint8"),
        ({"images": [0, 1], "labels": [0, 1]}, "cannot be read"),
        ({"images": np.array([{}, None]), "labels": [0, 1]}, "array of object, which are no numbers"),
        ([1, 2], "cannot be read"),
    ],
)
def test_pickles_of_something_else(tmp_path: Path, content: object, says: str) -> None:
    path = tmp_path / "train.pkl"
    path.write_bytes(pickle.dumps(content))
    assert says in refused(path, lambda p: readers.read_images(p, 8))


def test_a_short_pickle_of_a_billion_numbers(tmp_path: Path) -> None:
    """Lists of the same list, thirty deep; and one image, many times over."""
    many: list[object] = [0, 0]
    for _ in range(30):
        many = [many, many]
    content = {"data": pixels(4, 3072), "features": many, "labels": many, "images": [pixels(1, 800, 800, 3)[0]] * 9000}
    path = tmp_path / "file"
    write_tar(path, {"b": pickle.dumps(content)})
    assert "lists within lists" in refused(path, lambda p: readers.read_batches(p, ["b"]))
    write_zip(path, {"a.pkl": pickle.dumps(content)})
    assert "lists within lists" in refused(path, lambda p: readers.read_zip(p, "a.pkl"))
    path.write_bytes(pickle.dumps(content))
    assert "its images would take 17280000000 bytes" in refused(path, lambda p: readers.read_images(p, 84))


@pytest.mark.parametrize("operation", [b"\x8e" + struct.pack("<Q", 10**13), b"\x96" + struct.pack("<Q", 10**13)])
def test_a_pickle_that_promises_more_bytes_than_there_is_memory(tmp_path: Path, operation: bytes) -> None:
    path = tmp_path / "train.pkl"
    path.write_bytes(b"\x80\x05" + operation + b"abc.")
    refused(path, lambda p: readers.read_images(p, 84))


def test_a_pickle_that_numbers_an_object_highly_takes_no_memory() -> None:
    content = b"\x80\x02N" + b"r" + struct.pack("<I", 2**24) + b"."
    tracemalloc.start()
    try:
        assert readers.read_pickle(io.BytesIO(content), "train.pkl") is None
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


# Bombs: files that unpack to more than they may


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives may unpack to a million bytes."""
    monkeypatch.setattr(readers, "MOST", 10**6)


@pytest.mark.usefixtures("small")
def test_a_bomb_is_unpacked_no_further_than_it_may(tmp_path: Path) -> None:
    """As the file that is wanted, as one before it, and as what stands behind everything."""
    good = pickle.dumps({"data": pixels(20, 3072), "labels": [i % 10 for i in range(20)]})
    path = tmp_path / "file"
    bomb = bytes(3 * 10**7)
    for members in ({"b": bomb}, {"a": bomb, "b": good}, {"b": good, "c": bomb}):
        write_tar(path, members)
        assert path.stat().st_size < 200_000
        tracemalloc.start()
        try:
            assert "unpacks to more than 1000000 bytes" in refused(path, lambda p: readers.read_batches(p, ["b"]))
            assert tracemalloc.get_traced_memory()[1] < 10**7
        finally:
            tracemalloc.stop()
    write_zip(path, {"a.pkl": bomb})
    assert "unpacks to more than 1000000 bytes" in refused(path, lambda p: readers.read_zip(p, "a.pkl"))
    write_mat(path, np.zeros((32, 32, 3, 4000), np.uint8), np.zeros((4000, 1)))
    assert path.stat().st_size < 200_000
    assert "more than 1000000 numbers" in refused(path, readers.read_mat)


@pytest.mark.usefixtures("small")
def test_a_tar_that_leads_back_to_its_beginning_ends(tmp_path: Path) -> None:
    """A member of a negative size: the next one is the first."""
    head = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
    head[124:136] = (2**96 - 512).to_bytes(12, "big")
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(bytes(head)))
    refused(path, lambda p: readers.read_batches(p, ["b"]))


def test_a_mat_that_ends_its_reader_ends_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    read = mat(path)
    run = subprocess.run

    def dies(words: list[str], **more: Any) -> object:
        return run([words[0], "-c", "import os; os.kill(os.getpid(), 11)"], **more)

    monkeypatch.setattr(subprocess, "run", dies)
    assert f"its reader was ended by {signal.SIGSEGV.name}" in refused(path, read)


def test_a_mat_that_promises_more_than_there_is_memory(tmp_path: Path) -> None:
    """In the sizes of its array, and in the number of bytes of its element."""
    path = tmp_path / "file"
    savemat(path, {"X": pixels(20, 32, 32, 3).transpose(1, 2, 3, 0), "y": np.ones((20, 1))})
    good = path.read_bytes()
    shape = good.index(struct.pack("<4i", 32, 32, 3, 20))
    path.write_bytes(good[:shape] + struct.pack("<4i", 32, 32, 3, 2**30) + good[shape + 16 :])
    assert "more than" in refused(path, readers.read_mat)
    content = good.index(struct.pack("<II", 2, 20 * 3072))
    path.write_bytes(good[:content] + struct.pack("<II", 2, 2**32 - 8) + good[content + 8 :])
    refused(path, readers.read_mat)


def test_a_mat_of_something_else(tmp_path: Path) -> None:
    y = np.arange(4)[:, None]
    path = tmp_path / "x.mat"
    assert "not uint8" in refused(write_mat(path, pixels(32, 32, 3, 4) / 2, y), readers.read_mat)
    assert "3 images" in refused(write_mat(path, pixels(32, 32, 3, 3), y), readers.read_mat)
    refused(write_mat(path, pixels(32, 32), y), readers.read_mat)
    savemat(path, {"X": pixels(32, 32, 3, 4)})
    assert "y" in refused(path, readers.read_mat)


def test_archives_without_the_file(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    write_tar(path, {"other": b""})
    assert "has no file b" in refused(path, lambda p: readers.read_batches(p, ["b"]))
    write_zip(path, {"other": b""})
    assert "a.pkl" in refused(path, lambda p: readers.read_zip(p, "a.pkl"))


def test_folders_are_counted(tmp_path: Path) -> None:
    folders = write_folders(tmp_path)
    assert "has 3 folders of images, not 100" in refused(tmp_path, lambda p: readers.class_folders(p, 100))
    refused(tmp_path / "absent", lambda p: readers.class_folders(p, 3))
    (folders[1] / "2.png").unlink()
    with pytest.raises(DataError, match=re.escape(f"{folders[1]} has 3 images, not 4")):
        readers.read_folders(folders, 4, 8)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_image_is_named(tmp_path: Path, content: bytes) -> None:
    folders = write_folders(tmp_path)
    broken = folders[1] / "2.png"
    broken.write_bytes(content)
    refused(broken, lambda _: readers.read_folders(folders, 4, 8))


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    folders = write_folders(tmp_path, side=64)
    path = folders[0] / "0.jpg"
    (folders[0] / "0.png").unlink()
    Image.fromarray(pixels(1, 64, 64, 3)[0]).save(path)
    os.truncate(path, path.stat().st_size // 2)
    refused(path, lambda _: readers.read_folders(folders, 4, 8))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path: Path) -> None:
    folders = write_folders(tmp_path)
    folders[2].chmod(0)
    try:
        refused(folders[2], lambda _: readers.read_folders(folders, 4, 8))
    finally:
        folders[2].chmod(0o700)
