"""5-Datasets: constants, sizes and splits of the paper's code, its two options, and its data from their files."""

import gzip
import hashlib
import io
import pickle
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import every_method
from scipy.io import savemat
from sklearn.utils import shuffle

from bench.catalog import recipes
from bench.catalog.catalog import Catalog
from bench.core import PROTOCOLS, DataError, Task, slices
from bench.tools import benchmark_checks

NAME = "five_datasets"
SOURCES = ("CIFAR10", "MNIST", "SVHN", "FASHION_MNIST", "NOTMNIST")
PIXELS = {
    "cifar10": (32, 32, 3),
    "mnist": (28, 28),
    "svhn": (32, 32, 3),
    "fashion_mnist": (28, 28),
    "notmnist": (32, 32),
}

PARTS = {"train": 1600, "test": 40}


@pytest.fixture
def module() -> ModuleType:
    return sys.modules[type(Catalog().benchmark(NAME)).__module__]


@pytest.fixture
def raw(tmp_path: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Prepared arrays of 1,600 random training and 40 test images each, which the benchmark takes for whole."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for constant in SOURCES:
        small = replace(getattr(module, constant), num_train=PARTS["train"], num_test=PARTS["test"])
        monkeypatch.setattr(module, constant, small)
        stored = {}
        for part, n in PARTS.items():
            stored[f"x_{part}"] = rng.integers(0, 256, (n, *small.image_shape), np.uint8)
            stored[f"y_{part}"] = rng.permutation(n) % 10
            arrays[f"{small.name} {part}"] = stored[f"x_{part}"]
        np.savez(tmp_path / f"{small.name}.npz", **stored)
    return arrays


def stream(data: Path, seed: int = 0, **options: str) -> list[Task]:
    return Catalog().benchmark(NAME, options).stream(seed, data)


@pytest.mark.parametrize("check", benchmark_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.slow
def test_the_contract(check, raw, tmp_path, narrow):
    check(NAME, data=tmp_path)


def test_sizes_as_published(module):
    wanted = {
        "cifar10": (47_500, 2_500, 10_000),
        "mnist": (57_000, 3_000, 10_000),
        "svhn": (69_595, 3_662, 26_032),
        "fashion_mnist": (57_000, 3_000, 10_000),
        "notmnist": (16_011, 842, 1_873),
    }
    found = {}
    for source in Catalog().benchmark(NAME).sources():
        cut = int(0.05 * source.num_train)
        found[source.name] = (source.num_train - cut, cut, source.num_test)
        assert source.image_shape == PIXELS[source.name]
    assert found == wanted
    assert list(found) == list(wanted)


@pytest.mark.parametrize(
    ("n", "batches", "last"),
    [
        (47_500, 743, 12), (57_000, 891, 40), (69_595, 1088, 27), (16_011, 251, 11),  # training
        (2_500, 40, 4), (3_000, 47, 56), (3_662, 58, 14), (842, 14, 10),  # validation
        (10_000, 157, 16), (26_032, 407, 48), (1_873, 30, 17),  # test
    ],
)  # fmt: skip
def test_batches_of_an_epoch(n, batches, last):
    cuts = slices(n, 64)
    assert (len(cuts), cuts[-1].stop - cuts[-1].start) == (batches, last)


@pytest.mark.parametrize(
    ("name", "mean", "sd"),
    [
        ("cifar10", (0.49137, 0.48235, 0.44667), (0.24706, 0.24353, 0.26157)),
        ("mnist", 0.1, 0.2752),
        ("svhn", (0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197)),
        ("fashion_mnist", 0.2190, 0.3318),
        ("notmnist", 0.4254, 0.4501),
    ],
)
def test_images_are_padded_normalized_and_in_three_channels(name, mean, sd, raw, tmp_path):
    """Grey zeros around 28 x 28 are normalised like the rest: padding comes first."""
    task = stream(tmp_path)[list(PIXELS).index(name)]
    images = raw[f"{name} test"] / 255
    if images.ndim == 3:
        pad = (32 - images.shape[1]) // 2
        padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad)))
        images = padded[..., None].repeat(3, axis=3)
    wanted = (images - mean) / sd
    np.testing.assert_allclose(task.test.x, wanted.transpose(0, 3, 1, 2), atol=1e-4)
    assert task.classes[3] == f"{name} 3"


def test_the_last_step_is_that_of_torchvision(raw, tmp_path):
    from PIL import Image
    from torchvision.transforms import Compose, Normalize, Pad, ToTensor

    transform = Compose([Pad(padding=2, fill=0), ToTensor(), Normalize((0.1,), (0.2752,))])
    wanted = transform(Image.fromarray(raw["mnist test"][5])).expand(3, 32, 32).numpy()
    assert np.array_equal(stream(tmp_path)[1].test.x[5], wanted)


