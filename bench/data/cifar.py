"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): their sources."""

from __future__ import annotations

from pathlib import Path

from bench.data.formats.readers import read_batches
from bench.data.source import Archive, Labelled, Source

TORONTO = "https://www.cs.toronto.edu/~kriz/"


def read_cifar10(path: Path) -> tuple[Labelled, Labelled]:
    """Return the training and test images, uint8 (n, 32, 32, 3), from the archive as published. Raises `DataError`."""
    batches = [f"cifar-10-batches-py/data_batch_{b}" for b in range(1, 6)]
    train = read_batches(path, batches)
    test = read_batches(path, ["cifar-10-batches-py/test_batch"])
    return train, test


def read_cifar100(path: Path) -> tuple[Labelled, Labelled]:
    """Return the training and test images, uint8 (n, 32, 32, 3), with fine labels, from the archive as published.

    Raises `DataError`.
    """
    train = read_batches(path, ["cifar-100-python/train"], "fine_labels")
    test = read_batches(path, ["cifar-100-python/test"], "fine_labels")
    return train, test


CIFAR10 = Source(
    name="cifar10",
    image_shape=(32, 32, 3),
    num_classes=10,
    num_train=50_000,
    num_test=10_000,
    archives=(
        Archive(
            TORONTO + "cifar-10-python.tar.gz",
            "cifar-10-python.tar.gz",
            md5="c58f30108f718f92721af3b95e74349a",
            megabytes=170,
        ),
    ),
    read=read_cifar10,
    balanced=True,
)
CIFAR100 = Source(
    name="cifar100",
    image_shape=(32, 32, 3),
    num_classes=100,
    num_train=50_000,
    num_test=10_000,
    archives=(
        Archive(
            TORONTO + "cifar-100-python.tar.gz",
            "cifar-100-python.tar.gz",
            md5="eb9058c3a382ffc7106e4002c42a8d85",
            megabytes=169,
        ),
    ),
    read=read_cifar100,
    balanced=True,
)
