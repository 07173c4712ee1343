"""Readers of files of foreign origin. Archives are read in place: nothing is unpacked, and no pickle runs code.

Each returns images and labels (`Labelled`) and raises `DataError`, on one line that names the file, for whatever else
the file may hold. What to do about it is for `bench.data.source` to say.
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
    """Whatever goes wrong in a foreign file, as a `DataError`: a damaged one may raise anything."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be read: {one_line(error)}") from error


def read_mat(path: Path) -> Labelled:
    """MATLAB's .mat in the layout of SVHN (Netzer et al. 2011): X (height, width, 3, n), y (n, 1); label 10 is 0."""
    from scipy.io import loadmat

    with reading(path):
        content = loadmat(str(path), variable_names=("X", "y"))
        images, labels = _labelled(path, content["X"].transpose(3, 0, 1, 2), content["y"].ravel())
    return images, np.where(labels == 10, 0, labels)


def read_batches(path: Path, names: Sequence[str], key: str = "labels") -> Labelled:
    """The batches `names` of a CIFAR archive (Krizhevsky 2009), a tar.gz of pickles: images flat and channel first."""
    parts = []
    with reading(path), tarfile.open(path) as archive:
        for name in names:
            content = read_pickle(member(archive, name), f"{path}, {name}")
            images = np.asarray(content["data"]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            parts.append(_labelled(path, images, content[key]))
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def read_zip(path: Path, name: str) -> Labelled:
    """The pickle `name` in a zip: `features`, uint8 (n, 1, height, width), and `labels` (notMNIST as GPM has it)."""
    with reading(path), zipfile.ZipFile(path) as archive:
        content = read_pickle(io.BytesIO(archive.read(name)), f"{path}, {name}")  # read whole, its checksum is verified
        return _labelled(path, np.asarray(content["features"]).squeeze(1), content["labels"])


def read_images(path: Path, side: int) -> Labelled:
    """A pickle of `images`, each uint8 (height, width, 3), and `labels`, resized to `side` where they are not."""
    with reading(path), path.open("rb") as file:
        content = read_pickle(file, str(path))
        images = [np.asarray(image) for image in content["images"]]
        return _labelled(path, np.stack([_resized(image, side) for image in images]), content["labels"])


def class_folders(folder: Path, num_classes: int) -> list[Path]:
    """The folders of the classes, in the order of their names."""
    with reading(folder):
        found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(found) != num_classes:
        raise DataError(f"{folder} has {len(found)} folders of images, not {num_classes}: one a class")
    return found


def read_folders(folders: Sequence[Path], per_class: int, side: int) -> Labelled:
    """Images in a folder a class, in the order of their names, as RGB of (side, side); exactly `per_class` in each."""
    images = np.empty((len(folders) * per_class, side, side, 3), np.uint8)
    for c, folder in enumerate(folders):
        with reading(folder):
            files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
        if len(files) != per_class:
            raise DataError(f"{folder} has {len(files)} images, not {per_class}")
        for i, file in enumerate(files):
            images[c * per_class + i] = _decoded(file, side)
    return images, np.repeat(np.arange(len(folders)), per_class)


def member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    """A file inside an archive, read in place."""
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise DataError(f"{archive.name!s} has no file {name}")
    return file


class _Number:
    """A type of plain numbers in a pickle. What else a pickle says of it is not let near numpy's memory."""

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
        raw = content.encode("latin1") if isinstance(content, str) else content  # a string of Python 2
        self.array = _array(raw, number, shape, "F" if fortran else "C")

    def __iter__(self) -> Iterator[Any]:
        return iter(self.array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)


def _array(raw: bytes, number: _Number, shape: tuple[int, ...], order: Any) -> np.ndarray:
    return np.frombuffer(raw, number.dtype).reshape(shape, order=order)


def _scalar(number: _Number, raw: bytes | str) -> Any:
    return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, number.dtype)[0]


class ArrayUnpickler(pickle.Unpickler):
    """Reads pickles of foreign origin: containers, numbers, text and arrays of numbers; anything else is refused."""

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
    """The content of a foreign pickle; `numpy.asarray` makes arrays of its arrays. Raises `DataError`."""
    try:
        return ArrayUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise DataError(f"{name} is not a pickle of arrays: {one_line(error)}") from error


def _decoded(path: Path, side: int) -> np.ndarray:
    from PIL import Image

    with reading(path), Image.open(path) as image:
        return _resized(np.asarray(image.convert("RGB")), side)


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    """As torchvision's Resize does with an image of PIL: bilinear, to a square whatever the shape."""
    if image.shape == (side, side, 3):
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def _labelled(path: Path, images: np.ndarray, labels: Any) -> Labelled:
    """Both, known to fit together."""
    labels = np.asarray(labels)
    if images.dtype != np.uint8:
        raise DataError(f"{path}: images are {images.dtype}, not uint8")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise DataError(f"{path}: {len(images)} images, but labels are {labels.dtype} of shape {labels.shape}")
    return np.ascontiguousarray(images), labels.astype(np.int64)
