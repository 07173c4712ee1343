"""Which methods take layers for matrices, and that they are refused before training where a layer is something else."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.catalog.catalog import Catalog
from bench.core import UserError
from bench.nn.network import Network
from bench.tools.trial import Run
from bench.training.loop import Session
from bench.training.method import Method
from bench.training.needs import demand_float64, takes_layers_for_matrices, takes_samples_apart

ON_MATRICES = {"adamnscl", "codecl", "dfgp", "fsdgpm", "gpm", "inflora", "ness", "olora", "owm", "sgp", "trgp"}


def session(name: str, *layers: nn.Module) -> Session:
    """Return a session of the toy stream with another backbone."""
    run = Run(name, epochs=1)
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), *layers)
    features = body(torch.zeros(2, *run.tasks[0].train.x.shape[1:])).shape[1]
    network = Network(body, features, 2, len(run.tasks))
    method = type(run.method)(network, run.method.config, torch.Generator())
    return Session(network, method, run.tasks[:2], run.training, run.seed)


def test_methods_are_told_apart_by_what_they_ask_for():
    methods = {name: Catalog().method(name) for name in Catalog().available("Method")}
    assert {name for name, cls in methods.items() if takes_layers_for_matrices(cls)} == ON_MATRICES


class Float32(TorchDispatchMode):
    """Inside, float64 is refused, as on a device that has none."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        answer = operator(*args, **(kwargs or {}))
        for tensor in tree_leaves(answer):
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64:
                raise TypeError(f"{operator} gives float64")
        return answer


@pytest.mark.parametrize("name", Catalog().available("Method"))
def test_methods_that_compute_in_float64_are_those_refused_on_mps(name):
    """What is not refused there trains, is saved and is tested without a number of 64 bits."""
    run = Run(name, epochs=1)
    learning = run.session
    with Float32():
        if name in ON_MATRICES:
            with pytest.raises(TypeError, match="gives float64"):
                learning.run()
        else:
            assert len(learning.run()[1]) >= 1
    if name in ON_MATRICES:
        with pytest.raises(UserError, match="float64, which mps does not support: run it with --device cpu"):
            demand_float64(type(run.method), "mps")
    else:
        demand_float64(type(run.method), "mps")
    demand_float64(type(run.method), "cuda")


def count_layers(network: Network) -> int:
    return len(network.layers())


class Helped(Method):
    def end_task(self, task, data):
        self.numbers = [size for size in map(lambda n: count_layers(self.network), range(2))]  # noqa: C417, C416


def test_a_helper_and_a_parent_count_as_the_method():
    assert takes_layers_for_matrices(Helped)
    assert takes_layers_for_matrices(type("Child", (Helped,), {}))
    assert not takes_layers_for_matrices(Method)


@pytest.mark.parametrize("name", sorted(ON_MATRICES))
def test_an_odd_layer_is_refused_before_training(name):
    odd = session(name, parametrizations.weight_norm(nn.Linear(36, 8)))
    before = {key: value.clone() for key, value in odd.network.state_dict().items()}
    with pytest.raises(UserError, match=r"backbone\.1 \(ParametrizedLinear\) computes its weight"):
        odd.run()
    assert all(torch.equal(value, before[key]) for key, value in odd.network.state_dict().items())


class Swapped(nn.Module):
    """Passes the second dimension of its inputs (n, 6, 6) for the batch, and one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.view(-1, 6, 6).transpose(0, 1)).mean(0)


def test_methods_that_take_samples_apart_are_told_by_what_they_ask_for():
    runs = {name: Run(name, epochs=1).method for name in Catalog().available("Method")}
    assert {name for name, own in runs.items() if takes_samples_apart(type(own), own.config)} == {"ewc", "mas"}
    by_batch = replace(runs["ewc"].config, fisher="batch")
    assert not takes_samples_apart(type(runs["ewc"]), by_batch)


@pytest.mark.parametrize("name", ["ewc", "mas"])
def test_samples_that_are_not_told_apart_are_refused_before_training(name):
    odd = session(name, Swapped())
    before = {key: value.clone() for key, value in odd.network.state_dict().items()}
    with pytest.raises(UserError, match=r"no per-sample gradients for backbone\.1\.layer"):
        odd.run()
    assert all(torch.equal(value, before[key]) for key, value in odd.network.state_dict().items())


def test_the_gradient_of_a_batch_needs_no_samples_apart():
    odd = session("ewc", Swapped())
    odd.method = type(odd.method)(odd.network, replace(odd.method.config, fisher="batch"), torch.Generator())
    assert odd.run()[0][-1][0] is not None


@pytest.mark.parametrize("name", ["finetune", "er", "lwf", "si", "joint"])
def test_methods_of_other_kinds_run_on_it(name):
    R, _ = session(name, parametrizations.weight_norm(nn.Linear(36, 8))).run()
    assert R[-1][0] is not None


def test_what_the_names_do_not_show_is_refused_when_it_asks():
    class Hidden(Method):
        def end_task(self, task, data):
            getattr(self.network, "lay" + "ers")()

    odd = session("finetune", nn.Linear(36, 8), nn.PReLU())
    odd.method = Hidden(odd.network)
    with pytest.raises(UserError, match=r"backbone\.2\.weight \(PReLU\)"):
        odd.run()


@pytest.mark.parametrize("name", sorted(Catalog().available("Method")))
def test_a_frozen_layer_stays_as_it_was_made(name):
    run = session(name, nn.Linear(36, 12).requires_grad_(False), nn.ReLU(), nn.Linear(12, 8))
    before = run.network.backbone[1].weight.clone()
    learning = run.network.backbone[3].weight.clone()
    run.run()
    assert torch.equal(run.network.backbone[1].weight, before)
    assert not torch.equal(run.network.backbone[3].weight, learning)
