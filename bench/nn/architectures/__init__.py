"""The networks of the papers, one file a family. A backbone maps inputs to features (n, f); `build` adds heads."""

from bench.nn.architectures.alexnet import alexnet
from bench.nn.architectures.builder import BACKBONES, CHANNELS_LAST, KAIMING, build, demand_start
from bench.nn.architectures.convnet import convnet, groupnet
from bench.nn.architectures.lenet import lenet
from bench.nn.architectures.mlp import mlp
from bench.nn.architectures.resnet18 import BasicBlock, resnet18
from bench.nn.architectures.vit import tiny_vit, vit_base_patch16_224

__all__ = [
    "BACKBONES",
    "CHANNELS_LAST",
    "KAIMING",
    "BasicBlock",
    "alexnet",
    "build",
    "convnet",
    "demand_start",
    "groupnet",
    "lenet",
    "mlp",
    "resnet18",
    "tiny_vit",
    "vit_base_patch16_224",
]
