"""Pickles of foreign origin, read without running what they ask for."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np

from bench.core import DataError
from bench.data.source import one_line


class _Number:
    """A type of plain numbers in a pickle. What else a pickle says of it never reaches numpy's memory."""

    def __init__(self, name: str, *_: object) -> None:
        self.dtype = np.dtype(name)
        if self.dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"it has an array of {self.dtype}, which are no numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


class _Array:
    """An array in a pickle, made of its bytes."""

    def __init__(self, *_: object) -> None:
        self.array = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, number, fortran, content = state
        order = "F" if fortran else "C"
        self.array = _array(_bytes(content), number, shape, order)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)


def _bytes(content: bytes | str) -> bytes:
    """Return bytes, which are a string in a pickle of Python 2."""
    return content.encode("latin1") if isinstance(content, str) else content


def _array(raw: bytes, number: _Number, shape: tuple[int, ...], order: Any) -> np.ndarray:
    return np.frombuffer(raw, number.dtype).reshape(shape, order=order)


def _scalar(number: _Number, raw: bytes | str) -> Any:
    return np.frombuffer(_bytes(raw), number.dtype)[0]


class ArrayUnpickler(pickle._Unpickler):
    """A reader of foreign pickles: of containers, numbers, text and arrays of numbers; anything else is refused.

    It is the one written in Python: the one in C makes room for as many objects as a pickle says it numbers.
    """

    ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
        ("multiarray", "_reconstruct"): _Array,
        ("multiarray", "scalar"): _scalar,
        ("numeric", "_frombuffer"): _array,  # of protocol 5
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Number,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # bytes, in protocol 2
            return lambda text, _: text.encode("latin1")
        key = module.removeprefix("numpy.core.").removeprefix("numpy._core."), name
        if key not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
        return self.ALLOWED[key]


def read_pickle(file: IO[bytes], name: str) -> Any:
    """Return the content of a foreign pickle; `numpy.asarray` makes arrays of its arrays. Raises `DataError`."""
    try:
        return ArrayUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise DataError(f"{name} is not a pickle of arrays: {one_line(error)}") from error
