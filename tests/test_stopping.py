"""Signals that ask to stop."""

import os
import signal

import pytest

from bench.stopping import SIGNALS, Stopped, stoppable


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_an_interruption_and_later_ones_wait_for_the_tidying_up(number: int) -> None:
    before = signal.getsignal(number)
    tidied = False
    with pytest.raises(Stopped) as caught, stoppable():
        try:
            os.kill(os.getpid(), number)
        finally:
            for again in SIGNALS:
                os.kill(os.getpid(), again)
            tidied = True
    assert tidied and caught.value.code == 128 + number
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != before
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interruption_by_a_signal_is_told_from_ctrl_c() -> None:
    """Libraries raise a plain KeyboardInterrupt in its place."""
    with pytest.raises(Stopped), stoppable():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Stopped:
            raise KeyboardInterrupt from None
    with pytest.raises(KeyboardInterrupt) as caught, stoppable():
        raise KeyboardInterrupt
    assert not isinstance(caught.value, Stopped)
