"""Serial or by Ray, a cell ends in the same bits. One Ray for all kinds of cells, for each takes seconds to start."""

from pathlib import Path

import pytest
from driving import executed

from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.core import Cell, Result
from bench.execution import grid
from bench.execution.runner import Resources

CROPS = """
from bench.core import Benchmark, Views
from bench.data.generated import random_task


class Crops(Benchmark):
    num_tasks, num_classes, input_shape, backbone = 2, 3, (3, 16, 16), "mlp"
    views = Views(stored=(3, 12, 12), side=16, resized=20)

    def stream(self, seed, data):
        return [random_task(self, t, 10, 4, 4) for t in range(2)]
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """With a benchmark whose images are cropped at random."""
    path = tmp_path / "crops.py"
    path.write_text(CROPS)
    return Catalog.of([path])


def bits(result: Result) -> object:
    """Everything but the clock."""
    return result.matrix, [{k: v for k, v in task.items() if k != "seconds"} for task in result.tasks]


@pytest.mark.ray
def test_serial_and_ray_give_the_same_bits(catalog: Catalog) -> None:
    def planned(methods: list[str], bench: str, seeds: tuple[int, ...] = (0,), **more: object) -> list[Cell]:
        return catalog.plan(Request(methods, [bench], seeds, 2, **more))[0]  # type: ignore[arg-type]

    adam = {"finetune": {"optimizer": "adam", "lr_schedule": "cosine", "batch_size": 5}}
    cells = [
        *planned(list(catalog.available("Method")), "toy"),
        *planned(["finetune"], "toy", (1,)),
        *planned(["er", "joint"], "toy", scenario="class-il"),
        *planned(["finetune", "ness", "olora", "trgp", "er"], "toy", precision="bf16"),  # a kind each
        *planned(["finetune", "gpm"], "crops", (0, 1), settings=adam),
    ]
    resources = Resources(workers=2, catalog=catalog)
    ready, failed = grid.prepare(cells, resources)
    assert not failed
    here, there = ({r.cell.key: r for r in executed(how, ready, resources)} for how in ("serial", "ray"))
    assert set(here) == set(there) == {cell.key for cell in cells}
    for key, result in here.items():
        assert result.error is None, (result.cell, result.error, result.traceback)
        assert result.environment["precision"] == result.cell.precision
        assert bits(result) == bits(there[key]), result.cell
