"""The executor without Ray: one cell after the other, in this process."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout

from bench.core import Cell, Result
from bench.execution.runner import Progress, Resources, TimeLimitError, environment, run_cell, time_limit_reached


def run_serially(cells: Iterable[Cell | None], resources: Resources, progress: Progress) -> Iterator[Result]:
    """One cell after the other, in this process. None among the cells means: none is free now."""
    for cell in cells:
        if cell is None:
            time.sleep(1)
            continue
        try:
            with redirect_stdout(sys.stderr), _time_limit(resources):  # standard output is the table's
                result = run_cell(cell, resources, progress)
        except TimeLimitError as error:  # the signal came before or after the work
            result = Result(cell, error=str(error), environment=environment(resources, cell.precision))
        yield result


@contextmanager
def _time_limit(resources: Resources) -> Iterator[None]:
    """A signal interrupts a cell that takes too long; signals reach the main thread only."""
    if math.isinf(resources.time_limit) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*signal: object) -> None:
        raise TimeLimitError(time_limit_reached(resources))

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, resources.time_limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
