"""Locks between processes: on files and on single bytes of one. The kernel lifts them when their owner dies.

Some file systems, mostly over a network, have none. There every function raises `NoLocksError`, and whoever wanted one
goes on without, or says so.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import IOBase
from pathlib import Path

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)  # EBADF: NFS, of a folder


class NoLocksError(OSError):
    """The file system has no locks."""


def acquire(file: IOBase | int, wait: bool = True) -> bool:
    """Lock an open file, or its descriptor, against all other openings. Return False if another process has it.

    With `wait` it returns once the lock is free.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return _refused(error)
    return True


def acquire_byte(file: IOBase, number: int) -> bool:
    """Lock one byte of an open file, which need not have it. Return False if another process has it."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
    except OSError as error:
        return _refused(error)
    return True


def release_byte(file: IOBase, number: int) -> None:
    """Unlock one byte of an open file."""
    try:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, number)
    except OSError as error:
        _refused(error)


def alone(folder: Path) -> AbstractContextManager[None]:
    """Return what lets one process at a time in: a lock on the folder itself. Where the file system has none, all may
    enter. Raises OSError where the folder cannot be opened."""
    return _inside(os.open(folder, os.O_RDONLY))


@contextmanager
def _inside(lock: int) -> Iterator[None]:
    try:
        with suppress(NoLocksError):
            acquire(lock)
        yield
    finally:
        os.close(lock)


def _refused(error: OSError) -> bool:
    """Return False where another process has the lock. Raises what else went wrong."""
    if isinstance(error, BlockingIOError | PermissionError):  # POSIX allows either
        return False
    if error.errno in WITHOUT_LOCKS:
        raise NoLocksError(error.errno, "this file system has no locks") from error
    raise error
