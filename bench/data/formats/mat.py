"""A script: read a `.mat` with scipy, and write its arrays to standard output as a `.npz`.

A damaged file can end the process that reads it, by a segmentation fault. So `readers` beside it runs this as a process
of its own, which imports nothing of the suite.
"""

from __future__ import annotations

import io
import math
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from scipy.io import loadmat, whosmat

MEMORY = 2**32  # bytes of address space, for whatever a damaged size makes scipy ask for


def main(path: str, most: int, names: Sequence[str]) -> None:
    """Write the arrays `names`, of `most` numbers at most. Raises whatever scipy raises."""
    with suppress(ValueError, OSError):  # not every system has such a limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    found = {name: shape for name, shape, _ in whosmat(path)}  # reads the heads alone
    for name in names:
        if name not in found:
            raise ValueError(f"it has no {name}")
        if math.prod(found[name]) > most:
            raise ValueError(f"its {name} has shape {found[name]}, more than {most} numbers")
    content = loadmat(path, variable_names=names)
    file = io.BytesIO()
    np.savez(file, **{name: content[name] for name in names})
    sys.stdout.buffer.write(file.getvalue())


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
