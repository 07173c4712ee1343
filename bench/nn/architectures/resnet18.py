"""The reduced ResNet18."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, projected by a 1 x 1 convolution where the shape changes (He et al. 2016).

    Registered in the order conv1, conv2, shortcut, which settings by layer follow.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = _batch_norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = _batch_norm(outputs)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut.extend([projection, _batch_norm(outputs)])

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, outputs, h / stride, w / stride), rounded up, for x (n, inputs, h, w)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


def _batch_norm(width: int) -> nn.BatchNorm2d:
    """Return a normalization by the statistics of the batch, in evaluation too, as in GPM's code."""
    return nn.BatchNorm2d(width, track_running_stats=False)


def resnet18(shape: tuple[int, ...], stride: int = 1) -> nn.Sequential:
    """Return the reduced ResNet18, 20 channels wide and without bias: (n, 3, 32, 32) -> (n, 640).

    With stride 2 in the first convolution, (n, 3, 84, 84) -> (n, 1440). It has 1 090 140 weights and 3 000 affine
    parameters. Source: Lopez-Paz & Ranzato 2017 as used by GPM (Saha et al. 2021) and, with stride 2, by TRGP (Lin et
    al. 2022).
    """
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(shape[0], 20, 3, stride, padding=1, bias=False),
        "bn1": _batch_norm(20),
        "relu1": nn.ReLU(),
    }
    stages = ((20, 20, 1), (20, 40, 2), (40, 80, 2), (80, 160, 2))  # channels in and out, and the first block's stride
    for n, (inputs, outputs, first_stride) in enumerate(stages, 1):
        first = BasicBlock(inputs, outputs, first_stride)
        second = BasicBlock(outputs, outputs, stride=1)
        layers[f"layer{n}"] = nn.Sequential(first, second)
    layers["pool"] = nn.AvgPool2d(2)
    layers["flat"] = nn.Flatten()
    return nn.Sequential(OrderedDict(layers))
