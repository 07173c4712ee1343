"""The papers' benchmarks whose data must be fetched, on generated data of the same form: streams, options, files."""

import gzip
import hashlib
import struct
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import every_method
from sklearn.utils import shuffle

from bench.catalog import recipes
from bench.catalog.catalog import Catalog
from bench.core import PROTOCOLS, DataError, Task
from bench.data.mnist import MNIST, read_idx
from bench.data.source import legacy_shuffle
from bench.tools import benchmark_checks

SIZES = {"CIFAR100": (6000, 1000), "MNIST": (2000, 500)}  # of the generated training and test sets
BENCHMARKS = {"cifar100_superclass": "CIFAR100", "permuted_mnist": "MNIST"}


def module_of(name: str):
    return sys.modules[type(Catalog().benchmark(name)).__module__]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of prepared arrays, with which the benchmarks are content: random images, classes in turn."""
    rng = np.random.default_rng(0)
    for name, constant in BENCHMARKS.items():
        source = getattr(module_of(name), constant)
        arrays = {}
        for part, n in zip(("train", "test"), SIZES[constant], strict=True):
            arrays[f"x_{part}"] = rng.integers(0, 256, (n, *source.image_shape), np.uint8)
            arrays[f"y_{part}"] = np.arange(n) % source.num_classes
        np.savez(tmp_path / f"{source.name}.npz", **arrays)
        n, m = SIZES[constant]
        monkeypatch.setattr(module_of(name), constant, replace(source, num_train=n, num_test=m))
    return tmp_path


def stream(name: str, data: Path, seed: int = 0, **options) -> list[Task]:
    return Catalog().benchmark(name, options).stream(seed, data)


@pytest.mark.parametrize("check", benchmark_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.slow
def test_the_contract(name, check, data):
    check(name, data=data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("name", "method"), [(name, method) for name in BENCHMARKS for method in every_method(name)])
@pytest.mark.slow
def test_methods_run_by_the_recipe_under_both_protocols(name, method, protocol, data, run_by_recipe):
    R = run_by_recipe(name, method, protocol, data)
    assert len(R[1]) == 2
    assert all(0 <= a <= 1 for a in R[1])


# CIFAR-100 by superclass


def test_superclasses_are_a_partition():
    module = module_of("cifar100_superclass")
    assert sorted(c for group in module.GROUPS for c in group) == list(range(100))
    assert all(len(group) == 5 and list(group) == sorted(group) for group in module.GROUPS)
    assert len(module.ORDERS) == 5
    assert all(sorted(order) == list(range(20)) for order in module.ORDERS)


NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
SUPERCLASSES = {  # as Krizhevsky lists them
    0: "beaver dolphin otter seal whale", 1: "aquarium_fish flatfish ray shark trout",
    5: "clock keyboard lamp telephone television", 8: "bear leopard lion tiger wolf",
    10: "cloud forest mountain plain sea", 14: "baby boy girl man woman",
    17: "maple_tree oak_tree palm_tree pine_tree willow_tree", 19: "lawn_mower rocket streetcar tank tractor",
}  # fmt: skip


@pytest.mark.parametrize("superclass", SUPERCLASSES)
def test_superclasses_by_name(superclass):
    group = module_of("cifar100_superclass").GROUPS[superclass]
    assert " ".join(NAMES.split()[c] for c in group) == SUPERCLASSES[superclass]


@pytest.mark.parametrize(
    ("order", "superclasses"),
    [
        (0, "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19"),
        (1, "15 12 5 9 7 16 18 17 1 0 3 8 11 14 10 6 2 4 13 19"),
        (2, "17 1 19 18 12 7 6 0 11 15 10 5 13 3 9 16 4 14 2 8"),
        (3, "11 9 6 5 12 4 0 10 13 7 14 3 15 16 8 1 2 19 18 17"),
        (4, "6 14 0 11 12 17 13 4 9 1 7 19 8 10 3 15 18 5 2 16"),
    ],
)
def test_tasks_follow_their_order(order, superclasses, data):
    groups = module_of("cifar100_superclass").GROUPS
    tasks = stream("cifar100_superclass", data, order=order)
    assert [t.classes for t in tasks] == [tuple(map(str, groups[int(s)])) for s in superclasses.split()]
    first = np.load(data / "cifar100.npz")
    for task in (tasks[0], tasks[19]):  # local label = place of the fine class in the group, images in their order
        own = np.isin(first["y_test"], [int(c) for c in task.classes])
        assert [int(task.classes[y]) for y in task.test.y] == first["y_test"][own].tolist()


def test_the_scramble():
    stored = np.arange(3072).reshape(1, 3, 32, 32).transpose(0, 2, 3, 1)  # channel first in the archive, last in ours
    image = module_of("cifar100_superclass").scramble(stored)[0].transpose(2, 0, 1)
    assert image[0, 0, :4].tolist() == [0, 3, 6, 9]
    assert (image[1, 0, 0], image[0, 10, 21], image[0, 10, 22]) == (1, 1023, 1026)


@pytest.mark.parametrize("layout", ["correct", "scrambled"])
@pytest.mark.parametrize("normalised", [True, False])
def test_layout_and_normalization_of_superclass_images(layout, normalised, data):
    stored = np.load(data / "cifar100.npz")
    [image, *_] = stored["x_test"][np.isin(stored["y_test"], (4, 30, 55, 72, 95))]
    raw = image.transpose(2, 0, 1).reshape(-1) / 255
    c, h, w = np.indices((3, 32, 32))
    read_by_pixel = raw[96 * h + 3 * w + c]
    wanted = read_by_pixel if layout == "scrambled" else raw.reshape(3, 32, 32)
    if normalised:
        mean, sd = np.array([[125.3, 123.0, 113.9], [63.0, 62.1, 66.7]])[:, :, None, None] / 255
        wanted = (wanted - mean) / sd
    task = stream("cifar100_superclass", data, layout=layout, normalised=normalised)[0]
    np.testing.assert_allclose(task.test.x[0], wanted, atol=1e-5)


def resolved(name: str, protocol: str) -> dict:
    benchmark = Catalog().benchmark(name)
    return recipes.resolve_options(benchmark, Catalog().recipe(name), {}, protocol)


def test_protocols_of_the_superclasses():
    published, sound = (resolved("cifar100_superclass", p) for p in ("published", "sound"))
    assert published == {"order": 0, "layout": "scrambled", "normalised": False, "validation": "fixed"}
    assert sound == {"order": 0, "layout": "correct", "normalised": True, "validation": "seed"}


def test_validation_images_of_the_superclasses(data):
    """The first 5 % of a legacy permutation of the task's images: by 0, or by the run's seed."""
    stored = np.load(data / "cifar100.npz")
    own = stored["x_train"][np.isin(stored["y_train"], (1, 32, 67, 73, 91))]
    for options, by in (({"validation": "fixed"}, 0), ({"validation": "seed"}, 7)):
        task = stream("cifar100_superclass", data, seed=7, normalised=False, **options)[1]
        order = legacy_shuffle(len(own), by)
        assert (len(own), len(task.validation), len(task.train)) == (300, 15, 285)
        for split, part in ((task.validation, order[:15]), (task.train, order[15:])):
            bytes_again = np.rint(255 * split.x).astype(np.uint8)
            assert np.array_equal(bytes_again, own[part].transpose(0, 3, 1, 2))


# Permuted MNIST


@pytest.mark.parametrize(
    ("seed", "numbers"), [(0, "2 8 4 9 1 6 7 3 0 5"), (1, "2 9 6 4 0 3 1 7 8 5"), (2, "4 1 5 0 7 2 3 6 9 8")]
)
def test_order_and_pixels(seed, numbers, data):
    """Permutation r in place i is `shuffle(pixels, random_state=100 r + i)` of the normalised image."""
    stored = np.load(data / "mnist.npz")["x_test"].reshape(-1, 784)
    image = (stored[3].astype(np.float32) / 255 - np.float32(0.1307)) / np.float32(0.3081)
    tasks = stream("permuted_mnist", data, seed)
    assert len(tasks) == len(numbers.split()) == 10
    for i, r in enumerate(map(int, numbers.split())):
        assert np.array_equal(tasks[i].test.x[3], shuffle(image, random_state=100 * r + i))
    assert all(task.train.x.flags.c_contiguous for task in tasks)  # or batches are slow to gather


def test_first_positions(data):
    stored = np.load(data / "mnist.npz")["x_test"].reshape(-1, 784)
    for t, chosen in ((0, [745, 491, 157, 422, 329, 168]), (1, [744, 134, 42, 100, 536, 314])):
        test = stream("permuted_mnist", data, 2)[t].test
        images = test.x[:, :6] * 0.3081 + 0.1307
        assert np.array_equal(np.rint(images * 255), stored[:, chosen])


def test_validation_images_of_permuted_mnist(data):
    stored = np.load(data / "mnist.npz")
    published, sound = (resolved("permuted_mnist", p) for p in ("published", "sound"))
    for options, order in ((published, np.arange(2000)), (sound, legacy_shuffle(2000, 5))):
        tasks = stream("permuted_mnist", data, 5, **options)
        assert len(tasks) == 10
        for task in tasks:
            assert np.array_equal(task.validation.y, stored["y_train"][order[:200]])
            assert np.array_equal(task.train.y, stored["y_train"][order[200:]])
    assert published != sound


# The files of MNIST


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    magic = bytes([0, 0, kind, array.ndim])
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return magic + sizes + array.tobytes()


def test_mnist_from_its_files_to_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    wanted, whole = {}, []
    for archive, key in zip(MNIST.archives, ("x_train", "y_train", "x_test", "y_test"), strict=True):
        n = 200 if "train" in key else 50
        if key.startswith("x"):
            wanted[key] = rng.integers(0, 256, (n, 28, 28), np.uint8)
        else:
            wanted[key] = (np.arange(n) % 10).astype(np.uint8)
        content = packed(idx(wanted[key]))
        (tmp_path / archive.name).write_bytes(content)
        whole.append(replace(archive, md5=hashlib.md5(content).hexdigest()))
    source = replace(MNIST, num_train=200, num_test=50, archives=tuple(whole))
    monkeypatch.setattr(module_of("permuted_mnist"), "MNIST", source)
    benchmark = Catalog().benchmark("permuted_mnist")
    assert benchmark.data_state(tmp_path) == "downloaded"
    benchmark.prepare(tmp_path)
    assert benchmark.data_state(tmp_path) == "ready"
    train, test = source.load_prepared(tmp_path)
    for split, part in ((train, "train"), (test, "test")):
        assert np.array_equal(split.x, wanted[f"x_{part}"])
        assert np.array_equal(split.y, wanted[f"y_{part}"])
    assert [len(t.train) for t in benchmark.stream(0, tmp_path)] == [180] * 10
    (tmp_path / "mnist.npz").unlink()
    (tmp_path / MNIST.archives[2].name).write_bytes(b"half")
    with pytest.raises(
        DataError, match=r"t10k-images-idx3-ubyte.gz is damaged: .* put t10k-images-idx3-ubyte.gz \(1.6"
    ):
        benchmark.prepare(tmp_path)
    assert not (tmp_path / "mnist.npz").exists()


def test_mnist_that_is_missing_is_asked_for(tmp_path: Path) -> None:
    benchmark = Catalog().benchmark("permuted_mnist")
    assert benchmark.data_state(tmp_path) == "missing, 11.5 MB to download"
    with pytest.raises(DataError, match=r"mnist\.npz cannot be read .* put train-images-idx3-ubyte\.gz \(9\.9 MB"):
        benchmark.stream(0, tmp_path)


packed = partial(gzip.compress, mtime=0)  # the same bytes whenever tests are collected
GOOD = idx(np.arange(8, dtype=np.uint8).reshape(2, 2, 2))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (packed(GOOD)[:-9], "cannot be read"),  # an interrupted copy
        (packed(GOOD)[:5], "cannot be read"),
        (b"<html>not found</html>", "cannot be read"),
        (b"", "begins with"),
        (packed(idx(np.zeros((2, 2, 2), "f4"), 13)), "begins with 00000d03, not 00000803"),
        (packed(idx(np.zeros(2, np.uint8))), "begins with 00000801, not 00000803"),
        (packed(GOOD[:9]), "ends within its head, after 9 bytes"),
        (packed(GOOD[:-1]), "holds 7 bytes of content, not the 8"),
        (packed(GOOD + b"\0"), "holds 9 bytes of content, not the 8"),
    ],
)
def test_a_broken_idx_file_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read_idx(path, 3)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message


def test_any_damaged_byte_of_a_gzipped_idx_file_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    good = packed(idx(np.arange(50, dtype=np.uint8)))
    refused = 0
    for i in range(len(good)):
        damaged = bytes([good[i] ^ 0x5A])
        path.write_bytes(good[:i] + damaged + good[i + 1 :])
        try:
            assert np.array_equal(read_idx(path, 1), np.arange(50))
        except DataError as error:
            assert str(path) in str(error)
            refused += 1
    assert len(good) / 2 < refused < len(good), "a time stamp may be anything, what is packed may not"
