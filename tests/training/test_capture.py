"""A GPU computes what a CPU does, and a step replayed as a CUDA graph what the same step does launched by itself."""

import subprocess
import sys
import warnings

import pytest
import torch

from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.data.generated import random_task
from bench.execution.runner import Resources, run_cell, set_arithmetic
from bench.execution.session import session_of
from bench.training import step
from bench.training.method import Method
from bench.training.stage import EpochBegun

ROOT = __file__.rpartition("/tests/")[0]
CATALOG = Catalog()
CAPTURED = {"ewc", "er", "finetune", "gpm", "hat", "inflora", "joint", "mas", "ness", "sgp"}
gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")]


class Unlike(Method):
    """A penalty of its own, of which nothing is declared."""

    def penalty(self):
        return 0.0


def cell_of(method, benchmark, scenario="", **training):
    request = Request([method], [benchmark], [0], settings={method: training}, scenario=scenario)
    return CATALOG.plan(request).cells[0]


def session(
    method, benchmark="split_cifar100", epochs=3, count=2, samples=1300, captured=True, device="cuda", **settings
):
    """Random images: in an epoch 20 full batches, and one that is not."""
    own = CATALOG.benchmark(benchmark)
    tasks = [random_task(own, t, samples, 64, 64) for t in range(count)]
    cell = cell_of(method, benchmark, epochs=epochs, batch_size=64, **settings)
    made = session_of(cell, CATALOG, device=device, tasks=tasks)
    made.captured = captured
    return made


def weights_after(made):
    """Return the accuracies, and all parameters in one vector."""
    R, _ = made.run()
    return R, torch.cat([p.detach().flatten().cpu() for p in made.network.parameters()])


def test_what_may_be_captured():
    """What is left to the base class is; a hook of its own has to be declared."""
    found = {name for name in CATALOG.available("Method") if step.is_static(CATALOG.method(name))}
    assert found == CAPTURED
    assert not step.is_static(Unlike)


def test_nothing_is_captured_on_a_cpu():
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    assert not step.is_capturable(Method(network), optimizer)


@pytest.mark.parametrize("task", [0, 1])
@pytest.mark.parametrize("scenario", ["task-il", "class-il"])
def test_a_graph_is_made_on_the_device_of_the_session(monkeypatch, scenario, task):
    """The current device may be another, and so may torch's own stream for captures, which is made once. Of each task
    one graph is enough, however many heads answer."""
    current, streams = [torch.device("cuda:0")], []

    class Device:
        def __init__(self, device):
            self.device = device

        def __enter__(self):
            current.append(self.device)

        def __exit__(self, *error):
            current.pop()

    class Stream:
        def __init__(self, device=None):
            self.device = device or current[-1]

        def wait_stream(self, other):
            assert other.device == self.device == current[-1]

    class Graph(Device):
        def __init__(self, graph, stream):
            super().__init__(stream.device)
            streams.append(stream)

        def replay(self):
            assert current[-1] == torch.device("cuda:1")

    class Recorded:
        replay = Graph.replay

    monkeypatch.setattr(torch.cuda, "device", Device)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: Device(stream.device))
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorded)
    monkeypatch.setattr(torch.cuda, "graph", Graph)
    made = session("finetune", benchmark="toy", count=2, device="cpu", epochs=1, scenario=scenario)
    begun = (event for event in made.events() if isinstance(event, EpochBegun))
    next(event for event in begun if event.task == task)
    update = step.CapturedUpdate(torch.device("cuda:1"))
    made.stage.update = update
    made.stage.train_epoch()
    assert len(update.graphs) == 1
    assert made.network.together == (task + 1 if scenario == "class-il" else 0)
    assert streams == [update.aside]
    assert update.aside.device == torch.device("cuda:1")
    assert current == [torch.device("cuda:0")]


