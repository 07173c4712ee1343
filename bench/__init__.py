"""NESS-Bench: a comparison suite for continual learning.

    import bench

    results = bench.run(["ness", "gpm"], "digits", seeds=3)
    bench.table(results)            # a notebook shows it; print() gives markdown
    bench.figures(results)          # each with a matplotlib figure and a caption
    bench.report(results, "report.html")
    bench.check("my_method.py")     # the contract, check by check
    bench.load("results")           # what earlier runs have stored; `load_results` gives it as a pandas frame

Authors of methods and benchmarks find here what their files import: `Method`, `TrainingData`, `Batch`, `Benchmark`,
`setting`, and the ranges to search in. Nothing is imported before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.analysis.frames import load_matrices, load_results
    from bench.core import Benchmark, Split, Task, UserError
    from bench.search_space import Choice, Integers, Linear, Log
    from bench.settings import setting
    from bench.tools.notebook import check, figures, load, report, run, table
    from bench.training.data import Batch, TrainingData
    from bench.training.method import Method

__version__ = "0.1.0"
_PLACES = {
    "bench.analysis.frames": ("load_matrices", "load_results"),
    "bench.core": ("Benchmark", "Split", "Task", "UserError"),
    "bench.search_space": ("Choice", "Integers", "Linear", "Log"),
    "bench.settings": ("setting",),
    "bench.tools.notebook": ("check", "figures", "load", "report", "run", "table"),
    "bench.training.data": ("Batch", "TrainingData"),
    "bench.training.method": ("Method",),
}
__all__ = [
    "Batch", "Benchmark", "Choice", "Integers", "Linear", "Log", "Method", "Split", "Task", "TrainingData", "UserError",
    "check", "figures", "load", "load_matrices", "load_results", "report", "run", "setting", "table",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            installation = import_module("bench.installation")
            installation.demand_system()
            installation.demand_whole()
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'bench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
