"""Vision transformers (Dosovitskiy et al., ICLR 2021) as timm has them, frozen but for projections of the attention.

Methods that adapt a pre-trained transformer differ in which of the query, key and value projections they change. timm
computes the three by one layer; here each is a layer of its own, with a weight matrix and a name of its own, and the
three outputs stand side by side as timm's do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.config import nearest
from bench.core import UserError
from bench.nn.layers import Projections

ADAPTED = ("kv", "qv", "qkv")  # the projections that may learn
PARTS = Projections.PARTS  # in the order in which timm's layer holds them


def vit_base_patch16_224(shape: tuple[int, ...], adapted: str = "kv") -> nn.Module:
    """Return ViT-B/16 with random weights: (n, 3, 224, 224) -> (n, 768), its class token after the last norm.

    Twelve blocks of width 768 with twelve heads; 85 798 656 parameters, of which those of the projections `adapted`
    may learn, one of ADAPTED: "kv" is what InfLoRA adapts (Liang & Li, CVPR 2024). Raises `UserError` without timm.
    """
    return _transformer(shape, adapted, patch_size=16, embed_dim=768, depth=12, num_heads=12, mlp_ratio=4)


def tiny_vit(shape: tuple[int, ...], adapted: str = "kv") -> nn.Module:
    """Return a transformer for 32 x 32 images with random weights: (n, 3, 32, 32) -> (n, 96), as the one above.

    Six blocks of width 96 with three heads, on patches of 4 x 4 pixels; 459 936 parameters.
    """
    return _transformer(shape, adapted, patch_size=4, embed_dim=96, depth=6, num_heads=3, mlp_ratio=2)


def _transformer(shape: tuple[int, ...], adapted: str, **sizes: Any) -> Any:
    """Return a transformer of such sizes for images (c, h, w), as the suite has it."""
    if adapted not in ADAPTED:
        raise nearest("projections to adapt", adapted, ADAPTED)
    try:
        from timm.models.vision_transformer import VisionTransformer
    except ImportError as error:
        raise UserError("a vision transformer needs timm: pip install 'timm>=1.0'") from error
    channels, height, width = shape
    model: Any = VisionTransformer(
        img_size=(height, width), in_chans=channels, num_classes=0, global_pool="token", **sizes
    )
    for block in model.blocks:
        block.attn.qkv = Projections(block.attn.qkv)
    freeze_all_but(model, adapted)
    model.pretrained = True
    return model


def freeze_all_but(model: nn.Module, adapted: str) -> None:
    """Let the weights of some projections learn, and nothing else: no bias, norm, embedding or class token does."""
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, Projections):
            for name in adapted:
                module.get_submodule(name).weight.requires_grad_(True)


def separated(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights as timm has them, by name, with those of every `qkv` as `qkv.q`, `qkv.k` and `qkv.v`."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        path, _, kind = name.rpartition(".")
        if path.endswith(".attn.qkv"):
            for part, own in zip(PARTS, tensor.chunk(3), strict=True):
                found[f"{path}.{part}.{kind}"] = own
        else:
            found[name] = tensor
    return found


def fused(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a transformer of ours as timm has them: the inverse of `separated`.

    Of every layer with `qkv.q`, `qkv.k` and `qkv.v`, each (d, d) with biases (d,), one `qkv` (3 d, d) with (3 d,) is
    made, in this order; the other weights keep their names.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        path, _, kind = name.rpartition(".")
        whole, _, part = path.rpartition(".")
        if not whole.endswith(".attn.qkv"):
            found[name] = tensor
        elif part == PARTS[0]:
            found[f"{whole}.{kind}"] = torch.cat([state[f"{whole}.{each}.{kind}"] for each in PARTS])
    return found
