"""What speed rests on, counted where it can be: waits for the device, arithmetic of a step. Times are only compared in
CI, and loosely."""

import json
import os

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from bench import backbones, lowrank, perf, registry
from bench.checks import Run
from bench.core import Training
from bench.method import Method
from bench.trainer import make_optimizer, train_epoch, training_step

BASES = {  # of the AlexNet's five layers: the width of what may not be touched
    "NESS, task 2": (45, 231, 287, 198, 137),  # K-11, complemented
    "GPM, task 10": (9, 159, 229, 405, 693),  # the specification's appendix A
}


class Waits(TorchDispatchMode):
    """Counts the numbers that Python asks a tensor for: each makes it wait for a device."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("sharp", [False, True], ids=["plain", "sharp"])
@pytest.mark.parametrize("method", ["finetune", "ewc", "gpm", "ness", "inflora", "olora"])
def test_an_epoch_waits_for_the_device_once(method, sharp):
    run = Run(method)
    run.learn(1)
    run.network.open([1])
    split = run.tasks[1].train
    data = 1, torch.from_numpy(split.x), torch.from_numpy(split.y)
    from bench.method import TrainingData

    granted = TrainingData(*data, run.training.batch_size)
    first = run.tasks[0].train
    old = TrainingData(0, torch.from_numpy(first.x), torch.from_numpy(first.y), run.training.batch_size)
    granted.grant([old])
    run.method.begin_task(1, granted)
    optimizer = make_optimizer(run.method.parameters(), run.training)
    assert len(split) > 2 * run.training.batch_size
    with Waits() as waits:
        train_epoch(run.network, run.method, optimizer, [data], run.training, torch.Generator(), sharp)
    assert waits.count == 1


def operations(widths: tuple[int, ...] | None) -> int:
    """Of a training step on a batch of 64: fine-tuning, or updates orthogonal to bases of these widths."""
    torch.manual_seed(0)
    network = backbones.build(registry.get_benchmark("split_cifar100"))
    network.open([1])
    if widths:
        blocks = network.blocks()
        bases = {n: torch.eye(b.weight.shape[1])[:, :k] for (n, b), k in zip(blocks.items(), widths, strict=True)}
        lowrank.attach_free(network, bases)
    method = Method(network)
    optimizer = make_optimizer(method.parameters(), Training())
    with FlopCounterMode(display=False) as counter:
        training_step(network.train(), method, optimizer, 1, torch.randn(64, 3, 32, 32), torch.zeros(64).long(), 0.0)
    return counter.get_total_flops()


@pytest.mark.parametrize("widths", BASES.values(), ids=BASES)
def test_a_free_update_costs_little_arithmetic(widths):
    """K-25: on one layer, factors multiplied out are 30 times the layer, and projected gradients 4 times."""
    assert operations(None) < operations(widths) < 1.15 * operations(None)


@pytest.mark.skipif("NESS_BENCH_SLOW" not in os.environ, reason="takes a minute: set NESS_BENCH_SLOW")
def test_short_form(tmp_path):
    out = tmp_path / "perf.json"
    perf.main(["--samples", "192", "--rounds", "3", "--threads", "1", "--out", str(out), "--methods", "ewc,gpm,ness"])
    numbers = json.loads(out.read_text())
    assert set(numbers["later"]) == {"bare loop", "finetune", "ewc", "gpm", "ness"}
    for arm, row in numbers["later"].items():
        assert row["over_finetune"]["median"] < 2 and row["epoch_s"] > 0.2 * row["floor_s"], arm
    assert numbers["later"]["finetune"]["over_bare"]["median"] < 1.5
