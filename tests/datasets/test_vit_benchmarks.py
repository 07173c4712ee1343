"""The benchmarks for a pre-trained ViT-B/16: streams, options, folders of images, recipes, and missing weights."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.utils import shuffle
from torchvision.transforms import functional as vision

from bench.catalog import recipes
from bench.catalog.catalog import Catalog
from bench.core import DataError, Split, Task, Training
from bench.data.transformer_stream import TransformerStream, take
from bench.execution import store
from bench.tools import benchmark_checks

NAMES = ("split_cifar100_vit", "split_imagenet_r")
CLASSES = 200


def module_of(name: str) -> ModuleType:
    return sys.modules[type(Catalog().benchmark(name)).__module__]


def shrink(name: str, train: int, test: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the source of a benchmark have so many images."""
    cls = type(Catalog().benchmark(name))
    assert issubclass(cls, TransformerStream)
    monkeypatch.setattr(cls, "source", replace(cls.source, num_train=train, num_test=test))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transformer of one narrow block in the place of ViT-B/16."""
    from bench.nn import architectures
    from bench.nn.architectures import vit

    sizes = {"patch_size": 32, "embed_dim": 12, "depth": 1, "num_heads": 2, "mlp_ratio": 2}
    monkeypatch.setitem(architectures.BACKBONES, "vit_base_patch16_224", partial(vit._transformer, **sizes))


def random_cifar(folder: Path, train: int, test: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the prepared array of so many random images of every class."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 100 * train), ("test", 100 * test)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (n, 32, 32, 3), np.uint8)
        arrays[f"y_{part}"] = np.arange(n) % 100
    np.savez(folder / "cifar100.npz", **arrays)
    shrink("split_cifar100_vit", 100 * train, 100 * test, monkeypatch)
    return folder


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return random_cifar(tmp_path, 6, 2, monkeypatch)


def stream(name: str, data: Path, seed: int = 0, **options: Any) -> list[Task]:
    return Catalog().benchmark(name, options).stream(seed, data)


@pytest.mark.parametrize(("tasks", "size"), [(10, 10), (20, 5)])
def test_classes_come_in_natural_order_whatever_the_seed(tasks, size, cifar):
    benchmark = Catalog().benchmark("split_cifar100_vit", {"tasks": tasks})
    assert (benchmark.num_tasks, benchmark.num_classes) == (tasks, size)
    found, other = benchmark.stream(0, cifar), benchmark.stream(1, cifar)
    assert [c for task in found for c in task.classes] == [str(c) for c in range(100)]
    for task, again in zip(found, other, strict=True):
        assert (len(task.train), len(task.validation), len(task.test)) == (6 * size, 0, 2 * size)
        assert task.train.x.dtype == np.uint8 and task.train.x.shape[1:] == (3, 32, 32)
        assert sorted(set(task.train.y.tolist())) == list(range(size))
        assert np.array_equal(task.train.x, again.train.x)
    assert len(found) == tasks
    with np.load(cifar / "cifar100.npz") as raw:
        own = raw["x_test"][raw["y_test"] == size]
    first = found[1].test.x[found[1].test.y == 0]
    assert np.array_equal(first, own.transpose(0, 3, 1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("check", benchmark_checks.CHECKS, ids=lambda check: check.__name__)
def test_the_contract_of_split_cifar100(check, cifar, small):
    check("split_cifar100_vit", data=cifar)


def test_an_option_decides_which_projections_learn(small):
    from bench.nn import architectures

    names = []
    for adapted in ("kv", "qv", "qkv"):
        network = architectures.build(Catalog().benchmark("split_cifar100_vit", {"adapted": adapted}))
        names.append([path.rpartition(".")[2] for path in network.layers()])
        assert network.head(0).bias is not None
    assert names == [["k", "v"], ["q", "v"], ["q", "k", "v"]]


SETTINGS = {
    "split_cifar100_vit": {"epochs": 20, "energy": 0.95, "energy_step": 0.005},
    "split_imagenet_r": {"epochs": 50, "energy": 0.98, "energy_step": 0.002},
}


@pytest.mark.parametrize("name", NAMES)
def test_training_is_that_of_the_released_code(name):
    catalog = Catalog()
    training, config = recipes.resolve("inflora", catalog.method("inflora"), catalog.recipe(name), {}, "published")
    wanted = Training(
        optimizer="adam", lr=5e-4, lr_schedule="cosine", batch_size=128, epochs=SETTINGS[name]["epochs"],
        restore_best=False, eval_batch_size=128, eval_order="shuffled",
    )  # fmt: skip
    assert training == wanted
    assert config.rank == 10 and config.energy_power == 4 and config.b_scale == "inverse-sqrt-3"
    assert (config.energy, config.energy_step) == (SETTINGS[name]["energy"], SETTINGS[name]["energy_step"])
    benchmark = catalog.benchmark(name)
    assert benchmark.scenarios == ("class-il", "task-il") and benchmark.scenario == "class-il"
    rest = 1 - config.energy
    assert config.energy_step * benchmark.num_tasks == pytest.approx(rest), "all of the energy after the last task"


# ImageNet-R


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`imagenet(part, counts)` makes a folder for each class with so many images, small and of several shapes, and the
    benchmark content with 800 of them, a quarter for the test."""
    module = module_of("split_imagenet_r")
    monkeypatch.setattr(module, "TRAIN", 600)
    monkeypatch.setattr(module, "TEST", 200)
    shrink("split_imagenet_r", 600, 200, monkeypatch)

    def make(part: str = "", count: int = 4) -> Path:
        rng = np.random.default_rng(len(part))
        for c, name in enumerate(module.CLASSES):
            folder = tmp_path / "imagenet-r" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                shape = (8, 12 if i % 2 else 8, 3)
                pixels = rng.integers(0, 256, shape, np.uint8)
                pixels[..., 0] = c  # tells the class
                Image.fromarray(pixels).save(folder / f"art_{i}.png")
        return tmp_path

    return make


