"""The arithmetic of a network's forward passes: float32, or autocast to bfloat16 as PyTorch has it.

In bf16, matrix products and convolutions of training and evaluation take bfloat16 and add up in float32. Parameters,
their gradients and the loss stay in float32, and so does whatever a method computes for itself: its penalty, Grams,
bases and Fisher information are computed outside of autocast. So are gradients of weights that are freed of directions,
see `bench.nn.steering`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.nn.network import Network


def compute(forward: Callable[[Tensor, Any], Tensor], precision: str, x: Tensor, task: int | Tensor) -> Tensor:
    """Return what `forward` gives for inputs (n, *input_shape) and their task: logits (n, num_classes) in float32.

    They are computed in a precision of `core.PRECISIONS`.
    """
    if precision == "fp32":
        return forward(x, task)
    with torch.autocast(x.device.type, torch.bfloat16):
        answers = forward(x, task)
    return answers.float()


def slowdown(device: str, rounds: int = 3) -> float:
    """Return the time of a training step in bf16 over its time in fp32, on this machine.

    The step takes milliseconds: a convolution and a Linear layer, on a GPU larger ones, so that arithmetic decides and
    not the launch of kernels. After a first step in each precision, the shortest of `rounds` counts, for other work
    only ever adds to it.
    """
    width, batch, side = (256, 64, 16) if device != "cpu" else (32, 16, 8)
    with torch.random.fork_rng(devices=[]):
        convolution = nn.Conv2d(width, width, 3, padding=1)
        linear = nn.Linear(width * side**2, width)
        backbone = nn.Sequential(convolution, nn.Flatten(), linear)
        network = Network(backbone, width, 10, 1).to(device)
        x = torch.randn(batch, width, side, side).to(device)
    seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for _ in range(rounds + 1):
        for precision, own in seconds.items():
            own.append(_seconds_of_step(network, precision, x))
    shortest = {precision: min(own[1:]) for precision, own in seconds.items()}
    return shortest["bf16"] / shortest["fp32"]


def _seconds_of_step(network: Network, precision: str, x: Tensor) -> float:
    """Return the seconds of a forward and a backward pass, until a GPU has done them."""
    start = time.perf_counter()
    loss = compute(network, precision, x, 0).square().mean()
    loss.backward()
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    elif x.device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - start
