"""What methods may need of a benchmark, by name, and the reason why one does not apply."""

from __future__ import annotations

from collections.abc import Iterable

from bench.core import Benchmark

TASK_ID = "task id at test"
NEEDS = {  # what is said where it is missing
    TASK_ID: "it needs the task of every test image, which {scenario} does not tell",
    "pretrained": "it needs a pre-trained backbone",
    "attention": "it needs attention layers",
}


def unmet(needs: Iterable[str], benchmark: Benchmark) -> str | None:
    """Return why a method with such needs does not apply to a benchmark, or None."""
    offered = set(benchmark.offers)
    if benchmark.scenario == "task-il":
        offered.add(TASK_ID)
    missing = [NEEDS[need] for need in needs if need not in offered]
    return "; ".join(missing).format(scenario=benchmark.scenario) or None
