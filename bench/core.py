"""The nouns of the suite: Task, Benchmark, Training, Cell and Result. Imports nothing heavier than numpy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from bench.search_space import Log
from bench.settings import complaints, setting

PROTOCOLS = {  # what decides a number where released code and good practice part
    "published": "as the released code computes it, defects included",
    "sound": "the defects of the released code corrected",
}
PRECISIONS = {  # what a network's forward passes are computed in
    "fp32": "float32 throughout",
    "bf16": "training and evaluation under autocast to bfloat16",
}
SCENARIOS = {  # what a stream asks of a method, after van de Ven & Tolias 2019
    "task-il": "a head per task, and the task of every test image is known",
    "class-il": "one answer over the classes of all tasks seen so far, the task unknown",
    "domain-il": "one head for all tasks, which have the same classes, the task unknown",
    "task-il-shared": "one head for all tasks, which have the same classes, and the task of every test image is known",
}
TASK_KNOWN = ("task-il", "task-il-shared")  # scenarios in which a test says which task an image is of
SHARED_HEAD = ("domain-il", "task-il-shared")  # those in which all tasks have one head
ONLY_SCENARIOS = ("task-il", "domain-il")  # of which a benchmark has one, and had nothing else at first
ADDED_LATER: dict[str, Any] = {  # settings of training that there were not always: the value of what was before
    "logits": "current",
    "lr_schedule": "plateau",
}
SCHEMA = 2  # of a result file; raised whenever the meaning of a stored number changes
SUITE_VERSION = 2  # part of a cell's identity; raised when the library gives other numbers to the same request
# 1: until November 2026. 2: dropout masks of sixteen random bits, another random stream.


class UserError(Exception):
    """A request that cannot be met. The message is one line for a person: what, where, and what to do."""


class DataError(UserError):
    """Data that is missing, damaged or of the wrong shape. The message names the file and the remedy."""


@dataclass(frozen=True)
class Settings:
    """A frozen set of settings, whose bounds are checked whenever one is made. Raises `UserError`."""

    def __post_init__(self) -> None:
        for complaint in complaints(self):
            raise UserError(complaint)


@dataclass(frozen=True)
class Split:
    """Inputs `x`, float32 (n, *input_shape), and labels `y`, int64 (n,), local to the task: in [0, num_classes).

    Of a benchmark with `views`, inputs are the images that these are made of, uint8 (n, *stored).
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


def slices(n: int, size: int) -> list[slice]:
    """Return consecutive slices of `size`, the last one smaller; a last one of a single sample joins the one before it,
    for normalization by batch statistics is undefined on one sample."""
    cuts = [*range(0, n, size), n]
    if len(cuts) > 2 and cuts[-1] - cuts[-2] == 1:
        del cuts[-2]
    return [slice(a, b) for a, b in pairwise(cuts)]


@dataclass(frozen=True)
class Task:
    """One element of the stream. `classes` are the names or global labels behind the local ones."""

    index: int
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split


@dataclass(frozen=True)
class Views:
    """What becomes of a benchmark's square images before its network gets them, float32 (n, c, side, side) in [0, 1].

    In training a random part of each image, and the mirror image of half of them; in tests the middle.
    """

    stored: tuple[int, int, int]  # (c, h, w) of the images in a `Split`, which are uint8
    side: int  # of what the network gets
    resized: int  # the side of a test image whose middle is cut out
    scale: tuple[float, float] = (0.08, 1.0)  # share of the area that a random part has
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # of its width to its height


