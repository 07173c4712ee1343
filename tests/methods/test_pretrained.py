"""InfLoRA and O-LoRA at home: on a vision transformer that counts as pre-trained, from the first task on."""

import pytest
import torch
from torch import Tensor

from bench.catalog.catalog import Catalog
from bench.core import Benchmark, Training
from bench.data.generated import random_task
from bench.nn import architectures
from bench.nn.activations import input_grams, input_rows
from bench.nn.adapters import Factors
from bench.nn.subspace import project_out, spectrum
from bench.training.data import TrainingData
from bench.training.evaluation import Drift
from bench.training.loop import Session, TaskDone

SAMPLES = 8
KEYS, VALUES = "backbone.blocks.2.attn.qkv.k", "backbone.blocks.2.attn.qkv.v"


class Images(Benchmark):
    name, backbone, head_bias = "images", "tiny_vit", True
    num_tasks, num_classes, input_shape = 3, 3, (3, 32, 32)


def session_of_method(name: str, **settings) -> Session:
    """A method about to learn three tasks of a few random images, in two epochs each."""
    benchmark = Images()
    torch.manual_seed(0)
    network = architectures.build(benchmark)
    cls = Catalog().method(name)
    method = cls(network, cls.Config(**settings), torch.Generator().manual_seed(0))
    tasks = [random_task(benchmark, t, SAMPLES, 2, 2) for t in range(benchmark.num_tasks)]
    return Session(network, method, tasks, Training(optimizer="adam", lr=0.01, epochs=2, batch_size=4), 0)


def learn(session: Session, until: int, first: int = 0) -> None:
    """Learn the tasks from `first` up to `until`."""
    Session(session.network, session.method, session.tasks[:until], session.training, session.seed).run(first)


def data_of(session: Session, task: int) -> TrainingData:
    split = session.tasks[task].train
    return TrainingData(task, torch.from_numpy(split.x), torch.from_numpy(split.y), SAMPLES)


def weights(session: Session) -> dict[str, Tensor]:
    return {name: block.weight.clone() for name, block in session.network.blocks().items()}


# How far an update moves outputs for old images


def test_the_drift_of_a_weight_that_grows_by_half_is_a_half():
    session = session_of_method("finetune")
    drift = Drift(session.network, session.tasks[:2])
    session.network.blocks()[KEYS].weight.mul_(1.5)
    session.network.blocks()[VALUES].weight[0] += 1.0
    found = drift.measured()
    assert found["moved"][KEYS] == pytest.approx(0.5)
    assert (found["rank"][KEYS], found["rank"][VALUES]) == (96, 1)
    others = set(session.network.blocks()) - {KEYS, VALUES}
    assert len(others) == 10
    assert all(found["rank"][name] == found["moved"][name] == 0 for name in others)


def test_every_method_is_asked_for_its_drift_after_the_first_task():
    session = session_of_method("inflora", rank=5)
    first, second, third = [event.record for event in session.events() if isinstance(event, TaskDone)]
    assert first.drift is None and "drift" not in first.plain()
    for record in (second, third):
        assert set(record.plain()["drift"]) == {"rank", "moved"}
        assert set(record.drift["rank"].values()) == {5}
        assert all(0 < moved < 1 for moved in record.drift["moved"].values())


# InfLoRA


def test_inflora_starts_at_the_first_task_with_the_leading_directions_of_all_its_inputs():
    session = session_of_method("inflora", rank=5)
    data = data_of(session, 0)
    grams = input_grams(session.network, data, 0)
    session.network.open([0])
    session.method.begin_task(0, data)
    adapters = {name: session.network.get_submodule(name) for name in (KEYS, VALUES)}
    for name, adapter in adapters.items():
        [B] = adapter.downs
        leading = spectrum(grams[name]).vectors[:, :5]
        torch.testing.assert_close((B.double() @ leading).abs(), torch.eye(5).double() / 3**0.5, atol=1e-4, rtol=0)
        assert not adapter.ups[0].any()
    assert torch.equal(adapters[KEYS].downs[0], adapters[VALUES].downs[0]), "one input, one B"


