"""A Conv1d layer is a Conv2d layer of images one pixel high: whatever reads or moves one does so with the other."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.catalog.catalog import Catalog
from bench.core import Benchmark, Split, Task, Training
from bench.nn import architectures
from bench.nn.adapters import attach, attach_free, merge
from bench.nn.grams import gram_sum, unfold_inputs
from bench.nn.network import Network
from bench.training.demands.matrices import fault_of
from bench.training.loop import Session
from bench.training.needs import takes_layers_for_matrices

LAYERS: dict[str, dict[str, Any]] = {
    "3": {"kernel_size": 3},
    "1": {"kernel_size": 1},
    "whole": {"kernel_size": 11},
    "strided and padded": {"kernel_size": 4, "stride": 3, "padding": 2},
    "dilated": {"kernel_size": 3, "dilation": 2},
    "grouped": {"kernel_size": 2, "groups": 2, "padding": "same"},
    "circular": {"kernel_size": 3, "padding": 2, "padding_mode": "circular"},
    "reflect": {"kernel_size": 5, "padding": 4, "padding_mode": "reflect", "stride": 2, "groups": 4, "dilation": 2},
}


def flat_image(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of the Conv2d layer that does on a row of pixels what a Conv1d layer of `settings` does."""
    wide = {name: (1, value) for name, value in settings.items() if name in ("kernel_size", "stride", "dilation")}
    if isinstance(settings.get("padding"), int):
        wide["padding"] = (0, settings["padding"])
    return {**settings, **wide}


