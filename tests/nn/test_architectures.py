"""Shapes and parameter counts of the papers' networks."""

import pytest
import torch
from torch import nn

from bench.catalog.catalog import Catalog
from bench.core import Benchmark
from bench.nn import architectures
from bench.nn.network import Network

ALEXNET = [
    ("conv1", (2, 64, 29, 29)), ("pool1", (2, 64, 14, 14)), ("conv2", (2, 128, 12, 12)), ("pool2", (2, 128, 6, 6)),
    ("conv3", (2, 256, 5, 5)), ("pool3", (2, 256, 2, 2)), ("flat", (2, 1024)), ("fc4", (2, 2048)), ("fc5", (2, 2048)),
]  # fmt: skip


def test_alexnet_shapes():
    x = torch.randn(2, 3, 32, 32)
    shapes = []
    for name, module in architectures.alexnet((3, 32, 32)).named_children():
        x = module(x)
        if name in dict(ALEXNET):
            shapes.append((name, tuple(x.shape)))
    assert shapes == ALEXNET


def test_alexnet_counts():
    network = architectures.build(Catalog().benchmark("split_cifar100"))
    blocks = network.blocks()
    assert [b.weight.numel() for b in blocks.values()] == [3072, 73_728, 131_072, 2_097_152, 4_194_304]
    assert [b.weight.shape[1] for b in blocks.values()] == [48, 576, 512, 1024, 2048]
    affine = sum(p.numel() for p in network.backbone.parameters() if p.ndim == 1)
    assert affine == 9_088
    assert sum(p.numel() for p in network.heads.parameters()) == 204_800
    assert sum(p.numel() for p in network.parameters()) == 6_713_216
    first = list(network.named_parameters())[:15]
    assert [name.rsplit(".", 1)[1] for name, _ in first] == ["weight", "weight", "bias"] * 5
    assert [p.ndim > 1 for _, p in first] == [True, False, False] * 5
    dropouts = [m.p for m in network.modules() if isinstance(m, nn.Dropout)]
    assert dropouts == [0.2, 0.2, 0.5, 0.5, 0.5]


def shapes_of(backbone: nn.Module, x: torch.Tensor) -> dict[str, tuple[int, ...]]:
    """Return the shape of what comes out of every child, of one sample."""
    shapes = {}
    for name, module in backbone.named_children():
        x = module(x)
        shapes[name] = tuple(x.shape[1:])
    return shapes


def network_of(backbone: str, shape: tuple[int, ...], tasks: int, classes: int) -> Network:
    benchmark = Benchmark()
    benchmark.backbone, benchmark.input_shape = backbone, shape
    benchmark.num_tasks, benchmark.num_classes = tasks, classes
    return architectures.build(benchmark)


def count(parameters) -> int:
    return sum(p.numel() for p in parameters)


def test_lenet():
    network = network_of("lenet", (3, 32, 32), 20, 5)
    shapes = shapes_of(network.backbone, torch.randn(2, 3, 32, 32))
    wanted = {"conv1": (20, 32, 32), "pool1": (20, 16, 16), "conv2": (50, 16, 16), "pool2": (50, 8, 8)}
    wanted |= {"flat": (3200,), "fc3": (800,), "fc4": (500,)}
    assert {name: shapes[name] for name in wanted} == wanted
    assert shapes["relu4"] == (500,)
    assert [count([layer.weight]) for layer in network.layers().values()] == [1500, 25_000, 2_560_000, 400_000]
    assert count(network.backbone.parameters()) == 2_986_500
    assert count(network.heads.parameters()) == 50_000
    assert count(network.parameters()) == 3_036_500


def test_lenet_starts_kaiming_uniform():
    """U(-b, b) with b² = 6 / fan_in, as in the code of GPM; torch by itself takes a sixth of that b²."""
    torch.manual_seed(0)
    network = network_of("lenet", (3, 32, 32), 20, 5)
    layers = (*network.layers().values(), *network.heads)
    assert len(layers) == 4 + 20
    for layer in layers:
        bound = (6 / layer.weight[0].numel()) ** 0.5
        assert 0.95 * bound < float(layer.weight.detach().abs().max()) <= bound


def test_local_response_normalization_of_the_lenet():
    """x_c / (1 + α/4 Σ x²)^β over channels c - 2 to c + 1, α = 0.001 / 9."""
    x = 100 * torch.rand(1, 20, 2, 2)
    for lrn in (architectures.lenet((3, 32, 32)).lrn1, architectures.lenet((3, 32, 32)).lrn2):
        squares = x[0, 3:7].square().sum(0)
        wanted = x[0, 5] / (1 + 0.001 / 36 * squares) ** 0.75
        torch.testing.assert_close(lrn(x)[0, 5], wanted)