class TestOnAGPU:
    pytestmark = gpu

    @pytest.fixture(autouse=True)
    def arithmetic(self):
        set_arithmetic(Resources(device="cuda"))

    @pytest.mark.parametrize("method", sorted(CAPTURED - {"joint"}))
    def test_a_captured_step_is_the_same(self, method):
        replayed, alone = (weights_after(session(method, captured=captured)) for captured in (True, False))
        assert replayed[0] == alone[0]
        assert torch.equal(replayed[1], alone[1])

    @pytest.mark.parametrize("method", ["finetune", "er", "joint"])
    def test_a_captured_step_over_all_classes_is_the_same(self, method):
        made = [session(method, captured=captured, scenario="class-il") for captured in (True, False)]
        replayed, alone = map(weights_after, made)
        assert replayed[0] == alone[0]
        assert torch.equal(replayed[1], alone[1])

    @pytest.mark.parametrize(
        ("name", "training"),
        [
            ("split_cifar100", {"sam": "all"}),
            ("split_cifar100", {"momentum": 0.9, "weight_decay": 1e-4}),
            ("cifar100_superclass", {}),
            ("five_datasets", {}),
        ],
    )
    def test_networks_and_optimizers(self, name, training):
        made = [session("ness", name, captured=captured, **training) for captured in (True, False)]
        replayed, alone = map(weights_after, made)
        assert replayed[0] == alone[0]
        assert torch.equal(replayed[1], alone[1])

    @pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one CUDA device")
    def test_a_second_gpu(self):
        """Both in one process, and torch's current device is the first."""
        first, second = (weights_after(session("ness", device=f"cuda:{i}")) for i in (0, 1))
        assert first[0] == second[0]
        assert torch.equal(first[1], second[1])

    def test_a_gpu_by_its_number(self):
        numbered, plain = (weights_after(session("ness", device=name)) for name in ("cuda:0", "cuda"))
        assert torch.equal(numbered[1], plain[1])

    def test_a_task_for_every_batch(self):
        replayed, alone = (weights_after(session("joint", captured=captured)) for captured in (True, False))
        assert torch.equal(replayed[1], alone[1])

    def test_a_graph_is_used_and_dropped_with_its_rate(self):
        made = session("finetune", count=1)
        begun = [event for event in made.events() if isinstance(event, EpochBegun)]
        update = made.stage.update
        assert len(begun) == 3
        assert len(update.graphs) == 1  # of the full batches; the last of each epoch has come three times
        made.stage.optimizer.param_groups[0]["lr"] /= 2
        made.stage.train_epoch()
        assert list(update.counts.values()) == [20, 1]

    def test_precision(self):
        cell = cell_of("finetune", "split_cifar100", epochs=2, batch_size=64)
        found = []
        for captured in (True, False):
            made = session("finetune", epochs=2, captured=captured)
            made.network.precision = "bf16"
            found.append(weights_after(made)[1])
        assert cell.precision == "fp32"
        assert torch.equal(*found)

    def test_waits_do_not_grow_with_an_epoch(self):
        """The device is waited for before an epoch's first batch and after its last."""
        counts = []
        for samples in (640, 2560):
            made = session("finetune", count=1, samples=samples)
            next(made.events())
            made.stage.train_epoch()
            torch.cuda.set_sync_debug_mode("warn")
            try:
                with warnings.catch_warnings(record=True) as seen:
                    warnings.simplefilter("always")
                    made.stage.train_epoch()
            finally:
                torch.cuda.set_sync_debug_mode("default")
            counts.append(len(seen))
        assert counts[0] == counts[1] <= 4

    @pytest.mark.parametrize("method", sorted(CATALOG.available("Method")))
    def test_digits_as_on_a_cpu(self, method):
        if method in ("fsdgpm", "codecl", "adamnscl", "dfgp"):
            pytest.skip("takes minutes")
        cell = cell_of(method, "digits")
        there, here = (run_cell(cell, Resources(device=device, catalog=CATALOG)) for device in ("cuda", "cpu"))
        assert not there.error
        assert 100 * abs(mean(there.matrix[-1]) - mean(here.matrix[-1])) <= 1

    def test_two_processes_on_one_folder(self, tmp_path):
        words = ["--methods", "finetune,gpm", "--bench", "digits", "--seeds", "0,1", "--device", "cuda", "--out"]
        command = [sys.executable, f"{ROOT}/run_bench.py", *words, str(tmp_path)]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        out = [process.communicate(timeout=300)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], out
        assert len(list(tmp_path.rglob("seed*.json"))) == 4


def mean(row):
    return sum(row) / len(row)
