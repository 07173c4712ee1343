"""Shapes and parameter counts of the papers' networks."""

import pytest
import torch
from torch import nn

from bench import backbones, registry

ALEXNET = [
    ("conv1", (2, 64, 29, 29)), ("pool1", (2, 64, 14, 14)), ("conv2", (2, 128, 12, 12)), ("pool2", (2, 128, 6, 6)),
    ("conv3", (2, 256, 5, 5)), ("pool3", (2, 256, 2, 2)), ("flat", (2, 1024)), ("fc4", (2, 2048)), ("fc5", (2, 2048)),
]  # fmt: skip


def test_alexnet_shapes():  # K-1
    x, shapes = torch.randn(2, 3, 32, 32), []
    for name, module in backbones.alexnet((3, 32, 32)).named_children():
        x = module(x)
        shapes += [(name, tuple(x.shape))] if name in dict(ALEXNET) else []
    assert shapes == ALEXNET


def test_alexnet_counts():  # K-1
    network = backbones.build(registry.get_benchmark("split_cifar100"))
    blocks = network.blocks()
    assert [b.weight.numel() for b in blocks.values()] == [3072, 73_728, 131_072, 2_097_152, 4_194_304]
    assert [b.weight.shape[1] for b in blocks.values()] == [48, 576, 512, 1024, 2048]
    affine = sum(p.numel() for p in network.backbone.parameters() if p.ndim == 1)
    assert affine == 9_088
    assert sum(p.numel() for p in network.heads.parameters()) == 204_800
    assert sum(p.numel() for p in network.parameters()) == 6_713_216
    first = [(p.ndim, name.rsplit(".", 1)[1]) for name, p in list(network.named_parameters())[:15]]
    assert [n for _, n in first] == ["weight", "weight", "bias"] * 5
    assert [d > 1 for d, _ in first] == [True, False, False] * 5
    dropouts = [m.p for m in network.modules() if isinstance(m, nn.Dropout)]
    assert dropouts == [0.2, 0.2, 0.5, 0.5, 0.5]


def test_mlp_of_permuted_mnist():  # K-6
    body = backbones.mlp((1, 28, 28))
    assert sum(p.numel() for p in body.parameters()) + 100 * 10 == 89_400


def test_batch_statistics_in_evaluation():  # K-34
    body = backbones.alexnet((3, 32, 32)).eval()
    normalised = body[:2](torch.randn(8, 3, 32, 32))
    torch.testing.assert_close(normalised.mean((0, 2, 3)), body.bn1.bias.detach(), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        body(torch.randn(1, 3, 32, 32))


def test_one_head_per_task_or_one_for_all():
    per_task = backbones.build(registry.get_benchmark("digits"))
    shared = backbones.build(registry.get_benchmark("permuted_digits"))
    assert len(per_task.heads) == 5 and len(shared.heads) == 1
    assert per_task.head(3) is per_task.heads[3] and shared.head(3) is shared.heads[0]
    assert not any(name.startswith("heads") for name in per_task.layers())
    assert "heads.0" in shared.layers() and "heads.0.weight" in shared.shared_parameters()


def test_open_lets_only_the_chosen_heads_learn():
    network = backbones.build(registry.get_benchmark("digits"))
    network.freeze()
    network.open([2])
    learning = {n for n, p in network.named_parameters() if p.requires_grad}
    assert learning == {*network.shared_parameters(), "heads.2.weight"}
