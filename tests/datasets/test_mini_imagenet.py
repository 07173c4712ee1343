"""20-split MiniImageNet: groups of classes, sizes and splits of the paper's code, and its data in all three forms."""

import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import every_method
from PIL import Image

from bench.catalog import recipes
from bench.catalog.catalog import Catalog
from bench.core import PROTOCOLS, DataError, Task, slices
from bench.tools import benchmark_checks

NAME = "mini_imagenet"


@pytest.fixture
def module() -> ModuleType:
    return sys.modules[type(Catalog().benchmark(NAME)).__module__]


@pytest.fixture
def shrink(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`shrink(side, train, test)` makes the benchmark content with smaller images, and fewer of a class."""

    def arrange(side: int, train: int, test: int) -> None:
        for name, value in (("SIDE", side), ("TRAIN", train), ("TEST", test)):
            monkeypatch.setattr(module, name, value)
        sizes = {"image_shape": (side, side, 3), "num_train": 100 * train, "num_test": 100 * test}
        monkeypatch.setattr(module, "SOURCE", replace(module.SOURCE, **sizes))
        monkeypatch.setattr(module.MiniImageNet, "input_shape", (3, side, side))

    return arrange


@pytest.fixture
def raw(tmp_path: Path, shrink: Callable[..., None]) -> dict[str, np.ndarray]:
    """A prepared array of random images of 8 x 8, 250 and 4 of a class, mixed."""
    shrink(8, 250, 4)
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 25_000), ("test", 400)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (n, 8, 8, 3), np.uint8)
        arrays[f"y_{part}"] = rng.permutation(n) % 100
    np.savez(tmp_path / "mini_imagenet.npz", **arrays)
    return arrays


def stream(data: Path, seed: int = 0) -> list[Task]:
    return Catalog().benchmark(NAME).stream(seed, data)


@pytest.mark.parametrize("check", benchmark_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.slow
def test_the_contract(check, raw, tmp_path, narrow):
    check(NAME, data=tmp_path)


@pytest.mark.parametrize(
    ("seed", "first", "second", "last"),
    [
        (1, "80 84 33 81 93", "17 36 82 69 65", "75 9 72 12 37"),
        (2, "83 30 56 24 16", "23 2 27 28 13", "43 22 72 15 40"),
        (3, "93 67 6 64 96", "83 98 42 25 15", "0 72 56 3 24"),
        (4, "20 10 96 16 63", "24 53 97 41 47", "87 1 69 55 46"),
        (37, "61 49 86 78 5", "91 81 82 89 18", "22 53 92 76 15"),
    ],
)
def test_groups_of_classes(seed, first, second, last, raw, tmp_path):
    tasks = stream(tmp_path, seed)
    assert [" ".join(tasks[t].classes) for t in (0, 1, 19)] == [first, second, last]
    assert sorted(int(c) for task in tasks for c in task.classes) == list(range(100))
    for task in (tasks[0], tasks[19]):
        own = np.isin(raw["y_test"], [int(c) for c in task.classes])
        assert [int(task.classes[y]) for y in task.test.y] == raw["y_test"][own].tolist()


def test_images_are_normalized_by_imagenet(raw, tmp_path):
    task = stream(tmp_path)[3]
    own = raw["x_test"][np.isin(raw["y_test"], [int(c) for c in task.classes])]
    wanted = (own / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(task.test.x, wanted.transpose(0, 3, 1, 2), atol=1e-5)


def test_sizes_as_published(module, tmp_path, monkeypatch):
    """All 60,000 images, of a pixel each."""
    monkeypatch.setattr(module, "SOURCE", replace(module.SOURCE, image_shape=(1, 1, 3)))
    x = {"x_train": np.zeros((50_000, 1, 1, 3), np.uint8), "x_test": np.zeros((10_000, 1, 1, 3), np.uint8)}
    np.savez(tmp_path / "mini_imagenet.npz", **x, y_train=np.arange(50_000) % 100, y_test=np.arange(10_000) % 100)
    tasks = stream(tmp_path, 1)
    assert [(len(t.train), len(t.validation), len(t.test)) for t in tasks] == [(2450, 50, 500)] * 20
    for n, batches, last in ((2450, 39, 18), (50, 1, 50), (500, 8, 52)):
        cuts = slices(n, 64)
        assert (len(cuts), cuts[-1].stop - cuts[-1].start) == (batches, last)


def test_validation_depends_on_seed_and_task(raw, tmp_path):
    """A fiftieth of the task's images, other ones in other tasks and runs."""
    place = {image.tobytes(): i for i, image in enumerate(raw["x_train"])}
    chosen = {}
    for seed in (1, 2):
        for task in stream(tmp_path, seed)[:2]:
            own = np.flatnonzero(np.isin(raw["y_train"], [int(c) for c in task.classes])).tolist()

            def places(split, own=own):
                pixels = split.x.transpose(0, 2, 3, 1) * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]
                return [own.index(place[image.tobytes()]) for image in np.rint(255 * pixels).astype(np.uint8)]

            chosen[seed, task.index] = frozenset(places(task.validation))
            assert sorted([*places(task.validation), *places(task.train)]) == list(range(1250))
            assert len(task.validation) == 25
    assert len(set(chosen.values())) == 4


