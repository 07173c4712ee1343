"""What a stream and a benchmark promise is held against them before anything is learnt, on one line that names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_loop import small, tasks_of, trained

from bench.catalog.catalog import Catalog
from bench.core import Split, Task, UserError
from bench.same_data import fingerprint
from bench.training.demands.contract import demand_splits
from bench.training.method import Method


def changed(tasks: list[Task], t: int, part: str, change: Callable[[Split], Split]) -> list[Task]:
    """The tasks with one split of one of them changed."""
    split = change(getattr(tasks[t], part))
    return [replace(task, **{part: split}) if task.index == t else task for task in tasks]


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("label", [-100, -1, 2])
def test_a_label_that_no_output_stands_for(part: str, label: int) -> None:
    """A loss passes over -100 in silence."""

    def change(split: Split) -> Split:
        y = split.y.copy()
        y[5] = label
        return Split(split.x, y)

    low, high = min(label, 0), max(label, 1)
    said = f"the {part} split of task 1 has labels from {low} to {high}; within a task they count from 0 to 1"
    with pytest.raises(UserError, match=said):
        trained(Method(small()), changed(tasks_of(32, 8), 1, part, change), epochs=1)


def test_an_empty_split_but_for_validation() -> None:
    def emptied(split: Split) -> Split:
        return Split(split.x[:0], split.y[:0])

    for part in ("train", "test"):
        with pytest.raises(UserError, match=f"^the {part} split of task 0 is empty$"):
            trained(Method(small()), changed(tasks_of(32, 8), 0, part, emptied), epochs=1)
    trained(Method(small()), changed(tasks_of(32, 8), 0, "validation", emptied), epochs=1)


def test_tasks_out_of_order() -> None:
    with pytest.raises(UserError, match=r"tasks are in the order \[1, 0\], not from 0 to 1"):
        trained(Method(small()), tasks_of(32, 8)[::-1], epochs=1)


class WritesInForward(Method):
    def forward(self, x, task):
        x -= 0.1
        return self.network(x, task)


class WritesLabels(Method):
    def end_task(self, task, data):
        for _, y in data:
            y.zero_()


class WritesToBatch(Method):
    """A batch is a copy, and the method's to change."""

    def before_step(self, batch):
        batch.x.mul_(0.9)
        return batch


@pytest.mark.parametrize("method", [WritesInForward, WritesLabels])
def test_images_are_not_written_to(method: type[Method]) -> None:
    with pytest.raises(UserError, match="in task 0 the method writes to images or labels in their place"):
        trained(method(small()), tasks_of(32, 8), epochs=1)


def test_a_batch_may_be_written_to() -> None:
    tasks = tasks_of(32, 8)
    before = fingerprint(tasks)
    trained(WritesToBatch(small()), tasks, epochs=1)
    assert fingerprint(tasks) == before


FIELD = '''"""A field."""
import numpy as np
from bench.core import Benchmark, Split, Task


class Field(Benchmark):
    num_tasks, num_classes, input_shape = 2, 2, (1, 6, 6)
    backbone = "convnet"

    def stream(self, seed, data):
        def split(n):
            y = np.arange(n) % 2
            x = y.reshape(n, 1, 1, 1) + np.zeros((n, 1, 6, 6))
            return Split(x.astype(np.float32), y)

        return [Task(t, ("a", "b"), split(24), split(8), split(16)) for t in range(2)]
'''
BROKEN = {  # what is replaced, by what, and what is said
    "too few tasks": ("= 2, 2,", "= 3, 2,", "field: its stream has 2 tasks, but num_tasks = 3"),
    "too many tasks": ("range(2)]", "range(5)]", "field: its stream has 5 tasks, but num_tasks = 2"),
    "none": ("range(2)]", "range(0)]", "field: its stream has 0 tasks, but num_tasks = 2"),
    "order": ("Task(t,", "Task(1 - t,", "field: tasks are in the order [1, 0], not from 0 to 1"),
    "counted from 1": ("Task(t,", "Task(t + 1,", "field: tasks are in the order [1, 2], not from 0 to 1"),
    "all alike": ("Task(t,", "Task(0,", "field: tasks are in the order [0, 0], not from 0 to 1"),
    "a generator": ("return [", "return iter([", "field: its stream() gives no list of tasks"),
    "no task": ("return [", "return [None, None] or [", "field: its stream() gives no list of tasks"),
    "global labels": (", y)", ", y + 2)", "field: the train split of task 0 has labels from 2 to 3; within a task"),
    "ignored labels": (", y)", ", y - 100)", "the train split of task 0 has labels from -100 to -99; within a task"),
    "no training": ("split(24)", "split(0)", "field: the train split of task 0 is empty"),
    "no test": ("split(16)", "split(16 * (1 - t))", "field: the test split of task 1 is empty"),
    "labels of floats": (", y)", ", y * 1.0)", "task 0 has labels of type float64, not numpy's int64"),
    "doubles": ("float32", "float64", "the train split of task 0 has inputs of type float64, not numpy's float32"),
    "no arrays": (", y)", ", y.tolist())", "task 0 has labels of type list, not numpy's int64"),
    "shape": ("(1, 6, 6)\n", "(3, 6, 6)\n", "inputs (24, 1, 6, 6) and labels (24,); inputs would be (24, 3, 6, 6)"),
    "a label missing": (", y)", ", y[:-1])", "inputs (24, 1, 6, 6) and labels (23,); inputs would be (23, 1, 6, 6)"),
    "one image": ("return S", "x[n - 1, 0, 2] = np.nan if n == 16 else 0\n            return S",
                  "the test split of task 0 has 1 images that are not finite, number 15 first: mend the data"),
    "infinite": ("return S", "x[0] = -np.inf\n            return S", "the train split of task 0 has"),
    "backbone": ('"convnet"', '"convnett"', "unknown backbone of field 'convnett': did you mean 'convnet'?"),
    "another": ('"convnet"', '"vgg"', "unknown backbone of field 'vgg': known: alexnet, convnet"),
    "no backbone": ('"convnet"', '""', "field names no backbone, and has no own_backbone() either"),
    "one output": ("= 2, 2,", "= 2, 1,", "field has num_classes = 1, but a head of one output is right whatever"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), BROKEN.values(), ids=BROKEN)
