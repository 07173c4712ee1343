"""5-Datasets: CIFAR-10, MNIST, SVHN, FashionMNIST and notMNIST, ten classes each, reduced ResNet18 (GPM, ICLR 2021).

As in the code of GPM and NESS: gray images of 28 x 28 are padded with 2 zeros a side, normalized by constants,
and repeated in three channels; no augmentation; a twentieth of the training images is for validation. The loader there
downloads MNIST a second time in the place of FashionMNIST, and draws validation by the same seed in every run: both are
options here. notMNIST is the 32 x 32 version of that code; up to two of its images are empty, for two files of the
original are broken. The stream takes 3.9 GB of memory, and 5 GB while it is made.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bench.core import Benchmark, Split, Task
from bench.data.cifar import CIFAR10
from bench.data.formats.readers import read_mat, read_zip
from bench.data.mnist import FASHION_MNIST, MNIST
from bench.data.source import Archive, Labelled, Source, legacy_shuffle, normalise
from bench.settings import setting


def read_svhn(train: Path, test: Path) -> tuple[Labelled, Labelled]:
    """Return the training and test images of SVHN, uint8 (n, 32, 32, 3). Raises `DataError`."""
    return read_mat(train), read_mat(test)


def read_notmnist(path: Path) -> tuple[Labelled, Labelled]:
    """Return the training and test images of notMNIST, uint8 (n, 32, 32). Raises `DataError`."""
    return read_zip(path, "notmnist_train.pkl"), read_zip(path, "notmnist_test.pkl")


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
    class Config(Benchmark.Config):
        fashion: Literal["real", "mnist-bug"] = setting(
            "real", "FashionMNIST, or MNIST again with its constants (GPM's code)"
        )
        validation: Literal["seed", "fixed"] = setting(
            "seed", "drawn by the run's seed, or by 1 in every run (GPM's code)"
        )

    protocols = {"published": {"fashion": "mnist-bug", "validation": "fixed"}}
    num_tasks = 5
    num_classes = 10
    input_shape = (3, 32, 32)
    backbone = "resnet18"
    version = 2  # 1: other initial weights of the network

    def sources(self) -> list[Source]:
        fashion = FASHION_MNIST if self.config.fashion == "real" else MNIST
        return [CIFAR10, MNIST, SVHN, fashion, NOTMNIST]

    def stream(self, seed: int, data: Path) -> list[Task]:
        draw = seed if self.config.validation == "seed" else 1
        tasks = []
        for t, (source, (mean, std)) in enumerate(zip(self.sources(), CONSTANTS.values(), strict=True)):
            tasks.append(make_task(t, source, data, mean, std, draw))
        return tasks


def make_task(t: int, source: Source, data: Path, mean: tuple[float, ...], std: tuple[float, ...], draw: int) -> Task:
    """Return a data set as task t, its validation images drawn by the seed `draw`. Raises `DataError`."""
    train, test = source.load_prepared(data)

    def take(split: Split, chosen: np.ndarray | slice) -> Split:
        return Split(as_color(split.x[chosen], mean, std), split.y[chosen])

    order = legacy_shuffle(len(train), draw)
    cut = int(0.05 * len(order))
    classes = tuple(f"{source.name} {c}" for c in range(10))
    return Task(t, classes, take(train, order[cut:]), take(train, order[:cut]), take(test, slice(None)))


def as_color(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """Return images, uint8 (n, 32, 32, 3), (n, 28, 28) or (n, 32, 32), normalized, as float32 (n, 3, 32, 32)."""
    if images.ndim == 4:
        return normalise(images, mean, std)
    side = (32 - images.shape[1]) // 2
    padded = np.pad(images, ((0, 0), (side, side), (side, side)))
    grey = normalise(padded[..., None], mean, std)  # (n, 1, 32, 32)
    return np.repeat(grey, 3, axis=1)
