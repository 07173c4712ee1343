"""CIFAR-100 (Krizhevsky 2009): its source, and the reader of its archive."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np

from bench.data import Archive, Source, member, read_pickle

CIFAR100 = Source(
    name="cifar100",
    image_shape=(32, 32, 3),
    num_classes=100,
    num_train=50_000,
    num_test=10_000,
    archives=(
        Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "cifar-100-python.tar.gz",
            md5="eb9058c3a382ffc7106e4002c42a8d85",
            megabytes=169,
        ),
    ),
)


def read_cifar100(path: Path) -> dict[str, np.ndarray]:
    """The prepared arrays, with fine labels, from the archive as published. Raises `DataError`."""
    arrays = {}
    with tarfile.open(path) as archive:
        for part in ("train", "test"):
            name = f"cifar-100-python/{part}"
            content = read_pickle(member(archive, name), f"{path}, {name}")
            images = np.asarray(content["data"], np.uint8).reshape(-1, 3, 32, 32)
            arrays[f"x_{part}"] = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
            arrays[f"y_{part}"] = np.asarray(content["fine_labels"], np.int64)
    return arrays
