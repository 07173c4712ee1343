"""The training loop: schedule, sharpness-aware steps, batches, what is restored, and what a method may see."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from bench.core import Split, Task, Training, slices
from bench.nn.network import Network
from bench.tools.trial import Run
from bench.training import batches, loop, schedule, stage, step
from bench.training.data import TrainingData
from bench.training.method import Method


def test_a_method_may_leave_gradients_in_any_layout():
    weights = []
    for layout in (lambda grad: grad, lambda grad: grad.transpose(0, -1).contiguous().transpose(0, -1)):
        run = Run("finetune", epochs=1, momentum=0.9)

        def edit(run=run, layout=layout):
            for p in run.method.parameters():
                p.grad = layout(p.grad)

        run.method.edit_grads = edit
        run.learn(2)
        weights.append(run.network.state_dict())
    assert len(weights[0]) == 6
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def rates(training: Training, losses: list[float]) -> tuple[list[float], int | None, int]:
    """Return the rate of each epoch, the epoch (1-based) after which training stops, and the best epoch."""
    plateau = schedule.Plateau(training)
    used = []
    best = 0
    for epoch, loss in enumerate(losses, 1):
        used.append(plateau.lr)
        improved, stop = plateau.update(loss)
        if improved:
            best = epoch
        if stop:
            return used, epoch, best
    return used, None, best


@pytest.mark.parametrize(
    ("lr", "factor", "lr_min", "count"),
    [(0.005, 2, 1e-5, 9), (0.05, 2, 1e-5, 13), (0.01, 2, 1e-5, 10), (0.1, 3, 1e-3, 5), (0.05, 3, 1e-3, 4),
     (0.01, 3, 1e-3, 3), (0.05, 2, 5e-5, 10)],
)  # fmt: skip
def test_number_of_rates(lr, factor, lr_min, count):
    training = Training(lr=lr, factor=factor, lr_min=lr_min, patience=6)
    used, stopped, _ = rates(training, [1.0] * 200)
    assert len(set(used)) == count
    assert stopped == 1 + 6 * count


def test_schedule_trace():
    training = Training(lr=0.1, patience=2, factor=2, lr_min=0.03)
    used, stopped, best = rates(training, [1, 0.9, 0.95, 0.92, 0.91, 0.93])
    assert used == [0.1, 0.1, 0.1, 0.1, 0.05, 0.05]
    assert stopped == 6
    assert best == 2


def test_ties_are_no_improvement():
    training = Training(lr=0.1, patience=2, factor=2, lr_min=0.01)
    used, stopped, best = rates(training, [1, 0.9, 0.9, 0.9, 0.89, 0.95, 0.95, 0.95, 0.95])
    assert used == [0.1] * 4 + [0.05] * 3 + [0.025] * 2
    assert stopped is None
    assert best == 5


def test_without_patience_the_rate_is_constant():
    assert rates(Training(patience=0, lr=0.1), [1.0] * 50) == ([0.1] * 50, None, 1)


class Quadratic(nn.Module):
    """f(w) = (w1² + 4 w2²) / 2 as a network, for a loss that is its output."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 2.0]))

    def loss(self) -> torch.Tensor:
        return (self.w.square() * torch.tensor([1.0, 4.0])).sum() / 2


