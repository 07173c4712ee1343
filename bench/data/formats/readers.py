"""Readers of files of foreign origin. Archives are read in place: nothing is unpacked, and no pickle runs code.

Each returns images, uint8 (n, height, width, ...), and labels, int64 (n,), and raises `DataError`, on one line that
names the file, for whatever else the file may hold. `bench.data.source` adds what to do about it.
"""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from bench.core import DataError
from bench.data.formats.pickles import read_pickle
from bench.data.source import Labelled, one_line

IMAGES = (".jpg", ".jpeg", ".png")
MOST = 2**28  # bytes that are unpacked of an archive or of an array in it, at most; the largest known has 225 million


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong inside the block into a `DataError`: a damaged foreign file may raise anything."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be read: {one_line(error)}") from error


class Bounded:
    """A file that is read no further than `most` bytes, and no more than that in all, ValueError beyond: a small file
    may unpack to a thousand times its size, or lead its reader in circles."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, most: int) -> None:
        self.file, self.most, self.taken = file, most, 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, by default all that are left."""
        room = self.most - self.taken + 1
        content = self.file.read(room if size < 0 else min(size, room))
        self.taken += len(content)
        self._demand(self.taken)
        return content

    def seek(self, place: int) -> int:
        """Go to a byte, counted from the beginning."""
        self._demand(place)
        return self.file.seek(place)

    def tell(self) -> int:
        """Return the number of the next byte."""
        return self.file.tell()

    def _demand(self, size: int) -> None:
        if size > self.most:
            raise ValueError(f"it unpacks to more than {self.most} bytes")


def read_mat(path: Path) -> Labelled:
    """Return what MATLAB's .mat holds in the layout of SVHN (Netzer et al. 2011), its label 10 as 0.

    The file has X (height, width, 3, n) and y (n, 1).
    """
    with reading(path):
        content = _mat_content(path, "X", "y")
        upright = content["X"].transpose(3, 0, 1, 2)
        images, labels = _labelled(path, upright, content["y"].ravel())
    return images, np.where(labels == 10, 0, labels)


