"""What several test files need: the command line in-process, plugins, and made-up results."""

import io
import os
import sys
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.core import Cell, Result

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: toy networks gain nothing from threads that wait for each other
# Ray's workers yield to whatever else wants a core; beside tests in other processes, a cell would hardly run.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112, it is spelt so

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run_bench.py is a script beside the library


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests that start Ray run one after the other where pytest-xdist spreads the others over processes."""
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group("ray"))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Cut short the texts that tests are named by: a name goes to each process and back with every report."""
    return f"{val[:40]!a}..." if isinstance(val, str | bytes) and len(val) > 100 else None


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """`command("list")` runs the command line in-process: exit code, standard output and error."""
    from bench.cli.main import main

    def call(*words: object) -> Answer:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Answer(code, *capsys.readouterr())

    return call


@pytest.fixture(autouse=True)
def _uncalibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a calibration unless it asks for one: each is a process that imports torch."""
    monkeypatch.setattr("bench.execution.forecast.budget.LIMIT", 0.0)


@pytest.fixture(autouse=True)
def _no_address_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the network whether data can be downloaded unless it says so."""
    monkeypatch.setattr("bench.data.availability.trouble_at", lambda address: "no network in tests")


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[..., Path]:
    """`plugin(name, body)` writes a method whose class body is given; returns its file."""

    def write(name: str, body: str = "pass", folder: str = "plugins") -> Path:
        path = tmp_path / folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        path.write_text(
            f'"""The method {name}."""\n\nfrom bench.training.method import Method\n\n\nclass Own(Method):\n{lines}'
        )
        return path

    return write


@pytest.fixture
def make_result() -> Callable[..., Result]:
    """A result whose ACC is `acc` and whose BWT is `bwt`, both in percent, over two tasks."""

    def make(method: str = "a", seed: int = 0, acc: float = 50, bwt: float = 0, **more: Any) -> Result:
        error = more.pop("error", None)
        training = {"epochs": 1, "lr": 0.1}
        cell = Cell(**{"benchmark": "bench", "training": training, "config": {}, **more}, method=method, seed=seed)
        last = [(acc + bwt / 2) / 100, (acc - bwt / 2) / 100]
        matrix = [] if error else [[last[0] - bwt / 100, None], last]
        return Result(cell, matrix, [{"task": 0}, {"task": 1}], error, environment={"seconds": 1.0})

    return make


def first_quick(values: Iterable[Any], quick: int = 1) -> list[Any]:
    """Return the values of a parametrization, those after the first `quick` ones marked as slow."""
    return [pytest.param(value, marks=pytest.mark.slow if i >= quick else ()) for i, value in enumerate(values)]


def narrow_resnet_of(shape: tuple[int, ...]) -> Any:
    """The ResNet18 with two channels: all its twenty layers."""
    from torch import nn

    from bench.nn.architectures import BasicBlock

    layers: list[nn.Module] = [nn.Conv2d(shape[0], 2, 3, stride=4, padding=1, bias=False)]
    for step in (1, 2, 2, 2):
        layers += [BasicBlock(2, 2, step), BasicBlock(2, 2, 1)]
    return nn.Sequential(*layers, nn.Flatten())


def narrow_lenet_of(shape: tuple[int, ...]) -> Any:
    """As many layers as the LeNet."""
    from torch import nn

    layers = [nn.Conv2d(shape[0], 4, 5, bias=False), nn.MaxPool2d(7), nn.Conv2d(4, 8, 3, bias=False), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32, 16, bias=False), nn.ReLU(), nn.Linear(16, 8, bias=False))


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow networks in the place of the papers' larger ones, whose Grams take no time."""
    from bench.nn import architectures

    for name in ("resnet18", "resnet18_stride2"):
        monkeypatch.setitem(architectures.BACKBONES, name, narrow_resnet_of)
    monkeypatch.setitem(architectures.BACKBONES, "lenet", narrow_lenet_of)


@pytest.fixture
def run_by_recipe(narrow: None) -> Callable[..., list[list[float | None]]]:
    """`run_by_recipe(name, method, protocol, data)` learns two tasks, cut to 70 images a split, in an epoch each with
    the recipe's settings, on the narrow network; the rate is low, for two batches give no statistics to freeze.
    Returns the accuracy matrix."""
    import torch

    from bench.catalog import plan, recipes
    from bench.catalog.catalog import Catalog
    from bench.core import Split
    from bench.nn import architectures
    from bench.training.loop import Session

    def run(name: str, method: str, protocol: str, data: Path) -> list[list[float | None]]:
        [[cell], unsupported] = Catalog().plan(plan.Request([method], [name], [0], 1, {}, [protocol]))
        assert not unsupported
        benchmark = Catalog().benchmark(name, cell.options)
        tasks = []
        for task in benchmark.stream(0, data)[:2]:
            parts = {p: getattr(task, p) for p in ("train", "validation", "test")}
            tasks.append(replace(task, **{p: Split(s.x[:70], s.y[:70]) for p, s in parts.items()}))
        cls = Catalog().method(method)
        training, config = recipes.resolve(method, cls, Catalog().recipe(name), {"epochs": 1, "lr": 2e-3}, protocol)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = architectures.build(benchmark, training.bn_mode)
        R, records = Session(network, cls(network, config, torch.Generator()), tasks, training, 0).run()
        ranks = records[-1].report.get("rank")
        assert ranks is None or list(ranks) == list(network.blocks())
        return R

    return run


def every_method(benchmark: str) -> list[str]:
    """All methods that apply to a benchmark, and their variants in its recipe."""
    from bench.catalog import plan
    from bench.catalog.catalog import Catalog

    everything = [*Catalog().available("Method"), *Catalog().variants()]
    return [cell.method for cell in Catalog().plan(plan.Request(everything, [benchmark], [0])).cells]


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """A tar.gz of these files."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