class Benchmark:
    """A named protocol: the stream of tasks for a seed, the network and the scenarios.

    A file in `datasets/` (or a plugin) holds one subclass; its stem is the benchmark's name. Training settings stand
    in a recipe, `<name>.toml`, in `bench/catalog/recipes/` or beside the plugin.
    """

    @dataclass(frozen=True)
    class Config(Settings):
        """Options of the data, each declared by `bench.settings.setting`."""

    name: str = ""  # set by the registry, as `config` is
    config: Any = Config()
    version: ClassVar[int] = 1  # part of a cell's identity; raised when the stream changes its meaning
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # options under a protocol, where not the defaults
    scenarios: ClassVar[tuple[str, ...]] = ("task-il",)  # of SCENARIOS: those it can be asked for, its default first
    scenario: str = "task-il"  # the one asked for; where a class sets it and no `scenarios`, it is the only one
    num_tasks: ClassVar[int]
    num_classes: ClassVar[int]  # outputs of a head
    input_shape: ClassVar[tuple[int, ...]]  # of what the network gets
    views: ClassVar[Views | None] = None  # how it is made of the images in the stream; None: these are what it gets
    backbone: ClassVar[str] = ""  # a name in `bench.nn.architectures`
    head_bias: ClassVar[bool] = False  # whether a head adds a bias to its products
    same_for_every_seed: ClassVar[bool] = False  # whether the stream is one by nature, and seeds change weights alone
    by_default: ClassVar[bool] = False  # whether a command that names no benchmark means this one
    in_all: ClassVar[bool] = True  # whether `--bench all` means this one too
    offers: ClassVar[tuple[str, ...]] = ()  # of what methods may need, see `bench.training.needs`

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = vars(cls)
        if "scenarios" in own:
            cls.scenario = next(iter(cls.scenarios), "")
        elif "scenario" in own:
            cls.scenarios = (cls.scenario,)

    def sources(self) -> Sequence[Any]:
        """Return the data sets to read, each a `bench.data.source.Source`. What is bundled or made up has none."""
        return ()

    def data_state(self, data: Path) -> str:
        """Return whether the data is there, in a few words. Reads no content and downloads nothing."""
        states = {source.name: source.state(data) for source in self.sources()}
        if len(set(states.values())) <= 1:
            return next(iter(states.values()), "bundled")
        return "; ".join(f"{name} {state}" for name, state in states.items())

    def prepare(self, data: Path) -> None:
        """Get the data ready in folder `data`, downloading if need be. Raises `DataError`."""
        for source in self.sources():
            source.prepare(data)

    def backbone_options(self) -> Mapping[str, Any]:
        """Return what the backbone is asked for beside the shape of its inputs, by the name of its argument."""
        return {}

    def weights(self) -> Any:
        """Return the file that the backbone's weights come from, a `bench.data.weights.Weights`; None: they start
        random."""
        return None

    def own_backbone(self) -> Any:
        """Return a module of the benchmark's own, (n, *input_shape) -> (n, f), for one that leaves `backbone` empty."""
        raise NotImplementedError

    def stream(self, seed: int, data: Path) -> list[Task]:
        """Return the tasks in the order of learning. Depends on `seed` alone. Raises `DataError`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Training(Settings):
    """How a task is trained, by the loop of GPM and the methods after it."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = setting(0.01, "learning rate at the start of every task", above=0, search=Log(1e-4, 0.3))
    momentum: float = setting(0.0, "of SGD", at_least=0)
    weight_decay: float = setting(0.0, "coupled L2, on whatever the method trains", at_least=0)
    epochs: int = setting(20, "at most, per task", at_least=1)
    batch_size: int = setting(64, "samples of a batch", at_least=1)
    lr_schedule: Literal["plateau", "cosine"] = setting(
        "plateau",
        "of the rate: cut where validation stalls, or falling along a cosine over all epochs",
    )
    patience: int = setting(
        6, "epochs without a better validation loss before the rate is cut; 0: constant rate, no stop", at_least=0
    )
    factor: float = setting(2.0, "the rate is divided by this", above=1)
    lr_min: float = setting(1e-5, "training stops when the rate would fall below", above=0)
    restore_best: bool = setting(True, "go back to the weights of the best validation loss")
    sam: Literal["none", "first", "all"] = setting("none", "tasks trained with sharpness-aware minimization")
    rho: float = setting(0.05, "radius of SAM's ascent step, in the global L2 norm", above=0)
    eval_batch_size: int = setting(
        64, "samples; matters where normalization uses the statistics of the test batch", at_least=1
    )
    eval_order: Literal["fixed", "shuffled"] = setting(
        "fixed", "of images in evaluation: the same always, or another each time"
    )
    n_eval: int = setting(1, "passes, each in an order of its own, whose mean an entry of R is", at_least=1)
    bn_mode: Literal["batch", "running-frozen"] = setting(
        "batch", "batch statistics, or running ones of the first task, frozen"
    )
    logits: Literal["current", "seen"] = setting(
        "current", "in class-il, that training sees: of a sample's own task, or of all tasks so far"
    )

    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {"eval_order": "shuffled", "bn_mode": "batch"},
        "sound": {"eval_order": "fixed", "bn_mode": "running-frozen"},
    }