@pytest.mark.parametrize(("validation", "by"), [("fixed", 1), ("seed", 7)])
def test_validation_is_the_head_of_a_legacy_permutation(validation, by, raw, tmp_path):  # of 1,600 images
    stored = np.load(tmp_path / "svhn.npz")["y_train"]
    order = shuffle(np.arange(1600), random_state=by)
    task = stream(tmp_path, seed=7, validation=validation)[2]
    assert task.validation.y.tolist() == stored[order[:80]].tolist()
    assert task.train.y.tolist() == stored[order[80:]].tolist()


def test_the_bug_is_mnist_with_the_constants_of_fashion(raw, tmp_path):
    bug, real = (stream(tmp_path, fashion=fashion) for fashion in ("mnist-bug", "real"))
    as_read = bug[3].test.x * 0.3318 + 0.2190
    np.testing.assert_allclose(as_read, bug[1].test.x * 0.2752 + 0.1, atol=1e-5)
    assert bug[3].classes[0] == "mnist 0"
    assert real[3].classes[0] == "fashion_mnist 0"
    same = [np.array_equal(a.test.x, b.test.x) for a, b in zip(bug, real, strict=True)]
    assert same == [True, True, True, False, True]


def test_why_the_bug_is_there():
    """torchvision's MNIST reads `resources`: a subclass that sets `urls` downloads MNIST."""
    from torchvision.datasets import MNIST, FashionMNIST

    class Subclass(MNIST):
        urls = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz",)

    assert not hasattr(MNIST, "urls")
    assert Subclass.resources == MNIST.resources != FashionMNIST.resources
    assert Subclass.resources[0] == ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873")
    assert FashionMNIST.resources[0][1].startswith("8d4fb7e6")


def test_files_and_checksums_are_those_of_torchvision(module):
    from torchvision import datasets

    def pairs(source):
        return [(Path(archive.name).name, archive.md5) for archive in source.archives]

    assert pairs(module.CIFAR10) == [(datasets.CIFAR10.filename, datasets.CIFAR10.tgz_md5)]
    assert pairs(module.MNIST) == datasets.MNIST.resources
    assert pairs(module.FASHION_MNIST) == datasets.FashionMNIST.resources
    assert pairs(module.SVHN) == [tuple(datasets.SVHN.split_list[part][1:]) for part in ("train", "test")]
    urls = [archive.url for archive in module.SVHN.archives]
    assert urls == [datasets.SVHN.split_list[part][0] for part in ("train", "test")]
    assert {archive.md5 for archive in module.NOTMNIST.archives} == {""}
    names = [archive.name for constant in SOURCES for archive in getattr(module, constant).archives]
    assert len(set(names)) == len(names)  # in one folder


def test_protocols():
    benchmark = Catalog().benchmark(NAME)
    recipe = Catalog().recipe(NAME)
    published, sound = (recipes.resolve_options(benchmark, recipe, {}, p) for p in ("published", "sound"))
    assert published == {"fashion": "mnist-bug", "validation": "fixed"}
    assert sound == {"fashion": "real", "validation": "seed"}
    names = [source.name for source in Catalog().benchmark(NAME, published).sources()]
    assert names == ["cifar10", "mnist", "svhn", "mnist", "notmnist"]  # FashionMNIST need not be there


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_recipe_has_the_values_of_the_released_code(protocol):
    def resolve(method):
        return recipes.resolve(method, Catalog().method(method), Catalog().recipe(NAME), {}, protocol)

    training, ness = resolve("ness")
    assert (training.lr, training.momentum, training.weight_decay, training.epochs) == (0.05, 0.9, 5e-5, 200)
    assert (training.patience, training.factor, training.lr_min, training.sam) == (5, 3, 1e-3, "none")
    assert (ness.nan_policy, ness.sources) == {"published": ("freeze-layer", "first"), "sound": ("clamp", "all")}[
        protocol
    ]
    sam, _ = resolve("ness+sam")
    assert (sam.lr, sam.momentum, sam.weight_decay) == (0.1, 0, 5e-5)
    assert sam.sam == {"published": "first", "sound": "all"}[protocol]
    training, gpm = resolve("gpm")
    assert (training.lr, training.momentum, training.weight_decay, training.epochs) == (0.1, 0, 0, 100)
    assert (gpm.energy, gpm.energy_step, gpm.samples) == (0.965, 0, 100)
    assert [n * side**2 for n, side in zip(gpm.layer_samples, SIDES, strict=True)] == COLUMNS


