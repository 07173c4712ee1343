"""What methods may need of a benchmark, by name, and the reason why one does not apply."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any, get_args, get_type_hints

from bench.core import TASK_KNOWN, Benchmark, UserError

TASK_ID = "task id at test"
PER_SAMPLE = "per-sample"
NEEDS = {  # what is said where it is missing
    TASK_ID: "it needs the task of every test image, which {scenario} does not tell",
    "pretrained": "it needs a pre-trained backbone",
    "attention": "it needs attention layers",
}


def unmet(needs: Iterable[str], benchmark: Benchmark) -> str | None:
    """Return why a method with such needs does not apply to a benchmark, or None."""
    offered = set(benchmark.offers)
    if benchmark.scenario in TASK_KNOWN:
        offered.add(TASK_ID)
    missing = [NEEDS[need] for need in needs if need not in offered]
    return "; ".join(missing).format(scenario=benchmark.scenario) or None


def takes_layers_for_matrices(method: type) -> bool:
    """Return whether a method asks the network for its layers or blocks, itself or by functions it calls.

    Seen from the names in its code, so that nobody has to declare it and it is known before training. Where a call
    escapes this, `Network.layers` still refuses what is to be refused, when it is called.
    """
    return _asks_for(method, {"layers", "blocks"})


def takes_samples_apart(method: type, config: Any) -> bool:
    """Return whether a method asks for the gradients of single samples, seen as above: not where a setting of it that
    may be "per-sample" is something else."""
    hints = get_type_hints(type(config)) if config else {}
    choices = {name for name, hint in hints.items() if PER_SAMPLE in get_args(hint)}
    otherwise = any(getattr(config, name) != PER_SAMPLE for name in choices)
    return not otherwise and _asks_for(method, {"sample_gradients", "squared_gradients"})


def _asks_for(method: type, wanted: set[str]) -> bool:
    """Return whether the code of a method, or of a function of the suite that it calls, has one of some names."""
    members = [member for cls in method.__mro__ for member in vars(cls).values()]
    waiting = [getattr(member, "__func__", member) for member in members]
    seen: set[FunctionType] = set()
    while waiting:
        function = waiting.pop()
        if not isinstance(function, FunctionType) or function in seen:
            continue
        seen.add(function)
        names = set(_names(function.__code__))
        if names & wanted:
            return True
        near = ("bench.", function.__module__)
        called = [function.__globals__.get(name) for name in names]
        waiting += [other for other in called if str(getattr(other, "__module__", "")).startswith(near)]
    return False


def demand_float64(method: type, device: str) -> None:
    """Raise `UserError` where a method computes in float64 and a kind of device, such as "mps", cannot: the algebra of
    what a layer's inputs span is all in float64."""
    if device == "mps" and takes_layers_for_matrices(method):
        raise UserError("it computes in float64, which mps does not support: run it with --device cpu")


def _names(code: CodeType) -> Iterator[str]:
    """Yield the attributes and globals that a function's code names, in functions inside it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
