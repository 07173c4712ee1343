"""Split CIFAR-100 for a pre-trained ViT-B/16: ten tasks of ten classes or twenty of five (Krizhevsky 2009; InfLoRA).

As in the code of InfLoRA (Liang & Li, CVPR 2024), see `bench.data.transformer_stream`: classes in natural order; a
random part of each training image and half of them mirrored, test images whole, 224 x 224; pixels in [0, 1] and no
further normalized, though the backbone was trained on [-1, 1]. Departures: views are made of a batch at once and not
rounded to 256 levels in between.
"""

from dataclasses import dataclass
from typing import Literal

from bench.core import Benchmark, Views
from bench.data.cifar import CIFAR100
from bench.data.transformer_stream import TransformerStream
from bench.settings import setting


class SplitCIFAR100ViT(TransformerStream, Benchmark):
    @dataclass(frozen=True)
    class Config(TransformerStream.Config):
        tasks: Literal[10, 20] = setting(10, "of ten classes each, or of five")

    config: Config
    source = CIFAR100
    classes = tuple(map(str, range(100)))
    views = Views(stored=(3, 32, 32), side=224, resized=224)
