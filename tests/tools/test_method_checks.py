"""Every check fails on something that breaks it, and the verb `check` tells in words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.catalog.catalog import Catalog
from bench.core import UserError
from bench.tools import benchmark_checks, method_checks, trial
from bench.tools import check as conformance

Command = Callable[..., Any]

CONFIG = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config(Method.Config):\n"
SPY = """
def __init__(self, *words):
    super().__init__(*words)
    self.sum = 0.0
    self.network.register_forward_pre_hook(self._look)
def _look(self, network, words):
    self.sum += 0.0 if network.training else float(words[0].sum())
def begin_task(self, task, data):
    self.network.head(task).weight.data.add_(1e-4 * self.sum)
"""
REPLAY = """
def before_step(self, batch):
    import torch
    old = self.memory.get("NAME")
    return batch if old is None else batch._replace(x=torch.cat([batch.x, old["x"]]), y=torch.cat([batch.y, old["y"]]))
def end_task(self, task, data):
    import torch
    old = self.memory.get("NAME", {"x": torch.zeros(0, 1, 6, 6), "y": torch.zeros(0, dtype=torch.long)})
    x, y = (torch.cat([old[name], *parts]) for name, parts in zip("xy", zip(*data)))
    self.memory["NAME"] = {"x": x, "y": y}
"""
DECLARED = """
@classmethod
def old_data(cls, config):
    return "stored"
"""
THAWING = """
def loss(self, batch):
    import torch
    for layer in self.network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.train()
    return super().loss(batch)
