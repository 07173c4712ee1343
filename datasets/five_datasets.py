"""5-Datasets: CIFAR-10, MNIST, SVHN, FashionMNIST and notMNIST, ten classes each, reduced ResNet18 (GPM, ICLR 2021).

As in the code of the GPM-NESS lineage: grey images of 28 x 28 are padded with 2 zeros a side, normalised by constants,
and repeated in three channels; no augmentation; a twentieth of the training images is for validation. Its loader
downloads MNIST a second time in the place of FashionMNIST, and draws validation by the same seed in every run: both are
options here. notMNIST is the 32 x 32 version of that code; up to two of its images are empty, for two files of the
original are broken. The stream takes 3.9 GB of memory, and 5 GB while it is made.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bench.core import Benchmark, Split, Task
from bench.data import Archive, Labelled, Source, legacy_shuffle, normalise
from bench.formats import read_batches, read_mat, read_zip
from bench.mnist import MNIST, read_mnist


def read_cifar10(path: Path) -> tuple[Labelled, Labelled]:
    folder = "cifar-10-batches-py"
    train = read_batches(path, [f"{folder}/data_batch_{b}" for b in range(1, 6)])
    return train, read_batches(path, [f"{folder}/test_batch"])


def read_svhn(train: Path, test: Path) -> tuple[Labelled, Labelled]:
    return read_mat(train), read_mat(test)


def read_notmnist(path: Path) -> tuple[Labelled, Labelled]:
    return read_zip(path, "notmnist_train.pkl"), read_zip(path, "notmnist_test.pkl")


CIFAR10 = Source(
    name="cifar10",
    image_shape=(32, 32, 3),
    num_classes=10,
    num_train=50_000,
    num_test=10_000,
    archives=(
        Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "cifar-10-python.tar.gz",
            md5="c58f30108f718f92721af3b95e74349a",
            megabytes=170,
        ),
    ),
    read=read_cifar10,
    balanced=True,
)
STANFORD = "http://ufldl.stanford.edu/housenumbers/"
SVHN = Source(
    name="svhn",
    image_shape=(32, 32, 3),
    num_classes=10,
    num_train=73_257,
    num_test=26_032,
    archives=(
        Archive(STANFORD + "train_32x32.mat", "train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", megabytes=182),
        Archive(STANFORD + "test_32x32.mat", "test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", megabytes=64),
    ),
    read=read_svhn,
)
ZALANDO = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_FILES = (
    ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26),
    ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe", 0.03),
    ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79", 4.4),
    ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", 0.005),
)
FASHION = Source(
    name="fashion_mnist",
    image_shape=(28, 28),
    num_classes=10,
    num_train=60_000,
    num_test=10_000,
    archives=tuple(  # in a folder of their own: MNIST's have the same names
        Archive(ZALANDO + name, f"fashion_mnist/{name}", md5, megabytes) for name, md5, megabytes in FASHION_FILES
    ),
    read=read_mnist,
    balanced=True,
)
NOTMNIST = Source(
    name="notmnist",
    image_shape=(32, 32),
    num_classes=10,
    num_train=16_853,
    num_test=1_873,
    archives=(
        Archive(
            "https://github.com/nkundiushuti/notmnist_convert/blob/master/notmnist.zip?raw=true",
            "notmnist.zip",
            md5="",
            megabytes=19,  # unpacked; what the archive itself takes is not known
        ),
    ),
    read=read_notmnist,
)
CONSTANTS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {  # mean and standard deviation, padding included
    "cifar10": ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)),
    "mnist": ((0.1,), (0.2752,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197)),
    "fashion_mnist": ((0.2190,), (0.3318,)),
    "notmnist": ((0.4254,), (0.4501,)),
}


class FiveDatasets(Benchmark):
    @dataclass(frozen=True)
    class Config:
        fashion: Literal["real", "mnist-bug"] = "real"  # FashionMNIST, or MNIST again with its constants (GPM's code)
        validation: Literal["seed", "fixed"] = "seed"  # drawn by the run's seed, or by 1 in every run (GPM's code)

    protocols = {"published": {"fashion": "mnist-bug", "validation": "fixed"}}
    num_tasks = 5
    num_classes = 10
    input_shape = (3, 32, 32)
    backbone = "resnet18"

    def sources(self) -> list[Source]:
        return [CIFAR10, MNIST, SVHN, FASHION if self.config.fashion == "real" else MNIST, NOTMNIST]

    def stream(self, seed: int, data: Path) -> list[Task]:
        draw = seed if self.config.validation == "seed" else 1
        pairs = enumerate(zip(self.sources(), CONSTANTS.values(), strict=True))
        return [make_task(t, source, data, *constants, draw) for t, (source, constants) in pairs]


def make_task(t: int, source: Source, data: Path, mean: tuple[float, ...], std: tuple[float, ...], draw: int) -> Task:
    """A data set as a task."""
    train, test = source.load_prepared(data)

    def take(split: Split, chosen: np.ndarray | slice) -> Split:
        return Split(as_colour(split.x[chosen], mean, std), split.y[chosen])

    order = legacy_shuffle(len(train), draw)
    cut = int(0.05 * len(order))
    classes = tuple(f"{source.name} {c}" for c in range(10))
    return Task(t, classes, take(train, order[cut:]), take(train, order[:cut]), take(test, slice(None)))


def as_colour(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """uint8 (n, 32, 32, 3), (n, 28, 28) or (n, 32, 32) -> float32 (n, 3, 32, 32), normalised."""
    if images.ndim == 4:
        return normalise(images, mean, std)
    side = (32 - images.shape[1]) // 2
    padded = np.pad(images, ((0, 0), (side, side), (side, side)))
    return np.repeat(normalise(padded[..., None], mean, std), 3, axis=1)
