"""NESS-Bench: a comparison suite for continual learning.

`bench.load_results` and `bench.load_matrices` read stored results as pandas frames; pandas comes with their first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.analysis.frames import load_matrices, load_results

__all__ = ["load_matrices", "load_results"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'bench' has no attribute '{name}'")
    from bench.analysis import frames

    return getattr(frames, name)
