"""Input matrices, Grams and per-sample gradients against torch's own operators and autograd."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from bench.catalog.catalog import Catalog
from bench.core import UserError
from bench.nn import architectures
from bench.nn.activations import (
    constant_batch_statistics,
    evaluating,
    input_grams,
    input_rows,
    sample_gradients,
    squared_gradients,
)
from bench.nn.grams import unfold_inputs
from bench.nn.network import Network, blocks_of


def rows(matrix: list[int]) -> torch.Tensor:
    return torch.tensor(matrix, dtype=torch.float32)


def test_patches_in_order():
    x = torch.arange(18.0).view(1, 2, 3, 3)
    patches = unfold_inputs(nn.Conv2d(2, 1, 2), x)[0]
    assert torch.equal(patches[0], rows([0, 1, 3, 4, 9, 10, 12, 13]))
    assert torch.equal(patches[1:, 0], rows([1, 3, 4]))
    padded = unfold_inputs(nn.Conv2d(2, 1, 3, stride=2, padding=1), x)[0]
    assert padded.shape == (4, 18)
    assert torch.equal(padded[0], rows([0, 0, 0, 0, 0, 1, 0, 3, 4, 0, 0, 0, 0, 9, 10, 0, 12, 13]))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 8, 3, groups=2, stride=2, padding=2, dilation=2),
        nn.Conv2d(6, 9, (2, 3), padding="same", dilation=(1, 2), groups=3),
        nn.Conv2d(6, 4, 4, padding="same"),
        nn.Conv2d(6, 4, 3, padding=(1, 2), padding_mode="reflect"),
        nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular", stride=(2, 1)),
        nn.Conv2d(6, 12, 1, stride=2),
        nn.Conv2d(6, 6, 3, groups=6, bias=False),
    ],
    ids=["all at once", "same, grouped", "same, even", "reflect", "circular", "1x1 strided", "depthwise"],
)
def test_rows_times_weight_is_the_convolution(layer):
    layer = layer.double()
    x = torch.randn(2, 6, 9, 9, dtype=torch.float64)
    out = layer(x)
    blocks = blocks_of("layer", layer)
    groups = [x_g @ b.weight.T for x_g, b in zip(unfold_inputs(layer, x), blocks, strict=True)]
    by_place = torch.cat(groups, dim=1).view(2, *out.shape[2:], -1)
    product = by_place.permute(0, 3, 1, 2)
    bias = 0 if layer.bias is None else layer.bias.view(-1, 1, 1)
    torch.testing.assert_close(product + bias, out, atol=1e-12, rtol=0)


def test_rows_of_a_pass_are_those_behind_the_grams():
    torch.manual_seed(0)
    network, x = Network(architectures.groupnet((2, 6, 6)), 32, 2, 2), torch.randn(5, 2, 6, 6)
    found = dict(input_rows(network, x, 0))
    grams = input_grams(network, [(x, torch.zeros(5))], 0)
    assert list(found) == list(grams) and network.training
    for name, gram in grams.items():
        torch.testing.assert_close(found[name].double().T @ found[name].double(), gram, rtol=1e-5, atol=1e-5)


def test_tokens_are_rows():
    assert unfold_inputs(nn.Linear(5, 2), torch.zeros(3, 7, 5)).shape == (1, 21, 5)


def input_shapes(network: Network, x: torch.Tensor, counts: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return d x n of every layer's input matrix, from the first so many samples."""
    shapes = {}
    samples = dict(zip(network.layers(), counts, strict=True))

    def observe(layer, inputs, name):
        first = inputs[0][: samples[name]]
        [matrix] = unfold_inputs(layer, first)
        shapes[name] = tuple(matrix.T.shape)

    for name, layer in network.layers().items():
        layer.register_forward_pre_hook(partial(observe, name=name))
    network(x, 0)
    return list(shapes.values())


def test_gpm_shapes_of_the_alexnet():
    network = architectures.build(Catalog().benchmark("split_cifar100"))
    shapes = input_shapes(network, torch.randn(125, 3, 32, 32), (24, 100, 100, 125, 125))
    assert shapes == [(48, 20184), (576, 14400), (512, 2500), (1024, 125), (2048, 125)]


def test_gpm_shapes_of_the_mlp():  # the shared head is one of the layers
    network = Network(architectures.mlp((1, 28, 28)), 100, 10, 1)
    shapes = input_shapes(network, torch.randn(300, 1, 28, 28), (300, 300, 300))
    assert shapes == [(784, 300), (100, 300), (100, 300)]


def test_gpm_shapes_of_the_lenet():
    network = Network(architectures.lenet((3, 32, 32)), 500, 5, 20)
    shapes = input_shapes(network, torch.randn(125, 3, 32, 32), (24, 100, 125, 125))
    assert shapes == [(75, 24576), (500, 25600), (3200, 125), (800, 125)]


