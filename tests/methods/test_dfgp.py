"""Known answers of DFGP's step, by the authors' functions in float64, and that without what it adds it is GPM."""

import sys
from typing import Any

import pytest
import torch
from conftest import first_quick
from torch import Tensor

from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.core import Training, UserError
from bench.nn.network import Network
from bench.tools.trial import PLAIN, SHARED, Ground, Run
from bench.training.data import Batch
from bench.training.step import make_optimizer, training_step

DFGP: Any = Catalog().method("dfgp")
helpers: Any = sys.modules[DFGP.__module__]


def double(rows: list) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def near(found: Tensor, known: list | float) -> None:
    torch.testing.assert_close(found.detach(), torch.tensor(known, dtype=torch.float64), atol=2e-6, rtol=0)


class Drawn(DFGP):
    """DFGP with a given λ and the order (1, 0), that notes its losses, the climbed weights and the gradient there."""

    given: tuple[float, ...] = ()

    def before_step(self, batch: Batch) -> Batch:
        self.losses: list[Tensor] = []
        self.mix, self.partner = double(list(self.given)).requires_grad_(), torch.tensor([1, 0])
        return batch

    def loss(self, batch: Batch) -> Tensor:
        self.climbed = self.network.heads[0].weight.detach().clone()
        self.losses.append(super().loss(batch))
        return self.losses[-1]

    def edit_grads(self) -> None:
        self.second = self.network.heads[0].weight.grad.clone()
        super().edit_grads()


def stepped(given: tuple[float, ...], mixup: float, protect: bool) -> Drawn:
    """A step of rate 0.1 and radius 0.05 on a linear model with two inputs (1, 0, 2) and (0, 1, -1), labels 0 and 1."""
    network = Network(torch.nn.Identity(), 3, 2, 1).double()
    network.heads[0].weight.data = double([[0.1, -0.2, 0.3], [0, 0.4, -0.1]])
    method = Drawn(network, DFGP.Config(mixup=mixup, labels="crossed"))
    method.given = given
    method.memory = {"heads.0": double([[1], [0], [0]])} if protect else {}
    method.begin_task(1, None)
    method.logits = method.forward
    optimizer = make_optimizer(method.parameters(), Training(lr=0.1))
    batch = Batch(double([[1, 0, 2], [0, 1, -1]]), torch.tensor([0, 1]), 0)
    training_step(method, optimizer, batch, 0.05)
    return method


def test_a_step() -> None:
    """The first gradient, of norm .651190, is (-.140365, .136146, -.416877) in its first row."""
    method = stepped((0.3, 0.6), 0.1, protect=True)
    near(torch.stack(method.losses), [0.397797, 0.432826])
    near(method.mix.grad, [-0.0125171, -0.0014304])
    near(method._climbed(), [0.250323, 0.594323])
    near(method.climbed[0], [0.089222, -0.189546, 0.267991])
    near(method.second, [[-0.156111, 0.143791, -0.456013], [0.156111, -0.143791, 0.456013]])
    near(method.network.heads[0].weight, [[0.1, -0.214379, 0.345601], [0, 0.414379, -0.145601]])


def test_a_step_without_mixed_samples() -> None:
    """GPM with SAM, whose ascent leaves the free space."""
    method = stepped((0.3, 0.6), 0.0, protect=True)
    near(torch.stack(method.losses), [0.327208, 0.361784])
    near(method.second[0], [-0.160416, 0.142932, -0.463764])
    near(method.network.heads[0].weight, [[0.1, -0.214293, 0.346376], [0, 0.414293, -0.146376]])
    assert float((method.climbed[:, 0] - double([0.1, 0])).abs().min()) > 0.01


def test_a_lambda_that_leaves_its_interval() -> None:
    method = stepped((0.99, 0.01), 1.0, protect=False)
    near(method.mix.grad, [0.215941, -0.215941])
    assert method._climbed().tolist() == [1, 0]
    near(torch.stack(method.losses), [1.136115, 1.160055])
    near(method.network.heads[0].weight, [[0.116006, -0.191228, 0.323239], [-0.016006, 0.391228, -0.123239]])


def test_weights_of_two_labels() -> None:
    logits, y, other = double([[2, 0], [0, 1]]), torch.tensor([0, 1]), torch.tensor([1, 0])
    near(helpers._on_both(logits, y, other, double([0.2, 0.6]).mean()), 1.120095)
    own = 0.2 * 0.126928 + 0.8 * 2.126928 + 0.6 * 0.313262 + 0.4 * 1.313262
    near(helpers._on_both(logits, y, other, double([0.2, 0.6])), own / 2)


