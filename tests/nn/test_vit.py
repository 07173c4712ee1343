"""Vision transformers: the same as timm's, with three projections that have names of their own."""

import pytest
import torch
from torch import nn

from bench.core import UserError
from bench.nn import adapters, architectures, grams
from bench.nn.activations import input_grams, squared_gradients
from bench.nn.architectures import vit
from bench.nn.layers import Projections
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
    assert list(ours) == list(theirs)
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


def test_the_transformer_of_the_papers_has_their_counts():
    with torch.device("meta"):
        backbone = architectures.vit_base_patch16_224((3, 224, 224))
        network = Network(backbone, 768, 10, 10, head_bias=True)
        downs = {name: torch.empty(10, 768) for name in network.blocks()}
        factors = adapters.attach(network, downs)
    assert count(backbone.parameters()) == 85_798_656 + 12 * 2 * 768 * 10 * 2  # with the factors that are attached
    assert len(factors) == 24
    assert count(pair.up for pair in factors.values()) == 184_320
    assert count(network.head(0).parameters()) == 7_690
    learning = [p for p in backbone.parameters() if p.requires_grad]
    assert count(learning) == 184_320  # InfLoRA trains one factor of the two


def test_the_class_token_after_the_last_norm_is_what_comes_out():
    network = network_of_tiny_vit()
    x = torch.randn(2, 3, 32, 32)
    tokens = network.backbone.forward_features(x)
    assert tokens.shape == (2, 65, 96)
    assert torch.equal(network.backbone(x), tokens[:, 0])
    assert network(x, 1).shape == (2, 5)
    assert network.pretrained


def network_of_tiny_vit(adapted: str = "kv") -> Network:
    torch.manual_seed(0)
    return Network(architectures.tiny_vit((3, 32, 32), adapted), 96, 5, 2)


@pytest.mark.parametrize("adapted", vit.ADAPTED)
def test_projections_of_one_input_share_one_gram(adapted, monkeypatch):
    network = network_of_tiny_vit(adapted)
    products = []

    def counted(total, a, b, sign=1, add=grams._add_product):
        products.append(a.shape)
        add(total, a, b, sign)

    monkeypatch.setattr(grams, "_add_product", counted)
    x = torch.randn(4, 3, 32, 32)
    found = input_grams(network, [(x, None)], 0)
    blocks_of_rows = 6  # of width 16, of a Gram of 96 columns
    assert len(products) == 6 * blocks_of_rows, "one Gram for each of six attentions, whatever is adapted"
    seen = {}
    for path, module in network.named_modules():
        if isinstance(module, Projections):
            module.register_forward_pre_hook(lambda _, inputs, path=path: seen.update({path: inputs[0].flatten(0, 1)}))
    with torch.no_grad():
        network.eval()(x, 0)
    assert list(found) == [f"{path}.{part}" for path in seen for part in vit.PARTS if part in adapted]
    for name, gram in found.items():
        rows = seen[name.rpartition(".")[0]].double()
        torch.testing.assert_close(gram, rows.T @ rows, rtol=1e-5, atol=1e-5 * float(rows.square().sum()))
    storages = {gram.data_ptr() for gram in found.values()}
    assert len(storages) == len(found), "a method may write to each"


def test_a_limit_of_its_own_gives_a_projection_a_gram_of_its_own():
    network = network_of_tiny_vit()
    x = torch.randn(4, 3, 32, 32)
    k, v = list(network.layers())[:2]
    few = input_grams(network, [(x, None)], 0, {k: 1, v: 4})
    whole = input_grams(network, [(x, None)], 0)
    torch.testing.assert_close(few[v], whole[v])
    assert float(few[k].trace()) < 0.5 * float(whole[k].trace())


def test_squared_gradients_of_tokens_are_those_of_each_sample():
    network = network_of_tiny_vit("qkv")
    network.open([0])
    x, y = torch.randn(3, 3, 32, 32), torch.tensor([0, 3, 1])
    found = squared_gradients(network, x, y, 0)
    assert set(found) == set(network.shared_parameters())
    for name, parameter in network.shared_parameters().items():
        total = torch.zeros_like(parameter)
        for i in range(3):
            loss = nn.functional.cross_entropy(network(x[i : i + 1], 0), y[i : i + 1])
            total += torch.autograd.grad(loss, parameter)[0].square()
        torch.testing.assert_close(found[name], total, rtol=1e-3, atol=1e-5 * float(total.max()))


def test_updates_in_the_free_space_leave_old_tokens_answers_as_they_were():
    network = network_of_tiny_vit()
    bases = {}
    for name, block in network.blocks().items():
        bases[name] = torch.linalg.qr(torch.randn(block.weight.shape[1], 20, dtype=torch.float64)).Q
    before = {name: block.weight.clone() for name, block in network.blocks().items()}
    ups = adapters.attach_free(network, bases)
    x = torch.randn(4, 3, 32, 32)
    loss = network(x, 0).square().sum()
    grads = torch.autograd.grad(loss, list(ups.values()))
    with torch.no_grad():
        for up, grad in zip(ups.values(), grads, strict=True):
            up -= 10 * grad / grad.norm()
    adapters.merge(network)
    assert len(before) == 12
    for name, block in network.blocks().items():
        moved = (block.weight - before[name]).double()
        assert moved.norm() == pytest.approx(10, rel=1e-3)
        assert float((moved @ bases[name]).norm()) < 1e-3


def test_a_network_that_attends_has_second_derivatives_at_other_weights():
    network = network_of_tiny_vit()
    name, parameter = next(iter(network.shared_parameters().items()))
    other = parameter.detach().clone().requires_grad_()
    loss = network(torch.randn(2, 3, 32, 32), 0, weights={name: other}).square().sum()
    (grad,) = torch.autograd.grad(loss, other, create_graph=True)
    (second,) = torch.autograd.grad(grad.square().sum(), other)
    assert float(second.abs().max()) > 0
