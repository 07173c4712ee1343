"""Data on disk: the sources of data sets, prepared arrays, and downloads that fail in words."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import files, locks
from bench.core import DataError, Split
from bench.data.formats.arrays import Head, read_content, read_head

Labelled = tuple[np.ndarray, np.ndarray]  # images, uint8 (n, height, width[, channels]), and labels, int64 (n,)
CHUNK = 2**20  # bytes of a download at a time
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class Archive:
    """A file, or a folder of files, as published: where it is, and how to know that it is whole."""

    url: str  # empty: it may not be handed out, and `note` says how to come by it
    name: str  # within the folder of data sets
    md5: str  # empty: not known to us, so that only what is found in it can be checked
    megabytes: float
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.megabytes:g} MB, {self.checksum}, {self.origin})"

    @property
    def checksum(self) -> str:
        return f"md5 {self.md5}" if self.md5 else "no checksum known"

    @property
    def origin(self) -> str:
        return f"from {self.url}" if self.url else self.note


@dataclass(frozen=True)
class Source:
    """A data set: a prepared array `<name>.npz`, or the archives it is made from.

    The array holds x_train and x_test, uint8 (n, height, width[, channels]), and y_train and y_test, int64 (n,).
    """

    name: str
    image_shape: tuple[int, ...]
    num_classes: int
    num_train: int
    num_test: int
    archives: tuple[Archive, ...]
    read: Callable[..., tuple[Labelled, Labelled]]  # paths of the archives -> training and test; raises `DataError`
    balanced: bool = False  # whether every class has as many images as every other

    def prepared(self, folder: Path) -> Path:
        """Return the place of the prepared array."""
        return folder / f"{self.name}.npz"

    def missing(self, folder: Path) -> list[Archive]:
        """Return what has to come before the prepared array can be made."""
        if present(self.prepared(folder)):
            return []
        return [archive for archive in self.archives if not present(folder / archive.name)]

    def state(self, folder: Path) -> str:
        """Return "ready", "downloaded" or "missing", by the presence of files alone."""
        if missing := self.missing(folder):
            size = f"{round(sum(archive.megabytes for archive in missing), 1):g} MB"
            return f"missing, {size} to download" if all(archive.url for archive in missing) else "missing"
        return "ready" if present(self.prepared(folder)) else "downloaded"

    def wanted(self, folder: Path, *archives: Archive) -> str:
        """Return what to do about missing data, in one line; by default about all of it."""
        files = ", ".join(map(str, archives or self.archives))
        return f"put {files} or a prepared {self.name}.npz into {folder}"

    def prepare(self, folder: Path) -> None:
        """Make the prepared array, where there is none, from the archives, downloaded if need be. Raises
        `DataError`."""
        if present(self.prepared(folder)):
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = locks.alone(folder)
        except OSError as error:
            raise DataError(f"cannot use {folder}: {error.strerror}; choose another --data") from error
        with lock:
            if not present(self.prepared(folder)):  # nor made by another process in the meantime
                self._prepare(folder)

    def _prepare(self, folder: Path) -> None:
        paths = self.fetch(folder)
        try:
            train, test = self.read(*paths)
            arrays = dict(zip(ARRAYS, (*train, *test), strict=True))
            self._splits(", ".join(map(str, paths)), arrays)
        except DataError as error:
            raise DataError(f"{error}; delete it, then {self.wanted(folder)}") from error
        save_prepared(self.prepared(folder), arrays)

    def fetch(self, folder: Path) -> list[Path]:
        """Return the archives, downloaded if need be, with their checksums verified. Raises `DataError`."""
        return [self._fetch(archive, folder) for archive in self.archives]

    def _fetch(self, archive: Archive, folder: Path) -> Path:
        path, remedy = folder / archive.name, self.wanted(folder, archive)
        if not present(path):
            if not archive.url:
                raise DataError(f"{self.name} is missing: {remedy}")
            try:
                _download(archive, folder)
            except Exception as error:  # whatever the network does, the remedy is the same
                raise DataError(f"cannot download {self.name}: {one_line(error)}; {remedy}") from error
        if archive.md5 and (found := md5sum(path)) != archive.md5:
            raise DataError(f"{path} is damaged: md5 {found}, not {archive.md5}; delete it, then {remedy}")
        return path

    def load_prepared(self, folder: Path) -> tuple[Split, Split]:
        """Training and test split with global labels, images still uint8. Raises `DataError` where the file is not
        exactly what it should be. Its sizes are looked at before it is unpacked."""
        path = self.prepared(folder)
        try:
            with zipfile.ZipFile(path) as file:
                self._demand_form(str(path), {name: read_head(file, name) for name in ARRAYS})
                arrays = {name: read_content(file, name) for name in ARRAYS}
        except DataError:
            raise
        except Exception as error:  # a damaged file may raise anything
            remedy = f"delete it, or {self.wanted(folder)}"
            raise DataError(f"{path} cannot be read ({one_line(error)}); {remedy}") from error
        return self._splits(str(path), arrays)

    def _splits(self, where: str, arrays: dict[str, np.ndarray]) -> tuple[Split, Split]:
        """Both splits, known to be of the right sizes, types and labels."""
        self._demand_form(where, {name: Head(array.shape, array.dtype) for name, array in arrays.items()})
        train, test = (Split(arrays[f"x_{part}"], arrays[f"y_{part}"].astype(np.int64)) for part in ("train", "test"))
        self._demand_labels(where, "y_train", train.y)
        self._demand_labels(where, "y_test", test.y)
        return train, test

    def _demand_form(self, where: str, heads: dict[str, Head]) -> None:
        """Raise `DataError` unless all arrays have their shapes and types."""
        for part, n in (("train", self.num_train), ("test", self.num_test)):
            x, y, shape = heads[f"x_{part}"], heads[f"y_{part}"], (n, *self.image_shape)
            _demand(x.shape == shape, f"{where}: x_{part} has shape {x.shape}, not {shape}")
            _demand(x.dtype == np.uint8, f"{where}: x_{part} is {x.dtype}, not uint8")
            _demand(y.shape == (n,), f"{where}: y_{part} has shape {y.shape}, not {(n,)}")
            _demand(np.issubdtype(y.dtype, np.integer), f"{where}: y_{part} is {y.dtype}, not integer")

    def _demand_labels(self, where: str, name: str, y: np.ndarray) -> None:
        """Raise `DataError` unless every class is there, and as often as the others where that is so."""
        low, high = int(y.min()), int(y.max())
        top = self.num_classes - 1
        _demand(low >= 0 and high <= top, f"{where}: {name} has labels from {low} to {high}, not from 0 to {top}")
        counts = np.bincount(y, minlength=self.num_classes)
        _demand(bool((counts > 0).all()), f"{where}: {name} has no image of class {int(counts.argmin())}")
        spread = f"{name} has from {counts.min()} to {counts.max()} images of a class, not as many of each"
        _demand(not self.balanced or counts.min() == counts.max(), f"{where}: {spread}")


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise DataError(what)


def save_prepared(path: Path, arrays: dict[str, Any]) -> None:
    """Write a prepared array whole or not at all. Raises `DataError`."""
    try:
        with files.replacing(path) as file:
            np.savez(file, **arrays)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"cannot write {path}: {reason}; free some space or choose another --data") from error


def _download(archive: Archive, folder: Path) -> None:
    """Fetch a file whole or not at all: it gets its name once it is there, and its checksum right."""
    import pooch

    path = folder / archive.name
    for left in path.parent.glob(f".{path.name}.*.partial"):
        files.remove(left)  # by a run that was killed
    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=CHUNK)
    with files.replacing(path) as file:
        download(archive.url, file, None)
        file.flush()
        found = md5sum(Path(file.name))
        if archive.md5 and found != archive.md5:
            raise DataError(f"what came is damaged, or another file: its md5 is {found}, not {archive.md5}")


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def legacy_shuffle(n: int, seed: int) -> np.ndarray:
    """Return a permutation of range(n), the same as sklearn.utils.shuffle(arange(n), random_state=seed)."""
    order = np.arange(n)
    np.random.RandomState(seed).shuffle(order)  # the papers' splits come from the legacy generator
    return order


def normalise(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """Return images, uint8 (n, h, w, c), as float32 (n, c, h, w): in [0, 1], then per channel (x - mean) / std."""
    x = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    x /= 255  # in place: the larger data sets take a gigabyte
    x -= np.asarray(mean, np.float32).reshape(1, -1, 1, 1)
    x /= np.asarray(std, np.float32).reshape(1, -1, 1, 1)
    return x


def present(path: Path) -> bool:
    """Return whether there is such a file or folder. Raises `DataError` where that may not be known."""
    try:
        return path.exists()
    except OSError as error:
        raise DataError(f"{path} cannot be reached: {error.strerror}; choose another --data") from error


def md5sum(path: Path) -> str:
    """Return the MD5 digest of a file, 32 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
