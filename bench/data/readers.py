"""Readers of files of foreign origin. Archives are read in place: nothing is unpacked, and no pickle runs code.

Each returns images, uint8 (n, height, width, ...), and labels, int64 (n,), and raises `DataError`, on one line that
names the file, for whatever else the file may hold. `bench.data.source` adds what to do about it.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from bench.core import DataError
from bench.data.source import Labelled, one_line

IMAGES = (".jpg", ".jpeg", ".png")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong inside the block into a `DataError`: a damaged foreign file may raise anything."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be read: {one_line(error)}") from error


def read_mat(path: Path) -> Labelled:
    """Return what MATLAB's .mat holds in the layout of SVHN (Netzer et al. 2011), its label 10 as 0.

    The file has X (height, width, 3, n) and y (n, 1).
    """
    from scipy.io import loadmat

    with reading(path):
        content = loadmat(str(path), variable_names=("X", "y"))
        upright = content["X"].transpose(3, 0, 1, 2)
        images, labels = _labelled(path, upright, content["y"].ravel())
    return images, np.where(labels == 10, 0, labels)


def read_batches(path: Path, names: Sequence[str], key: str = "labels") -> Labelled:
    """Return the batches `names` of a CIFAR archive (Krizhevsky 2009) as one.

    The archive is a tar.gz of pickles, whose images are flat and channel first, and whose labels are under `key`.
    """
    parts = []
    with reading(path), tarfile.open(path) as archive:
        for name in names:
            content = read_pickle(member(archive, name), f"{path}, {name}")
            planes = np.asarray(content["data"]).reshape(-1, 3, 32, 32)
            images = planes.transpose(0, 2, 3, 1)
            parts.append(_labelled(path, images, content[key]))
    x = np.concatenate([images for images, _ in parts])
    y = np.concatenate([labels for _, labels in parts])
    return x, y


def read_zip(path: Path, name: str) -> Labelled:
    """Return what the pickle `name` in a zip holds: `features`, uint8 (n, 1, height, width), and `labels`.

    This is the form of notMNIST in GPM's code.
    """
    with reading(path), zipfile.ZipFile(path) as archive:
        raw = archive.read(name)  # whole, so that its checksum is verified
        content = read_pickle(io.BytesIO(raw), f"{path}, {name}")
        images = np.asarray(content["features"]).squeeze(1)
        return _labelled(path, images, content["labels"])


def read_images(path: Path, side: int) -> Labelled:
    """Return what a pickle of `images`, each uint8 (height, width, 3), and `labels` holds, as (n, side, side, 3)."""
    with reading(path), path.open("rb") as file:
        content = read_pickle(file, str(path))
        images = [np.asarray(image) for image in content["images"]]
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


def member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    """Open a file inside an archive, to be read in place. Raises `DataError` where there is none."""
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise DataError(f"{archive.name!s} has no file {name}")
    return file


class _Number:
    """A type of plain numbers in a pickle. What else a pickle says of it never reaches numpy's memory."""

    def __init__(self, name: str, *_: object) -> None:
        self.dtype = np.dtype(name)
        if self.dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"it has an array of {self.dtype}, which are no numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


class _Array:
    """An array in a pickle, made of its bytes."""

    def __init__(self, *_: object) -> None:
        self.array = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, number, fortran, content = state
        order = "F" if fortran else "C"
        self.array = _array(_bytes(content), number, shape, order)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)


def _bytes(content: bytes | str) -> bytes:
    """Return bytes, which are a string in a pickle of Python 2."""
    return content.encode("latin1") if isinstance(content, str) else content


def _array(raw: bytes, number: _Number, shape: tuple[int, ...], order: Any) -> np.ndarray:
    return np.frombuffer(raw, number.dtype).reshape(shape, order=order)


def _scalar(number: _Number, raw: bytes | str) -> Any:
    return np.frombuffer(_bytes(raw), number.dtype)[0]


class ArrayUnpickler(pickle.Unpickler):
    """A reader of foreign pickles: of containers, numbers, text and arrays of numbers; anything else is refused."""

    ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
        ("multiarray", "_reconstruct"): _Array,
        ("multiarray", "scalar"): _scalar,
        ("numeric", "_frombuffer"): _array,  # of protocol 5
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Number,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # bytes, in protocol 2
            return lambda text, _: text.encode("latin1")
        key = module.removeprefix("numpy.core.").removeprefix("numpy._core."), name
        if key not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
        return self.ALLOWED[key]


def read_pickle(file: IO[bytes], name: str) -> Any:
    """Return the content of a foreign pickle; `numpy.asarray` makes arrays of its arrays. Raises `DataError`."""
    try:
        return ArrayUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise DataError(f"{name} is not a pickle of arrays: {one_line(error)}") from error


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
    labels = np.asarray(labels)
    if images.dtype != np.uint8:
        raise DataError(f"{path}: images are {images.dtype}, not uint8")
    fits = np.issubdtype(labels.dtype, np.integer) and labels.shape == images.shape[:1]
    if not fits:
        raise DataError(f"{path}: {len(images)} images, but labels are {labels.dtype} of shape {labels.shape}")
    return np.ascontiguousarray(images), labels.astype(np.int64)
