"""What a method holds of the images that it has seen, wherever it keeps them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.core import Task
from bench.training.data import TrainingData
from bench.training.method import SAMPLES, SEPARATOR, Method


def demand_shown(method: Method, learnt: Sequence[Task], declared: str) -> None:
    """Raise `AssertionError` where a method holds images of tasks learnt so far that are not among declared samples."""
    state = method.state()
    shown = {name for name in state if declared == "stored" and name.split(SEPARATOR)[0] == SAMPLES}
    counted = {state[name].data_ptr() for name in shown}
    held = [(name, tensor) for name, tensor in _tensors(vars(method)) if tensor.data_ptr() not in counted]
    for task in learnt:
        images = torch.from_numpy(task.train.x).flatten(1)
        for attribute, tensor in held:
            kept = _kept(images, tensor)
            where = f"{attribute} holds {kept} images of task {task.index}"
            assert not kept, f'self.{where}: declare old_data "stored" and keep such in self.memory["{SAMPLES}"]'


def _kept(images: Tensor, tensor: Tensor) -> int:
    """Return how many of the images (n, numbers) a tensor holds, in any shape and in half precision too: bfloat16
    rounds by up to 4e-3 of a number."""
    if not tensor.numel() or tensor.numel() % images.shape[1]:
        return 0
    rows = tensor.detach().reshape(-1, images.shape[1]).to(images)
    return int((torch.cdist(images, rows) <= 1e-2 * images.norm(dim=1, keepdim=True)).any(1).sum())


def _tensors(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors in an attribute, however nested, with the attribute's name. The network is not the method's
    own, and training data that it was handed closes by itself."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, nn.Module | TrainingData) or depth > 8:
        return
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(item, name or str(key), depth + 1)
    elif isinstance(value, list | tuple | set | deque):
        for item in value:
            yield from _tensors(item, name, depth + 1)
    elif hasattr(value, "__dict__"):
        yield from _tensors(vars(value), name, depth + 1)
