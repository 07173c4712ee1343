"""Readers of files of foreign origin. Archives are read in place: nothing is unpacked, and no pickle runs code.

Each returns images and labels (`Labelled`) and raises `DataError`, on one line that names the file, for whatever else
the file may hold. What to do about it is for `bench.data` to say.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.core import DataError
from bench.data import Labelled, member, one_line, read_pickle

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
