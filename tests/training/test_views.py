"""A benchmark's views reach training, evaluation and methods; and the rate falls along a cosine."""

import pytest
import torch

from bench.core import Benchmark, Training, Views
from bench.data.generated import random_task
from bench.nn import architectures
from bench.training import schedule
from bench.training.data import Batch, TrainingData
from bench.training.loop import Session, TaskDone
from bench.training.method import Method
from bench.training.stage import EpochDone

K20 = {0: 5e-4, 1: 4.98326e-4, 10: 3.4167e-4, 19: 7.854e-6}
K50 = {0: 5e-4, 25: 3.50709e-4, 49: 7.854e-6}


@pytest.mark.parametrize(("epochs", "wanted"), [(20, K20), (50, K50)])
def test_the_rate_falls_along_the_cosine_of_inflora(epochs, wanted):
    training = Training(lr_schedule="cosine", lr=5e-4, epochs=epochs, patience=1)
    cosine = schedule.schedule_of(training)
    rates = []
    for _ in range(epochs):
        rates.append(cosine.lr)
        _, stop = cosine.update(1.0)
        assert not stop
    assert {e: rates[e] for e in wanted} == pytest.approx(wanted, rel=1e-4)


def test_a_cosine_of_one_epoch_has_the_first_rate_and_knows_the_best_loss():
    cosine = schedule.schedule_of(Training(lr_schedule="cosine", lr=0.1, epochs=1))
    assert cosine.lr == 0.1
    assert [cosine.update(loss)[0] for loss in (2.0, 2.0, 1.0)] == [True, False, True]
    assert cosine.best == 1.0
    assert cosine.lr > 0


def test_the_plateau_is_the_schedule_unless_another_is_asked_for():
    assert isinstance(schedule.schedule_of(Training()), schedule.Plateau)


class Seen(Method):
    """Notes what it is shown."""

    def begin_task(self, task: int, data: TrainingData) -> None:
        self.batches: list[torch.Tensor] = []
        self.read = [x for x, _ in data]
        self.few = data.sample(3, self.generator)[0]

    def before_step(self, batch: Batch) -> Batch:
        self.batches.append(batch.x)
        return batch

    def forward(self, x, task):
        if not self.network.training:
            self.tested = x
        return super().forward(x, task)


class Crops(Benchmark):
    name, num_tasks, num_classes, input_shape, backbone = "crops", 2, 3, (3, 16, 16), "mlp"
    views = Views(stored=(3, 12, 12), side=16, resized=20)


def session(**training) -> Session:
    torch.manual_seed(0)
    network = architectures.build(Crops())
    tasks = [random_task(Crops(), t, 10, 4, 4) for t in range(2)]
    return Session(network, Seen(network), tasks, Training(**{"epochs": 2, "batch_size": 5, **training}), 0)


def test_training_sees_random_parts_and_whoever_reads_data_the_middle():
    run = session()
    events = run.events()
    event = next(event for event in events if isinstance(event, TaskDone))
    assert event.record.epochs == 2
    method = run.method
    stored = torch.from_numpy(run.tasks[0].train.x)
    assert stored.dtype == torch.uint8
    middle = run.network.test_images(stored)
    assert middle.shape == (10, 3, 16, 16)
    assert torch.equal(torch.cat(method.read), middle)
    assert all(any(torch.equal(x, y) for y in middle) for x in method.few)
    assert [x.shape for x in method.batches] == [(5, 3, 16, 16)] * 4
    assert torch.cat(method.batches).unique(dim=0).shape[0] == 20, "every view is another"
    tested = run.network.test_images(torch.from_numpy(run.tasks[0].test.x))
    assert sorted(method.tested.sum((1, 2, 3)).tolist()) == pytest.approx(sorted(tested.sum((1, 2, 3)).tolist()))


def test_views_are_the_same_bits_in_every_run_and_do_not_move_the_order_of_samples():
    first, again = session(), session()
    for run in (first, again):
        run.run()
    assert all(torch.equal(a, b) for a, b in zip(first.method.batches, again.method.batches, strict=True))
    assert len(first.method.batches) == 4
    state, other = first.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)


def test_the_rate_of_an_epoch_is_that_of_the_schedule():
    run = session(lr_schedule="cosine", lr=0.01, optimizer="adam", epochs=3)
    rates = [event.lr for event in run.events() if isinstance(event, EpochDone)]
    assert rates[:3] == rates[3:]
    assert rates[:3] == pytest.approx([0.01, 0.0071325, 0.00015707], rel=1e-3)


def test_a_test_over_all_classes_sees_the_middle_too():
    run = session()
    run.scenario = "class-il"
    rows, records = run.run()
    assert rows[1][0] is not None
    assert records[1].seen is not None
    assert run.method.tested.shape[1:] == (3, 16, 16)
