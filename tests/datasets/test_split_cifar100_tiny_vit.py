"""The stream on the tiny vision transformer: its classes, the weights that come with it, and every method at home."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import first_quick
from sklearn.datasets import load_digits

from bench.catalog.catalog import Catalog
from bench.core import Benchmark, Split, Task, Training
from bench.data.weights import sha256sum
from bench.nn import architectures
from bench.nn.architectures.weights import load_weights
from bench.tools import pretrain
from bench.tools.pretrain import Recipe
from bench.training.loop import Session

NAME = "split_cifar100_tiny_vit"
DATA = Path(os.environ.get("NESS_BENCH_DATA", "data"))
AT_HOME = ("finetune", "inflora", "olora", "ness", "gpm", "ewc", "joint")


def module():
    return sys.modules[type(Catalog().benchmark(NAME)).__module__]


def manifest() -> dict:
    return json.loads(module().WEIGHTS.bundled.with_suffix(".json").read_text())


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """The stream of random images, twenty of each class for training and ten for tests."""
    source = replace(module().CIFAR100, num_train=2000, num_test=1000)
    monkeypatch.setattr(module(), "CIFAR100", source)
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 2000), ("test", 1000)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (n, 32, 32, 3), np.uint8)
        arrays[f"y_{part}"] = np.arange(n) % 100
    np.savez(tmp_path / "cifar100.npz", **arrays)
    return Catalog().benchmark(NAME).stream(0, tmp_path)


def test_the_stream_is_the_classes_that_the_network_has_not_learnt(tasks):
    labels = [int(label) for task in tasks for label in task.classes]
    assert labels == list(range(50, 100))
    assert manifest()["recipe"]["classes"] == 50
    for task in tasks:
        assert (len(task.train), len(task.validation), len(task.test)) == (100, 0, 50)
        assert sorted(set(task.train.y)) == sorted(set(task.test.y)) == list(range(5))


def test_pixels_are_scaled_as_in_pretraining(tasks):
    x = torch.arange(0, 256, 5, dtype=torch.uint8)
    found = (x.numpy() / 255 - module().MEAN[0]) / module().STD[0]
    np.testing.assert_allclose(found, pretrain.scaled(x).numpy(), atol=1e-6)
    assert set(module().MEAN) == {manifest()["mean"]} and set(module().STD) == {manifest()["std"]}
    assert -1 <= tasks[0].train.x.min() < -0.9 and 0.9 < tasks[0].train.x.max() <= 1


def test_the_weights_that_come_with_it_are_those_of_the_manifest():
    weights, told = module().WEIGHTS, manifest()
    assert sha256sum(weights.bundled) == weights.sha256 == told["sha256"]
    assert weights.bundled.stat().st_size == told["bytes"] < 1_000_000
    assert told["recipe"] == {**told["recipe"], "seed": 0, "epochs": Recipe.epochs, "lr": Recipe.lr}
    torch.manual_seed(0)
    backbone = architectures.tiny_vit((3, 32, 32))
    random = backbone.pos_embed.clone()
    load_weights(backbone, weights.bundled)
    assert float((backbone.pos_embed - random).norm()) > 1


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "cifar100.npz").exists(), reason="no cifar100.npz in $NESS_BENCH_DATA")
def test_the_accuracy_of_the_manifest_is_that_of_the_weights():
    from safetensors.torch import load_file

    model = pretrain.new_model(Recipe())
    model.load_state_dict(load_file(module().WEIGHTS.bundled))
    _, test = pretrain.CIFAR100.load_prepared(DATA)
    x, y = pretrain.images_of(test, 50)
    assert pretrain.share_right(model, x, y) == pytest.approx(manifest()["accuracy"]["test"], abs=0.003)


# Without CIFAR-100's images: the same network and methods on digits


class Enlarged(Benchmark):
    name, backbone, head_bias = "enlarged", "tiny_vit", True
    num_tasks, num_classes, input_shape = 3, 2, (3, 32, 32)


def enlarged_digits() -> list[Task]:
    """Three tasks of two digits, thirty-two images to learn and twenty to test, every pixel sixteen of theirs."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images / 8 - 1).reshape(-1, 1, 8, 8).astype(np.float32)
    x = np.kron(pixels, np.ones((1, 3, 4, 4), np.float32))
    tasks = []
    for t in range(Enlarged.num_tasks):
        own = np.flatnonzero(labels // 2 == t)[:52]
        y = labels[own] % 2
        train, test = Split(x[own[:32]], y[:32]), Split(x[own[32:]], y[32:])
        tasks.append(Task(t, (str(2 * t), str(2 * t + 1)), train, Split(x[:0], labels[:0]), test))
    return tasks


@pytest.mark.parametrize("method", first_quick(AT_HOME))
def test_a_method_learns_enlarged_digits(method):
    torch.manual_seed(0)
    network = architectures.build(Enlarged(), weights=module().WEIGHTS.bundled)
    cls = Catalog().method(method)
    training = Training(optimizer="adam", lr=2e-3, epochs=6, batch_size=8, patience=0, restore_best=False)
    session = Session(network, cls(network, cls.Config(), torch.Generator()), enlarged_digits(), training, 0)
    R, _ = session.run()
    learnt = R[-1] if method == "joint" else [R[t][t] for t in range(3)]
    assert len(R[-1]) == len(learnt) == 3
    assert sum(learnt) / 3 > 0.8, R
