"""Files that are whole: written under another name, synced, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from bench.core import UserError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that takes the place of `path` at the end: a reader, or a crash, meets the old content or the
    new, never half of it. Raises OSError where the disk is full or not writable. Whatever is raised, nothing of the
    new content stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:  # the permissions are those of any new file
            yield file
            file.flush()
            os.fsync(file.fileno())  # a disk may say only now that it is full
        partial.replace(path)
    except BaseException:
        remove(partial)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, see `replacing`."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 whole or not at all, see `replacing`."""
    write_bytes(path, text.encode())


def demand_file(path: Path) -> None:
    """Raise OSError unless a file, or a link to one, stands at `path`: a pipe or a device may have no end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")


def remove(path: Path) -> None:
    """Delete a file, if it is there and the folder lets it go."""
    with suppress(OSError):
        path.unlink()


def check_writable(folder: Path, option: str = "--out") -> None:
    """Make a folder. Raises `UserError` unless files can be written to it; `option` is what named it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another {option}") from error


def path_of(text: str) -> Path:
    """Return a path that the file system can look up. Raises `UserError` for one that it cannot, as with a name that is
    too long or has a zero byte."""
    try:
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            os.lstat(text)
    except (OSError, ValueError) as error:
        raise UserError(f"'{text}' cannot be a path: {getattr(error, 'strerror', None) or error}") from error
    return Path(text)