def test_a_benchmark_that_breaks_its_contract_fails_before_training(
    command: Callable[..., Any], tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = tmp_path / "field.py"
    text = FIELD.replace(old, new)
    assert text != FIELD
    path.write_text(text + ("        )\n" if "iter(" in new else ""))
    words = ("--plugin", path, "--bench", "field", "--methods", "finetune", "--seeds", "0", "--executor", "serial")
    answer = command(*words, "--epochs", 1, "--out", tmp_path / "out")
    assert answer.code == 1 and "| failed |" in answer.out
    [line] = [line for line in answer.err.splitlines() if line.startswith("failed: finetune on field, seed 0: ")]
    assert said in line and "Error" not in line.partition(" traceback")[0]


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ('scenario = "task_il"', "unknown scenario 'task_il': did you mean 'task-il'?"),
        ('scenarios = ("task-il", "class_il")', "unknown scenario 'class_il': did you mean 'class-il'?"),
        ('scenarios = "class-il"', "scenarios is 'class-il', not a tuple of names"),
        ("scenarios = ()", "scenarios is (), not a tuple of names"),
        ('scenarios = ("task-il", "domain-il")', "task-il and domain-il are two benchmarks"),
    ],
)
def test_a_scenario_that_nobody_knows_is_refused_with_its_line(
    command: Callable[..., Any], tmp_path: Path, declared: str, said: str
) -> None:
    path = tmp_path / "field.py"
    path.write_text(FIELD.replace('"convnet"', f'"convnet"\n    {declared}'))
    line = 1 + path.read_text()[: path.read_text().index(declared)].count("\n")
    answer = command("--plugin", path, "--bench", "field", "--methods", "finetune", "--out", tmp_path / "out")
    assert answer.code == 2
    assert f"line {line}: {said}" in answer.err


def test_a_class_of_two_tasks_has_two_right_answers_in_class_il(command: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "field.py"
    path.write_text(FIELD.replace('"convnet"', '"convnet"\n    scenarios = ("task-il", "class-il")'))
    words = ("--plugin", path, "--bench", "field", "--methods", "finetune", "--seeds", "0", "--executor", "serial")
    answer = command(*words, "--epochs", 1, "--scenario", "class-il", "--out", tmp_path / "out")
    assert answer.code == 1
    assert "in class-il a class is of one task, but 'a' is of tasks 0 and 1" in answer.err
    assert command(*words, "--epochs", 1, "--out", tmp_path / "out").code == 0


def test_a_benchmark_that_keeps_its_contract(command: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "field.py"
    path.write_text(FIELD.replace("split(8)", "split(0)"))
    words = ("--plugin", path, "--bench", "field", "--methods", "finetune", "--seeds", "0", "--executor", "serial")
    assert command(*words, "--epochs", 1, "--out", tmp_path / "out").code == 0


def test_the_largest_numbers_are_finite_and_infinity_is_not() -> None:
    toy = Catalog().benchmark("toy")
    stream = toy.stream(0, Path())
    largest = np.finfo(np.float32).max
    stream[2].test.x[3] = largest
    stream[2].test.x[4] = -largest
    demand_splits(toy, stream)
    stream[2].test.x[4, 0, 5, 5] = -np.inf
    with pytest.raises(UserError, match=r"^toy: the test split of task 2 has 1 images .*, number 4 first"):
        demand_splits(toy, stream)