"""
SECRET = REPLAY.replace("NAME", "rehearsal")
BREAKS = {  # a check, the class body that breaks it, and what is said
    "shares a name": ("config_goes_round", CONFIG + "    lr: float = 0.1", "'lr'"),
    "nowhere": (
        "applies_somewhere",
        "@classmethod\ndef unsupported(cls, benchmark, training):\n    return 'never'",
        "unsupported everywhere",
    ),
    "rescales": (
        "construction_changes_nothing",
        "def __init__(self, *words):\n    super().__init__(*words)\n    self.network.heads[0].weight.data.mul_(2)",
        "construction changed heads.0.weight by up to 0.",
    ),
    "learns nothing": (
        "toy_tasks_are_learnt",
        "def edit_grads(self):\n    for p in self.network.parameters():\n        p.grad = None",
        "accuracy when learned",
    ),
    "draws lots": (
        "same_seed_same_bits",
        "def end_task(self, task, data):\n    import os\n"
        "    self.network.head(task).weight.data.add_(os.urandom(1)[0])",
        "differ",
    ),
    "global state": (
        "global_random_state_is_untouched",
        "def end_task(self, task, data):\n    import random\n    random.random()",
        "Python's global random state",
    ),
    "numpy's state": (
        "global_random_state_is_untouched",
        "def end_task(self, task, data):\n    import numpy\n    numpy.random.rand()",
        "numpy's global random state",
    ),
    "spies": ("evaluation_changes_nothing", SPY, "another test set changes"),
    "leaves a layer": (
        "names_survive",
        "def end_task(self, task, data):\n    import torch\n    self.network.extra = torch.nn.Linear(1, 1)",
        "extra.weight",
    ),
    "touches an old head": (
        "other_heads_stay",
        "def end_task(self, task, data):\n    self.network.heads[0].weight.data.mul_(2)",
        "another task's head: heads.0.weight by up to 0.",
    ),
    "asks for old data": (
        "old_data_is_declared",
        "def begin_task(self, task, data):\n    list(data.earlier)",
        "`old_data` does not say",
    ),
    "hides old images": (
        "old_data_is_declared",
        "def end_task(self, task, data):\n    self.hidden = [*getattr(self, 'hidden', []), *(x for x, _ in data)]",
        "self.hidden holds 16 images of task 0",
    ),
    "replays in secret": ("old_data_is_declared", SECRET, "holds 48 images of task 0"),
    "hides its buffer": ("old_data_is_declared", SECRET + DECLARED, "holds 48 images of task 0"),
    "replays the last task alone": (
        "old_data_is_declared",
        SECRET.replace("[old[name], *parts]", "parts"),
        "self.memory holds 48 images of task 0",
    ),
    "replays the second task alone": (
        "old_data_is_declared",
        SECRET.replace("data):\n", "data):\n    self.memory.clear()\n    if task != 1:\n        return\n"),
        "self.memory holds 48 images of task 1",
    ),
    "replays in half precision": (
        "old_data_is_declared",
        SECRET.replace('"x": x,', '"x": x.half(),'),
        "self.memory holds 48 images of task 0",
    ),
    "replays in bfloat16": (
        "old_data_is_declared",
        SECRET.replace('"x": x,', '"x": x.bfloat16(),'),
        "self.memory holds 48 images of task 0",
    ),
    "lets statistics move": ("statistics_stay", THAWING, "moved: backbone.bn2.running_mean by up to 0."),
    "hides its anchor": (
        "state_goes_round",
        "def end_task(self, task, data):\n    self.anchor = self.network.backbone.conv1.weight.detach().clone()\n"
        "def penalty(self):\n    w = self.network.backbone.conv1.weight\n"
        "    return 0.1 * (w - self.anchor).square().sum() if hasattr(self, 'anchor') else 0.0",
        "a resumed run differs in",
    ),
    "state is an array": (
        "state_goes_round",
        "def end_task(self, task, data):\n    import numpy\n    self.memory['list'] = numpy.zeros(1)",
        "something else than tensors: ['list']",
    ),
    "counts in integers": (
        "state_goes_round",
        "def end_task(self, task, data):\n    import torch\n    self.memory[task] = torch.ones(1)",
        "the name 0 in memory would be another after a checkpoint",
    ),
    "names with a slash": (
        "state_goes_round",
        "def end_task(self, task, data):\n    import torch\n    self.memory['old'] = {'a/b': torch.ones(1)}",
        "the name 'a/b' in memory['old'] would be another",
    ),
    "centres in place": (
        "images_stay",
        "def end_task(self, task, data):\n    for x, y in data:\n        x -= x.mean()",
        "in task 0 the method writes to images or labels in their place",
    ),
    "relabels in place, by numpy": (
        "images_stay",
        "def end_task(self, task, data):\n    for x, y in data:\n        y.numpy()[:] = 0",
        "it changes images or labels of tasks [0, 1] in their place",
    ),
    "reports an array's number": (
        "result_goes_round",
        "def report(self):\n    import numpy\n    return {'loss': {'mean': numpy.float32(0.5)}}",
        "the method's report says loss.mean = a numpy.float32 of task 0: make it a plain number",
    ),
    "reports a tensor": (
        "result_goes_round",
        "def report(self):\n    return {'rank': [self.network.heads[0].weight]}",
        "rank.0 = a torch.nn.parameter.Parameter",
    ),
    "thaws": (
        "config_stays",
        CONFIG + "    a: int = 1\ndef end_task(self, task, data):\n    object.__setattr__(self.config, 'a', 2)",
        "{'a': 1} became {'a': 2}",
    ),
}


@pytest.mark.parametrize(("check", "body", "said"), BREAKS.values(), ids=BREAKS)
def test_a_method_that_breaks_a_check(plugin: Callable[..., Path], check: str, body: str, said: str) -> None:
    path = plugin("bad", body)
    with pytest.raises((AssertionError, UserError, TypeError)) as caught:
        getattr(method_checks, check)("bad", Catalog.of([path]))
    assert said in str(caught.value)


def test_bfloat16_in_memory_goes_through_a_checkpoint(plugin: Callable[..., Path]) -> None:
    """As what is kept of a forward pass in bf16 is. A number by itself, too."""
    body = (
        "def end_task(self, task, data):\n    import torch\n    w = self.network.backbone.conv1.weight.detach()\n"
        "    self.memory = {'anchor': w.bfloat16(), 'norm': w.norm().bfloat16()}\n"
        "def penalty(self):\n    w = self.network.backbone.conv1.weight\n"
        "    return (w - self.memory['anchor']).square().sum() if self.memory else 0.0"
    )
    method_checks.state_goes_round("half", Catalog.of([plugin("half", body)]))


def test_a_second_parent(plugin: Callable[..., Path]) -> None:
    path = plugin("bad")
    path.write_text(path.read_text().replace("class Own(Method)", "class Own(Method, dict)"))
    with pytest.raises(AssertionError, match="not Method alone"):
        method_checks.derives_from_method_directly("bad", Catalog.of([path]))


def test_every_check_is_broken_above() -> None:
    broken = {check for check, _, _ in BREAKS.values()} | {"derives_from_method_directly"}
    assert broken == {check.__name__ for check in method_checks.CHECKS}
    assert {check for check, *_ in BROKEN_STREAMS.values()} == {check.__name__ for check in benchmark_checks.CHECKS}


STREAM = '''"""A field."""
import numpy as np
from bench.core import Benchmark, Split, Task


class Field(Benchmark):
    num_tasks, num_classes, input_shape, backbone = 2, 2, (1, 6, 6), "convnet"

    def stream(self, seed, data):
        generator = np.random.default_rng(seed)

        def split(n):
            y = np.arange(n) % 2
            x = y.reshape(n, 1, 1, 1) + generator.normal(size=(n, 1, 6, 6))
            return Split(x.astype(np.float32), y)

        return [Task(t, ("a", "b"), split(24), split(8), split(16)) for t in range(2)]
'''
BROKEN_STREAMS = {  # a check, what is replaced, by what, and what is said
    "number": ("tasks_are_in_order", "= 2, 2,", "= 3, 2,", "tasks [0, 1], but num_tasks = 3"),
    "inputs": ("arrays_fit", "float32", "float64", "train of task 0: inputs are float64"),
    "labels": ("arrays_fit", ", y)", ", y.astype(np.int32))", "labels are int32"),
    "shape": ("arrays_fit", "(1, 6, 6)", "(3, 6, 6)", "shape (24, 1, 6, 6), not (24, 3, 6, 6)"),
    "not finite": ("arrays_fit", "y.reshape", "np.nan * y.reshape", "864 inputs are not finite"),
    "global labels": ("labels_are_local", ", y)", ", y + 2)", "labels are [2, 3], not 0 to 1"),
    "no seed": ("stream_depends_on_seed_alone", "rng(seed)", "rng()", "train of task 0 differs"),
    "global state": ("stream_depends_on_seed_alone", "generator.n", "np.random.n", "train of task 0 differs"),
    "one stream": ("stream_depends_on_seed_alone", "rng(seed)", "rng(0)", "the seed has no effect; where that is"),
    "no such nature": (
        "stream_depends_on_seed_alone",
        "    num_t",
        "    same_for_every_seed = True\n    num_t",
        "declares same_for_every_seed, but another seed gives another stream",
    ),
    "one class": (
        "labels_are_local",
        "np.arange(n) % 2",
        "np.arange(n) % 1",
        "labels are [0], not 0 to 1",
    ),
    "one class, declared": (
        "labels_are_local",
        '("a", "b"), split',
        '("a", "b")[: 2 - t], split',
        "task 1 has 1 classes: every answer is right",
    ),
    "too many outputs": ("labels_are_local", "= 2, 2,", "= 2, 3,", "up to 2 classes, but num_classes = 3"),
    "one output": ("fine_tuning_runs", "= 2, 2,", "= 2, 1,", "a head of one output is right whatever it has learned"),
    "leak": ("splits_are_disjoint", "split(8), split(16)", "*[split(8)] * 2", "8 images of test are also in valid"),
    "network": ("fine_tuning_runs", '"convnet"', '""', "names no backbone, and has no own_backbone() either"),
    "two right answers": (
        "classes_are_of_one_task",
        "    num_t",
        '    scenarios = ("task-il", "class-il")\n    num_t',
        "in class-il a class is of one task, but 'a' is of tasks 0 and 1",
    ),
    "recipe": ("recipe_is_valid", "", "", "did you mean 'lr'"),
}


PASSED = dict.fromkeys(check.__name__ for check in benchmark_checks.CHECKS)


def failures(path: Path) -> dict[str, str | None]:
    return {
        verdict.check: verdict.failure for verdict in conformance.run_checks("Benchmark", path.stem, Catalog.of([path]))
    }


@pytest.mark.parametrize(("check", "old", "new", "said"), BROKEN_STREAMS.values(), ids=BROKEN_STREAMS)
def test_a_benchmark_that_breaks_a_check(tmp_path: Path, check: str, old: str, new: str, said: str) -> None:
    path = tmp_path / "field.py"
    path.write_text(STREAM.replace(old, new))
    path.with_suffix(".toml").write_text("[training]\nlrr = 1\n" if check == "recipe_is_valid" else "")
    assert said in str(failures(path)[check])


def test_a_stream_that_is_one_by_nature_passes(tmp_path: Path) -> None:
    path = tmp_path / "field.py"
    path.write_text(
        STREAM.replace("rng(seed)", "rng(0)").replace("    num_t", "    same_for_every_seed = True\n    num_t")
    )
    assert failures(path) == PASSED


def test_tasks_of_unequal_numbers_of_classes_pass(tmp_path: Path) -> None:
    path = tmp_path / "field.py"
    text = STREAM.replace("def split(n):", "def split(n, k):").replace("% 2", "% k").replace("= 2, 2,", "= 2, 3,")
    text = text.replace(
        'Task(t, ("a", "b"), split(24), split(8), split(16))',
        'Task(t, ("a", "b", "c")[: 2 + t], split(24, 2 + t), split(8, 2 + t), split(16, 2 + t))',
    )
    path.write_text(text)
    assert failures(path) == PASSED


def test_a_recipe_for_nobody(tmp_path: Path) -> None:
    path = tmp_path / "field.py"
    path.write_text(STREAM)
    path.with_suffix(".toml").write_text("[trainig]\nlr = 1.0\n")
    said = f"{path.with_suffix('.toml')}, line 1: unknown table 'trainig': did you mean 'training'?"
    assert said in str(failures(path)["recipe_is_valid"])


def test_the_verb_passes_what_is_right(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "field.py"
    path.write_text(STREAM)
    answer = command("check", path)
    assert answer.code == 0, answer.out
    assert answer.out.count("  ok    ") == len(benchmark_checks.CHECKS)
    assert answer.out.endswith("field: all checks passed\n")


def test_the_verb_tells_what_fails_and_what_it_protects_from(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "field.py"
    path.write_text(STREAM.replace(", y)", ", y + 2)"))
    answer = command("check", tmp_path)
    assert answer.code == 1
    assert "  FAIL  labels are local: A head has an output per class" in answer.out
    assert "labels are [2, 3], not 0 to 1" in answer.out


def test_the_verb_refuses_what_cannot_be_used(command: Command, plugin: Callable[..., Path]) -> None:
    answer = command("check", plugin("bad", "def end_tasks(self): ..."))
    assert (answer.code, answer.out) == (2, "") and "line 7: unknown hook 'end_tasks'" in answer.err
    assert command("check", "no_such_thing").code == 2


def failed(name: str, path: Path) -> dict[tuple[str, str], str]:
    """What fails of a method, by check and benchmark."""
    verdicts = conformance.run_checks("Method", name, Catalog.of([path]))
    return {(v.check, v.place.partition(",")[0]): v.failure for v in verdicts if v.failure is not None}


NARROW = {  # what works on a plain network alone: a class body, the check that tells, and what is said
    "every parameter a matrix": (
        "def edit_grads(self):\n    for p in self.network.shared_parameters().values():\n"
        "        p.grad = 0.99 * p.grad.flatten(1).view_as(p)",
        "toy_tasks_are_learnt",
        "IndexError",
    ),
    "statistics of the batch at hand": (
        "def forward(self, x, task):\n    import torch\n    for layer in self.network.modules():\n"
        "        if isinstance(layer, torch.nn.BatchNorm2d):\n            layer.train()\n"
        "    return self.network(x, task)",
        "evaluation_changes_nothing",
        "another test set changes backbone.bn",
    ),
}


@pytest.mark.parametrize(("body", "check", "said"), NARROW.values(), ids=NARROW)
def test_what_works_on_a_plain_network_alone_fails_on_the_other(
    plugin: Callable[..., Path], body: str, check: str, said: str
) -> None:
    path = plugin("narrow", body)
    getattr(method_checks, check)("narrow", Catalog.of([path]), trial.PLAIN)
    with pytest.raises(Exception) as caught:
        getattr(method_checks, check)("narrow", Catalog.of([path]), trial.SHARED)
    assert said in f"{type(caught.value).__name__}: {caught.value}"


def test_an_exception_is_a_failure_with_its_line(plugin: Callable[..., Path]) -> None:
    path = plugin("bad", "def begin_task(self, task, data):\n    1 / 0")
    found = failed("bad", path)
    assert found["toy_tasks_are_learnt", "toy"] == "ZeroDivisionError: division by zero (line 8)"
    assert ("construction_changes_nothing", "toy") not in found


def test_a_nan_is_a_failure(plugin: Callable[..., Path]) -> None:
    path = plugin("bad", "def penalty(self):\n    return float('nan')")
    with pytest.raises((FloatingPointError, UserError), match="nan in task 0"):
        method_checks.toy_tasks_are_learnt("bad", Catalog.of([path]))
