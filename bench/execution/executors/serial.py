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
from bench.execution.events import CellEvent, CellFinished, Idle
from bench.execution.runner import Resources, TimeLimitError, cell_events, environment, time_limit_reached


def run_serially(cells: Iterable[Cell | None], resources: Resources) -> Iterator[CellEvent]:
    """Run one cell after the other, in this process. None among the cells means: none is free now."""
    for cell in cells:
        if cell is None:
            time.sleep(1)
            yield Idle()
        else:
            yield from _within_limit(cell, resources)


def _within_limit(cell: Cell, resources: Resources) -> Iterator[CellEvent]:
    """Run a cell. Time counts, and may run out, only while the cell itself is at work: by an alarm, and where there is
    none, when an epoch has ended."""
    events, left = cell_events(cell, resources), resources.time_limit
    while True:
        start = time.monotonic()
        try:
            with redirect_stdout(sys.stderr), _alarm(left, resources):  # standard output is the table's
                event = next(events) if left > 0 else events.throw(TimeLimitError(time_limit_reached(resources)))
        except StopIteration:
            return
        except TimeLimitError as error:  # the signal came before or after the work
            yield CellFinished(Result(cell, error=str(error), environment=environment(resources, cell.precision)))
            return
        left -= time.monotonic() - start
        yield event
        if isinstance(event, CellFinished):
            return


@contextmanager
def _alarm(seconds: float, resources: Resources) -> Iterator[None]:
    """Interrupt by a signal what takes longer in the block; signals reach the main thread only."""
    if not 0 < seconds < math.inf or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*signal: object) -> None:
        raise TimeLimitError(time_limit_reached(resources))

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
