"""MNIST (LeCun et al. 1998): its source, and a reader of idx files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from bench.core import DataError
from bench.data import Archive, Source

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FILES = (
    ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 9.9),
    ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", 0.03),
    ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", 1.6),
    ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", 0.005),
)
MNIST = Source(
    name="mnist",
    image_shape=(28, 28),
    num_classes=10,
    num_train=60_000,
    num_test=10_000,
    archives=tuple(Archive(MIRROR + name, name, md5, megabytes) for name, md5, megabytes in FILES),
)


def read_mnist(train_images: Path, train_labels: Path, test_images: Path, test_labels: Path) -> dict[str, np.ndarray]:
    """The prepared arrays, from the four files as published. Raises `DataError`."""
    return {
        "x_train": read_idx(train_images, 3),
        "y_train": read_idx(train_labels, 1).astype(np.int64),
        "x_test": read_idx(test_images, 3),
        "y_test": read_idx(test_labels, 1).astype(np.int64),
    }


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array of unsigned bytes in a gzipped idx file: two zero bytes, the type 8, the number of dimensions, their
    sizes as big-endian 32-bit integers, the content. Raises `DataError`."""

    def demand(holds: bool, what: str) -> None:
        if not holds:
            raise DataError(f"{path} {what}; delete it and start again, it will be downloaded")

    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); delete it and start again, it will be downloaded") from error
    start = 4 + 4 * dimensions
    magic = bytes([0, 0, 8, dimensions])
    demand(content[:4] == magic, f"begins with {content[:4].hex()}, not {magic.hex()} as idx files of its kind")
    demand(len(content) >= start, f"ends within its head, after {len(content)} bytes")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    held, promised = len(content) - start, math.prod(shape)
    demand(held == promised, f"holds {held} bytes of content, not the {promised} of its head")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
