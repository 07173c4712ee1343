"""20-split MiniImageNet: twenty tasks of five classes, 84 x 84, reduced ResNet18 (Vinyals et al. 2016; TRGP 2022).

As in the code of the GPM-NESS lineage: the run's seed decides which classes make a task; of the 500 training images of
a class, 10 on average are for validation (2 % of a task); normalisation by the constants of ImageNet, no augmentation.
There, validation also depends on all random numbers drawn before the task; here, on the seed and the task alone.
The images may not be handed out. Where they come as folders, classes are numbered by the order of their names; in what
order the authors' files number them is not known. The stream takes 5.1 GB of memory, and 6.4 GB while it is made.
"""

from pathlib import Path

import numpy as np

from bench.core import Benchmark, DataError, Split, Task
from bench.data.readers import class_folders, read_folders, read_images, reading
from bench.data.source import Archive, Labelled, Source, normalise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE, CLASSES, TRAIN, TEST = 84, 100, 500, 100  # pixels; classes; images of a class


def read_any(folder: Path) -> tuple[Labelled, Labelled]:
    """From the authors' pickles, from folders of images by split and class, or by class alone."""
    with reading(folder):
        for suffix, read in ((".pkl", read_pickles), ("", read_splits)):
            train, test = (folder / f"{part}{suffix}" for part in ("train", "test"))
            if train.exists() != test.exists():
                raise DataError(f"{folder} has only one of {train.name} and {test.name}")
            if train.exists():
                return read(train, test)
        return split_classes(*read_folders(class_folders(folder, CLASSES), TRAIN + TEST, SIDE))


def read_pickles(train: Path, test: Path) -> tuple[Labelled, Labelled]:
    """From the files of GPM, TRGP and NESS."""
    return read_images(train, SIDE), read_images(test, SIDE)


def read_splits(train: Path, test: Path) -> tuple[Labelled, Labelled]:
    """From folders of images by split and class, the same classes in both."""
    learn, check = class_folders(train, CLASSES), class_folders(test, CLASSES)
    if differing := {path.name for path in learn} ^ {path.name for path in check}:
        raise DataError(f"{train} and {test} differ in classes, such as {min(differing)}")
    return read_folders(learn, TRAIN, SIDE), read_folders(check, TEST, SIDE)


def split_classes(images: np.ndarray, labels: np.ndarray) -> tuple[Labelled, Labelled]:
    """Of every class 500 images for training and 100 for the test, by the legacy generator with seed 1234 as in the
    script behind the authors' files (facebookresearch/Adversarial-Continual-Learning, data/split_miniimagenet.py)."""
    generator = np.random.RandomState(1234)
    train, test = [], []
    for c in range(CLASSES):
        own = np.flatnonzero(labels == c)
        generator.shuffle(own)
        train.append(own[:TRAIN])
        test.append(own[TRAIN:])
    learn, check = np.concatenate(train), np.concatenate(test)
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

    def sources(self) -> list[Source]:
        return [SOURCE]

    def stream(self, seed: int, data: Path) -> list[Task]:
        train, test = SOURCE.load_prepared(data)
        groups = np.random.RandomState(seed).permutation(CLASSES).reshape(self.num_tasks, self.num_classes)
        return [make_task(t, group, train, test, seed) for t, group in enumerate(groups)]


def make_task(t: int, group: np.ndarray, train: Split, test: Split, seed: int) -> Task:
    """The classes of `group`, (5,); a label is the place in it."""

    def take(split: Split, chosen: np.ndarray) -> Split:
        return Split(normalise(split.x[chosen], MEAN, STD), place[split.y[chosen]])

    place = np.full(CLASSES, -1)
    place[group] = np.arange(len(group))
    own, own_test = (np.flatnonzero(place[split.y] >= 0) for split in (train, test))
    order = np.random.default_rng([seed, t]).permutation(own)
    cut = int(0.02 * len(order))
    classes = tuple(str(c) for c in group)
    return Task(t, classes, take(train, order[cut:]), take(train, order[:cut]), take(test, own_test))