SIDES = [32] * 5 + [16] * 5 + [8] * 5 + [4] * 5  # of the maps that a layer gives
COLUMNS = [  # columns of the layers' input matrices
    10240, *[10240] * 4, 2560, 2560, 2560, 2560, 12800, 3200, 3200, 3200, 6400, 6400, 1600, 1600, 1600, 1600, 1600
]  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("method", every_method(NAME))
@pytest.mark.slow
def test_methods_run_by_the_recipe_under_both_protocols(method, protocol, raw, tmp_path, run_by_recipe):
    R = run_by_recipe(NAME, method, protocol, tmp_path)
    assert len(R[1]) == 2
    assert all(0 <= a <= 1 for a in R[1])


# From the files as published


def test_from_files_to_tasks(tmp_path: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each written as its authors do; images and labels come out again, in all five tasks."""
    rng = np.random.default_rng(0)
    stored = {}
    for constant in SOURCES:
        source = getattr(module, constant)
        x = rng.integers(0, 256, (60, *source.image_shape), np.uint8)
        y = np.arange(60) % 10
        stored[source.name] = x[50:], y[50:]
        files = WRITERS[source.name](x, y)
        archives = []
        for archive, content in zip(source.archives, files, strict=True):
            path = tmp_path / archive.name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            md5 = hashlib.md5(content).hexdigest() if archive.md5 else ""
            archives.append(replace(archive, md5=md5))
        small = replace(source, num_train=50, num_test=10, archives=tuple(archives))
        monkeypatch.setattr(module, constant, small)
    benchmark = Catalog().benchmark(NAME)
    assert benchmark.data_state(tmp_path) == "downloaded"
    benchmark.prepare(tmp_path)
    assert benchmark.data_state(tmp_path) == "ready"
    for task, (name, (x, y)) in zip(benchmark.stream(0, tmp_path), stored.items(), strict=True):
        mean, sd = module.CONSTANTS[name]
        inner = slice(2, -2) if x.shape[1] == 28 else slice(None)
        images = task.test.x.transpose(0, 2, 3, 1)[:, inner, inner] * sd + mean
        grey = images if x.ndim == 4 else images[..., 0]
        assert np.array_equal(np.rint(255 * grey).astype(np.uint8), x), name
        assert task.test.y.tolist() == y.tolist()


def tar_of_batches(x: np.ndarray, y: np.ndarray) -> list[bytes]:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for b in range(6):
            name = "test_batch" if b == 5 else f"data_batch_{b + 1}"
            part = slice(10 * b, 10 * b + 10)
            flat = x[part].transpose(0, 3, 1, 2).reshape(10, -1)
            content = pickle.dumps({"data": flat, "labels": y[part].tolist(), "batch_label": "of 6"}, 2)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return [file.getvalue()]


def idx_files(x: np.ndarray, y: np.ndarray) -> list[bytes]:
    def idx(array: np.ndarray) -> bytes:
        magic = bytes([0, 0, 8, array.ndim])
        sizes = np.array(array.shape, ">u4").tobytes()
        return gzip.compress(magic + sizes + array.tobytes())

    labels = y.astype(np.uint8)
    return [idx(x[:50]), idx(labels[:50]), idx(x[50:]), idx(labels[50:])]


def mats(x: np.ndarray, y: np.ndarray) -> list[bytes]:
    files = []
    for part in (slice(50), slice(50, None)):
        file = io.BytesIO()
        ten = np.where(y == 0, 10, y)[part, None].astype(np.uint8)
        savemat(file, {"X": x[part].transpose(1, 2, 3, 0), "y": ten}, do_compression=True)
        files.append(file.getvalue())
    return files


def zip_of_pickles(x: np.ndarray, y: np.ndarray) -> list[bytes]:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, part in (("train", slice(50)), ("test", slice(50, None))):
            content = pickle.dumps({"features": x[part, None], "labels": y[part].astype(np.uint8)}, 4)
            archive.writestr(f"notmnist_{name}.pkl", content)
    return [file.getvalue()]


WRITERS = {
    "cifar10": tar_of_batches,
    "mnist": idx_files,
    "svhn": mats,
    "fashion_mnist": idx_files,
    "notmnist": zip_of_pickles,
}


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    benchmark = Catalog().benchmark(NAME)
    assert "cifar10 missing, 170 MB to download; mnist missing" in benchmark.data_state(tmp_path)
    with pytest.raises(DataError, match=r"cifar10\.npz cannot be read .* put cifar-10-python\.tar\.gz"):
        benchmark.stream(0, tmp_path)


def test_notmnist_that_is_no_zip_is_refused(tmp_path: Path, module: ModuleType) -> None:
    """No checksum is known; what a web server says instead of the file is not taken for it."""
    (tmp_path / "notmnist.zip").write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"notmnist\.zip cannot be read: .*; delete it, then put notmnist\.zip"):
        module.NOTMNIST.prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notmnist.zip"]
