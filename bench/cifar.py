"""CIFAR-100 (Krizhevsky 2009) as a source of data: 50,000 and 10,000 images of 32 x 32 in 100 classes."""

from pathlib import Path

from bench.data import Archive, Labelled, Source
from bench.formats import read_batches


def read_cifar100(path: Path) -> tuple[Labelled, Labelled]:
    """Training and test images, with the fine labels, from the archive as published."""
    train, test = (read_batches(path, [f"cifar-100-python/{part}"], "fine_labels") for part in ("train", "test"))
    return train, test


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
    read=read_cifar100,
)
