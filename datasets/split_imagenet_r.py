"""Split ImageNet-R for a pre-trained ViT-B/16: 200 classes of renditions in 5, 10 or 20 tasks (Hendrycks et al. 2021).

As in the code of InfLoRA (Liang & Li, CVPR 2024), see `bench.data.transformer_stream`: classes in the order of their
folders' names; pixels in [0, 1] and no further normalized, though the backbone was trained on [-1, 1]; test images
resized to 256 and their middle 224 x 224 cut out.

The authors draw 24,000 of the 30,000 images for training once, by a random state that nobody knows, and move them into
folders `train` and `test`. Such folders are taken as they are. Where there is one folder a class, as published, images
are sorted by class and name, and the first 24,000 of numpy's legacy permutation by seed 0 are for training.

Departures: images are kept as 256 x 256 pixels, resized so that the shorter side fits and cut in the middle. So a
random training part comes from this square and not from the whole image: what lies beyond it in a long image is not
seen, and no part is sharper. Views are made of a batch at once and not rounded to 256 levels in between. The stream
takes 5.9 GB of memory, and as much on the disk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bench.core import Benchmark, DataError, Views
from bench.data.formats.readers import read_middles, reading
from bench.data.source import Archive, Labelled, Source, legacy_shuffle
from bench.data.transformer_stream import TransformerStream
from bench.settings import setting

SIDE, TRAIN, TEST = 256, 24_000, 6_000  # pixels; images
WORDNET = """
01443537 01484850 01494475 01498041 01514859 01518878 01531178 01534433 01614925 01616318 01630670 01632777
01644373 01677366 01694178 01748264 01770393 01774750 01784675 01806143 01820546 01833805 01843383 01847000
01855672 01860187 01882714 01910747 01944390 01983481 01986214 02007558 02009912 02051845 02056570 02066245
02071294 02077923 02085620 02086240 02088094 02088238 02088364 02088466 02091032 02091134 02092339 02094433
02096585 02097298 02098286 02099601 02099712 02102318 02106030 02106166 02106550 02106662 02108089 02108915
02109525 02110185 02110341 02110958 02112018 02112137 02113023 02113624 02113799 02114367 02117135 02119022
02123045 02128385 02128757 02129165 02129604 02130308 02134084 02138441 02165456 02190166 02206856 02219486
02226429 02233338 02236044 02268443 02279972 02317335 02325366 02346627 02356798 02363005 02364673 02391049
02395406 02398521 02410509 02423022 02437616 02445715 02447366 02480495 02480855 02481823 02483362 02486410
02510455 02526121 02607072 02655020 02672831 02701002 02749479 02769748 02793495 02797295 02802426 02808440
02814860 02823750 02841315 02843684 02883205 02906734 02909870 02939185 02948072 02950826 02951358 02966193
02980441 02992529 03124170 03272010 03345487 03372029 03424325 03452741 03467068 03481172 03494278 03495258
03498962 03594945 03602883 03630383 03649909 03676483 03710193 03773504 03775071 03888257 03930630 03947888
04086273 04118538 04133789 04141076 04146614 04147183 04192698 04254680 04266014 04275548 04310018 04325704
04347754 04389033 04409515 04465501 04487394 04522168 04536866 04552348 04591713 07614500 07693725 07695742
07697313 07697537 07714571 07714990 07718472 07720875 07734744 07742313 07745940 07749582 07753275 07753592
07768694 07873807 07880968 07920052 09472597 09835506 10565667 12267677
"""  # of the classes in ImageNet's hierarchy, by which their folders are named
CLASSES = tuple(f"n{number}" for number in WORDNET.split())


def read_any(folder: Path) -> tuple[Labelled, Labelled]:
    """Return the training and test images in a folder, uint8 (n, 256, 256, 3), sorted by class. Raises `DataError`.

    They are in folders by class, or by `train` and `test` and by class.
    """
    with reading(folder):
        halves = [(folder / part).is_dir() for part in ("train", "test")]
    if any(halves) and not all(halves):
        raise DataError(f"{folder} has only one of train and test")
    if all(halves):
        return read_split(folder / "train", TRAIN), read_split(folder / "test", TEST)
    files = list_files(folder, TRAIN + TEST)
    order = legacy_shuffle(len(files), 0)
    train, test = (sorted(chosen) for chosen in (order[:TRAIN], order[TRAIN:]))
    return decoded([files[i] for i in train]), decoded([files[i] for i in test])


def read_split(folder: Path, count: int) -> Labelled:
    """Return the images in folders by class. Raises `DataError`."""
    return decoded(list_files(folder, count))


def list_files(folder: Path, count: int) -> list[tuple[Path, int]]:
    """Return the files and their labels, by class and name. Raises `DataError` where a class is missing or unknown, or
    there are not so many files."""
    with reading(folder):
        shown = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    missing = [name for name in CLASSES if name not in shown]
    if missing:
        raise DataError(
            f"{folder} has {len(CLASSES) - len(missing)} of {len(CLASSES)} classes: {missing[0]} is missing"
        )
    if strangers := sorted(shown.difference(CLASSES)):
        raise DataError(f"{folder} has a folder {strangers[0]}, which is no class of ImageNet-R")
    files = list(_files(folder))
    if len(files) != count:
        raise DataError(f"{folder} has {len(files)} images, not {count}")
    return files


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    for label, name in enumerate(CLASSES):
        with reading(folder / name):
            found = sorted(path for path in (folder / name).iterdir() if not path.name.startswith("."))
        for path in found:
            yield path, label


def decoded(files: Sequence[tuple[Path, int]]) -> Labelled:
    """Return the images in files, uint8 (n, 256, 256, 3), and their labels. Raises `DataError`."""
    images = read_middles([path for path, _ in files], SIDE)
    labels = np.array([label for _, label in files], dtype=np.int64)
    return images, labels


SOURCE = Source(
    name="imagenet_r",
    image_shape=(SIDE, SIDE, 3),
    num_classes=len(CLASSES),
    num_train=TRAIN,
    num_test=TEST,
    archives=(
        Archive(
            url="",
            name="imagenet-r",
            md5="",
            megabytes=2190,
            note="the folder in imagenet-r.tar, from https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar: a "
            "folder for each of 200 classes, or train and test with 200 each",
        ),
    ),
    read=read_any,
)


class SplitImageNetR(TransformerStream, Benchmark):
    @dataclass(frozen=True)
    class Config(TransformerStream.Config):
        tasks: Literal[5, 10, 20] = setting(10, "of 40, 20 or 10 classes each")

    config: Config
    source = SOURCE
    classes = CLASSES
    views = Views(stored=(3, SIDE, SIDE), side=224, resized=SIDE)