RESNET_ROWS = {  # as in DFGP's logs, by the side of an image: positions of a layer's output times the samples it uses
    32: [10240] * 5 + [2560] * 4 + [12800] + [3200] * 3 + [6400, 6400] + [1600] * 5,
    84: [17640] * 5 + [4410] * 4 + [22050] + [6050] * 3 + [12100, 12100] + [3600] * 5,
}


@pytest.mark.parametrize("side", [32, 84])
@pytest.mark.slow
def test_gpm_shapes_of_the_resnet(side):  # a shortcut uses as many samples as its block's first convolution
    name, features = ("resnet18", 640) if side == 32 else ("resnet18_stride2", 1440)
    body = architectures.BACKBONES[name]((3, side, side))
    main = [10] * 8 + [50] * 3 + [100] * 6
    shortcuts = {6: 10, 10: 50, 14: 100}  # batch_list of GPM's code
    samples = []
    for i, count in enumerate(main):
        samples.append(count)
        if i in shortcuts:
            samples.append(shortcuts[i])
    d = [27] + [180] * 5 + [360, 20, 360, 360, 360, 720, 40] + [720] * 3 + [1440, 80, 1440, 1440]
    network = Network(body, features, 10, 5)
    x = torch.randn(100, 3, side, side)
    shapes = input_shapes(network, x, tuple(samples))
    assert shapes == list(zip(d, RESNET_ROWS[side], strict=True))


@pytest.fixture
def network() -> Network:
    """Return a network with a grouped convolution, batch statistics, dropout and two heads."""
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2, padding=1),
        nn.BatchNorm2d(6, track_running_stats=False),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(96, 5),
        nn.BatchNorm1d(5, track_running_stats=False),
    )
    return Network(body, 5, 3, 2)


def test_grams_add_up_over_batches_and_leave_everything_alone(network):
    x = torch.randn(8, 4, 4, 4)
    y = torch.zeros(8, dtype=torch.long)
    seen = {}
    network.layers()["backbone.5"].register_forward_pre_hook(lambda m, x: seen.setdefault("fc", []).append(x[0]))
    network.train()
    network.backbone[3].eval()
    before = torch.random.get_rng_state()
    state = copy.deepcopy(network.state_dict())
    halves = [(x[:4], y[:4]), (x[4:], y[4:])]
    grams = input_grams(network, halves, 1)
    assert list(grams) == ["backbone.0.g0", "backbone.0.g1", "backbone.5"]
    inputs = torch.cat(seen["fc"]).double()
    torch.testing.assert_close(grams["backbone.5"], inputs.T @ inputs, rtol=1e-6, atol=1e-5)  # products are float32
    assert grams["backbone.0.g0"].shape == (18, 18)
    assert grams["backbone.5"].dtype == torch.float64
    assert torch.equal(before, torch.random.get_rng_state())
    assert network.training
    assert network.backbone[0].training
    assert not network.backbone[3].training
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_grams_of_the_first_samples_see_the_statistics_of_all(network):
    x = torch.randn(8, 4, 4, 4)
    y = torch.zeros(8, dtype=torch.long)
    part = input_grams(network, [(x, y)], 0, {"backbone.5": 3})
    whole = input_grams(network, [(x, y)], 0)
    rest = input_grams(network, [(x.flip(0), y)], 0, {"backbone.5": 5})
    both = part["backbone.5"] + rest["backbone.5"]
    torch.testing.assert_close(both, whole["backbone.5"], rtol=1e-6, atol=1e-5)  # products are float32
    torch.testing.assert_close(part["backbone.0.g0"], whole["backbone.0.g0"])


def test_squared_gradients_are_those_of_each_sample(network):
    """Against autograd, one sample at a time, with the batch's statistics held constant."""
    network.double()
    x = torch.randn(5, 4, 4, 4).double()
    y = torch.tensor([0, 1, 2, 0, 1])
    network.open([0])
    squares = squared_gradients(network, x, y, 0)
    assert set(squares) == set(network.shared_parameters())
    expected = {name: torch.zeros_like(p) for name, p in network.shared_parameters().items()}
    for n in range(len(x)):
        with evaluating(network), constant_batch_statistics(network):
            loss = F.cross_entropy(network(x, 0)[n : n + 1], y[n : n + 1])
        grads = torch.autograd.grad(loss, list(network.shared_parameters().values()))
        for name, grad in zip(expected, grads, strict=True):
            expected[name] += grad.square()
    for name, square in squares.items():
        torch.testing.assert_close(square, expected[name], atol=1e-12, rtol=1e-9)
    assert all(m.running_mean is None for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert all(p.grad is None for p in network.parameters())


def test_absolute_gradients_are_those_of_each_sample(network):
    """Of the squared norm of the logits, against autograd, one sample at a time."""
    network.double()
    x = torch.randn(5, 4, 4, 4).double()
    network.open([0])
    shared = network.shared_parameters()
    found = sample_gradients(network, x, 0, lambda logits: logits.square().sum(), torch.abs)
    expected = {name: torch.zeros_like(p) for name, p in shared.items()}
    for n in range(len(x)):
        with evaluating(network), constant_batch_statistics(network):
            grads = torch.autograd.grad(network(x, 0)[n].square().sum(), list(shared.values()))
        for name, grad in zip(expected, grads, strict=True):
            expected[name] += grad.abs()
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)


