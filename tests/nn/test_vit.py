"""Vision transformers: the same as timm's, with three projections that have names of their own."""

import pytest
import torch
from torch import nn

from bench.core import UserError
from bench.nn import architectures
from bench.nn.architectures import vit
from bench.nn.network import Network


def timm_model(**sizes) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(num_classes=0, global_pool="token", **sizes)


def tiny_of_timm() -> nn.Module:
    return timm_model(img_size=32, patch_size=4, embed_dim=96, depth=6, num_heads=3, mlp_ratio=2)


def count(parameters) -> int:
    return sum(p.numel() for p in parameters)


def test_the_same_outputs_as_timm_with_the_weights_converted_both_ways():
    theirs, ours = tiny_of_timm(), architectures.tiny_vit((3, 32, 32))
    state = vit.separated(theirs.state_dict())
    assert set(state) == set(ours.state_dict())
    ours.load_state_dict(state)
    x = torch.randn(3, 3, 32, 32)
    expected = theirs(x)
    torch.testing.assert_close(ours(x), expected)
    assert expected.shape == (3, 96) and expected.std() > 0.1
    back = vit.fused(ours.state_dict())
    assert list(back) == list(theirs.state_dict())
    assert all(torch.equal(back[name], tensor) for name, tensor in theirs.state_dict().items())


def test_one_seed_gives_the_weights_that_timm_would_draw():
    torch.manual_seed(3)
    theirs = tiny_of_timm().state_dict()
    torch.manual_seed(3)
    ours = vit.fused(architectures.tiny_vit((3, 32, 32)).state_dict())
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_the_tiny_transformer_has_half_a_million_parameters():
    assert count(architectures.tiny_vit((3, 32, 32)).parameters()) == 459_936


@pytest.mark.parametrize("adapted", vit.ADAPTED)
def test_only_the_weights_of_the_adapted_projections_may_learn(adapted):
    backbone = architectures.tiny_vit((3, 32, 32), adapted)
    network = Network(backbone, 96, 5, 2)
    wanted = [f"backbone.blocks.{b}.attn.qkv.{part}" for b in range(6) for part in vit.PARTS if part in adapted]
    assert list(network.layers()) == wanted
    assert list(network.shared_parameters()) == [f"{path}.weight" for path in wanted]
    network.open([1])
    learning = [name for name, p in network.named_parameters() if p.requires_grad]
    assert learning == [*network.shared_parameters(), "heads.1.weight"]


def test_an_unknown_choice_of_projections_is_told_the_nearest():
    with pytest.raises(UserError, match="unknown projections to adapt 'kvo': did you mean 'kv'"):
        architectures.tiny_vit((3, 32, 32), "kvo")


def test_without_timm_a_line_says_how_to_install_it(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "timm.models.vision_transformer", None)
    with pytest.raises(UserError, match="pip install"):
        architectures.tiny_vit((3, 32, 32))
