"""Views of stored images: the parts that torchvision draws and resizes, all of a batch at once."""

import math

import pytest
import torch
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as vision

from bench.core import Benchmark, Views
from bench.nn import architectures
from bench.nn.images import central_views, cut, random_boxes, random_views

CIFAR = Views(stored=(3, 32, 32), side=224, resized=224)
WIDE = Views(stored=(3, 48, 64), side=20, resized=20)


def images(n: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("views", [CIFAR, WIDE])
def test_a_part_is_cut_and_resized_as_torchvision_does(views):
    x = images(12, *views.stored).float() / 255
    boxes = random_boxes(12, *views.stored[1:], views, torch.Generator().manual_seed(1))
    mirrored = torch.arange(12) % 2 == 0
    found = cut(x, boxes, mirrored, views.side)
    assert found.shape == (12, 3, views.side, views.side)
    size = [views.side, views.side]
    for i, box in enumerate(boxes.int().tolist()):
        wanted = vision.resized_crop(x[i], *box, size, InterpolationMode.BILINEAR, antialias=False)
        wanted = vision.hflip(wanted) if mirrored[i] else wanted
        torch.testing.assert_close(found[i], wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 64)])
def test_boxes_lie_within_the_image_and_are_spread_as_torchvision_spreads_them(height, width):
    n = 4000
    boxes = random_boxes(n, height, width, CIFAR, torch.Generator().manual_seed(0))
    top, left, heights, widths = boxes.unbind(1)
    assert torch.equal(boxes, boxes.round())
    assert bool((boxes[:, :2] >= 0).all()) and bool((boxes[:, 2:] >= 1).all())
    assert bool((top + heights <= height).all()) and bool((left + widths <= width).all())
    torch.manual_seed(0)
    image = torch.zeros(3, height, width)
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(image, list(CIFAR.scale), list(CIFAR.ratio)) for _ in range(n)]
    ).float()
    if height == width:  # where it fails to fit, torchvision has a rule of its own for flat images
        spread = theirs.std(0) / math.sqrt(n)
        assert bool(((boxes.mean(0) - theirs.mean(0)).abs() < 6 * spread).all())
        assert torch.allclose(boxes.std(0), theirs.std(0), rtol=0.08)


def test_an_image_into_which_no_part_fits_is_taken_whole():
    views = Views(stored=(3, 4, 400), side=8, resized=8, scale=(0.99, 1.0))
    boxes = random_boxes(5, 4, 400, views, torch.Generator().manual_seed(0))
    assert boxes.tolist() == [[0, 0, 4, 400]] * 5


def test_half_of_the_images_are_mirrored():
    x = images(400, 3, 8, 8)
    whole = Views(stored=(3, 8, 8), side=8, resized=8, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    found = random_views(x, whole, torch.Generator().manual_seed(0))
    plain = x.float() / 255
    same = torch.isclose(found, plain, atol=1e-5).flatten(1).all(1)
    other = torch.isclose(found, plain.flip(3), atol=1e-5).flatten(1).all(1)
    assert bool((same ^ other).all())
    assert 160 < int(same.sum()) < 240


def test_a_seed_gives_the_same_views_and_another_others():
    x = images(6, 3, 32, 32)
    first, again, other = (random_views(x, CIFAR, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.float32 and float(first.min()) >= 0 and float(first.max()) <= 1


def test_the_middle_is_what_torchvision_cuts_out():
    x = images(3, 3, 40, 40)
    resized = Views(stored=(3, 40, 40), side=28, resized=32)
    wanted = vision.center_crop(vision.resize(x.float() / 255, [32, 32], antialias=True), [28, 28])
    torch.testing.assert_close(central_views(x, resized), wanted)
    as_stored = Views(stored=(3, 40, 40), side=28, resized=40)
    assert torch.equal(central_views(x, as_stored), (x.float() / 255)[:, :, 6:34, 6:34])


def test_a_network_has_the_views_of_its_benchmark():
    benchmark = Benchmark()
    benchmark.backbone, benchmark.input_shape, benchmark.num_tasks, benchmark.num_classes = "mlp", (3, 20, 20), 2, 3
    benchmark.views = WIDE
    network = architectures.build(benchmark)
    x = images(4, *WIDE.stored)
    assert network(network.test_images(x), 0).shape == (4, 3)
    assert network.training_images(x, torch.Generator()).shape == (4, 3, 20, 20)