def test_squared_gradients_refuse_what_they_cannot_do():
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.LayerNorm(4)), 4, 2, 2)
    with pytest.raises(UserError, match="LayerNorm"):
        squared_gradients(network, torch.randn(3, 4), torch.tensor([0, 1, 0]), 0)


class Odd(nn.Module):
    """Two layers of four numbers, and a given function that passes them."""

    def __init__(self, rule):
        super().__init__()
        self.rule = rule
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.token = torch.ones(4)

    def forward(self, x):
        return self.rule(self, x)


class Tripled(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x, 3 * self.weight, self.bias)


def tied() -> nn.Module:
    body = Odd(lambda b, x: b.two(b.one(x.mean(1)).relu()))
    body.two.weight = body.one.weight
    return body


def attention() -> nn.Module:
    class Attention(nn.MultiheadAttention):
        def forward(self, x):
            return super().forward(x, x, x)[0].mean(1)

    return Attention(4, 2, batch_first=True)


def ended_in_place(body: Odd, x: torch.Tensor) -> torch.Tensor:
    return body.two(F.relu(body.one(x.mean(1)), inplace=True))


NOT_TOLD_APART = {  # of inputs (n, 5, 4): a backbone, and whom the refusal names
    "the batch is second": (lambda: Odd(lambda b, x: b.one(x.transpose(0, 1)).mean(0)), "backbone.one"),
    "patches in the batch": (lambda: Odd(lambda b, x: b.one(x.flatten(0, 1)).view(-1, 5, 4).mean(1)), "backbone.one"),
    "a tied weight": (tied, "backbone.one.weight"),
    "one row for all": (lambda: Odd(lambda b, x: x.mean(1) * b.one(b.token[None])), "backbone.one"),
    "one vector for all": (lambda: Odd(lambda b, x: x.mean(1) * b.one(b.token)), "backbone.one"),
    "written over": (lambda: Odd(ended_in_place), "backbone.one"),
    "past its forward": (lambda: Odd(lambda b, x: b.two(F.linear(x.mean(1), b.one.weight))), "backbone.one.weight"),
    "a forward of its own": (lambda: nn.Sequential(nn.Flatten(), Tripled(20, 4)), "backbone.1.weight"),
    "another kind": (attention, "backbone, a Attention"),
    "weight_norm": (
        lambda: nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(20, 4))),
        "backbone.1.parametrizations.weight, a ParametrizationList",
    ),
}


@pytest.mark.parametrize("size", [torch.square, torch.abs], ids=["EWC", "MAS"])
@pytest.mark.parametrize(("build", "name"), NOT_TOLD_APART.values(), ids=NOT_TOLD_APART)
def test_where_samples_are_not_told_apart_no_gradients_are_given(build, name, size):
    torch.manual_seed(0)
    network = Network(build(), 4, 2, 2)
    network.open([0])
    with pytest.raises(UserError, match=f"no per-sample gradients for {name}"):
        sample_gradients(network, torch.randn(6, 5, 4), 0, lambda logits: logits.square().sum(), size)
    assert not network.samples_told_apart


@pytest.mark.parametrize("name", ["split_cifar100", "cifar100_superclass", "permuted_mnist", "five_datasets"])
def test_the_networks_here_tell_samples_apart_and_are_asked_once(name):
    benchmark = Catalog().benchmark(name)
    torch.manual_seed(0)
    network = architectures.build(benchmark)
    network.open([0])
    sizes = []
    network.backbone.register_forward_hook(lambda layer, inputs, output: sizes.append(len(output)))
    x, drawn = torch.randn(5, *benchmark.input_shape), torch.get_rng_state()
    first = squared_gradients(network, x, torch.zeros(5).long(), 0)
    again = squared_gradients(network, x, torch.zeros(5).long(), 0)
    assert sizes == [2, 5, 5]
    assert torch.equal(torch.get_rng_state(), drawn)
    assert list(first) == list(again)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert all(p.grad is None for p in network.parameters())


def test_dead_and_frozen_parameters_are_no_fault():
    body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.BatchNorm1d(4))
    with torch.no_grad():
        body[0].bias.fill_(-100)
    body[2].bias.requires_grad_(False)
    network = Network(body, 4, 2, 2)
    network.open([0])
    squares = squared_gradients(network, torch.randn(6, 4), torch.zeros(6).long(), 0)
    assert network.samples_told_apart
    assert set(squares) == set(network.shared_parameters())
    assert float(squares["backbone.0.weight"].abs().max()) == 0


def test_batch_estimator_is_smaller_by_the_batch():  # E[(batch mean)²] = F / b for gradients of zero mean
    grads = 2 * torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    by_batch = grads.view(-1, 20).mean(1).square().mean()
    by_sample = grads.square().mean()
    assert float(by_batch / by_sample) == pytest.approx(1 / 20, rel=0.15)