@pytest.mark.parametrize("labels", ["own", "crossed"])
def test_which_label_an_image_is_taken_for(labels: str) -> None:
    """With λ near 0 a mixed image is the first one. The released code takes it for the other."""
    method = Run("dfgp", labels=labels, mixup=1.0).method
    method.logits = lambda x, task: torch.stack([10 - 20 * x.mean((1, 2, 3)), 20 * x.mean((1, 2, 3)) - 10], dim=1)
    method.mix, method.partner = torch.full((2,), 1e-3).requires_grad_(), torch.tensor([1, 0])
    x = torch.stack([torch.zeros(1, 6, 6), torch.ones(1, 6, 6)])
    loss = float(method.loss(Batch(x, torch.tensor([0, 1]), 0)).detach())
    assert loss == pytest.approx(20 if labels == "crossed" else 0, abs=0.1)


@pytest.mark.parametrize("ground", first_quick([PLAIN, SHARED]))
@pytest.mark.parametrize("training", first_quick([{}, {"momentum": 0.9, "lr": 0.01}]))
def test_without_ascent_and_mixed_samples_it_is_gpm(training: dict, ground: Ground) -> None:
    """With DFGP's constant energy. Biases and normalization stay, though they have gradients."""
    ours = Run("dfgp", ground=ground, mixup=0.0, sam="none", epochs=2, **training)
    gpm = Run("gpm", ground=ground, energy=0.95, energy_step=0.0, epochs=2, **training)
    assert ours.method.config.energy == 0.95 and ours.method.config.energy_step == 0
    for run in (ours, gpm):
        run.learn()
    for name, weight in ours.network.state_dict().items():
        torch.testing.assert_close(weight, gpm.network.state_dict()[name], atol=2e-5, rtol=1e-3)
    ranks = ours.method.report()["rank"]
    assert ranks == gpm.method.report()["rank"] and max(ranks.values()) > 0


@pytest.mark.parametrize("ground", first_quick([PLAIN, SHARED]))
def test_it_never_moves_along_the_protected_directions(ground: Ground) -> None:
    run = Run("dfgp", ground=ground, mixup=0.5)
    assert run.training.sam == "all"
    run.learn(1)
    before = {name: p.detach().clone() for name, p in run.network.named_parameters()}
    blocks = {name: block.weight.clone() for name, block in run.network.blocks().items()}
    bases = dict(run.method.memory)
    run.learn(2, first=1)
    moved = {name for name, p in run.network.named_parameters() if not torch.equal(p, before[name])}
    heads = {"heads.1.weight"} if ground == PLAIN else set()
    assert moved == {f"{path}.weight" for path in run.network.layers()} | heads
    for name, block in run.network.blocks().items():
        delta = (block.weight - blocks[name]).double()
        assert float((delta @ bases[name]).norm()) < 1e-5 * float(block.weight.norm())


def test_what_is_drawn_has_the_distribution_and_belongs_to_the_method() -> None:
    method = Run("dfgp", beta=20.0).method
    method.begin_task(0, None)
    state = torch.get_rng_state()
    batch = Batch(torch.zeros(4000, 1), torch.arange(4000), 0)
    assert method.before_step(batch) is batch
    assert torch.equal(torch.get_rng_state(), state)
    assert float(method.mix.detach().mean()) == pytest.approx(0.5, abs=0.01)
    assert float(method.mix.detach().std()) == pytest.approx((1 / (4 * 41)) ** 0.5, rel=0.05)
    assert torch.equal(method.partner.sort().values, batch.y) and not torch.equal(method.partner, batch.y)
    first = method.mix
    method.before_step(batch)
    assert not torch.equal(method.mix, first)


def test_its_variants_are_the_rows_of_a_table() -> None:
    names = [f"dfgp+mixup{value}" for value in (0.01, 0.05, 0.001, "0.0001")]
    assert set(names) <= set(Catalog().variants())
    for benchmark in ("split_cifar100", "five_datasets", "mini_imagenet"):
        cells = Catalog().plan(Request(["dfgp", *names], [benchmark], [0])).cells
        assert [cell.config["mixup"] for cell in cells[1:]] == [0.01, 0.05, 0.001, 0.0001]
        assert len({tuple({**cell.config, "mixup": 0}.items()) for cell in cells}) == 1
        assert all(cell.training == cells[0].training for cell in cells) and cells[0].training["sam"] == "all"


@pytest.mark.parametrize(
    "settings", [{"optimizer": "adam"}, {"weight_decay": 0.1}, {"beta": 0.0}, {"mixup": -1.0}, {"climb": -1.0}]
)
def test_what_it_refuses(settings: dict) -> None:
    with pytest.raises(UserError, match=next(iter(settings)).replace("optimizer", "adam").replace("_", ".")):
        Run("dfgp", **settings)
