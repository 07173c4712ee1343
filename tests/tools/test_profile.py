"""What speed rests on, counted where it can be: waits for the device, arithmetic of a step. Times are only compared in
CI, and loosely."""

import json

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from bench.catalog.catalog import Catalog
from bench.core import Training
from bench.nn import adapters, architectures
from bench.tools.profiling.arms import harness
from bench.tools.profiling.setting import Setting, cell_of
from bench.tools.trial import Run
from bench.training.data import Batch
from bench.training.method import Method
from bench.training.stage import EpochBegun
from bench.training.step import make_optimizer, training_step

BASES = {  # of the AlexNet's five layers: the width of what may not be touched
    "NESS, task 2": (45, 231, 287, 198, 137),  # all inputs but the null space of the untrained network
    "GPM, task 10": (19, 389, 467, 723, 980),  # after two epochs a task, results/published
}
DIES = """
from bench.training.method import Method


class Mortal(Method):
    def begin_task(self, task, data):
        raise RuntimeError("as it was born to")
"""

aten = torch.ops.aten
WAITING = (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default)


class Waits(TorchDispatchMode):
    """Counts what makes Python wait for a device: numbers asked of a tensor, and shapes that depend on its values."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        masks = args[1] if function is aten.index.Tensor else ()
        self.count += function in WAITING or any(m is not None and m.dtype == torch.bool for m in masks)
        return function(*args, **(kwargs or {}))


def begun(method, task, **settings):
    """A session inside a task, whose hook has made all ready."""
    session = Run(method, **settings).session
    assert next(event for event in session.events() if event == EpochBegun(task, 0))
    return session


@pytest.mark.parametrize("sharp", ["none", "all"])
@pytest.mark.parametrize("method", ["finetune", "ewc", "gpm", "ness", "inflora", "olora"])
@pytest.mark.slow
def test_an_epoch_waits_for_the_device_once(method, sharp):
    session = begun(method, 1, sam=sharp)
    assert len(session.tasks[1].train) > 2 * session.training.batch_size
    with Waits() as waits:
        session.stage.train_epoch()
    assert waits.count == 1


@pytest.mark.parametrize("memory", ["gram", "data"])
def test_what_ness_passes_through_the_network_between_tasks(memory):
    """With Grams kept, one task's images however many came before; with data kept, those of all before."""
    costs = []
    for task in (1, 2):
        session = begun("ness", task, memory=memory, epochs=1)
        with FlopCounterMode(display=False) as counter:
            adapters.merge(session.network)
            session.method.begin_task(task, session.stage.data)
            session.method.end_task(task, session.stage.data)
        costs.append(counter.get_flop_counts()["Global"][torch.ops.aten.convolution])
    assert costs[1] == costs[0] * (1 if memory == "gram" else 2) > 0


def operations(name: str = "split_cifar100", widths: tuple[int, ...] = (), share: float = 0.0) -> int:
    """Of a training step on a batch of 64: fine-tuning, or updates orthogonal to bases of these widths."""
    torch.manual_seed(0)
    network = architectures.build(Catalog().benchmark(name))
    network.open([1])
    if widths or share:
        blocks = network.blocks()
        chosen = widths or [int(share * b.weight.shape[1]) for b in blocks.values()]
        bases = {n: torch.eye(b.weight.shape[1])[:, :k] for (n, b), k in zip(blocks.items(), chosen, strict=True)}
        adapters.attach_free(network, bases)
    method = Method(network)
    optimizer = make_optimizer(method.parameters(), Training())
    with FlopCounterMode(display=False) as counter:
        network.train()
        training_step(method, optimizer, Batch(torch.randn(64, 3, 32, 32), torch.zeros(64).long(), 1), 0.0)
    return counter.get_total_flops()


@pytest.mark.parametrize("widths", BASES.values(), ids=BASES)
@pytest.mark.slow
def test_a_free_update_costs_little_arithmetic(widths):
    """On one layer, factors multiplied out are 30 times the layer, and projected gradients 4 times."""
    assert operations() < operations(widths=widths) < 1.15 * operations()


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.slow
def test_a_free_update_costs_little_arithmetic_in_convolutions(share):
    plain = operations("five_datasets")
    assert plain < operations("five_datasets", share=share) < 1.15 * plain


@pytest.mark.slow
def test_short_form(command, tmp_path):
    out = tmp_path / "perf.json"
    words = ("--bench", "split_cifar100", "--samples", 64, "--rounds", 2, "--threads", 1)
    random_images = ("--data", tmp_path)  # each of the four processes would unpack the real ones
    answer = command("profile", *words, "--methods", "ewc,finetune:precision=bf16", *random_images, "--json", out)
    assert answer.code == 0 and "split_cifar100 in task-il, 64 a task, random images" in answer.out
    numbers = json.loads(out.read_text())
    assert set(numbers["later"]) == {"bare loop", "finetune", "ewc", "finetune:precision=bf16"}
    for arm, row in numbers["later"].items():
        assert row["epoch_s"] > 0 and row["floor_s"] > 0 and row["over_finetune"]["median"] > 0, arm
    assert numbers["later"]["finetune"]["over_finetune"]["median"] == 1
    assert numbers["later"]["bare loop"]["over_bare"]["median"] == 1


def test_an_arm_in_another_precision():
    """Beside the others, in the same run; its answers are those of bfloat16."""
    losses = {}
    for precision in ("fp32", "bf16"):
        epoch, facts = next(harness(f"finetune:precision={precision}", Setting("toy", samples=64, threads=1)))
        assert facts["flops"] > 0
        losses[precision] = epoch()
    assert losses["fp32"] == pytest.approx(losses["bf16"], rel=0.05) and losses["fp32"] != losses["bf16"]


MISTAKES = {  # --methods, and what the answer says
    "finetune:precision=bf61": "bf16",
    "joint": "no later task",
    "ness:foo=1": "unknown setting of ness 'foo'",
    "gpm:energy=2": "energy",
    "finetune:lr": "NAME:setting=value",
    "trgp": "trgp does not apply to permuted_digits",
    "gpn": "gpm",
}


@pytest.mark.parametrize("methods", MISTAKES)
def test_a_wrong_arm_is_told_before_anything_is_measured(command, methods):
    answer = command("profile", "--bench", "permuted_digits", "--methods", methods)
    assert answer.code == 2 and MISTAKES[methods] in answer.err and len(answer.err.splitlines()) == 1


def test_an_arm_in_another_scenario():
    """TRGP learns a shared head only where the tests tell the task."""
    setting = Setting("permuted_digits", samples=64, threads=1, scenario="task-il-shared")
    assert cell_of("trgp", setting).scenario == "task-il-shared"
    epoch, facts = next(harness("trgp", setting))
    assert facts["flops"] > 0 and epoch() > 0


@pytest.mark.slow
def test_an_arm_that_dies_leaves_its_own_words(command, tmp_path):
    """Its process says why, and the command which arm it was; no other traceback."""
    method = tmp_path / "mortal.py"
    method.write_text(DIES)
    words = ("--bench", "toy", "--methods", "mortal", "--samples", 16, "--rounds", 1, "--threads", 1)
    answer = command("profile", *words, "--plugin", method)
    assert answer.code == 1 and answer.err.count("Traceback") <= 1
    assert answer.err.splitlines()[-1].startswith("profile: the process of mortal has ended")
