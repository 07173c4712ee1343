"""Class-incremental learning: which logits there are, which heads learn, and what a test over all classes says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import first_quick
from torch import Tensor, nn

from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.core import Cell, Split, Task, Training, UserError
from bench.execution.runner import Resources, run_cell
from bench.nn.network import Network
from bench.tools.method_checks import CLASSES, PLAIN, Run, difference
from bench.training.data import Batch, tasks_of
from bench.training.evaluation import StreamTests
from bench.training.loop import Session, TaskDone
from bench.training.method import Method
from bench.training.scenario import Scenario
from bench.training.stage import ForeignHeadError

TASKS = 3
NO_REPLAY = ["ewc", "si", "mas", "ness", "inflora", "olora", "sgp", "dfgp", "adamnscl", "owm"]
AT_HOME = PLAIN._replace(protocol=CLASSES.protocol)  # the same in task-il


def seen(name: str, **settings: Any) -> Run:
    return Run(name, ground=CLASSES, **{"logits": "seen", **settings})


def cell_of(method: str, benchmark: str, scenario: str, epochs: int | None = None, **settings: Any) -> Cell:
    request = Request([method], [benchmark], [0], epochs, {method: settings}, scenario=scenario)
    [cell] = Catalog().plan(request).cells
    return cell


@pytest.mark.parametrize("name", first_quick(["er", "finetune", "joint", "gpm", "lwf"]))
def test_training_on_the_current_logits_is_that_of_task_il_and_its_test_is_harder(name: str) -> None:
    """The same weights to the bit; to be the largest of all logits is harder than to be that of one's own head."""
    own_settings = {"heads": "separate"} if name == "lwf" else {}
    over_classes, at_home = (Run(name, ground=g, logits="current", **own_settings) for g in (CLASSES, AT_HOME))
    R, own = over_classes.learn(), at_home.learn()
    assert not difference(over_classes.network.state_dict(), at_home.network.state_dict())
    pairs = [(R[i][j], own[i][j]) for i in range(TASKS) for j in range(i + 1) if R[i][j] is not None]
    assert len(pairs) in (3, 6)
    assert all(there <= here for there, here in pairs if there is not None and here is not None)
    assert any(there != here for there, here in pairs)


def test_accuracy_over_all_classes_is_at_most_that_within_a_task() -> None:
    """On the weights of one run that is trained over all classes; and what it says of its tasks is what task-il is."""
    run = seen("er")
    R = run.learn()
    over_classes, at_home = (
        StreamTests(run.tasks, Scenario(name, logits, run.network), run.training, 0, torch.device("cpu"))
        for name, logits in (("class-il", "seen"), ("task-il", "current"))
    )
    measured = over_classes.after(run.method, TASKS - 1)
    run.network.together = 0
    own = at_home.after(run.method, TASKS - 1).row
    assert measured.row == R[-1] and len(own) == TASKS
    assert measured.within == pytest.approx(own)
    assert at_home.after(run.method, TASKS - 1).within is None
    assert all(float(there) <= float(here) for there, here in zip(R[-1], own, strict=True))  # type: ignore[arg-type]


def test_fine_tuning_ends_at_a_tth_of_joint_training_and_replay_does_not() -> None:
    """The softmax over all classes moves every logit of an earlier task down, while no image of it is there."""
    last = {}
    for method in ("finetune", "joint", "er"):
        result = run_cell(cell_of(method, "digits", "class-il", epochs=8), Resources())
        assert result.error is None, result.error
        last[method] = result.seen[-1]
    assert last["joint"] > 0.9
    assert abs(last["finetune"] - last["joint"] / 5) < 0.03
    assert last["er"] > 0.6


def test_logits_stand_one_task_after_the_other() -> None:
    network = Network(nn.Identity(), 4, 2, 3, head_bias=True)
    x = torch.randn(5, 4)
    alone = [network(x, t) for t in range(3)]
    network.together = 2
    assert torch.equal(network(x, 0), torch.cat(alone[:2], dim=1))
    assert torch.equal(network(x, 1), network(x, torch.tensor([0, 1, 0, 1, 1])))
    weights = {"heads.0.weight": torch.zeros(2, 4)}
    assert torch.equal(network(x, 0, weights=weights)[:, :2], network.head(0).bias.expand(5, 2))


