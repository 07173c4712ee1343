"""Arrays in a `.npz`. What a head promises is looked at before anything is unpacked, or room is made for it."""

from __future__ import annotations

import io
import math
import zipfile
from typing import NamedTuple

import numpy as np

HEAD = 2**14  # bytes; numpy takes no head of more than 10,000


class Head(NamedTuple):
    """What is said of an array before its content."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read_head(archive: zipfile.ZipFile, name: str) -> Head:
    """Return the head of an array. Raises ValueError where the file does not hold just what it promises, and whatever
    else numpy and zip raise on a damaged file."""
    member = f"{name}.npy"
    with archive.open(member) as file:
        start = io.BytesIO(file.read(HEAD))
    version = np.lib.format.read_magic(start)
    if version != (1, 0):
        raise ValueError(f"{name} is of version {version}, not (1, 0)")
    shape, _, dtype = np.lib.format.read_array_header_1_0(start)
    if dtype.hasobject:
        raise ValueError(f"{name} holds objects, not numbers")
    held = archive.getinfo(member).file_size - start.tell()
    promised = math.prod(shape) * dtype.itemsize
    if held != promised:
        raise ValueError(f"{name} has {held} bytes, not the {promised} of its head")
    return Head(shape, dtype)


def read_content(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Return an array whose head has been looked at. It is unpacked no further than its size."""
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)