@dataclass(frozen=True)
class Cell:
    """One request: everything that decides a number."""

    benchmark: str
    method: str
    seed: int
    training: dict[str, Any]  # resolved `Training`
    config: dict[str, Any]  # resolved `Config` of the method
    source: dict[str, str] = field(default_factory=dict)  # digests of method, benchmark and recipe; not in the key
    overrides: dict[str, Any] = field(default_factory=dict)  # name: [the recipe's value, the user's]; not in the key
    traits: dict[str, Any] = field(default_factory=dict)  # of the method, for the marks of tables; not in the key
    options: dict[str, Any] = field(default_factory=dict)  # resolved `Config` of the benchmark
    protocol: str = "published"  # one of PROTOCOLS
    scenario: str = "task-il"  # one of SCENARIOS
    precision: str = "fp32"  # one of PRECISIONS
    versions: dict[str, int] = field(default_factory=dict)  # of the suite, the method and the benchmark

    @cached_property
    def key(self) -> str:
        """Return the identity, 12 hex digits over the request and the declared versions. Equal keys mean
        interchangeable results.

        Code is not part of it, so that a move or a comment orphans no number; `catalog.identity` tells what changed.
        """
        return self._digest("overrides", "traits", "source")

    @cached_property
    def group(self) -> str:
        """Return the identity of the cells that differ in their seed alone, 12 hex digits: what may be averaged."""
        return self._digest("overrides", "traits", "source", "seed")

    def _digest(self, *without: str) -> str:
        identity = {own.name: getattr(self, own.name) for own in fields(self) if own.name not in without}
        if self.precision == "fp32":  # what was before there was a choice stays out, so that old keys stay
            del identity["precision"]
        if self.scenario in ONLY_SCENARIOS:
            del identity["scenario"]
        training = self.training.items()
        identity["training"] = {name: v for name, v in training if name not in ADDED_LATER or v != ADDED_LATER[name]}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def path(self) -> Path:
        """Return the path of the result, relative to the results folder."""
        return Path(self.benchmark) / self.method / f"seed{self.seed}-{self.key}.json"

    def __str__(self) -> str:
        where = self.benchmark if self.scenario in ONLY_SCENARIOS else f"{self.benchmark} in {self.scenario}"
        return f"{self.method} on {where}, seed {self.seed}"


@dataclass
class Result:
    """The outcome of a cell: the accuracy matrix, or the error. Metrics are derived from it, never stored."""

    cell: Cell
    matrix: list[list[float | None]] = field(default_factory=list)  # R[i][j], in [0, 1]; None where not measured
    tasks: list[dict[str, Any]] = field(default_factory=list)  # per task: seconds, epochs, parameters, bytes, report
    error: str | None = None  # one line
    traceback: str | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def R(self) -> np.ndarray:  # noqa: N802  as every paper writes it
        """Return the accuracy matrix as floats (T, T), NaN where it was not measured."""
        return np.array(self.matrix, dtype=float)  # None becomes NaN

    @property
    def seen(self) -> list[float]:
        """Return the accuracy over the test images of all tasks learned so far, after each; nothing but in class-il."""
        return [task["seen"] for task in self.tasks if "seen" in task]

    @property
    def within(self) -> np.ndarray | None:
        """Return, in class-il, the last row of R had each image's task been told, (T,): task-il on the same network."""
        return self._last("within")

    @property
    def confusion(self) -> np.ndarray | None:
        """Return, in class-il, the share of the images of task i taken for a class of task j at the end, (T, T)."""
        return self._last("confusion")

    def _last(self, name: str) -> np.ndarray | None:
        """Return what the last record that has something says of it; None where none does."""
        found = [task[name] for task in self.tasks if name in task]
        return np.array(found[-1], dtype=float) if found else None
