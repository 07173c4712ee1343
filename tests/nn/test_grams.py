"""Grams against the literal XᵀX of unfolded inputs, for every layer, layout and way of cutting batches."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.nn import grams
from bench.nn.grams import KernelRows, Patches, gram_sum
from bench.nn.subspace import null_basis

LAYERS = {
    "3x3": nn.Conv2d(3, 4, 3),
    "4x4": nn.Conv2d(3, 4, 4, padding=1),
    "2x3": nn.Conv2d(3, 4, (2, 3), padding=(0, 1)),
    "3x1": nn.Conv2d(3, 4, (3, 1)),
    "1x1": nn.Conv2d(3, 4, 1),
    "5x5, whole image": nn.Conv2d(3, 4, (6, 5)),
    "same, reflect": nn.Conv2d(3, 4, 4, padding="same", padding_mode="reflect"),
    "strided": nn.Conv2d(3, 4, 3, stride=2),
    "dilated": nn.Conv2d(3, 4, 2, dilation=2),
    "grouped": nn.Conv2d(3, 6, 2, groups=3),
    "padded unevenly": nn.Conv2d(3, 4, (3, 2), padding=(2, 1)),
    "all at once": nn.Conv2d(3, 6, (2, 3), stride=(2, 1), padding=(1, 2), dilation=(3, 2), groups=3),
}


def literal(layer: nn.Linear | nn.Conv2d, x: Tensor) -> list[Tensor]:
    """Return XᵀX of every group; for a convolution, X has a row for each patch that torch's own `unfold` finds."""
    x = x.double()
    if isinstance(layer, nn.Linear):
        return [x.T @ x]
    padding = layer.padding
    if padding == "same":
        x = F.pad(x, (1, 2, 1, 2), mode=layer.padding_mode)
        padding = 0  # for a kernel of four
    found = []
    for channels in x.chunk(layer.groups, dim=1):
        patches = F.unfold(channels, layer.kernel_size, layer.dilation, padding, layer.stride)  # (n, d, positions)
        rows = patches.transpose(1, 2).flatten(0, 1)
        found.append(rows.T @ rows)
    return found


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("chunk", [1, 300, 10**9])
def test_a_convolutions_gram_has_the_values_of_its_definition(layer, memory_format, chunk, monkeypatch):
    monkeypatch.setattr(grams, "CHUNK", chunk)
    x = torch.randn(7, 3, 6, 7, dtype=torch.float64).contiguous(memory_format=memory_format)
    total = gram_sum(layer)
    for part in (x[:4], x[4:6], x[6:]):
        total.add(part)
    found = total.grams()
    wanted = literal(layer, x)
    assert len(found) == len(wanted) == layer.groups
    for own, exact in zip(found, wanted, strict=True):
        torch.testing.assert_close(own, exact, rtol=1e-12, atol=1e-12)
        assert torch.equal(own, own.T)


def test_the_fast_form_is_for_convolutions_that_move_by_one_pixel():
    kinds = {name: type(gram_sum(layer)) for name, layer in LAYERS.items()}
    assert {name for name, kind in kinds.items() if kind is Patches} == {"strided", "dilated", "grouped", "all at once"}
    assert type(gram_sum(nn.Linear(3, 4))) is Patches
    assert kinds["3x3"] is KernelRows


def test_small_batches_are_gathered_and_copied():
    total = gram_sum(nn.Linear(5, 2))
    x = torch.randn(4, 5, dtype=torch.float64)
    exact = literal(total.layer, x)[0]
    batch = x.clone()
    total.add(batch)
    batch.zero_()  # as a layer that works in place may do
    torch.testing.assert_close(total.grams()[0], exact)
    torch.testing.assert_close(total.grams()[0], exact)  # asking twice adds nothing


def test_no_input_gives_no_gram():
    assert gram_sum(nn.Linear(5, 2)).grams() == [] == gram_sum(nn.Conv2d(1, 1, 3)).grams()


@pytest.mark.parametrize("layer", [nn.Linear(96, 2), nn.Conv2d(8, 4, 3)], ids=["linear", "convolution"])
def test_float32_inputs_leave_the_null_space_as_it_is(layer):
    """Directions of a ten-thousandth of the largest, which a null space is made of, stand far above the rounding."""
    shape = (4000, 96) if isinstance(layer, nn.Linear) else (100, 8, 9, 9)
    scale = torch.logspace(0, -4, shape[1], dtype=torch.float64)
    places = [1] * (len(shape) - 2)
    x = torch.randn(shape, dtype=torch.float64) * scale.view(-1, *places)
    exact = literal(layer, x.float())[0]
    total = gram_sum(layer)
    total.add(x.float())
    [own] = total.grams()
    assert own.dtype == torch.float64
    error = torch.linalg.matrix_norm(own - exact, 2)
    assert float(error) < 3e-7 * float(torch.linalg.matrix_norm(exact, 2))
    for eps in (1e-2, 1e-3):
        for norm in ("nuclear", "frobenius"):
            rank = null_basis(own, eps, norm).basis.shape[1]
            assert rank == null_basis(exact, eps, norm).basis.shape[1]
            assert rank > 0 or eps < 1e-2
