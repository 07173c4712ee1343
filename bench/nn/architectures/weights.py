"""From a file of weights to the backbone that they are of, or to a line that says why they are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.core import DataError
from bench.data.formats.readers import reading
from bench.nn.architectures.vit import fused, separated

HEAD = "head."  # what a file may hold beside the backbone: the classifier that it was trained with
KINDS = ("F32", "F16", "BF16")


def load_weights(backbone: nn.Module, path: Path) -> None:
    """Fill a vision transformer with the weights in a file, which has them under timm's names.

    Names and shapes are looked at before anything is read. Half precision becomes the precision of the backbone. Raises
    `DataError`, with the first tensor that differs, where the file is of another network, and where it is damaged.
    """
    with _opened(path, backbone) as (file, names):
        found = {name: file.get_tensor(name) for name in names}
    for name, tensor in found.items():
        _demand_numbers(path, name, tensor)
    backbone.load_state_dict(separated(found))


def demand_same_network(backbone: nn.Module, path: Path) -> None:
    """Raise `DataError` unless a file has the weights of a vision transformer. Reads names and shapes alone."""
    with _opened(path, backbone):
        pass


@contextmanager
def _opened(path: Path, backbone: nn.Module) -> Iterator[tuple[Any, list[str]]]:
    """Open a file, once its tensors are known to fit, and yield it and the names of the backbone's in it."""
    from safetensors import safe_open

    wanted = fused(backbone.state_dict())
    with reading(path), safe_open(path, framework="pt") as file:
        names = set(file.keys())
        for name, tensor in wanted.items():
            _demand_fit(path, name, tuple(tensor.shape), file.get_slice(name) if name in names else None)
        _demand_known(path, sorted(names - set(wanted)))
        yield file, list(wanted)


def _demand_fit(path: Path, name: str, wanted: tuple[int, ...], found: Any) -> None:
    """Raise `DataError` unless a tensor in a file, or None for one that is not there, is as wanted."""
    other = f"{path} holds the weights of another network"
    if found is None:
        raise DataError(f"{other}: it lacks {name} {wanted}")
    shape = tuple(found.get_shape())
    if shape != wanted:
        raise DataError(f"{other}: its {name} is {shape}, not {wanted}")
    if found.get_dtype() not in KINDS:
        raise DataError(f"{other}: its {name} is of type {found.get_dtype()}, not {', '.join(KINDS)}")


def _demand_known(path: Path, more: Iterable[str]) -> None:
    for name in more:
        if not name.startswith(HEAD):
            raise DataError(f"{path} holds the weights of another network: {name} is none of this one's")


def _demand_numbers(path: Path, name: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise DataError(f"{path} is damaged: its {name} holds what is not finite; delete it, and get it anew")