class Watched(Method):
    """Fine-tuning that keeps every batch."""

    def before_step(self, batch: Batch) -> Batch:
        self.batches: list[Batch] = [*getattr(self, "batches", []), batch]
        return batch


def toy_tasks() -> list[Task]:
    return list(Run("finetune").tasks)


def session_of(method_class: type[Method], **settings: Any) -> Session:
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(36, 8)), 8, 2, TASKS)
    training = Training(epochs=1, batch_size=16, **settings)
    return Session(network, method_class(network), toy_tasks(), training, 0, "class-il")


def test_labels_count_through_the_tasks_where_one_softmax_is_over_them() -> None:
    labels = {}
    for logits in ("current", "seen"):
        session = session_of(Watched, logits=logits)
        session.run()
        batches: list[Batch] = session.method.batches  # type: ignore[attr-defined]
        labels[logits] = [sorted(set(b.y.tolist())) for b in batches if len(b.y) > 8]
        assert {b.task for b in batches} == {0, 1, 2}
    assert labels["current"] == [[0, 1]] * 9
    assert labels["seen"] == [[0, 1]] * 3 + [[2, 3]] * 3 + [[4, 5]] * 3


@pytest.mark.parametrize("logits", ["current", "seen"])
def test_a_joint_batch_has_images_of_any_task_where_one_softmax_is_over_them(logits: str) -> None:
    class Together(Watched):
        stage = "all"

    session = session_of(Together, logits=logits)
    _, [record] = session.run()
    batches: list[Batch] = session.method.batches  # type: ignore[attr-defined]
    assert sum(len(b.y) for b in batches) == 3 * 48
    mixed = [isinstance(b.task, Tensor) and len(set(b.task.tolist())) == 3 for b in batches]
    assert all(mixed) if logits == "seen" else not any(mixed)
    through = [torch.equal(b.y // 2, tasks_of(b)) for b in batches]
    assert all(through) if logits == "seen" else not all(through)
    assert record.confusion is not None and len(record.confusion) == 3


class MovesAHead(Method):
    """Fine-tuning that also changes the head of another task."""

    place = 0

    def end_task(self, task: int, data: Any) -> None:
        if task == 1:
            with torch.no_grad():
                self.network.heads[self.place].weight.add_(1.0)  # type: ignore[operator, union-attr]


def test_heads_of_earlier_tasks_learn_under_one_softmax_and_rest_otherwise() -> None:
    with pytest.raises(ForeignHeadError, match=r"heads\.0\.weight"):
        session_of(MovesAHead, logits="current").run()
    _, records = session_of(MovesAHead, logits="seen").run()
    head = 8 * 2
    assert [record.trainable for record in records] == [36 * 8 + 8 + head * (t + 1) for t in range(TASKS)]

    class MovesTheNext(MovesAHead):
        place = 2

    with pytest.raises(ForeignHeadError, match=r"heads\.2\.weight"):
        session_of(MovesTheNext, logits="seen").run()


class Reads(Method):
    """Answers with the image: the class that is written in it."""

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        self.sizes: list[int] = [*getattr(self, "sizes", []), len(x)]
        written = x.flatten(1)[:, 0].long()
        return nn.functional.one_hot(written, 6).float()


def written(*tasks: list[tuple[int, int]]) -> list[Task]:
    """Return tasks of two classes, from pairs of an image's class and of the class written in it."""
    made = []
    for t, pairs in enumerate(tasks):
        x = np.array([[there] for _, there in pairs], dtype=np.float32)
        split = Split(x, np.array([label % 2 for label, _ in pairs]))
        made.append(Task(t, (), split, split, split))
    return made


def test_a_test_over_all_classes_in_numbers() -> None:
    """Of four images of the first task three are right and one is taken for task 2; of two of the second one is right
    and one is taken for the other class of its task; of the last, both for the first task."""
    tasks = written([(0, 0), (1, 1), (0, 0), (1, 4)], [(2, 2), (3, 2)], [(4, 0), (5, 1)])
    network = Network(nn.Identity(), 1, 2, 3)
    training = Training(eval_batch_size=3, n_eval=2)
    tests = StreamTests(tasks, Scenario("class-il", "current", network), training, 0, torch.device("cpu"))
    method = Reads(network)
    assert tests.before_training(method) is None
    second, last = tests.after(method, 1), tests.after(method, 2)
    assert second.row == [0.75, 0.5, None] and second.confusion is None
    assert second.seen == pytest.approx(4 / 6)
    assert last.row == [0.75, 0.5, 0.0]
    assert last.seen == pytest.approx(4 / 8)
    assert last.confusion == [[0.75, 0, 0.25], [0, 1, 0], [1, 0, 0]]
    assert network.together == 0
    assert method.sizes == [3, 3] * 2 + [3, 3, 2] * 2, "images of all tasks share batches"


class Company(Method):
    """Notes of which tasks the images of each batch are, by what is written in them."""

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        assert task == 0, "a task was told"
        owners = x.flatten(1)[:, 0].long() // 2
        self.met: list[set[int]] = [*getattr(self, "met", []), set(owners.tolist())]
        return torch.zeros(len(x), 6)


def test_neither_an_argument_nor_the_company_of_a_batch_tells_the_task() -> None:
    tasks = written(*[[(2 * t, 2 * t), (2 * t + 1, 2 * t + 1)] * 20 for t in range(3)])
    network = Network(nn.Identity(), 1, 2, 3)
    method = Company(network)
    tests = StreamTests(tasks, Scenario("class-il", "seen", network), Training(), 0, torch.device("cpu"))
    tests.after(method, 2)
    assert method.met == [{0, 1, 2}] * 2


def test_logits_that_are_no_numbers_are_told() -> None:
    class Broken(Method):
        def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
            return torch.full((len(x), 6), torch.nan)

    network = Network(nn.Identity(), 1, 2, 3)
    scenario = Scenario("class-il", "seen", network)
    tests = StreamTests(written([(0, 0)], [(2, 2)], [(4, 4)]), scenario, Training(), 0, torch.device("cpu"))
    with pytest.raises(FloatingPointError, match="logits hold NaN on the test images of"):
        tests.after(Broken(network), 1)


def test_the_square_of_derpp_is_of_the_logits_that_there_were() -> None:
    run = seen("derpp", alpha=1.0, beta=0.0)
    run.learn(2)
    kept = run.method.memory["samples"]
    assert kept["logits"].shape[1] == 4
    early = kept["task"] == 0
    assert bool(early.any()) and not bool(kept["logits"][early][:, 2:].any())
    assert bool((kept["y"] // 2 == kept["task"]).all())
    run.network.together = 3
    run.method.begin_task(2, run.session.stage.data if run.session.stage else None)  # type: ignore[arg-type]
    samples = {name: rows[early] for name, rows in run.method.memory["samples"].items()}
    now = run.network(samples["x"], 0)
    assert now.shape[1] == samples["logits"].shape[1] == 6
    expected = (now[:, :2] - samples["logits"][:, :2]).square().mean()
    torch.testing.assert_close(run.method._moved(samples), expected)


def test_the_fisher_information_is_that_of_the_softmax_that_is_trained() -> None:
    """Of a single task both softmaxes are one; of two they are not."""
    both = [Run("ewc", ground=CLASSES, logits=logits, fisher="batch") for logits in ("seen", "current")]
    differs = []
    for t in range(2):
        for run in both:
            run.learn(t + 1, first=t)
        memories = [{n: m for n, m in run.method.memory.items() if "heads" not in n} for run in both]
        assert len(memories[0]) == len(memories[1]) == 2 * 3
        differs.append(bool(difference(*memories)))
    assert differs == [False, True]


def test_heads_that_go_on_learning_are_held_and_frozen_as_what_tasks_share() -> None:
    run = seen("ewc")
    run.learn(2)
    held = {name.removeprefix("fisher.") for name in run.method.memory if name.startswith("fisher.")}
    assert {name for name in held if name.startswith("heads.")} == {"heads.0.weight", "heads.1.weight"}
    assert bool((run.method.memory["fisher.heads.0.weight"] > 0).any())
    projected = seen("gpm")
    projected.learn(1)
    before = projected.network.head(0).weight.detach().clone()
    projected.learn(2, first=1)
    assert torch.equal(projected.network.head(0).weight, before)
    assert set(projected.network.layers()) == {"backbone.conv1", "backbone.conv2", "backbone.fc3"}
    at_home = Run("ewc", ground=CLASSES)
    at_home.learn(2)
    assert not any("heads" in name for name in at_home.method.memory)


@pytest.mark.parametrize("name", first_quick(NO_REPLAY))
def test_a_method_that_replays_nothing_learns_over_all_classes_too(name: str) -> None:
    """Each task is learnt, and the run goes on from where it stopped. Low ranks may not overtake frozen heads."""
    whole, half = seen(name), seen(name)
    R = whole.learn()
    learnt = [float(R[t][t] or 0) for t in range(TASKS)]
    assert learnt[0] > 0.8
    assert min(learnt) > 0.7 or name == "olora", R
    half.learn(1)
    rows = [event.row for event in half.session.events(first=1) if isinstance(event, TaskDone)]
    assert rows == R[1:]


def test_a_replayed_sample_is_told_apart_from_later_classes() -> None:
    """Its loss has every class so far among its logits: a step on it alone moves later heads."""
    run = seen("er")
    run.learn(1)
    run.network.together = 2
    samples = run.method.memory["samples"]
    run.network.requires_grad_(True)
    run.method.loss(Batch(samples["x"], samples["y"], samples["task"])).backward()
    later = run.network.head(1).weight.grad
    assert later is not None and float(later.abs().sum()) > 0


@pytest.mark.parametrize("scenario", ["", "task-il"])
def test_logits_of_all_tasks_are_refused_where_there_are_none(
    command: Callable[..., Any], tmp_path: Path, scenario: str
) -> None:
    words = ["--bench", "digits", "--methods", "er", "--set", "er.logits=seen", "--out", tmp_path]
    answer = command(*words, *(["--scenario", scenario] if scenario else []))
    assert answer.code == 2
    assert "er.logits = seen goes with --scenario class-il, not with task-il" in answer.err


@pytest.mark.parametrize("name", ["hat", "trgp", "codecl"])
def test_what_needs_the_task_of_a_test_image_does_not_apply(name: str) -> None:
    plan = Catalog().plan(Request([name, "finetune"], ["digits"], [0], scenario="class-il"))
    assert [cell.method for cell in plan.cells] == ["finetune"]
    assert plan.not_applicable[name, "digits"] == "it needs the task of every test image, which class-il does not tell"


def test_a_shared_head_is_told_the_task_where_the_scenario_makes_it_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else differs: one head, the same weights, and no test of tasks that are not learnt yet."""
    asked: dict[str, set[int]] = {}
    found = {}
    for scenario in ("domain-il", "task-il-shared"):
        tasks = asked[scenario] = set()
        given = Method.forward

        def forward(self: Method, x: Tensor, task: Any, tasks: set[int] = tasks, given: Any = given) -> Tensor:
            if not self.network.training:
                tasks.add(int(task))
            logits: Tensor = given(self, x, task)
            return logits

        with monkeypatch.context() as patch:
            patch.setattr(Method, "forward", forward)
            result = run_cell(cell_of("gpm", "permuted_digits", scenario, epochs=1), Resources())
        assert result.error is None, result.error
        found[scenario] = result.R
    assert asked == {"domain-il": {0}, "task-il-shared": set(range(5))}
    learnt = np.tril_indices(5)
    assert np.array_equal(found["domain-il"][learnt], found["task-il-shared"][learnt])
    ahead = np.triu_indices(5, 1)
    assert np.isnan(found["task-il-shared"][ahead]).all() and not np.isnan(found["domain-il"][ahead]).any()


@pytest.mark.slow
def test_trgp_scales_a_shared_head_by_the_task_that_it_is_told() -> None:
    """Without its own scale no task is answered as it was learnt: hence what the scenario is for."""
    result = run_cell(cell_of("trgp", "permuted_digits", "task-il-shared"), Resources())
    assert result.error is None, result.error
    assert float(np.diag(result.R).min()) > 0.9, "every task is learnt"
    assert result.R[-1, 0] > result.R[0, 0] - 0.1
    plan = Catalog().plan(Request(["trgp"], ["permuted_digits"], [0]))
    assert plan.not_applicable["trgp", "permuted_digits"].endswith("which domain-il does not tell")


def test_lwf_learns_the_head_of_the_task_alone() -> None:
    cell = cell_of("lwf", "digits", "class-il")
    assert cell.config["heads"] == "joined" and cell.training["logits"] == "current"
    plan = Catalog().plan(Request(["lwf"], ["digits"], [0], None, {"lwf": {"logits": "seen"}}, scenario="class-il"))
    assert "set logits to current" in plan.not_applicable["lwf", "digits"]


def test_a_benchmark_that_has_no_such_scenario_says_which_it_has() -> None:
    with pytest.raises(UserError, match="toy_shared has no scenario class-il: it is run in domain-il"):
        Catalog().plan(Request(["er"], ["toy_shared"], [0], scenario="class-il"))


def test_records_say_what_was_seen_and_a_result_gives_it(tmp_path: Path) -> None:
    result = run_cell(cell_of("er", "toy", "class-il", epochs=2), Resources())
    assert result.error is None
    assert len(result.seen) == TASKS
    assert result.seen[0] == result.R[0, 0]
    assert result.seen[-1] == pytest.approx(float(np.mean(result.R[-1]))), "tasks have as many images each"
    assert result.confusion is not None and result.confusion.shape == (TASKS, TASKS)
    assert bool(np.all(np.diag(result.confusion) >= result.R[-1] - 1e-12)), "right is never of another task"
    assert np.isnan(result.R[0, 1:]).all()
    at_home = run_cell(cell_of("er", "toy", "task-il", epochs=2), Resources())
    assert at_home.seen == [] and at_home.confusion is None


@pytest.mark.parametrize("name", first_quick(["derpp", "er", "agem", "fsdgpm"]))
def test_a_session_of_class_il_goes_on_where_it_stopped(name: str) -> None:
    whole, half = Run(name, ground=CLASSES, epochs=2), Run(name, ground=CLASSES, epochs=2)
    R = whole.learn()
    half.learn(1)
    rows = [event.row for event in half.session.events(first=1) if isinstance(event, TaskDone)]
    assert rows == R[1:]
    assert not difference(half.network.state_dict(), whole.network.state_dict())


def test_a_training_setting_of_a_scenario_stands_in_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        Path("datasets/toy.py").read_text().replace("class Toy", "class Mine").replace("in_all = False", "")
    )
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[training]\nlr = 0.1\n[class-il.training]\nlr = 0.2\n[class-il.ewc]\nlogits = "seen"\n')
    catalog = Catalog.of([tmp_path])
    found = {}
    for scenario in ("task-il", "class-il"):
        for cell in catalog.plan(Request(["ewc", "gpm"], ["mine"], [0], scenario=scenario)).cells:
            found[scenario, cell.method] = (cell.training["lr"], cell.training["logits"], cell.source["recipe"])
    assert [found["task-il", m][:2] for m in ("ewc", "gpm")] == [(0.1, "current")] * 2
    assert [found["class-il", m][:2] for m in ("ewc", "gpm")] == [(0.2, "seen"), (0.2, "current")]
    recipe.write_text("[training]\nlr = 0.1\n")
    [plain] = Catalog.of([tmp_path]).plan(Request(["ewc"], ["mine"], [0])).cells
    assert plain.source["recipe"] == found["task-il", "ewc"][2], "what is said of another scenario marks nothing"


def test_unequal_seeds_and_protocols_are_kept_apart() -> None:
    cells = {scenario: cell_of("er", "digits", scenario) for scenario in ("task-il", "class-il")}
    assert cells["task-il"].scenario == "task-il"
    assert cells["class-il"] == dataclasses.replace(
        cells["task-il"], scenario="class-il", training=cells["class-il"].training
    )
    assert cells["class-il"].training == {**cells["task-il"].training, "logits": "seen"}
    assert len({cell.group for cell in cells.values()}) == 2