@pytest.mark.parametrize("settings", LAYERS.values(), ids=LAYERS)
def test_inputs_and_grams_are_those_of_a_row_of_pixels(settings):
    x = torch.randn(5, 4, 11, dtype=torch.float64)
    layer, twin = nn.Conv1d(4, 8, **settings), nn.Conv2d(4, 8, **flat_image(settings))
    rows, wanted = unfold_inputs(layer, x), unfold_inputs(twin, x.unsqueeze(2))
    assert torch.equal(rows, wanted) and rows.shape[0] == layer.groups
    total, other = gram_sum(layer), gram_sum(twin)
    for part in (x[:2], x[2:]):
        total.add(part)
        other.add(part.unsqueeze(2))
    assert len(total.grams()) == layer.groups
    for own, exact in zip(total.grams(), other.grams(), strict=True):
        torch.testing.assert_close(own, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", LAYERS.values(), ids=LAYERS)
def test_its_blocks_times_its_inputs_are_its_outputs(settings):
    layer = nn.Conv1d(4, 8, bias=False, **settings).double()
    x = torch.randn(5, 4, 11, dtype=torch.float64)
    network = Network(nn.Sequential(layer), 8, 2, 1)
    blocks = list(network.blocks().values())[: layer.groups]
    parts = [r @ block.weight.T for r, block in zip(unfold_inputs(layer, x), blocks, strict=True)]
    torch.testing.assert_close(torch.cat(parts, 1), layer(x).transpose(1, 2).flatten(0, 1), rtol=1e-12, atol=1e-12)


def body(convolution: Callable[..., nn.Module], norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """Two convolutions over four channels of twelve numbers, and a layer over what comes out."""
    kinds = flat_image if convolution is nn.Conv2d else dict
    first = convolution(4, 6, **kinds({"kernel_size": 3, "padding": 1, "groups": 2}))
    second = convolution(6, 8, **kinds({"kernel_size": 4, "stride": 2}))
    return nn.Sequential(first, norm(6), nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(40, 10))


def network_of(high: bool) -> Network:
    torch.manual_seed(0)
    backbone = body(nn.Conv2d, nn.BatchNorm2d) if high else body(nn.Conv1d, nn.BatchNorm1d)
    return Network(backbone, 10, 2, 2)


def test_attaching_and_merging_leave_the_function_and_every_update_learns():
    x = torch.randn(9, 4, 12, dtype=torch.float64)
    for free in (False, True):
        network = network_of(high=False).double().eval()
        assert fault_of(network, x, 0) == ""
        before = network(x, 1)
        d = {name: block.weight.shape[1] for name, block in network.blocks().items()}
        assert len(d) == 4, "two groups, a convolution and a layer"
        if free:
            bases = {name: torch.linalg.qr(torch.randn(n, 2).double()).Q for name, n in d.items()}
            ups = attach_free(network, bases)
        else:
            downs = {name: torch.randn(2, n).double() for name, n in d.items()}
            ups = {name: factors.up for name, factors in attach(network, downs).items()}
        assert list(ups) == list(d)
        torch.testing.assert_close(network(x, 1), before, rtol=0, atol=1e-12)
        network(x, 1).square().sum().backward()
        assert all(up.grad is not None and float(up.grad.abs().max()) > 0 for up in ups.values())
        with torch.no_grad():
            for up in ups.values():
                up.normal_()
        moved = network(x, 1)
        assert float((moved - before).detach().abs().max()) > 1e-2
        merge(network)
        torch.testing.assert_close(network(x, 1), moved, rtol=0, atol=1e-11)


class Rows(Benchmark):
    """Two tasks of two classes of rows of numbers, (4, 12), or of images one pixel high."""

    num_tasks, num_classes, input_shape = 2, 2, (4, 12)
    high = False

    def own_backbone(self) -> nn.Module:
        return body(nn.Conv2d, nn.BatchNorm2d) if self.high else body(nn.Conv1d, nn.BatchNorm1d)

    def stream(self, seed: int, data: Any = None) -> list[Task]:
        generator = np.random.default_rng(seed)

        def split(n: int, scale: float) -> Split:
            y = np.arange(n) % 2
            x = scale * generator.normal(size=(n, 4, 12)) + (2 * y[:, None, None] - 1) * np.sin(scale * np.arange(12))
            return Split(x.astype(np.float32), y)

        return [Task(t, ("a", "b"), split(48, t + 0.5), split(16, t + 0.5), split(32, t + 0.5)) for t in range(2)]


class HighRows(Rows):
    input_shape, high = (4, 1, 12), True

    def stream(self, seed: int, data: Any = None) -> list[Task]:
        def raised(split: Split) -> Split:
            return Split(split.x[:, :, None], split.y)

        tasks = super().stream(seed)
        parts = ("train", "validation", "test")
        return [replace(task, **{part: raised(getattr(task, part)) for part in parts}) for task in tasks]


def learnt(name: str, benchmark: Benchmark) -> tuple[dict[str, Tensor], list[Any]]:
    torch.manual_seed(0)
    network = architectures.build(benchmark)
    method = Catalog().method(name)(network, None, torch.Generator())
    training = Training(epochs=2, batch_size=16, lr=0.02)
    _, records = Session(network, method, benchmark.stream(0), training, seed=0).run()
    return network.state_dict(), records


METHODS = [
    name
    for name in Catalog().available("Method")
    if takes_layers_for_matrices(Catalog().method(name)) and not Catalog().method(name).unsupported(Rows(), Training())
]


def test_many_methods_are_concerned():
    assert {"ness", "gpm", "sgp", "trgp", "inflora", "olora", "dfgp"} <= set(METHODS)


@pytest.mark.parametrize("name", [*METHODS, "ewc", "mas"])  # the last two have gradients per sample
def test_a_method_moves_a_conv1d_as_it_moves_its_twin(name):
    own, records = learnt(name, Rows())
    twin, others = learnt(name, HighRows())
    assert list(own) == list(twin)
    for key, weight in own.items():
        torch.testing.assert_close(weight.flatten(), twin[key].flatten(), rtol=1e-3, atol=1e-4)
    assert records[-1].report.get("rank") == others[-1].report.get("rank")
    torch.manual_seed(0)
    start = architectures.build(Rows()).state_dict()
    assert float((own["backbone.3.weight"] - start["backbone.3.weight"]).abs().max()) > 1e-3