def classes_of(images: np.ndarray) -> list[int]:
    return [int(c) for c in images[:, 0].mean((1, 2)).round()]


@pytest.mark.slow
@pytest.mark.parametrize(("tasks", "size"), [(5, 40), (10, 20), (20, 10)])
def test_images_in_folders_become_tasks_of_classes(tasks, size, imagenet, monkeypatch):
    data = imagenet()
    module = module_of("split_imagenet_r")
    every_fourth = sorted(range(800), key=lambda i: i % 4 == 3)  # so that each of so few images has its class tested
    monkeypatch.setattr(module, "legacy_shuffle", lambda n, seed: every_fourth)
    benchmark = Catalog().benchmark("split_imagenet_r", {"tasks": tasks})
    benchmark.prepare(data)
    found = benchmark.stream(0, data)
    assert [len(task.classes) for task in found] == [size] * tasks
    assert tuple(name for task in found for name in task.classes) == module.CLASSES
    assert sum(len(task.train) for task in found) == 600
    assert sum(len(task.test) for task in found) == 200
    for t, task in enumerate(found):
        assert task.train.x.shape[1:] == (3, 256, 256) and task.train.x.dtype == np.uint8
        assert classes_of(task.train.x) == [int(y) + t * size for y in task.train.y]


def test_a_task_is_a_view_where_its_images_follow_one_another():
    images = np.arange(6 * 12, dtype=np.uint8).reshape(6, 2, 2, 3)
    for labels, shared in (([0, 0, 1, 1, 2, 2], True), ([0, 2, 1, 0, 2, 1], False)):
        split = Split(images, np.array(labels))
        found = take(split, 1, 2)
        assert np.shares_memory(found.x, images) == shared
        own = split.y >= 1
        assert np.array_equal(found.x, images[own].transpose(0, 3, 1, 2))
        assert np.array_equal(found.y, split.y[own] - 1)