@pytest.mark.parametrize(
    ("name", "side", "tasks", "classes", "maps", "features", "total"),
    [
        ("resnet18", 32, 5, 10, (32, 32, 16, 8, 4, 2), 640, 1_125_140),
        ("resnet18_stride2", 84, 20, 5, (42, 42, 21, 11, 6, 3), 1440, 1_237_140),
    ],
)
def test_resnet18(name, side, tasks, classes, maps, features, total):
    network = network_of(name, (3, side, side), tasks, classes)
    shapes = shapes_of(network.backbone, torch.randn(2, 3, side, side))
    stages = ("conv1", "layer1", "layer2", "layer3", "layer4", "pool")
    channels = (20, 20, 40, 80, 160, 160)
    wanted = [(width, m, m) for width, m in zip(channels, maps, strict=True)]
    assert [shapes[stage] for stage in stages] == wanted
    assert shapes["flat"] == (features,)
    layers = network.layers()
    assert len(layers) == 20
    assert all(layer.bias is None for layer in layers.values())
    assert count(layer.weight for layer in layers.values()) == 1_090_140
    assert count(p for p in network.backbone.parameters() if p.ndim == 1) == 3_000
    assert count(network.heads.parameters()) == tasks * classes * features
    assert count(network.parameters()) == total


@pytest.mark.parametrize(("name", "side"), [("resnet18", 32), ("resnet18_stride2", 84)])
def test_resnet18_draws_nothing_that_it_throws_away(name, side):
    """Its initial weights are those of layers made one after the other, as in the released code's class."""
    network = network_of(name, (3, side, side), 2, 5)
    torch.manual_seed(0)
    again = architectures.BACKBONES[name]((3, side, side))
    after = torch.get_rng_state()
    torch.manual_seed(0)
    layers = [layer for layer in again.modules() if isinstance(layer, nn.Conv2d)]
    for layer in layers:
        twin = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, bias=False)
        assert torch.equal(twin.weight, layer.weight)
    assert len(layers) == len(network.layers()) == 20
    assert torch.equal(torch.get_rng_state(), after)


def test_shortcut_of_a_block():
    """ReLU(F(x) + x) where shapes agree, ReLU(F(x) + projection of x) where they do not."""
    x = 10 * torch.randn(4, 3, 5, 5)
    for block, shortcut in ((architectures.BasicBlock(3, 3, 1), x), (architectures.BasicBlock(3, 6, 2), None)):
        nn.init.zeros_(block.bn2.weight)  # F(x) = 0
        if shortcut is None:
            projected = nn.functional.conv2d(x, block.shortcut[0].weight, stride=2)
            mean = projected.mean((0, 2, 3), keepdim=True)
            sd = projected.std((0, 2, 3), correction=0, keepdim=True)
            shortcut = (projected - mean) / sd
        torch.testing.assert_close(block(x), shortcut.relu(), atol=1e-4, rtol=1e-4)


def test_mlp_of_permuted_mnist():
    network = network_of("mlp", (784,), 1, 10)
    assert count(network.parameters()) == 89_400
    assert len(network.heads) == 1


def test_batch_statistics_in_evaluation():
    body = architectures.alexnet((3, 32, 32)).eval()
    normalized = body[:2](torch.randn(8, 3, 32, 32))
    torch.testing.assert_close(normalized.mean((0, 2, 3)), body.bn1.bias.detach(), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        body(torch.randn(1, 3, 32, 32))


def test_one_head_per_task_or_one_for_all():
    per_task = architectures.build(Catalog().benchmark("digits"))
    shared = architectures.build(Catalog().benchmark("permuted_digits"))
    assert len(per_task.heads) == 5
    assert len(shared.heads) == 1
    assert per_task.head(3) is per_task.heads[3]
    assert shared.head(3) is shared.heads[0]
    assert not any(name.startswith("heads") for name in per_task.layers())
    assert "heads.0" in shared.layers()
    assert "heads.0.weight" in shared.shared_parameters()


def test_open_lets_only_the_chosen_heads_learn():
    network = architectures.build(Catalog().benchmark("digits"))
    network.freeze()
    network.open([2])
    learning = {n for n, p in network.named_parameters() if p.requires_grad}
    assert learning == {*network.shared_parameters(), "heads.2.weight"}
