"""MNIST (LeCun et al. 1998) and FashionMNIST (Xiao et al. 2017): their sources, and a reader of idx files."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from bench.core import DataError
from bench.data.formats.readers import Bounded, reading
from bench.data.source import Archive, Labelled, Source

MOST = 4 + 4 * 3 + 60_000 * 28 * 28  # bytes of the largest of the files, unpacked


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the array of unsigned bytes in a gzipped idx file. Raises `DataError`.

    Such a file has two zero bytes, the type 8, the number of dimensions, their sizes as big-endian 32-bit integers, and
    the content.
    """

    def demand(holds: bool, what: str) -> None:
        if not holds:
            raise DataError(f"{path} {what}")

    with reading(path), gzip.open(path) as file:
        content = Bounded(file, MOST).read()
    start = 4 + 4 * dimensions
    magic = bytes([0, 0, 8, dimensions])
    demand(content[:4] == magic, f"begins with {content[:4].hex()}, not {magic.hex()} as idx files of its kind")
    demand(len(content) >= start, f"ends within its head, after {len(content)} bytes")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    held = len(content) - start
    promised = math.prod(shape)
    demand(held == promised, f"holds {held} bytes of content, not the {promised} of its head")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_mnist(*paths: Path) -> tuple[Labelled, Labelled]:
    """Return the training and test images, uint8 (n, 28, 28), from the four files as published. Raises `DataError`."""
    x_train, y_train, x_test, y_test = map(read_idx, paths, (3, 1, 3, 1))
    train = x_train, y_train.astype(np.int64)
    test = x_test, y_test.astype(np.int64)
    return train, test


NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _source(name: str, url: str, folder: str, files: tuple[tuple[str, float], ...], balanced: bool) -> Source:
    """Return the source of a data set in the four files of MNIST, whose md5 and megabytes `files` gives."""
    archives = []
    for file, (md5, megabytes) in zip(NAMES, files, strict=True):
        archives.append(Archive(url + file, folder + file, md5, megabytes))
    return Source(name, (28, 28), 10, 60_000, 10_000, tuple(archives), read_mnist, balanced)


MNIST = _source(
    "mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "",
    (
        ("f68b3c2dcbeaaa9fbdd348bbdeb94873", 9.9),
        ("d53e105ee54ea40749a09fcbcd1e9432", 0.03),
        ("9fb629c4189551a2d022fa330f9573f3", 1.6),
        ("ec29112dd5afa0611ce80d1b7f02629c", 0.005),
    ),
    balanced=False,
)
FASHION_MNIST = _source(
    "fashion_mnist",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "fashion_mnist/",  # a folder of their own, for MNIST's files have the same names
    (
        ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26.4),
        ("25c81989df183df01b3e8a0aad5dffbe", 0.03),
        ("bef4ecab320f06d8554ea6380940ec79", 4.4),
        ("bb300cfdad3c16e7a12a480ee83cd310", 0.005),
    ),
    balanced=True,
)