def test_images_are_split_by_a_permutation_that_no_run_changes(tmp_path, monkeypatch):
    module = module_of("split_imagenet_r")
    files = [(Path(f"{i:05}"), i // 150) for i in range(30_000)]
    monkeypatch.setattr(module, "list_files", lambda folder, count: files[:count])
    monkeypatch.setattr(module, "decoded", lambda chosen: [int(path.name) for path, _ in chosen])
    train, test = module.read_any(tmp_path)
    order = shuffle(np.arange(30_000), random_state=0)
    assert train == sorted(order[:24_000]) and test == sorted(order[24_000:])
    assert len({i // 150 for i in test}) == 200


def test_a_missing_class_is_named(imagenet):
    data = imagenet(count=1)
    folder = data / "imagenet-r" / "n02051845"
    (folder / "art_0.png").unlink()
    folder.rmdir()
    with pytest.raises(DataError, match="has 199 of 200 classes: n02051845 is missing"):
        Catalog().benchmark("split_imagenet_r").prepare(data)


def test_a_folder_of_no_class_and_a_wrong_count_and_half_a_split_are_told(imagenet):
    data = imagenet(count=1)
    benchmark = Catalog().benchmark("split_imagenet_r")
    with pytest.raises(DataError, match="has 200 images, not 800"):
        benchmark.prepare(data)
    (data / "imagenet-r" / "n00000000").mkdir()
    with pytest.raises(DataError, match="has a folder n00000000, which is no class of ImageNet-R"):
        benchmark.prepare(data)
    (data / "imagenet-r" / "train").mkdir()
    with pytest.raises(DataError, match="has only one of train and test"):
        benchmark.prepare(data)


@pytest.mark.slow
def test_a_file_that_is_no_image_is_named(imagenet):
    data = imagenet()
    odd = data / "imagenet-r" / "n02051845" / "art_1.png"
    odd.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    with pytest.raises(DataError, match=re.escape(f"{odd} cannot be read")):
        Catalog().benchmark("split_imagenet_r").prepare(data)


@pytest.mark.slow
def test_folders_of_train_and_test_are_taken_as_they_are(imagenet, monkeypatch):
    module = module_of("split_imagenet_r")
    monkeypatch.setattr(module, "TRAIN", 400)
    monkeypatch.setattr(module, "TEST", 200)
    shrink("split_imagenet_r", 400, 200, monkeypatch)
    imagenet("train", 2)
    data = imagenet("test", 1)
    benchmark = Catalog().benchmark("split_imagenet_r")
    benchmark.prepare(data)
    for task in benchmark.stream(0, data):
        assert (len(task.train), len(task.test)) == (40, 20)
    assert benchmark.num_tasks == 10


@pytest.mark.parametrize("size", [(300, 500), (256, 256), (120, 90), (255, 1000)])
def test_the_middle_of_an_image_is_that_of_torchvision(size, tmp_path):
    from bench.data.formats.readers import read_middles

    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    [found] = read_middles([tmp_path / "a.png"], 256)
    wanted = vision.center_crop(vision.resize(Image.fromarray(pixels), 256), [256, 256])
    assert np.array_equal(found, np.asarray(wanted))


# weights


def test_missing_weights_end_a_request_before_anything_runs(command, cifar, tmp_path):
    done = command("--bench", "split_cifar100_vit", "--methods", "finetune", "--data", cifar, "--out", tmp_path / "o")
    assert done.code == 2
    [line] = done.err.strip().splitlines()[-1:]
    for word in ("vit_base_patch16_224.augreg_in21k.safetensors", "410 MB", "Hugging Face", str(cifar)):
        assert word in line
    assert not list((tmp_path / "o").rglob("seed*.json"))


@pytest.fixture
def weights(tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the narrow transformer's weights, where ViT-B/16's would be, beside the fewest images."""
    from bench.nn import architectures
    from bench.nn.architectures import vit

    backbone = architectures.BACKBONES["vit_base_patch16_224"]((3, 224, 224), "kv")
    path = random_cifar(tmp_path, 2, 1, monkeypatch) / "vit_base_patch16_224.augreg_in21k.safetensors"
    save_file(vit.fused(backbone.state_dict()), path)
    return path


def test_weights_of_another_network_end_a_request_before_anything_runs(command, weights, tmp_path):
    state = load_file(weights)
    save_file(state | {"norm.weight": state["norm.weight"][:6].clone()}, weights)
    done = command(
        "--bench", "split_cifar100_vit", "--methods", "finetune", "--data", weights.parent, "--out", tmp_path / "o"
    )
    assert done.code == 2
    assert done.err.strip().endswith(
        f"{weights} holds the weights of another network: its norm.weight is (6,), not (12,)"
    )
    assert not list((tmp_path / "o").rglob("seed*.json"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "methods"),
    [
        ("class-il", ["inflora", "olora", "ness", "gpm", "ewc", "finetune", "joint"]),
        ("task-il", ["inflora", "ness"]),  # the others learn and are tested by the same code
    ],
    ids=["class-il", "task-il"],
)
def test_methods_run_from_a_request_to_a_table(scenario, methods, command, weights, tmp_path):
    where = ("--data", weights.parent, "--out", tmp_path / "o")
    done = command(
        "--bench", "split_cifar100_vit", "--methods", ",".join(methods), "--scenario", scenario,
        "--seeds", "0", "--epochs", "1", *where,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert not set(methods) - set(re.findall(r"\w+", done.out))
    results = [store.load_result(path) for path in (tmp_path / "o").rglob("seed*.json")]
    assert len(results) == len(methods)
    for result in results:
        assert result.error is None and result.cell.scenario == scenario
        assert len(result.matrix[-1]) == 10 and None not in result.matrix[-1]