def test_an_unbalanced_array_is_refused(raw, tmp_path):
    labels = raw["y_train"]
    of_zero, of_one = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    labels[of_zero[0]] = labels[of_one[0]]
    np.savez(tmp_path / "mini_imagenet.npz", **raw)
    with pytest.raises(DataError, match="y_train has from 249 to 251 images of a class"):
        stream(tmp_path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_recipe_has_the_values_of_the_released_code(protocol):
    def resolve(method: str) -> tuple[Any, Any]:
        return recipes.resolve(method, Catalog().method(method), Catalog().recipe(NAME), {}, protocol)

    training, ness = resolve("ness")
    assert (training.lr, training.momentum, training.weight_decay, training.epochs) == (0.01, 0.9, 1e-5, 100)
    assert (training.patience, training.factor, training.lr_min, training.sam) == (5, 3, 1e-3, "none")
    assert (ness.nan_policy, ness.sources) == ({"published": "freeze-layer", "sound": "clamp"}[protocol], "all")
    sam, _ = resolve("ness+sam")
    assert (sam.lr, sam.momentum, sam.weight_decay) == (0.1, 0, 1e-5)
    assert sam.sam == {"published": "first", "sound": "all"}[protocol]
    training, gpm = resolve("gpm")
    assert (training.lr, training.momentum, training.weight_decay, training.epochs) == (0.1, 0, 0, 100)
    sides = [42] * 5 + [21] * 5 + [11] * 5 + [6] * 5
    assert [n * side**2 for n, side in zip(gpm.layer_samples, sides, strict=True)] == [
        17640, *[17640] * 4, 4410, 4410, 4410, 4410, 22050, 6050, 6050, 6050, 12100, 12100, 3600, 3600, 3600, 3600, 3600
    ]  # fmt: skip
    highest = gpm.energy + 19 * gpm.energy_step
    assert highest == pytest.approx({"published": 1.022, "sound": 0.985}[protocol])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("method", every_method(NAME))
@pytest.mark.slow
def test_methods_run_by_the_recipe_under_both_protocols(method, protocol, raw, tmp_path, run_by_recipe):
    R = run_by_recipe(NAME, method, protocol, tmp_path)
    assert len(R[1]) == 2
    assert all(0 <= a <= 1 for a in R[1])


# Its data in three forms


def write_pickles(folder: Path) -> None:
    """As facebookresearch/Adversarial-Continual-Learning writes them: lists of images and labels, by class."""
    folder.mkdir()
    for part, numbers in (("train", range(3)), ("test", range(3, 5))):
        content: dict[str, list] = {"images": [], "labels": []}
        for c in range(100):
            for i in numbers:
                content["images"].append(np.asarray(image_of(c, i)))
                content["labels"].append(c)
        (folder / f"{part}.pkl").write_bytes(pickle.dumps(content))


def write_splits(folder: Path) -> None:
    for part, numbers in (("train", range(3)), ("test", range(3, 5))):
        write_classes(folder / part, numbers)


def write_classes(folder: Path, numbers: range = range(5)) -> None:
    for c in range(100):
        (folder / f"n{c:08}").mkdir(parents=True)
        for i in numbers:
            image_of(c, i).save(folder / f"n{c:08}" / f"{i}.png")


def image_of(c: int, i: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (c, i, 9))


def pixels(split: Any) -> list[tuple[int, int]]:
    """Return the class and the number of each image, which its first pixel tells."""
    return [tuple(pixel) for pixel in split.x[:, 0, 0, :2].tolist()]


@pytest.mark.parametrize("write", [write_pickles, write_splits, write_classes])
def test_from_files_to_tasks(tmp_path: Path, module: ModuleType, shrink: Callable[..., None], write: Callable) -> None:
    shrink(4, 3, 2)
    benchmark = Catalog().benchmark(NAME)
    assert benchmark.data_state(tmp_path) == "missing"
    with pytest.raises(DataError, match=r"mini_imagenet is missing: put MiniImageNet .*train\.pkl"):
        benchmark.prepare(tmp_path)
    write(tmp_path / "MiniImageNet")
    assert benchmark.data_state(tmp_path) == "downloaded"
    benchmark.prepare(tmp_path)
    assert benchmark.data_state(tmp_path) == "ready"
    train, test = module.SOURCE.load_prepared(tmp_path)
    assert [c for c, _ in pixels(train)] == train.y.tolist()
    assert [c for c, _ in pixels(test)] == test.y.tolist()
    assert sorted(pixels(train) + pixels(test)) == [(c, i) for c in range(100) for i in range(5)]
    if write is write_classes:  # numbers drawn by the stated generator, class after class
        generator = np.random.RandomState(1234)
        for c in range(100):
            order = list(range(5))
            generator.shuffle(order)
            assert [i for k, i in pixels(train) if k == c] == order[:3]
            assert [i for k, i in pixels(test) if k == c] == order[3:]
    else:
        assert {i for _, i in pixels(train)} == {0, 1, 2}
        assert {i for _, i in pixels(test)} == {3, 4}
    assert [len(task.train) for task in benchmark.stream(0, tmp_path)] == [15] * 20


def refused(folder: Path) -> str:
    """Return the one line with which what is in a folder is refused, and nothing written."""
    with pytest.raises(DataError) as caught:
        Catalog().benchmark(NAME).prepare(folder)
    message = str(caught.value)
    assert str(folder / "MiniImageNet") in message
    assert "\n" not in message
    assert "; delete it, then put" in message
    assert [path.name for path in folder.iterdir()] == ["MiniImageNet"]
    return message


def test_what_is_not_whole_is_refused(tmp_path: Path, shrink: Callable[..., None]) -> None:
    shrink(4, 3, 2)
    folder = tmp_path / "MiniImageNet"
    write_splits(folder)
    (folder / "test" / "n00000007").rename(folder / "test" / "n99999999")
    assert "differ in classes, such as n00000007" in refused(tmp_path)
    (folder / "test" / "n99999999").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").rename(folder / "aside")
    assert "test has 99 folders of images, not 100" in refused(tmp_path)
    (folder / "aside").rename(folder / "test" / "n00000007")
    broken = folder / "train" / "n00000042" / "1.png"
    broken.write_bytes(broken.read_bytes()[:40])
    assert str(broken) in refused(tmp_path)
    broken.unlink()
    assert "n00000042 has 2 images, not 3" in refused(tmp_path)
    (folder / "test").rename(folder / "val")
    assert "has only one of train and test" in refused(tmp_path)


def test_pickles_that_are_not_whole_are_refused(tmp_path: Path, shrink: Callable[..., None]) -> None:
    shrink(4, 3, 2)
    folder = tmp_path / "MiniImageNet"
    write_pickles(folder)
    path = folder / "train.pkl"
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    assert f"{path} is not a pickle of arrays" in refused(tmp_path)
    content = pickle.loads(good)
    shorter = {name: values[:-1] for name, values in content.items()}
    path.write_bytes(pickle.dumps(shorter))
    assert "x_train has shape (299, 4, 4, 3), not (300, 4, 4, 3)" in refused(tmp_path)
    path.unlink()
    assert "has only one of train.pkl and test.pkl" in refused(tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MiniImageNet").mkdir()
    assert "has 0 folders of images, not 100" in refused(tmp_path)
    (tmp_path / "MiniImageNet").rmdir()
    (tmp_path / "MiniImageNet").write_text("a file")
    refused(tmp_path)
