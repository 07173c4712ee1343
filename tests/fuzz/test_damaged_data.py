"""Data sets under random damage: read as before, or refused on one line that names the file."""

import gzip
import io
import pickle
import random
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_damage import LONG_FORM, damaged, tell

from bench.core import DataError
from bench.data.formats.readers import read_batches, read_images, read_zip
from bench.data.mnist import read_idx

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), np.uint8)
LABELS = [3, 1, 4, 1, 5, 9]


def idx() -> bytes:
    head = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (6, 96, 32))
    return gzip.compress(head + IMAGES.tobytes(), mtime=0)


def batches() -> bytes:
    content = pickle.dumps({"data": IMAGES.reshape(6, -1), "labels": LABELS}, protocol=2)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member = tarfile.TarInfo("batch")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("train", pickle.dumps({"features": IMAGES[:, :1], "labels": np.array(LABELS)}))
    return file.getvalue()


READERS: dict[str, tuple[Callable[[], bytes], Callable[[Path], Any]]] = {
    "an idx file": (idx, lambda path: read_idx(path, 3)),
    "an archive of batches": (batches, lambda path: read_batches(path, ["batch"])),
    "a zip of pickles": (zipped, lambda path: read_zip(path, "train")),
}


@pytest.mark.parametrize("tries", [60, pytest.param(LONG_FORM, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", READERS)
def test_damaged_data_is_refused_or_equal(
    kind: str, tries: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each form has a checksum of its content."""
    make, read = READERS[kind]
    good, path = make(), tmp_path / "data"
    path.write_bytes(good)
    wanted = read(path)
    generator = random.Random(0)
    counts: Counter[str] = Counter()
    for _ in range(tries):
        path.write_bytes(damaged(good, generator))
        try:
            found = read(path)
        except DataError as error:
            assert str(path) in str(error) and str(error).isprintable()
            counts["refused"] += 1
            continue
        assert all(map(np.array_equal, found, wanted))
        counts["equal"] += 1
    tell(kind, counts, capsys)
    assert counts["refused"] > counts["equal"] and counts.total() == tries


@pytest.mark.parametrize("tries", [60, pytest.param(LONG_FORM, marks=pytest.mark.slow)])
def test_a_damaged_pickle_is_refused_or_of_its_form(
    tries: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bare pickle has no checksum: a source's own has to tell a changed number, and nothing here may run code."""
    good, path = pickle.dumps({"images": list(IMAGES.transpose(0, 2, 3, 1)), "labels": LABELS}), tmp_path / "data"
    generator = random.Random(0)
    counts: Counter[str] = Counter()
    for _ in range(tries):
        path.write_bytes(damaged(good, generator))
        try:
            x, y = read_images(path, 16)
        except DataError as error:
            assert str(path) in str(error) and str(error).isprintable()
            counts["refused"] += 1
            continue
        assert x.dtype == np.uint8 and y.dtype == np.int64 and x.shape == (len(y), 16, 16, 3)
        counts["equal"] += 1
    tell("a pickle, in its form", counts, capsys)
    assert counts["refused"] > 0 and counts.total() == tries
