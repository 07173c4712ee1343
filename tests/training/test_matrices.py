"""Networks whose layers are not what their class says are refused by name; all others pass, and stay as they are."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from bench.catalog.catalog import Catalog
from bench.core import UserError
from bench.nn import architectures
from bench.nn.adapters import attach
from bench.nn.network import Network
from bench.training.demands.matrices import fault_of

X = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))


def mlp(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(12, 12), nn.ReLU(), *middle)


def tied() -> nn.Module:
    body = mlp(nn.Linear(12, 12))
    body[2].weight = body[0].weight
    return body


def tied_by_memory() -> nn.Module:
    """Two parameters, of which one is the transpose of the other."""
    body = mlp(nn.Linear(12, 12))
    body[2].weight = nn.Parameter(body[0].weight.detach().T)
    return body


def under_two_names() -> nn.Module:
    body = mlp()
    return nn.Sequential(*body, body[0])


class Own(nn.Linear):
    """A Linear whose forward is a given function of it and its inputs."""

    def __init__(self, rule: Callable[[nn.Linear, Tensor], Tensor]) -> None:
        super().__init__(12, 12)
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(self, x)


class Masked(nn.Linear):
    """All of the mask is 1, for now."""

    def __init__(self) -> None:
        super().__init__(12, 12)
        self.register_buffer("mask", torch.ones(12, 12))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class Standardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


class Body(nn.Module):
    """Two layers, and a given function that passes them."""

    def __init__(self, rule: Callable[["Body", Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule
        self.one, self.two = nn.Linear(12, 12), nn.Linear(12, 12)
        self.steps = [self.one, self.two]  # no names of the network

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(self, x)


def by_kind(body: Body, x: Tensor) -> Tensor:
    for layer in (body.one, body.two):
        x = layer(x)
        x = x.relu() if isinstance(layer, nn.Linear) else x
    return x


class Tokens(nn.Module):
    """Takes inputs for tokens of four numbers, and gives what a module makes of them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        out = self.module(x.unflatten(1, (3, 4)))
        return (out[0] if isinstance(out, tuple) else out).flatten(1)


class Attention(nn.Module):
    """What enters is frozen, so that only the way out is a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.attention.in_proj_weight.requires_grad_(False)
        self.attention.in_proj_bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class CentredRow(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


class ClassToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.layer = nn.Parameter(torch.zeros(12)), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + self.token)


def drop_connect(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, F.dropout(layer.weight, 0.5, layer.training), layer.bias)


def cosine(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(F.normalize(x), F.normalize(layer.weight))


def images(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (3, 2, 2)), layer, nn.Flatten())


def hooked() -> nn.Module:
    body = mlp()
    body[0].register_forward_hook(lambda layer, inputs, output: 2 * output)
    return body


PAST = "read past its forward"
OTHER = "does not compute"
COMPUTED = "computes its weight from other parameters"
LEFT = "is no parameter of a Linear, Conv1d, Conv2d or normalization layer"
ODD = {  # a backbone, whom the refusal names, and what it says
    "a module under two names": (under_two_names, "backbone.0.weight and backbone.2.weight", "one tensor"),
    "a tied weight": (tied, "backbone.0.weight and backbone.2.weight", "one tensor"),
    "tied by memory": (tied_by_memory, "backbone.0.weight and backbone.2.weight", "one tensor"),
    "weight_norm": (lambda: mlp(parametrizations.weight_norm(nn.Linear(12, 12))), "backbone.2 (", COMPUTED),
    "spectral_norm": (lambda: mlp(parametrizations.spectral_norm(nn.Linear(12, 12))), "backbone.2 (", COMPUTED),
    "orthogonal": (lambda: mlp(parametrizations.orthogonal(nn.Linear(12, 12))), "backbone.2 (", COMPUTED),
    "pruned": (lambda: mlp(prune.l1_unstructured(nn.Linear(12, 12), "weight", 0.5)), "backbone.2 (", COMPUTED),
    "scaled": (lambda: mlp(Own(lambda s, x: F.linear(x, 3 * s.weight))), "backbone.2 (Own)", OTHER),
    "cosine": (lambda: mlp(Own(cosine)), "backbone.2 (Own)", OTHER),
    "masked": (lambda: mlp(Masked()), "backbone.2 (Masked)", "has mask beside its weight"),
    "weight-standardized": (lambda: images(Standardized(3, 3, 1)), "backbone.1 (Standardized)", OTHER),
    "only in training": (lambda: mlp(Own(drop_connect)), "backbone.2 (Own)", OTHER),
    "hooked": (hooked, "backbone.0 (Linear)", OTHER),
    "the encoder of a transformer": (
        lambda: Tokens(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)),
        "backbone.module.self_attn.in_proj_weight",
        LEFT,
    ),
    "the way out of attention": (lambda: Tokens(Attention()), "backbone.module.attention.out_proj", PAST),
    "its weight read": (lambda: Body(lambda b, x: F.linear(b.one(x), b.two.weight)), "backbone.two", PAST),
    "its width read": (lambda: Body(lambda b, x: b.two(x.view(-1, b.one.in_features))), "backbone.one", PAST),
    "by a list": (lambda: Body(lambda b, x: b.steps[1](b.one(x))), "backbone.two", "by another way than by its name"),
    "by its kind": (lambda: Body(by_kind), "backbone.one", "changes the network's outputs"),
    "without gradient": (lambda: Body(lambda b, x: b.two(b.one(x).detach())), "backbone.one", "passes no gradient"),
    "Conv3d": (
        lambda: nn.Sequential(nn.Unflatten(1, (1, 3, 2, 2)), nn.Conv3d(1, 3, 2), nn.Flatten()),
        "backbone.1.weight (Conv3d)",
        LEFT,
    ),
    "a weight-standardized Conv1d": (
        lambda: nn.Sequential(nn.Unflatten(1, (3, 4)), CentredRow(3, 3, 2), nn.Flatten()),
        "backbone.1 (CentredRow)",
        "does not compute x Wᵀ + b",
    ),
    "LSTM": (lambda: Tokens(nn.LSTM(4, 4, batch_first=True)), "backbone.module.weight_ih_l0", LEFT),
    "transposed": (lambda: images(nn.ConvTranspose2d(3, 2, 2)), "backbone.1.weight (ConvTranspose2d)", LEFT),
    "a class token": (ClassToken, "backbone.token (ClassToken)", LEFT),
    "a learnt slope": (lambda: mlp(nn.PReLU()), "backbone.2.weight (PReLU)", LEFT),
}


def network_of(backbone: nn.Module) -> Network:
    with torch.no_grad():
        features = backbone.eval()(X).shape[1]
    return Network(backbone.train(), features, 2, 2)


@pytest.mark.parametrize(("build", "name", "said"), ODD.values(), ids=ODD)
def test_what_is_no_plain_layer_is_refused_by_name(build, name, said):
    torch.manual_seed(0)
    network = network_of(build())
    found = fault_of(network, X, 0)
    assert found.startswith(name), found
    assert said in found
    assert "\n" not in found
    assert network(X, 0).shape == (8, 2)  # the network itself is as good as it was
    network.fault = found
    with pytest.raises(UserError, match="methods that update weight matrices do not apply: backbone"):
        network.blocks()


def test_an_embedding_is_refused():
    words = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 4))
    assert fault_of(Network(words, 4, 2, 2), torch.ones(4, 3).long(), 0).startswith("backbone.0.weight (Embedding)")


class Summed(nn.Linear):
    """The same numbers by another road."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nd,od->no", x, self.weight) + self.bias


