"""Fill a folder with results as a large study leaves them, and say what `table` takes to read them.

    python tests/many_results.py FOLDER [CELLS]

Every result is a copy of a committed one, with the records of all its tasks, under another method, seed and key.
"""

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from bench import installation
from bench.execution import store

SOURCE = installation.ROOT / "results" / "published"
BENCHMARKS = ("digits", "permuted_mnist", "split_cifar100")


def fill(folder: Path, count: int) -> int:
    """Write `count` results of the committed methods, over as many seeds as it takes. Return how many there are."""
    models = [r for r in store.load_all(SOURCE) if not isinstance(r, str) and r.error is None]
    groups = {(r.cell.benchmark, r.cell.method, r.cell.protocol): r for r in models if r.cell.benchmark in BENCHMARKS}
    chosen = list(groups.values())
    for i in range(count):
        seed, place = divmod(i, len(chosen))
        model = chosen[place]
        store.save_result(replace(model, cell=replace(model.cell, seed=seed)), folder)
    return len(list(folder.glob("*/*/*.json")))


def seconds_of_table(folder: Path) -> float:
    """Return the seconds of CPU that the command takes, start and all."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, str(installation.ROOT / "run_bench.py"), "table", "--out", str(folder), "--bench", "all"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    place = Path(sys.argv[1])
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    print(f"{fill(place, wanted)} results in {place}")
    print(f"table: {min(seconds_of_table(place) for _ in range(3)):.2f} s of CPU")