def test_inflora_trains_one_matrix_a_projection_and_a_head():
    session = session_of_method("inflora", rank=5)
    records = [event.record for event in session.events() if isinstance(event, TaskDone)]
    head = 3 * 96 + 3
    assert [record.trainable for record in records] == [12 * 96 * 5 + head] * 3


@pytest.mark.parametrize("energy", [0.6, 0.999], ids=["remove", "retain"])
def test_inflora_leaves_outputs_alone_on_what_its_memory_holds_of_old_inputs(energy):
    session = session_of_method("inflora", rank=5, energy=energy, energy_power=2, energy_step=0.0)
    learn(session, 2)
    held = {name: tensor.clone() for name, tensor in session.method.memory.items()}
    old = torch.cat([torch.from_numpy(task.train.x) for task in session.tasks[:2]])
    inputs = {name: rows.double() for name, rows in input_rows(session.network, old, 0)}
    before = weights(session)
    learn(session, 3, first=2)
    flags = [bool(flag) for name, flag in held.items() if name.endswith(".retain")]
    assert any(flags) == (energy == 0.999)
    updates = {name: (weight - before[name]).double() for name, weight in weights(session).items()}
    moved = {name: delta for name, delta in updates.items() if float(delta.norm()) > 1e-4}
    assert len(moved) > 6
    for name, delta in moved.items():
        rows, basis = inputs[name], held[name]
        free = project_out(rows, basis)
        inside = free if bool(held[f"{name}.retain"]) else rows - free
        share = float((inside @ delta.T).norm() / (inside.norm() * delta.norm()))
        assert share < 1e-5, name
        outside = rows - inside
        assert float((outside @ delta.T).norm() / (outside.norm() * delta.norm())) > 100 * share


# O-LoRA


def test_olora_has_a_pair_of_the_first_task_and_keeps_it():
    session = session_of_method("olora", rank=4)
    before = weights(session)
    learn(session, 1)
    first = {name: factors.down.detach().clone() for name, factors in session.method.factors.items()}
    assert len(first) == 12
    for name, factors in session.method.factors.items():
        torch.testing.assert_close(weights(session)[name] - before[name], factors.up @ factors.down, atol=1e-5, rtol=0)
        assert torch.equal(session.method.memory[name], first[name]), "the pair itself, not directions of inputs"
    learn(session, 2, first=1)
    assert all(session.method.memory[name].shape == (8, 96) for name in first)
    assert all(torch.equal(session.method.memory[name][:4], down) for name, down in first.items())


def test_the_term_of_olora_is_nothing_for_orthogonal_pairs_and_counts_the_others():
    session = session_of_method("olora", rank=2, orthogonality=0.5)
    axes = torch.eye(96)
    session.method.memory = {KEYS: axes[:2], VALUES: axes[:2]}
    session.method.factors = {
        KEYS: Factors(torch.nn.Parameter(torch.zeros(96, 2)), torch.nn.Parameter(axes[2:4])),
        VALUES: Factors(torch.nn.Parameter(torch.zeros(96, 2)), torch.nn.Parameter(axes[4:6])),
    }
    assert float(session.method.penalty().detach()) == 0
    crossing = torch.zeros(2, 96)
    crossing[0, :3] = torch.tensor([0.5, -0.5, 1.0])
    crossing[1, 1] = 2.0
    session.method.factors[VALUES] = Factors(torch.nn.Parameter(torch.zeros(96, 2)), torch.nn.Parameter(crossing))
    assert float(session.method.penalty().detach()) == pytest.approx(0.5 * 3.0)


def test_the_first_task_has_no_term():
    session = session_of_method("olora", rank=4)
    session.network.open([0])
    session.method.begin_task(0, data_of(session, 0))
    assert len(session.method.factors) == 12
    assert float(session.method.penalty().detach()) == 0