class Idle(nn.Module):
    """One layer twice, another never, and an activation under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.idle, self.act = nn.Linear(12, 12), nn.Linear(3, 3), nn.ReLU()
        self.again = self.act

    def forward(self, x: Tensor) -> Tensor:
        return self.one(self.again(self.one(self.act(x))))


PLAIN = {
    "another road": lambda: mlp(Summed(12, 12)),
    "twice and never": Idle,
    "normalized": lambda: mlp(nn.LayerNorm(12), nn.BatchNorm1d(12), nn.Dropout(0.5)),
    "frozen": lambda: mlp(parametrizations.weight_norm(nn.Linear(12, 12)).requires_grad_(False)),
}


@pytest.mark.parametrize("build", PLAIN.values(), ids=PLAIN)
def test_what_computes_the_same_passes(build):
    torch.manual_seed(0)
    assert fault_of(network_of(build()), X, 0) == ""


@pytest.mark.parametrize("mode", ["batch", "running-frozen"])
@pytest.mark.parametrize("name", ["split_cifar100", "permuted_mnist", "toy_shared", "cifar100_superclass"])
def test_the_networks_here_pass_and_nothing_moves(name, mode):
    torch.manual_seed(0)
    benchmark = Catalog().benchmark(name)
    network = architectures.build(benchmark, mode)
    network.backbone[0].eval()
    network.freeze()
    modules = dict(network.named_modules())
    state = {key: value.clone() for key, value in network.state_dict().items()}
    modes = {key: module.training for key, module in modules.items()}
    drawn = torch.get_rng_state()
    assert fault_of(network, torch.randn(8, *benchmark.input_shape), 0) == ""
    torch.set_rng_state(drawn)
    fault_of(network, torch.ones(8, *benchmark.input_shape), 0)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert dict(network.named_modules()) == modules
    assert {key: module.training for key, module in modules.items()} == modes
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert not any(p.requires_grad for p in network.backbone.parameters())


def test_what_a_backbone_was_made_with_frozen_stays_frozen():
    body = mlp(nn.Linear(12, 12), nn.BatchNorm1d(12))
    body[0].weight.requires_grad_(False)
    body[3].requires_grad_(False)
    network = Network(body, 12, 2, 2)
    network.freeze()
    network.open([1])
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert learning == {"backbone.0.bias", "backbone.2.weight", "backbone.2.bias", "heads.1.weight"}
    assert list(network.shared_parameters()) == ["backbone.0.bias", "backbone.2.weight", "backbone.2.bias"]
    assert list(network.layers()) == ["backbone.2"]
    assert list(attach(network, {"backbone.0": torch.ones(1, 12), "backbone.2": torch.ones(1, 12)})) == ["backbone.2"]
