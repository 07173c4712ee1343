"""The contract of a method, as checks that anybody's method must pass. Each takes a name and raises AssertionError.

They run in seconds, on toy streams with two networks that have little in common, under both protocols and in each
scenario; a docstring says what its check protects from. `tests/methods/test_conformance.py` applies every check to
every method here, and `python run_bench.py check FILE` to a user's.
"""

from __future__ import annotations

import dataclasses
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.catalog.catalog import Catalog
from bench.config import make_settings, names
from bench.core import Result, Training
from bench.execution import decoding
from bench.execution.checkpoint import Checkpoint
from bench.nn.activations import evaluating
from bench.nn.network import Network
from bench.same_data import fingerprint
from bench.tools.held_images import demand_shown
from bench.tools.trial import BUILT_IN, CLASSES, PLAIN, SHARED, Ground, Run, difference, request_for, snapshot
from bench.training.loop import TaskDone
from bench.training.method import Method
from bench.training.needs import unmet
from bench.training.scenario import Scenario
from bench.training.stage import ForeignHeadError


def config_goes_round(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """A result is traced by its configuration: it can be read back, and no setting means two things."""
    config_class: Any = catalog.method(name).Config
    config: Any = config_class()
    shared = names(config_class) & names(Training)
    assert not shared, f"Config has fields that the training settings have too: {sorted(shared)}"
    made = make_settings(config_class, dataclasses.asdict(config), name)
    assert made == config, "Config does not survive a round trip"


def derives_from_method_directly(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """A method can be read in one file."""
    bases = catalog.method(name).__bases__
    assert bases == (Method,), f"bases are {bases}, not Method alone"


def applies_somewhere(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """A method that applies to no benchmark compares with nothing."""
    cls = catalog.method(name)
    benchmarks = [catalog.benchmark(b) for b in catalog.available("Benchmark")]
    reasons = {b.name: unmet(cls.needs, b) or cls.unsupported(b, Training()) for b in benchmarks}
    assert not all(reasons.values()), f"unsupported everywhere: {reasons}"
    plain = PLAIN.benchmark
    assert not reasons[plain], f"the checks need it to run on {plain}: {reasons[plain]}"


def construction_changes_nothing(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """All methods start from the same weights, and training modes."""
    run = Run(name, catalog, ground=ground)
    fresh = Run("finetune", ground=ground)
    changed = difference(run.network.state_dict(), fresh.network.state_dict())
    assert not changed, f"construction changed {changed}"
    assert run.network.training, "the network left training mode"


def toy_tasks_are_learnt(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """Each of three easy tasks is learned, and the matrix has the right shape and range."""
    R = Run(name, catalog, ground=ground).learn()
    learnt = [R[i][i] for i in range(3) if R[i][i] is not None]
    assert len(R) == 3 and all(len(row) == 3 for row in R), "the accuracy matrix is not 3 x 3"
    assert all(a is None or 0 <= a <= 1 for row in R for a in row), f"accuracies out of [0, 1]: {R}"
    assert learnt and min(a for a in learnt if a is not None) > 0.8, f"accuracy when learned: {learnt}"


def _run(name: str, catalog: Catalog, ground: Ground, seed: int = 0) -> Run:
    """A run of few epochs, enough for what a method does at every step and at the ends of tasks."""
    return Run(name, catalog, seed, ground, epochs=5)


def same_seed_same_bits(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """A number can be repeated: the same seed gives the same bits, another seed another stream."""
    first, second, other = (_run(name, catalog, ground, seed) for seed in (0, 0, 1))
    R, again = first.learn(2), second.learn(2)
    assert again == R, f"accuracies differ: {R} and {again}"
    differs = difference(first.network.state_dict(), second.network.state_dict())
    assert not differs, f"two equal runs differ in {differs}"
    other.learn(2)
    assert difference(first.network.state_dict(), other.network.state_dict()), "the seed has no effect"


def global_random_state_is_untouched(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """Randomness comes from the method's generator: no library's global state decides a number, or is moved."""
    runs = []
    for salt in (1, 2):
        random.seed(salt)
        np.random.seed(salt)  # noqa: NPY002
        run = _run(name, catalog, ground)
        before = random.getstate(), _numpy_state()
        run.learn(2)
        assert random.getstate() == before[0], "it draws from Python's global random state"
        assert _numpy_state() == before[1], "it draws from numpy's global random state"
        runs.append(run)
    differs = difference(runs[0].network.state_dict(), runs[1].network.state_dict())
    assert not differs, f"the global random state decides {differs}"


def _numpy_state() -> bytes:
    return bytes(np.random.get_state()[1].data)  # type: ignore[index]  # noqa: NPY002


def evaluation_changes_nothing(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """Looking at test data must not teach: another test set leaves the same weights."""
    run, blind = _run(name, catalog, ground), _run(name, catalog, ground)
    blind.tasks = [dataclasses.replace(t, test=t.validation) for t in blind.tasks]
    run.learn(2)
    blind.learn(2)
    differs = difference(run.network.state_dict(), blind.network.state_dict())
    assert not differs, f"another test set changes {differs}"


def names_survive(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """Whatever a method attaches for a task is gone after it: networks can be saved, compared and resumed."""
    run = _run(name, catalog, ground)
    keys = list(run.network.state_dict())
    run.learn(2)
    odd = sorted(set(keys) ^ set(run.network.state_dict()))
    assert list(run.network.state_dict()) == keys, f"the network's parameters have other names after a task: {odd}"


def other_heads_stay(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """Only the current task's head learns: what touches old tasks' heads changes answers nobody trained."""
    run = _run(name, catalog, ground)
    if run.method.stage == "all":
        return
    try:
        run.learn(2)
    except ForeignHeadError as error:
        raise AssertionError(str(error)) from error


def old_data_is_declared(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """A table marks who uses earlier tasks' data: nobody reads it, or keeps it out of sight, without saying so."""
    run = _run(name, catalog, ground)
    declared = run.method.old_data(run.method.config)
    if run.method.stage == "all" or declared == "all":
        return
    try:
        for event in run.session.events():
            if isinstance(event, TaskDone):
                demand_shown(run.method, run.tasks[: event.record.task + 1], declared)
    except PermissionError as error:
        raise AssertionError(str(error)) from error


def statistics_stay(name: str, catalog: Catalog = BUILT_IN, ground: Ground = SHARED) -> None:
    """Frozen statistics are those of the first task: what lets them move on changes old answers without a weight."""
    run = _run(name, catalog, ground)
    if run.method.stage == "all":
        return
    run.learn(1)
    before = _statistics(run.network)
    run.learn(first=1)
    changed = difference(before, _statistics(run.network))
    assert not changed, f"running statistics are frozen after the first task, but moved: {changed}"


def _statistics(network: Network) -> dict[str, Tensor]:
    return {name: kept for name, kept in snapshot(network).items() if "running_" in name}


def images_stay(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """Whoever reads the images next meets the same ones: a method works on copies, never in their place."""
    run = _run(name, catalog, ground)
    before = [fingerprint([task]) for task in run.tasks]
    run.learn(2)
    after = [fingerprint([task]) for task in run.tasks]
    changed = [t for t, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert not changed, f"it changes images or labels of tasks {changed} in their place"


def result_goes_round(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """A result on disk is the one that was computed: what the method reports is plain numbers and text."""
    run = _run(name, catalog, ground)
    R = run.learn()
    records = [record.plain() for record in run.records]
    stored = decoding.decode(decoding.encode(Result(run.cell, R, records)).encode())
    assert stored.matrix == R, f"the accuracy matrix comes back as {stored.matrix}, not {R}"
    assert stored.tasks == json.loads(json.dumps(records)), "the records of tasks come back as others"


def state_goes_round(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """A run that is killed after a task goes on from its checkpoint with the same bits: nothing is hidden."""
    whole, half, resumed = (_run(name, catalog, ground) for _ in range(3))
    if whole.method.stage == "all":
        return
    R = whole.learn()
    rows = half.learn(2)
    odd = [k for k, v in half.method.state().items() if not isinstance(v, Tensor)]
    assert not odd, f"state() holds something else than tensors: {odd}"
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder), half.cell, {})
        checkpoint.save(half.session, rows, [record.plain() for record in half.records], seconds=0.0)
        reached = checkpoint.load(resumed.session)
    assert reached.rows == rows, f"the checkpoint cannot be gone on from: {checkpoint.trouble}"
    again = resumed.learn(first=2)
    differs = difference(resumed.network.state_dict(), whole.network.state_dict())
    assert not differs, f"a resumed run differs in {differs}"
    assert again[-1] == R[-1], f"accuracies differ after resuming: {again[-1]}, not {R[-1]}"
    differs = difference(resumed.method.state(), whole.method.state())
    assert not differs, f"state differs after resuming: {differs}"


def answers_know_no_task(name: str, catalog: Catalog = BUILT_IN, ground: Ground = CLASSES) -> None:
    """Where the task of a test image is not known, an answer is over all classes, and of the image alone."""
    run = _run(name, catalog, ground)
    run.learn(2)
    x = torch.from_numpy(run.tasks[0].test.x)
    scenario = Scenario(ground.scenario, run.training.logits, run.network)
    with torch.no_grad(), evaluating(run.network), scenario.testing(1):
        first, second = run.method.logits(x, 0), run.method.logits(x, 1)
    wanted = (len(x), 2 * scenario.num_classes)
    assert first.shape == wanted, f"logits of two tasks are {tuple(first.shape)}, not {wanted}"
    assert torch.equal(first, second), "forward looks at the task of a test image: declare needs"


def config_stays(name: str, catalog: Catalog = BUILT_IN, ground: Ground = PLAIN) -> None:
    """The configuration stored with a result is the one it was made with."""
    run = _run(name, catalog, ground)
    before = dataclasses.asdict(run.method.config)
    run.learn(2)
    after = dataclasses.asdict(run.method.config)
    assert after == before, f"the configuration changed during a run: {before} became {after}"


CHECKS: tuple[Callable[..., None], ...] = (
    config_goes_round,
    derives_from_method_directly,
    applies_somewhere,
    construction_changes_nothing,
    toy_tasks_are_learnt,
    same_seed_same_bits,
    global_random_state_is_untouched,
    evaluation_changes_nothing,
    names_survive,
    other_heads_stay,
    old_data_is_declared,
    images_stay,
    result_goes_round,
    state_goes_round,
    config_stays,
    statistics_stay,
)
OVER_CLASSES: tuple[Callable[..., None], ...] = (  # that run over all classes too
    answers_know_no_task,
    evaluation_changes_nothing,
    other_heads_stay,
    result_goes_round,
    state_goes_round,
)
ANYWHERE = (config_goes_round, derives_from_method_directly, applies_somewhere)  # checks that need no ground
NORMALIZED = (statistics_stay,)  # that say nothing where no statistics are kept


def cases(name: str, catalog: Catalog = BUILT_IN) -> Iterator[tuple[Callable[..., None], Ground]]:
    """Yield every check with every ground that the method applies to."""
    on_shared = not why_not(name, SHARED, catalog)
    for check in CHECKS:
        if check not in NORMALIZED:
            yield check, PLAIN
        if check not in ANYWHERE and on_shared:
            yield check, SHARED
    for check in () if why_not(name, CLASSES, catalog) else OVER_CLASSES:
        yield check, CLASSES


def why_not(name: str, ground: Ground, catalog: Catalog = BUILT_IN) -> str:
    """Return why a method does not apply to a ground; empty where it does."""
    return "; ".join(catalog.plan(request_for(name, ground))[1].values())
