"""Timed steps: of every method, near what a cell takes, and safe from whatever a method does."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.catalog import plan
from bench.catalog.catalog import Catalog
from bench.core import Cell
from bench.execution.forecast import calibration
from bench.execution.forecast.calibration import Little, Order, calibrate, in_hooks, pace, sizes, speed
from bench.execution.runner import Resources, run_cell


def cell_of(
    method: str, benchmark: str = "toy", epochs: int | None = None, plugins: tuple[Path, ...] = (), scenario: str = ""
) -> Cell:
    request = plan.Request([method], [benchmark], [0], epochs, scenario=scenario)
    (cell,), _ = Catalog.of(plugins).plan(request)
    return cell


METHODS = list(Catalog().available("Method"))
APPLICABLE = [
    (cell.method, cell.benchmark)
    for cell in Catalog().plan(plan.Request(METHODS, ["toy", "permuted_digits"], [0])).cells
]


@pytest.mark.parametrize(("method", "benchmark"), APPLICABLE)
@pytest.mark.slow
def test_every_method_can_be_timed(method: str, benchmark: str) -> None:
    answer = pace(cell_of(method, benchmark), Resources())
    assert 0 < answer["epoch"] < 60 and 0 < answer["rest"] < 60


@pytest.mark.parametrize("method", ["ewc", "er", "joint"])
def test_a_cell_over_all_classes_can_be_timed(method: str) -> None:
    answer = pace(cell_of(method, scenario="class-il"), Resources())
    assert 0 < answer["epoch"] < 60 and 0 < answer["rest"] < 60


@pytest.mark.parametrize("method", ["finetune", "inflora"])
@pytest.mark.slow
def test_it_is_near_what_a_cell_takes(method: str) -> None:
    """Within a factor of five, on a machine that others may use: measured alone, it is within a fifth."""
    cell, resources = cell_of(method, "digits", epochs=5), Resources()
    run_cell(cell_of(method, "digits", epochs=1), resources)  # imports, and the first use of everything
    answer = pace(cell, resources)
    foreseen, took = answer["rest"] + 5 * answer["epoch"], run_cell(cell, resources).environment["seconds"]
    assert took / 5 < foreseen < took * 5


def test_images_are_counted_by_the_sources_or_by_the_stream(tmp_path: Path) -> None:
    def of(name: str) -> tuple[float, ...]:
        return tuple(sizes(Catalog().benchmark(name), 0, tmp_path))

    assert of("split_cifar100") == (5000, 0, 1000)
    assert of("permuted_mnist") == (60_000, 0, 10_000)  # each task has all of them
    assert of("toy") == (48, 16, 40)
    assert sum(of("digits")) == pytest.approx(1797 / 5)


def test_hooks_cost_a_fixed_part_and_a_part_for_every_sample_read() -> None:
    """Three tasks of 100 samples; the little task had 10, and the hooks took 7 s, a tenth of a second a sample."""
    nothing = Little(1, 1.0, hooks=7.0, samples=10, read=0, old=10, old_read=0)
    assert in_hooks(nothing, 0.1, 100, 3) == pytest.approx(3 * 7)
    own = nothing._replace(read=20)  # both hooks read all of it: 2 s of the 7
    assert in_hooks(own, 0.1, 100, 3) == pytest.approx(3 * 5 + 0.1 * 3 * 200)
    old = nothing._replace(old_read=10)  # all that came before: 1 s of the 7; of 0, 100 and 200 samples
    assert in_hooks(old, 0.1, 100, 3) == pytest.approx(3 * 6 + 0.1 * 300)
    assert in_hooks(own._replace(hooks=0.0), 0.1, 100, 3) == pytest.approx(0.1 * 3 * 200)


def test_bf16_is_timed_and_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    answer = speed(cell_of("finetune"), Resources())
    assert answer["bf16"] > 0 and answer["gpu"] is None
    times = {("cpu", False): 4.0, ("cpu", True): 6.0, ("cuda", False): 1.0}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(calibration, "step_seconds", lambda net, resources, device, bf16: times[device, bf16])
    assert speed(cell_of("finetune"), Resources()) == {"bf16": 1.5, "gpu": 0.25}


BAD = {
    "raises": ("raise ValueError('boom\\nand more')", "ValueError: boom"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "dies": ("import os; os._exit(1)", "the process that timed it died"),
    "interrupts": ("raise KeyboardInterrupt", "the process that timed it died"),
}


@pytest.mark.slow
def test_what_a_method_does_is_its_own_answer_and_no_more(
    plugin: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever ends the process, the next methods are timed in another; what a method prints goes nowhere."""
    bodies = {name: f"def begin_task(self, task, data):\n    {line}" for name, (line, _) in BAD.items()}
    bodies["prints"] = "def begin_task(self, task, data):\n    print('a word', flush=True)"
    paths = tuple(plugin(name, body) for name, body in bodies.items())
    orders = [Order(name, "pace", cell_of(name, "toy", 1, paths)) for name in bodies]
    answers: dict[str, dict[str, Any]] = calibrate(orders, Resources(catalog=Catalog.of(paths)), 300)
    assert {name: answers[name]["error"] for name in BAD} == {name: said for name, (_, said) in BAD.items()}
    assert answers["prints"]["epoch"] > 0 and "a word" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_a_method_that_hangs_ends_with_the_time(plugin: Callable[..., Path]) -> None:
    path = plugin("hangs", "def begin_task(self, task, data):\n    import time\n    time.sleep(1000)")
    start = time.monotonic()
    orders = [Order("a", "pace", cell_of("hangs", "toy", 1, (path,)))]
    assert calibrate(orders, Resources(catalog=Catalog.of((path,))), 1.0) == {}
    assert time.monotonic() - start < 60
