"""The commands, a file each: `add_arguments` tells what it takes; `main` does it, prints, and returns the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bench.text import counted, for_terminal, printable

if TYPE_CHECKING:
    from bench.execution.runner import Resources


def announce(
    what: str,
    items: Sequence[Any],
    done: Iterable[str],
    by: str,
    resources: Resources,
    time: Callable[[], str] = str,
) -> None:
    """Print how many of the items, of which `what` names one, are done and to run, and how.

    On the same line stands what `time` says, which may take a while.
    """
    done = set(done)
    finished = sum(item.key in done for item in items)
    several = f"{resources.workers or 'as many as fit'} at a time"
    how = f"{by}, {several}, {resources.device}, CPU threads each: {resources.threads}"
    print(f"{counted(len(items), what)}: {finished} done, {len(items) - finished} to run ({how})", end="", flush=True)
    said = time()
    print(for_terminal(f": {said}" if said else ""), flush=True)  # it may quote the error of a plugin


def list_items(items: Sequence[Any], done: Iterable[str]) -> None:
    """Print which of the items are done and which are to run."""
    done = set(done)
    for item in items:
        print(f"  {'done  ' if item.key in done else 'to run'}  {printable(str(item))}")


def warn(message: str) -> None:
    """Print a line for a person; the work goes on."""
    tell(f"warning: {message}")


def tell(message: str) -> None:
    """Print a line on standard error, whatever names it holds."""
    print(for_terminal(message), file=sys.stderr, flush=True)


def warn_if_slower(precision: str, resources: Resources) -> None:
    """Print a line where a precision saves no time on this machine; what a cluster has is not known here."""
    if precision == "fp32" or resources.address:
        return
    from bench.execution.runner import set_arithmetic
    from bench.nn.precision import slowdown

    set_arithmetic(resources)
    ratio = slowdown(resources.device)
    if ratio > 1:
        step = f"a measured step on this {resources.device} takes {ratio:.2f} times as long as in fp32"
        warn(f"--precision {precision} saves no time here: {step}; where arithmetic in bf16 is missing, it is emulated")
