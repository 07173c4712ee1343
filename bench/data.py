"""Data on disk: prepared arrays, downloads that fail in words, and pickles that can do no harm."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from bench.core import DataError, Split

UNREADABLE = (  # all that numpy and zip raise on a damaged file
    OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error
)  # fmt: skip


@dataclass(frozen=True)
class Archive:
    """A file as published: where it is, and how to know that it is whole."""

    url: str
    name: str
    md5: str
    megabytes: float

    def __str__(self) -> str:
        return f"{self.name} ({self.megabytes:g} MB, md5 {self.md5}, from {self.url})"


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

    def state(self, folder: Path) -> str:
        """ready, downloaded or missing, by the presence of files alone."""
        if (folder / f"{self.name}.npz").exists():
            return "ready"
        missing = [archive.megabytes for archive in self.archives if not (folder / archive.name).exists()]
        return f"missing, {round(sum(missing), 1):g} MB to download" if missing else "downloaded"

    def wanted(self, folder: Path, *archives: Archive) -> str:
        """What to do about missing data, in one line; by default about all of it."""
        files = ", ".join(map(str, archives or self.archives))
        return f"put {files} or a prepared {self.name}.npz into {folder}"

    def prepare(self, folder: Path, read: Callable[..., dict[str, np.ndarray]]) -> None:
        """Where there is no prepared array, make it of what `read` finds in the archives, their paths its arguments.
        Raises `DataError`."""
        if not (path := folder / f"{self.name}.npz").exists():
            save_prepared(path, read(*self.fetch(folder)))

    def fetch(self, folder: Path) -> list[Path]:
        """The archives, downloaded if need be, with their checksums verified. Raises `DataError`."""
        return [self._fetch(archive, folder) for archive in self.archives]

    def _fetch(self, archive: Archive, folder: Path) -> Path:
        path, remedy = folder / archive.name, self.wanted(folder, archive)
        if not path.exists():
            from torchvision.datasets.utils import download_url

            try:
                folder.mkdir(parents=True, exist_ok=True)
                download_url(archive.url, str(folder), archive.name, archive.md5)
            except BaseException as error:  # whatever the network does, the remedy is the same
                path.unlink(missing_ok=True)
                if not isinstance(error, Exception):
                    raise
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise DataError(f"cannot download {self.name}: {reason}; {remedy}") from error
        if (found := _md5(path)) != archive.md5:
            raise DataError(f"{path} is damaged: md5 {found}, not {archive.md5}; delete it, then {remedy}")
        return path

    def load_prepared(self, folder: Path) -> tuple[Split, Split]:
        """Training and test split with global labels, images still uint8. Raises `DataError` where the file is not
        exactly what it should be."""
        path = folder / f"{self.name}.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {k: file[k] for k in ("x_train", "y_train", "x_test", "y_test")}
        except UNREADABLE as error:
            raise DataError(f"{path} cannot be read ({error}); make it again, or {self.wanted(folder)}") from error
        return (
            self._checked(path, "train", arrays["x_train"], arrays["y_train"], self.num_train),
            self._checked(path, "test", arrays["x_test"], arrays["y_test"], self.num_test),
        )

    def _checked(self, path: Path, part: str, x: np.ndarray, y: np.ndarray, n: int) -> Split:
        def demand(holds: bool, what: str) -> None:
            if not holds:
                raise DataError(f"{path}: {what}")

        demand(x.shape == (n, *self.image_shape), f"x_{part} has shape {x.shape}, not {(n, *self.image_shape)}")
        demand(x.dtype == np.uint8, f"x_{part} is {x.dtype}, not uint8")
        demand(y.shape == (n,), f"y_{part} has shape {y.shape}, not {(n,)}")
        demand(np.issubdtype(y.dtype, np.integer), f"y_{part} is {y.dtype}, not integer")
        y = y.astype(np.int64)
        low, high = int(y.min()), int(y.max())
        top = self.num_classes - 1
        demand(low >= 0 and high <= top, f"y_{part} has labels from {low} to {high}, not from 0 to {top}")
        counts = np.bincount(y, minlength=self.num_classes)
        demand(bool((counts > 0).all()), f"y_{part} has no image of class {int(counts.argmin())}")
        return Split(x, y)


class ArrayUnpickler(pickle.Unpickler):
    """Reads pickles of foreign origin: containers, numbers, text and arrays; anything else is refused."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
        return super().find_class(module, name)


def read_pickle(file: IO[bytes], name: str) -> Any:
    """The content of a foreign pickle. Raises `DataError`."""
    try:
        return ArrayUnpickler(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, ValueError) as error:
        raise DataError(f"{name} is not a pickle of arrays: {error}") from error


def member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    """A file inside an archive, read in place: nothing is unpacked."""
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise DataError(f"{archive.name!s} has no file {name}")
    return file


def save_prepared(path: Path, arrays: dict[str, Any]) -> None:
    """Write a prepared array whole or not at all. Raises `DataError`."""
    partial = path.with_name(f".{path.stem}.partial.npz")
    try:
        np.savez(partial, **arrays)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error.strerror}; free some space or choose another --data") from error


def legacy_shuffle(n: int, seed: int) -> np.ndarray:
    """A permutation of range(n), the same as sklearn.utils.shuffle(arange(n), random_state=seed)."""
    order = np.arange(n)
    np.random.RandomState(seed).shuffle(order)  # the papers' splits come from the legacy generator
    return order


def normalise(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """uint8 (n, h, w, c) -> float32 (n, c, h, w), scaled to [0, 1], then per channel (x - mean) / std."""
    scaled = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    shape = (1, -1, 1, 1)
    shifted = scaled - np.asarray(mean, np.float32).reshape(shape)
    return np.ascontiguousarray(shifted / np.asarray(std, np.float32).reshape(shape))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
