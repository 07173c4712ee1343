"""20-split MiniImageNet: twenty tasks of five classes, 84 x 84, reduced ResNet18 (Vinyals et al. 2016; TRGP 2022).

As in the code of TRGP and NESS: the run's seed decides which classes make a task; of the 500 training images of
a class, 10 on average are for validation (2 % of a task); normalization by the constants of ImageNet, no augmentation.
There, validation also depends on all random numbers drawn before the task; here, on the seed and the task alone.
The images may not be redistributed. Where they come as folders, classes are numbered by the order of their names; in
what order the authors' files number them is not known. The stream takes 5.1 GB of memory, and 6.4 GB while it is made.
"""

from pathlib import Path

import numpy as np

from bench.core import Benchmark, DataError, Split, Task
from bench.data.formats.readers import class_folders, read_folders, read_images, reading
from bench.data.source import Archive, Labelled, Source, normalise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE, CLASSES, TRAIN, TEST = 84, 100, 500, 100  # pixels; classes; images of a class


def read_any(folder: Path) -> tuple[Labelled, Labelled]:
    """Return the training and test images in a folder. Raises `DataError`.

    They are the authors' pickles, or files in folders by split and class, or by class alone.
    """
    with reading(folder):
        for suffix, read in ((".pkl", read_pickles), ("", read_splits)):
            train = folder / f"train{suffix}"
            test = folder / f"test{suffix}"
            if train.exists() != test.exists():
                raise DataError(f"{folder} has only one of {train.name} and {test.name}")
            if train.exists():
                return read(train, test)
        folders = class_folders(folder, CLASSES)
        images, labels = read_folders(folders, TRAIN + TEST, SIDE)
        return split_classes(images, labels)


def read_pickles(train: Path, test: Path) -> tuple[Labelled, Labelled]:
    """Return the images, uint8 (n, 84, 84, 3), in the files of GPM, TRGP and NESS. Raises `DataError`."""
    return read_images(train, SIDE), read_images(test, SIDE)


def read_splits(train: Path, test: Path) -> tuple[Labelled, Labelled]:
    """Return the images, uint8 (n, 84, 84, 3), in folders by split and class. Raises `DataError` if classes differ."""
    learn = class_folders(train, CLASSES)
    check = class_folders(test, CLASSES)
    differing = {path.name for path in learn} ^ {path.name for path in check}
    if differing:
        raise DataError(f"{train} and {test} differ in classes, such as {min(differing)}")
    return read_folders(learn, TRAIN, SIDE), read_folders(check, TEST, SIDE)


def split_classes(images: np.ndarray, labels: np.ndarray) -> tuple[Labelled, Labelled]:
    """Return 500 images of every class for training and 100 for the test, each uint8 (n, 84, 84, 3) with labels (n,).

    They are drawn by the legacy generator with seed 1234, as in the script behind the authors' files
    (facebookresearch/Adversarial-Continual-Learning, data/split_miniimagenet.py).
    """
    generator = np.random.RandomState(1234)
    train, test = [], []
    for c in range(CLASSES):
        own = np.flatnonzero(labels == c)
        generator.shuffle(own)
        train.append(own[:TRAIN])
        test.append(own[TRAIN:])
    learn = np.concatenate(train)
    check = np.concatenate(test)
    return (images[learn], labels[learn]), (images[check], labels[check])


SOURCE = Source(
    name="mini_imagenet",
    image_shape=(SIDE, SIDE, 3),
    num_classes=CLASSES,
    num_train=CLASSES * TRAIN,
    num_test=CLASSES * TEST,
    archives=(
        Archive(
            url="",
            name="MiniImageNet",
            md5="",
            megabytes=1270,
            note="a folder with train.pkl and test.pkl as for GPM and NESS, or train/CLASS/*.jpg and test/CLASS/*.jpg, "
            "or CLASS/*.jpg with 600 images each, from those who hold ImageNet's licence",
        ),
    ),
    read=read_any,
    balanced=True,
)


class MiniImageNet(Benchmark):
    num_tasks = 20
    num_classes = 5
    input_shape = (3, SIDE, SIDE)
    backbone = "resnet18_stride2"
    version = 2  # 1: other initial weights of the network

    def sources(self) -> list[Source]:
        return [SOURCE]

    def stream(self, seed: int, data: Path) -> list[Task]:
        train, test = SOURCE.load_prepared(data)
        order = np.random.RandomState(seed).permutation(CLASSES)
        groups = order.reshape(self.num_tasks, self.num_classes)
        return [make_task(t, group, train, test, seed) for t, group in enumerate(groups)]


def make_task(t: int, group: np.ndarray, train: Split, test: Split, seed: int) -> Task:
    """Return the classes of `group`, (5,), as task t; a label is the place in it."""
    place = np.full(CLASSES, -1)
    place[group] = np.arange(len(group))

    def take(split: Split, chosen: np.ndarray) -> Split:
        images = normalise(split.x[chosen], MEAN, STD)
        return Split(images, place[split.y[chosen]])

    own = np.flatnonzero(place[train.y] >= 0)
    own_test = np.flatnonzero(place[test.y] >= 0)
    order = np.random.default_rng([seed, t]).permutation(own)
    cut = int(0.02 * len(order))
    classes = tuple(str(c) for c in group)
    return Task(t, classes, take(train, order[cut:]), take(train, order[:cut]), take(test, own_test))
