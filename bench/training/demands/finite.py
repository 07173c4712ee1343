"""Numbers that are none: where they are seen, and what they may come from. Each is a FloatingPointError of one line.

Whatever is asked of a GPU here is asked before and after a task, or once the loss of an epoch is no number: never
within an epoch that goes well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bench.nn.network import Network
from bench.training.method import Method

Images = Sequence[tuple[int | Tensor, Tensor, Tensor]]  # of tasks: task or that of each, inputs, labels
REMEDY = "lower lr, or the penalty"


def demand_weights(network: Network, where: str) -> None:
    """Raise `FloatingPointError` where a weight is not finite, or a buffer holds NaN."""
    if name := odd_weight(network):
        raise FloatingPointError(f"{name} is not finite {where}: {REMEDY}")


def demand_memory(method: Method, where: str) -> None:
    """Raise `FloatingPointError` where a method carries NaN to the next task."""
    for name, tensor in method.state().items():
        if isinstance(tensor, Tensor) and bool(torch.isnan(tensor).any()):
            raise FloatingPointError(f"the method's memory {name} holds NaN {where}: {REMEDY}")


def demand_report(report: Mapping[str, Any], where: str) -> None:
    """Raise `FloatingPointError` where a number that a method reports is not finite, and `TypeError` where something is
    neither a number of Python's nor text: no result could hold it."""
    for name, value in _leaves(report):
        if value is not None and not isinstance(value, bool | int | float | str):
            kind = f"a {type(value).__module__}.{type(value).__name__}"
            raise TypeError(
                f"the method's report says {name} = {kind} {where}: make it a plain number, by float(), say"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise FloatingPointError(f"the method's report says {name} = {value} {where}: leave it out, or mend it")


def odd_weight(network: Network) -> str:
    """Return the name of a parameter that is not finite, or of a buffer with NaN in it; empty where there is none.

    Infinity in a buffer may be meant, as in the mask of an attention layer.
    """
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return name
    for name, buffer in network.named_buffers():
        if bool(torch.isnan(buffer).any()):
            return name
    return ""


def odd_images(images: Images) -> str:
    """Return, in words, how many images of which task are not finite; empty where all are."""
    for t, x, _ in images:
        odd = int((~torch.isfinite(x)).flatten(1).any(1).sum())
        if odd:
            whose = "of all tasks" if isinstance(t, Tensor) else f"of task {t}"
            return f"{odd} of {len(x)} images {whose} are not finite, mend the data"
    return ""


def likely_cause(network: Network, images: Images) -> str:
    """Return what may have made logits NaN, in words: images, weights, or the way through them."""
    if found := odd_images(images):
        return found
    if name := odd_weight(network):
        return f"{name} is not finite, {REMEDY}"
    return f"images and weights are finite, so {REMEDY}, or look at the method's forward"


@contextmanager
def placed(network: Network, images: Images, where: str) -> Iterator[None]:
    """Inside, an error of algebra says where it was; one of numbers that are none is a `FloatingPointError` that says
    the likely cause too."""
    try:
        yield
    except (FloatingPointError, torch.linalg.LinAlgError) as error:
        text = str(error).strip().split("\n")[0]
        of_numbers = isinstance(error, FloatingPointError) or "non-finite" in text or odd_weight(network)
        if not of_numbers:
            raise torch.linalg.LinAlgError(f"{where}: {text}") from error
        raise FloatingPointError(f"{where}: {text}; {likely_cause(network, images)}") from error


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values in nested dicts and lists, each with its place, dotted."""
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        yield name, value
        return
    for key, item in items:
        yield from _leaves(item, f"{name}.{key}" if name else str(key))