def test_ascent_of_sam():
    model = Quadratic()
    model.loss().backward()
    with step.perturbed([model.w], 0.05):
        shift = model.w.detach() - torch.tensor([1.0, 2.0])
        torch.testing.assert_close(shift, torch.tensor([0.006202, 0.049614]), atol=1e-6, rtol=0)
        model.w.grad = None
        model.loss().backward()
    torch.testing.assert_close(model.w.grad, torch.tensor([1.006202, 8.198456]), atol=1e-5, rtol=0)
    assert torch.equal(model.w, torch.tensor([1.0, 2.0]))
    torch.optim.SGD([model.w], lr=0.1).step()
    torch.testing.assert_close(model.w.detach(), torch.tensor([0.899380, 1.180154]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("sam", "expected"), [("none", []), ("first", [0]), ("all", [0, 1])])
def test_sam_on_the_chosen_tasks(monkeypatch, sam, expected):
    run = Run("finetune", sam=sam, epochs=1)
    entered = []
    enter = step.perturbed.__enter__

    def noted(self):
        entered.append(self)
        return enter(self)

    monkeypatch.setattr(step.perturbed, "__enter__", noted)
    steps = len(slices(48, 16))
    run.learn(1)
    assert len(entered) == steps * (0 in expected)
    entered.clear()
    run.learn(2, first=1)
    assert len(entered) == steps * (1 in expected)


def test_sam_matters():
    weights = []
    for sam in ("none", "all"):
        run = Run("finetune", sam=sam)
        run.learn(1)
        weights.append(run.network.state_dict())
    assert not torch.equal(weights[0]["backbone.fc3.weight"], weights[1]["backbone.fc3.weight"])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_parameter_without_gradient_is_neither_moved_nor_decayed(optimizer):  # None, not zeros; so heads stay
    model = Quadratic()
    opt = step.make_optimizer([model.w], Training(optimizer=optimizer, weight_decay=0.1))
    for clear in (opt.zero_grad, model.zero_grad):
        model.loss().backward()
        opt.step()
        clear()
        assert model.w.grad is None
        before = model.w.detach().clone()
        opt.step()
        assert torch.equal(model.w.detach(), before)


def test_every_sample_once_and_tasks_interleaved():
    parts = []
    for t, n in ((0, 33), (1, 8)):
        parts.append((t, torch.full((n, 1), float(t)), torch.arange(n)))
    drawn = list(batches.random_batches(parts, 4, torch.Generator().manual_seed(0)))
    assert len(drawn) == 10
    assert all((batch.x == batch.task).all() for batch in drawn)
    assert [batch.progress for batch in drawn] == [i / 9 for i in range(10)]
    for t, n in ((0, 33), (1, 8)):
        own = torch.cat([batch.y for batch in drawn if batch.task == t])
        assert sorted(own.tolist()) == list(range(n))
    order = [batch.task for batch in drawn]
    assert order != sorted(order)


@pytest.mark.parametrize(
    ("n", "count", "last"),
    [(4750, 75, 14), (2375, 38, 7), (47_500, 743, 12), (57_000, 891, 40), (69_595, 1088, 27), (16_011, 251, 11),
     (2450, 39, 18), (250, 4, 58), (2500, 40, 4), (1000, 16, 40), (26_032, 407, 48)],
)  # fmt: skip
def test_batches_per_epoch(n, count, last):
    cuts = slices(n, 64)
    assert len(cuts) == count
    assert cuts[-1].stop - cuts[-1].start == last
    assert cuts[-1].stop == n


def test_no_batch_of_one():  # normalisation by batch statistics fails on it
    assert [s.stop - s.start for s in slices(129, 64)] == [64, 65]
    assert [s.stop - s.start for s in slices(1, 64)] == [1]


class Spy(Method):
    """A method that notes what the trainer hands it, and the weights at the end of a task."""

    def begin_task(self, task, data):
        self.begun = task, len(data)
        self.epochs = []

    def end_task(self, task, data):
        self.ended = {k: v.clone() for k, v in self.network.state_dict().items()}


def tasks_of(n: int, validation: int) -> list[Task]:
    generator = np.random.default_rng(0)

    def split(size: int) -> Split:
        y = np.arange(size) % 2
        x = y[:, None] * 2 - 1 + generator.normal(size=(size, 4))
        return Split(x.astype(np.float32), y.astype(np.int64))

    return [Task(t, ("a", "b"), split(n), split(validation), split(20)) for t in range(2)]


def small() -> Network:
    torch.manual_seed(0)
    return Network(nn.Linear(4, 6, bias=False), 6, 2, 2)


def trained(method: Method, tasks: list[Task], scenario: str = "task-il", **settings):
    """Return R and the records of a method's training on tasks, with seed 0."""
    return loop.Session(method.network, method, tasks, Training(**settings), seed=0, scenario=scenario).run()


def test_best_weights_come_back(monkeypatch):
    losses = iter([0.5, 0.2, 0.9, 0.8])
    seen = []
    network = small()

    def fake(*_):
        seen.append({k: v.clone() for k, v in network.state_dict().items()})
        return next(losses)

    monkeypatch.setattr(stage, "validation_loss", fake)
    method = Spy(network)
    _, records = trained(method, tasks_of(32, 8)[:1], epochs=4, patience=9)
    assert records[0].epochs == 4
    assert records[0].validation_loss == 0.2
    assert all(torch.equal(method.ended[k], seen[1][k]) for k in seen[1])
    assert not all(torch.equal(method.ended[k], seen[3][k]) for k in seen[3])


def test_last_weights_stay_without_restore(monkeypatch):
    losses = iter([0.5, 0.9])
    monkeypatch.setattr(stage, "validation_loss", lambda *_: next(losses))
    network, kept = small(), small()
    losses = iter([0.5, 0.9, 0.5, 0.9])
    trained(Spy(network), tasks_of(32, 8)[:1], epochs=2, patience=9)
    trained(Spy(kept), tasks_of(32, 8)[:1], epochs=2, patience=9, restore_best=False)
    assert not torch.equal(network.backbone.weight, kept.backbone.weight)


def test_a_benchmark_without_validation_data_is_steered_by_the_training_loss():
    network = small()
    _, records = trained(Spy(network), tasks_of(32, 0), epochs=3)
    assert [r.epochs for r in records] == [3, 3]
    assert min(r.validation_loss for r in records) > 0


def test_nan_loss_is_an_error_that_says_where():
    network = small()
    tasks = tasks_of(32, 8)
    tasks[1].train.x[0] = np.nan
    with pytest.raises(FloatingPointError, match="task 1, epoch 0"):
        trained(Spy(network), tasks, epochs=2)


def test_nothing_to_learn_with_is_no_error():
    network = small()
    method = Spy(network)
    method.parameters = list
    _, records = trained(method, tasks_of(32, 8), epochs=2)
    assert [(r.epochs, r.trainable) for r in records] == [(0, 0)] * 2


def test_joint_training_with_momentum():
    """Each batch gives a gradient to one head only."""
    assert Run("joint", momentum=0.9, epochs=1).learn()[-1]


def test_data_is_closed_when_its_task_has_ended():
    class Hoarder(Method):
        def begin_task(self, task, data):
            for x, _ in getattr(self, "old", ()):
                x.sum()
            self.old = data

    network = small()
    with pytest.raises(PermissionError, match="old_data"):
        trained(Hoarder(network), tasks_of(32, 8), epochs=1)


def test_earlier_data_only_for_those_who_declare_it():
    data = TrainingData(1, torch.zeros(5, 2), torch.zeros(5), 2)
    with pytest.raises(PermissionError, match="old_data"):
        _ = data.earlier
    data.grant([data])
    assert [len(x) for x, _ in data.earlier[0]] == [2, 3]
    assert data.samples_read == 5


class Reader(Method):
    """A method that reads three old samples per task."""

    @classmethod
    def old_data(cls, config):
        return "all"

    def begin_task(self, task, data):
        for old in data.earlier:
            old.sample(3, self.generator)


def test_old_samples_and_their_bytes_are_counted():
    network = small()
    _, records = trained(Reader(network), tasks_of(32, 8), epochs=1)
    assert [r.old_samples_read for r in records] == [0, 3]
    task_bytes = 32 * (4 * 4 + 8)
    assert [r.state_bytes for r in records] == [task_bytes, 2 * task_bytes]


def test_all_methods_meet_the_same_batches(monkeypatch):
    """Data order and dropout depend on the seed and the task, not on the method."""
    seen = {}
    train = stage.training_step

    def noted(method, optimizer, batch, *rest, name):
        seen[name].append(batch.x)
        return train(method, optimizer, batch, *rest)

    for name in ("finetune", "olora"):
        seen[name] = []
        monkeypatch.setattr(stage, "training_step", partial(noted, name=name))
        Run(name, epochs=2).learn(2)
    assert len(seen["finetune"]) == len(seen["olora"]) > 0
    assert all(torch.equal(a, b) for a, b in zip(seen["finetune"], seen["olora"], strict=True))


def test_upper_triangle_is_measured_for_a_shared_head_only():
    network = small()
    R, _ = trained(Method(network), tasks_of(32, 8), epochs=1)
    assert R[0][1] is None
    assert R[1][0] is not None
    shared = Network(nn.Linear(4, 6, bias=False), 6, 2, 1)
    R, _ = trained(Method(shared), tasks_of(32, 8), scenario="domain-il", epochs=1)
    assert R[0][1] is not None