def _mat_content(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Return arrays of a .mat, read in a process of its own, which a damaged file may end. Raises ValueError."""
    script = Path(__file__).with_name("mat.py")
    words = [sys.executable, "-P", str(script), str(path), str(MOST), *names]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # threads would take memory
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, env=alone)
    if done.returncode < 0:
        raise ValueError(f"its reader was ended by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        raise ValueError(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as file:
        return {name: file[name] for name in names}


def read_batches(path: Path, names: Sequence[str], key: str = "labels") -> Labelled:
    """Return the batches `names` of a CIFAR archive (Krizhevsky 2009) as one.

    The archive is a tar.gz of pickles, whose images are flat and channel first, and whose labels are under `key`.
    """
    parts = []
    with reading(path), gzip.open(path) as unpacked:
        bounded: Any = Bounded(unpacked, MOST)
        archive = tarfile.open(path, "r:", bounded)  # noqa: SIM115  it opens nothing itself
        for name in names:
            content = read_pickle(member(archive, name), f"{path}, {name}")
            planes = _numbers(content["data"]).reshape(-1, 3, 32, 32)
            images = planes.transpose(0, 2, 3, 1)
            parts.append(_labelled(path, images, content[key]))
        rest = Bounded(unpacked, MOST)
        while rest.read(2**20):  # to the end, where the checksum stands
            pass
    x = np.concatenate([images for images, _ in parts])
    y = np.concatenate([labels for _, labels in parts])
    return x, y


def read_zip(path: Path, name: str) -> Labelled:
    """Return what the pickle `name` in a zip holds: `features`, uint8 (n, 1, height, width), and `labels`.

    This is the form of notMNIST in GPM's code.
    """
    with reading(path), zipfile.ZipFile(path) as archive:
        with archive.open(name) as file:
            raw = Bounded(file, MOST).read()  # whole, so that its checksum is verified
        content = read_pickle(io.BytesIO(raw), f"{path}, {name}")
        images = _numbers(content["features"]).squeeze(1)
        return _labelled(path, images, content["labels"])


def read_images(path: Path, side: int) -> Labelled:
    """Return what a pickle of `images`, each uint8 (height, width, 3), and `labels` holds, as (n, side, side, 3)."""
    with reading(path), path.open("rb") as file:
        content = read_pickle(file, str(path))
        images = [_numbers(image) for image in content["images"]]
        _demand_held(images, path.stat().st_size)
        squares = np.stack([_resized(image, side) for image in images])
        return _labelled(path, squares, content["labels"])


def class_folders(folder: Path, num_classes: int) -> list[Path]:
    """Return the folders of the classes, in the order of their names. Raises `DataError` if they are not so many."""
    with reading(folder):
        shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
        found = sorted(path for path in shown if path.is_dir())
    if len(found) != num_classes:
        raise DataError(f"{folder} has {len(found)} folders of images, not {num_classes}: one a class")
    return found


def read_folders(folders: Sequence[Path], per_class: int, side: int) -> Labelled:
    """Return the images in a folder for each class, in the order of their names, as RGB (n, side, side, 3).

    Raises `DataError` where a folder does not have exactly `per_class` of them.
    """
    images = np.empty((len(folders) * per_class, side, side, 3), np.uint8)
    for c, folder in enumerate(folders):
        with reading(folder):
            files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
        if len(files) != per_class:
            raise DataError(f"{folder} has {len(files)} images, not {per_class}")
        for i, file in enumerate(files):
            images[c * per_class + i] = _decoded(file, side)
    labels = np.repeat(np.arange(len(folders)), per_class)
    return images, labels


def read_middles(paths: Sequence[Path], side: int) -> np.ndarray:
    """Return the middle of the image in each file, RGB (n, side, side, 3), resized so that the shorter side fits, as
    torchvision's Resize and CenterCrop have it. Raises `DataError`."""
    from PIL import Image

    images = np.empty((len(paths), side, side, 3), np.uint8)
    for i, path in enumerate(paths):
        with reading(path), Image.open(path) as file:
            image = file.convert("RGB")
            width, height = (side * length // min(image.size) for length in image.size)
            resized = image.resize((width, height), Image.Resampling.BILINEAR)
            left, top = round((width - side) / 2), round((height - side) / 2)
            images[i] = np.asarray(resized.crop((left, top, left + side, top + side)))
    return images


def member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    """Open a file inside an archive, to be read in place. Raises `DataError` where there is none."""
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise DataError(f"{archive.name!s} has no file {name}")
    return file


def _numbers(content: Any) -> np.ndarray:
    """Return an array of one, or of a flat list of numbers. Raises ValueError for a list of lists: a short pickle may
    hold one of a billion numbers, a list of the same list, many times over."""
    nested = isinstance(content, list | tuple) and any(isinstance(part, list | tuple | dict) for part in content)
    if nested:
        raise ValueError("it has lists within lists in the place of an array")
    return np.asarray(content)


def _demand_held(images: Sequence[np.ndarray], size: int) -> None:
    """Raise ValueError unless a file of that many bytes holds all of the images, each of them once."""
    needed = sum(image.nbytes for image in images)
    if needed > size:
        raise ValueError(f"its images would take {needed} bytes, and it has {size}")


def _decoded(path: Path, side: int) -> np.ndarray:
    """Return the image in a file, uint8 (side, side, 3)."""
    from PIL import Image

    with reading(path), Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
        return _resized(pixels, side)


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image as torchvision's Resize makes it of one of PIL: bilinear, a square whatever the shape."""
    if image.shape == (side, side, 3):
        return image
    from PIL import Image

    square = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(square)


def _labelled(path: Path, images: np.ndarray, labels: Any) -> Labelled:
    """Return images and labels that fit together, or raise `DataError`."""
    labels = _numbers(labels)
    if images.dtype != np.uint8:
        raise DataError(f"{path}: images are {images.dtype}, not uint8")
    fits = np.issubdtype(labels.dtype, np.integer) and labels.shape == images.shape[:1]
    if not fits:
        raise DataError(f"{path}: {len(images)} images, but labels are {labels.dtype} of shape {labels.shape}")
    return np.ascontiguousarray(images), labels.astype(np.int64)
