"""The adapter: the same function when attached, W + up @ down when merged, whatever the layer."""

import pytest
import torch
from torch import nn

from bench.nn.adapters import LowRank, Rotated, attach, attach_free, merge
from bench.nn.network import Network


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, padding_mode="reflect"),
        nn.Flatten(),
        nn.Linear(96, 50),
        nn.Linear(50, 5, bias=False),
    )
    return Network(body.double(), 5, 3, 2).double()


def directions(network: Network, ranks: dict[str, int]) -> dict[str, torch.Tensor]:
    drawn = {}
    for name, block in network.blocks().items():
        rank = ranks.get(name, 2)
        drawn[name] = torch.randn(rank, block.weight.shape[1]).double()
    return drawn


def orthonormal(d: int, k: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(d, k).double()).Q


@pytest.mark.parametrize("batch", [2, 64], ids=["factored", "materialized"])
def test_attach_train_merge(network, batch):
    x = torch.randn(batch, 4, 8, 8).double()
    before = network(x, 0)
    keys = list(network.state_dict())
    names = list(network.layers())
    factors = attach(network, directions(network, {"backbone.0.g1": 0, "backbone.3": 0}), scale=0.5)
    assert sorted(factors) == ["backbone.0.g0", "backbone.0.g1", "backbone.2"]
    assert sum(isinstance(m, LowRank) for m in network.modules()) == 2
    torch.testing.assert_close(network(x, 0), before, atol=1e-12, rtol=0)
    trained = {n for n, p in network.named_parameters() if p.requires_grad and not n.startswith("heads.")}
    assert all(".ups." in n for n in trained)
    assert len(trained) == 3
    with torch.no_grad():
        for up, _ in factors.values():
            up.normal_()
    adapted = network(x, 0)
    assert float((adapted - before).detach().abs().max()) > 1e-3
    merge(network)
    torch.testing.assert_close(network(x, 0), adapted, atol=1e-9, rtol=0)
    assert list(network.state_dict()) == keys
    assert list(network.layers()) == names


def test_gradient_of_up_is_the_dense_gradient_times_down(network):
    """∂L/∂U = s G Vᵀ: training U is training W inside the span of V."""
    x = torch.randn(3, 4, 8, 8).double()
    network(x, 0).square().sum().backward()
    dense = {n: b.grad.clone() for n, b in network.blocks().items()}
    factors = attach(network, directions(network, {}), scale=0.5)
    network(x, 0).square().sum().backward()
    assert sorted(factors) == ["backbone.0.g0", "backbone.0.g1", "backbone.2", "backbone.3"]
    for name, (up, down) in factors.items():
        torch.testing.assert_close(up.grad, 0.5 * dense[name] @ down.T, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    ("share", "kinds"),
    [(0.0, (1, 2)), (0.25, (1, 2)), (0.75, (3, 0)), (1.0, (0, 0))],
    ids=["all", "thin", "thick", "no"],
)
def test_free_update_is_projected_gradient_descent(network, share, kinds):
    """With U V^T orthogonal to M, a step of SGD on U is one by G (I - M M^T), and nothing moves along M."""
    x = torch.randn(3, 4, 8, 8).double()
    out = network(x, 0)
    out.square().sum().backward()
    dense = {n: b.grad.clone() for n, b in network.blocks().items()}
    before = {n: b.weight.clone() for n, b in network.blocks().items()}
    bases = {}
    for name, weight in before.items():
        d = weight.shape[1]
        bases[name] = orthonormal(d, int(share * d))
    ups = attach_free(network, bases)
    modules = list(network.modules())
    low_rank = [m for m in modules if isinstance(m, LowRank)]
    rotated = [m for m in modules if isinstance(m, Rotated)]
    assert (len(low_rank), len(rotated)) == kinds
    torch.testing.assert_close(network(x, 0), out, atol=1e-12, rtol=0)
    network(x, 0).square().sum().backward()
    if ups:
        torch.optim.SGD(ups.values(), lr=0.1).step()
    adapted = network(x, 0)
    merge(network)
    torch.testing.assert_close(network(x, 0), adapted, atol=1e-9, rtol=0)
    for name, block in network.blocks().items():
        M = bases[name]
        free = dense[name] - dense[name] @ M @ M.T
        torch.testing.assert_close(block.weight - before[name], -0.1 * free, atol=1e-9, rtol=1e-9)


def test_free_update_keeps_the_bias_and_the_tokens():
    torch.manual_seed(0)
    network = Network(nn.Linear(12, 5), 5, 3, 2).double()
    x = torch.randn(2, 7, 12).double()
    before = network(x, 0)
    attach_free(network, {"backbone": orthonormal(12, 3)})
    assert isinstance(network.backbone, Rotated)
    torch.testing.assert_close(network(x, 0), before, atol=1e-12, rtol=0)


def test_a_trained_factor_is_a_copy():
    Q = torch.linalg.qr(torch.randn(12, 4)).Q
    before = Q.clone()
    network = Network(nn.Linear(12, 5), 5, 3, 2)
    factors = attach(network, {"backbone": Q[:, :2].T}, train_down=True)["backbone"]
    assert factors.down.is_contiguous()
    with torch.no_grad():
        factors.down.add_(1)
    assert torch.equal(Q, before)


def test_merge_without_adapters_changes_nothing(network):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    merge(network)
    assert list(network.state_dict()) == list(before)
    assert len(before) == 7
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
