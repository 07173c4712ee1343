"""The script that trained the weights which come with the suite, on a few small images."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bench.core import Split
from bench.nn.architectures import tiny_vit
from bench.nn.architectures.weights import load_weights
from bench.tools import pretrain
from bench.tools.pretrain import Recipe

SHORT = Recipe(classes=3, epochs=3, whole_epochs=1, batch_size=4, warmup=1)


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (8, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return x, torch.arange(8) % 3


def test_only_the_first_classes_are_learnt():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (6, 32, 32, 3), generator=generator, dtype=torch.uint8).numpy()
    x, y = pretrain.images_of(Split(pixels, torch.tensor([0, 3, 2, 1, 4, 2]).numpy()), 3)
    assert y.tolist() == [0, 2, 1, 2]
    assert x.shape == (4, 3, 32, 32)
    assert torch.equal(x[1, 2], torch.from_numpy(pixels[2, :, :, 2]))


def test_pixels_become_what_the_network_takes():
    x = torch.tensor([0, 255, 51], dtype=torch.uint8)
    torch.testing.assert_close(pretrain.scaled(x), torch.tensor([-1.0, 1.0, -0.6]))


def test_every_image_is_itself_but_for_a_flip_and_a_shift(images):
    x, _ = images
    found = pretrain.flipped_and_shifted(x.repeat(20, 1, 1, 1), 4, torch.Generator().manual_seed(0))
    assert found.shape == (160, 3, 32, 32)
    seen = set()
    for image, original in zip(found, x.repeat(20, 1, 1, 1), strict=True):
        middle = image[:, 8:24, 8:24]
        places = [
            (flip, top, left)
            for flip, source in enumerate((original, original.flip(2)))
            for top in range(4, 13)
            for left in range(4, 13)
            if torch.equal(middle, source[:, top : top + 16, left : left + 16])
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert {flip for flip, _, _ in seen} == {0, 1}
    assert {top for _, top, _ in seen} == {left for _, _, left in seen} == set(range(4, 13))


def test_the_rate_rises_in_a_line_and_falls_to_nothing():
    recipe = Recipe(epochs=11, warmup=1, lr=2.0)
    assert [recipe.rate(p) for p in (0.5, 1.0, 6.0)] == pytest.approx([1.0, 2.0, 1.0])
    assert recipe.rate(11) == pytest.approx(0, abs=1e-12)


def test_decay_leaves_embeddings_biases_and_norms_alone():
    model = pretrain.new_model(SHORT)
    decayed, others = pretrain.new_optimizer(model, SHORT).param_groups
    assert decayed["weight_decay"] == SHORT.weight_decay and others["weight_decay"] == 0
    assert sum(p.numel() for group in (decayed, others) for p in group["params"]) == 459_936 + 3 * 97
    spared = {id(p) for p in others["params"]}
    assert {id(model.pos_embed), id(model.cls_token), id(model.norm.weight), id(model.head.bias)} <= spared
    assert id(model.blocks[0].attn.qkv.weight) not in spared


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(images, tmp_path):
    x, y = images
    whole = pretrain.new_model(SHORT)
    lines = list(pretrain.trained_epochs(whole, SHORT, x, y, tmp_path / "whole.pt"))
    assert len(lines) == 3 and lines[0].startswith("epoch   1: loss")
    first = pretrain.trained_epochs(pretrain.new_model(SHORT), SHORT, x, y, tmp_path / "parts.pt")
    next(first)  # and no more: the rest is left to another process
    later = pretrain.new_model(replace(SHORT, seed=5))  # whose own weights are not asked for
    assert len(list(pretrain.trained_epochs(later, SHORT, x, y, tmp_path / "parts.pt"))) == 2
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in later.state_dict().items())
    assert not torch.equal(whole.pos_embed, pretrain.new_model(SHORT).pos_embed)


def test_what_is_written_is_the_network_in_half_precision(images, tmp_path):
    x, y = images
    model = pretrain.new_model(SHORT)
    model.half().float()
    said = pretrain.write_weights(model, SHORT, {"test": pretrain.share_right(model, x, y)}, tmp_path)
    content = (tmp_path / "tiny_vit.safetensors").read_bytes()
    manifest = json.loads((tmp_path / "tiny_vit.json").read_text())
    assert manifest["sha256"] == hashlib.sha256(content).hexdigest() and manifest["sha256"] in said
    assert manifest["bytes"] == len(content) < 1_000_000
    assert manifest["parameters"] == 459_936 + 3 * 97
    assert manifest["recipe"]["classes"] == 3
    backbone = tiny_vit((3, 32, 32))
    load_weights(backbone, tmp_path / "tiny_vit.safetensors")
    with torch.no_grad():
        scaled = pretrain.scaled(x)
        torch.testing.assert_close(model.head(backbone.eval()(scaled)), model.eval()(scaled), atol=1e-5, rtol=1e-4)
