"""Signals that ask a command to stop are an interruption, as Ctrl-C is: what runs is ended, and what is done stays."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class Stopped(KeyboardInterrupt):
    """A signal has asked this process to stop; `code` is what a shell says of one that ended by it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` at the first signal that asks to stop; later ones do not disturb the tidying up. A signal that
    this process was told to ignore, as by nohup, stays ignored. Signals reach the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heeded = [number for number in SIGNALS if before[number] != signal.SIG_IGN]
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    for number in heeded:
        signal.signal(number, stop)
    try:
        yield
    except KeyboardInterrupt as interruption:
        if asked and not isinstance(interruption, Stopped):
            raise Stopped(asked[0]) from interruption  # Ray raises a plain one in its place
        raise
    finally:
        for number in heeded:
            signal.signal(number, before[number] or signal.SIG_DFL)
