"""Steered layers: outputs and gradients are those of scaled weights and freed gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.core import Training
from bench.nn.network import Network
from bench.nn.steering import Free, Scale, scaled_weight, steered
from bench.training.data import Batch
from bench.training.method import Method
from bench.training.step import make_optimizer, training_step

D, OUT, K = 6, 5, 2
SHAPES = [(3, D), (40, D), (2, 4, D)]  # fewer rows than outputs; more; tokens


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def one_layer(bias: bool = True) -> tuple[Network, Any]:
    torch.manual_seed(0)
    network = Network(nn.Linear(D, OUT, bias=bias), OUT, 2, 1).double()
    return network, network.backbone


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("learnt", [True, False])
def test_a_scaled_layer_is_one_with_a_scaled_weight(shape: tuple[int, ...], learnt: bool) -> None:
    network, layer = one_layer()
    x, wanted = rand(*shape).requires_grad_(), rand(*shape[:-1], OUT)
    S, other = (rand(D, K).requires_grad_() for _ in range(2))
    F, last = (rand(K, K).requires_grad_() for _ in range(2))
    leaves = [x, layer.weight, layer.bias, S, other, F, last]
    with steered(network, {"backbone": [Scale(S, F, learnt), Scale(other, last)]}, {}):
        y = layer(x)
    found = torch.autograd.grad((y - wanted).square().sum(), leaves)
    W = layer.weight
    scaled = W + (W if learnt else W.detach()) @ S @ F @ S.T + W @ other @ last @ other.T
    expected = nn.functional.linear(x, scaled, layer.bias)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(found, torch.autograd.grad((expected - wanted).square().sum(), leaves))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scaled", [False, True])
def test_a_freed_gradient_is_the_gradient_times_the_matrix(shape: tuple[int, ...], scaled: bool) -> None:
    network, layer = one_layer()
    P = rand(D, D)
    x, F = rand(*shape).requires_grad_(), rand(K, K).requires_grad_()
    scales = {"backbone": [Scale(rand(D, K), F)]} if scaled else {}
    leaves = [layer.weight, x, layer.bias] + [F] * scaled
    grads = []
    for frees in ({}, {"backbone": lambda rows: rows @ P}):
        with steered(network, scales, frees):
            y = layer(x)
        grads.append(torch.autograd.grad(y.square().sum(), leaves))
    (weight, *others), (freed, *same) = grads
    torch.testing.assert_close(freed, weight @ P)
    torch.testing.assert_close(same, others)


@pytest.mark.parametrize("learnt", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_is_scaled_and_freed_block_by_block(groups: int, learnt: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 2, padding=1, padding_mode="circular", stride=2, groups=groups)
    network = Network(nn.Sequential(layer), 6, 2, 2).double()
    *others, last = network.blocks()
    d = network.blocks()[last].weight.shape[1]
    S, F, P, x = rand(d, K), rand(K, K).requires_grad_(), rand(d, d), rand(3, 4, 5, 5).requires_grad_()
    free: Free = lambda rows: rows @ P  # noqa: E731
    leaves = [x, layer.weight, layer.bias, F]
    with steered(network, {last: [Scale(S, F, learnt)]}, {last: free}):
        y = layer(x)
    found = torch.autograd.grad(y.square().sum(), leaves)
    blocks = list(layer.weight.flatten(1).chunk(groups))
    blocks[-1] = scaled_weight(blocks[-1], [Scale(S, F, learnt)])
    expected = layer._conv_forward(x, torch.cat(blocks).view_as(layer.weight), layer.bias)
    torch.testing.assert_close(y, expected)
    of_x, of_weight, *rest = torch.autograd.grad(expected.square().sum(), leaves)
    freed = of_weight.flatten(1).clone()
    freed[6 - 6 // groups :] = freed[6 - 6 // groups :] @ P
    assert len(others) == groups - 1
    torch.testing.assert_close(found, (of_x, freed.view_as(of_weight), *rest))


def test_two_terms_are_added_to_the_weight_that_was_there() -> None:
    S, T, F, G = rand(D, K), rand(D, K), rand(K, K), rand(K, K)
    for rows in (2, D):  # fewer than columns, and as many
        W = rand(rows, D)
        scaled = scaled_weight(W, [Scale(S, F), Scale(T, G)])
        torch.testing.assert_close(scaled, W + W @ S @ F @ S.T + W @ T @ G @ T.T)
    torch.testing.assert_close(scaled_weight(W, []), W)


def test_a_block_that_is_not_there_is_named() -> None:
    network, _ = one_layer()
    with pytest.raises(KeyError, match="no weight block is called backbne"), steered(network, {}, {"backbne": rand}):
        pass


def test_fewer_rows_than_outputs_are_freed_as_inputs_and_more_as_a_gradient() -> None:
    network, layer = one_layer()
    sizes = []

    def free(rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        return rows

    for n in (OUT - 1, OUT, 40):
        with steered(network, {}, {"backbone": free}):
            layer(rand(n, D)).sum().backward()
    assert sizes == [OUT - 1, OUT, OUT]


def test_only_what_may_learn_gets_a_gradient() -> None:
    network, layer = one_layer()
    layer.weight.requires_grad_(False)
    with steered(network, {}, {"backbone": lambda rows: 0 * rows}):
        layer(rand(3, D)).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(layer.bias.grad, torch.full((OUT,), 3.0).double())


def test_the_layer_is_itself_again_whatever_happens() -> None:
    network, layer = one_layer()
    x = rand(3, D)
    plain = layer(x)
    nothing = {"backbone": [Scale(rand(D, K), rand(K, K))]}
    with pytest.raises(ZeroDivisionError), steered(network, nothing, {}):
        assert not torch.equal(layer(x), plain)
        raise ZeroDivisionError
    assert torch.equal(layer(x), plain) and "forward" not in vars(layer)


def test_what_comes_after_a_layer_may_write_to_its_output() -> None:
    torch.manual_seed(0)
    network = Network(nn.Sequential(nn.Linear(D, OUT), nn.ReLU(inplace=True)), OUT, 2, 1).double()
    for shape in (*SHAPES, (2, 2, 3, D), (D,), (0, D)):
        x = rand(*shape)
        plain = network.backbone(x)
        with steered(network, {}, {"backbone.0": lambda rows: 2 * rows}):
            y = network.backbone(x)
        torch.testing.assert_close(y, plain)
        y.sum().backward()


def test_a_forward_of_the_layer_itself_comes_back() -> None:
    network, layer = one_layer()
    own = layer.forward = lambda x: 0 * x
    with steered(network, {}, {"backbone": lambda rows: rows}):
        assert layer.forward is not own
    assert layer.forward is own


class Freed(Method):
    """No direction is free, and it counts the passes."""

    passes = 0

    def loss(self, batch: Batch) -> Tensor:
        self.passes += 1
        with steered(self.network, {}, {"backbone": torch.zeros_like}):
            return super().loss(batch)


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_an_ascent_is_not_freed_and_the_step_is(rho: float) -> None:
    network, layer = one_layer(bias=False)
    method = Freed(network)
    optimizer = make_optimizer(method.parameters(), Training(lr=0.1))
    before, head = layer.weight.clone(), network.heads[0].weight.clone()
    seen = []
    layer.register_forward_pre_hook(lambda *_: seen.append(layer.weight.clone()))
    training_step(method, optimizer, Batch(rand(4, D), torch.tensor([0, 1, 1, 0]), 0), rho)
    assert torch.equal(layer.weight, before) and not torch.equal(network.heads[0].weight, head)
    assert method.passes == len(seen) == (2 if rho else 1) and not network.ascends
    assert rho == 0 or not torch.equal(seen[1], before)


def test_under_autocast_gradients_are_freed_in_float32() -> None:
    network, layer = one_layer()
    network.float()
    x = torch.randn(3, D)
    free = torch.eye(D) - torch.full((D, D), 1 / D)  # of the direction of ones
    dtypes = []

    def freed(rows: Tensor) -> Tensor:
        dtypes.append(rows.dtype)
        return rows @ free

    with torch.autocast("cpu", torch.bfloat16), steered(network, {}, {"backbone": freed}):
        y = layer(x)
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16 and dtypes == [torch.float32]
    assert float(layer.weight.grad.sum(1).abs().max()) < 1e-5 * float(layer.weight.grad.norm())
