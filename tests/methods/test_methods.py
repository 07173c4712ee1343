"""One property of its paper per method, with the optimiser of a recipe, and the known answers that concern it."""

import pytest
import torch
from conftest import first_quick
from torch import Tensor

from bench.catalog.catalog import Catalog
from bench.core import UserError
from bench.nn import architectures
from bench.nn.activations import input_grams
from bench.nn.adapters import merge
from bench.nn.network import Network
from bench.nn.subspace import null_basis, project_out
from bench.tools.trial import SHARED, Run, snapshot
from bench.training.data import TrainingData

RECIPES = {  # the optimizers of the recipes, and one no proof of gradient projection holds for
    "sgd": {},
    "sgd with momentum and decay": {"momentum": 0.9, "weight_decay": 1e-2, "lr": 0.01},
    "adam": {"optimizer": "adam", "weight_decay": 1e-2, "lr": 0.005},
}


def data_of(run: Run, task: int) -> TrainingData:
    split = run.tasks[task].train
    return TrainingData(task, torch.from_numpy(split.x), torch.from_numpy(split.y), run.training.batch_size)


def moved(run: Run, before: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the update of every weight block since `before`."""
    updates = {}
    for name, block in run.network.blocks().items():
        updates[name] = block.weight - before[f"{name}.weight"].flatten(1)
    return updates


def outside(delta: torch.Tensor, basis: torch.Tensor) -> float:
    """Return the share of an update outside the span of a basis."""
    return float(project_out(delta, basis.to(delta)).norm() / delta.norm())


def test_finetune_is_the_empty_method():
    cls = Catalog().method("finetune")
    assert {name for name in vars(cls) if not name.startswith("__")} == {"protocols"}  # declares, and hooks nothing


def test_joint_beats_fine_tuning_on_conflicting_tasks():
    joint, alone = Run("joint"), Run("finetune")
    R = joint.learn()
    S = alone.learn()
    assert R[0] == R[1] == [None] * 3
    assert None not in R[2]
    assert sum(R[2]) >= sum(S[2])


# GPM


@pytest.mark.parametrize("optimizer", RECIPES)
@pytest.mark.parametrize("task", first_quick([1, 2]))
def test_gpm_never_moves_along_the_protected_directions(task, optimizer):
    run = Run("gpm", energy=0.9, **RECIPES[optimizer])
    run.learn(task)
    before = snapshot(run.network)
    bases = run.method.state()
    run.learn(task + 1, first=task)
    incomplete = [name for name, basis in bases.items() if basis.shape[1] < len(basis)]
    assert incomplete  # elsewhere, what little moves is rounding
    updates = moved(run, before)
    for name in incomplete:
        delta = updates[name]
        assert bases[name].shape[1] > 0
        rounding = 1e-6 * float(run.network.blocks()[name].weight.norm())
        assert float(delta.norm()) > 100 * rounding
        assert float((delta.double() @ bases[name]).norm()) < rounding


def test_gpm_is_projected_gradient_descent():
    """The loop of the paper, G <- G - G M Mᵀ on the weights themselves, takes the same steps."""

    class Literal(Catalog().method("gpm")):
        def begin_task(self, task, data):
            self.bases = {name: basis.float() for name, basis in self.memory.items()}
            if task > 0:
                for parameter in self.network.shared_parameters().values():
                    parameter.requires_grad_(parameter.ndim > 1)

        def edit_grads(self):
            for name, basis in self.bases.items():
                grad = self.network.blocks()[name].grad
                grad.copy_(project_out(grad, basis))

    ours = Run("gpm", energy=0.9, epochs=1)
    literal = Run("gpm", energy=0.9, epochs=1)
    literal.method = Literal(literal.network, literal.method.config, literal.method.generator)
    for run in (ours, literal):
        run.learn(2)
    assert len(ours.network.state_dict()) == 6
    for name, weight in ours.network.state_dict().items():
        torch.testing.assert_close(weight, literal.network.state_dict()[name], atol=1e-5, rtol=1e-4)


def test_gpm_bases_stay_orthonormal_and_grow():
    run = Run("gpm", energy=0.8, epochs=1)
    sizes = []
    for task in range(3):
        run.learn(task + 1, first=task)
        for basis in run.method.state().values():
            torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]).double(), atol=1e-10, rtol=0)
        sizes.append(sum(b.shape[1] for b in run.method.state().values()))
    assert 0 < sizes[0] <= sizes[1] <= sizes[2]


def test_gpm_threshold_never_reaches_one():
    run = Run("gpm", energy=0.9, energy_step=0.5, epochs=1, samples=8)
    run.learn()
    assert any(basis.shape[1] < len(basis) for basis in run.method.state().values())


def test_gpm_protects_each_layer_by_its_own_energy():
    whole = Run("gpm", energy=0.9, epochs=1)
    own = Run("gpm", energy=0.5, layer_energies=[0.9, 0.6, 0.9], epochs=1)
    sizes = []
    for run in (whole, own):
        run.learn(1)
        sizes.append([basis.shape[1] for basis in run.method.state().values()])
    assert sizes[0][0] == sizes[1][0]
    assert sizes[0][1] > sizes[1][1]
    assert sizes[0][2] == sizes[1][2]
    with pytest.raises(UserError, match="layer_energies has 1 numbers for 3 layers"):
        Run("gpm", layer_energies=[0.9], epochs=1).learn(1)


# NESS


@pytest.mark.parametrize("optimizer", RECIPES)
@pytest.mark.parametrize("memory", first_quick(["data", "gram"]))
def test_ness_stays_in_the_null_space_under_any_optimizer(optimizer, memory):
    run = Run("ness", memory=memory, sam="first", **RECIPES[optimizer])
    run.learn(1)
    before = snapshot(run.network)
    run.learn(2, first=1)
    assert run.method.ups
    for name in run.method.ups:
        split = null_basis(run.method.grams[name], run.method.config.eps)
        assert outside(moved(run, before)[name], split.basis) < 1e-5
    assert sum(float(d.norm()) for d in moved(run, before).values()) > 0


def test_ness_reports_rank_and_both_sides_of_its_bound():
    run = Run("ness")
    run.learn(2)
    report = run.method.report()
    ups = run.method.ups
    ranks = {name: rank for name, rank in report["rank"].items() if rank}
    assert ranks == {name: up.shape[1] for name, up in ups.items()}
    assert ups
    for name in ups:
        assert 0 < report["interference"][name] <= report["bound"][name] * (1 + 1e-4)


def test_ness_memories_agree_while_the_old_network_is_the_network():
    """Before task 1 the Gram kept after task 0 is the Gram of its data, passed again."""
    again = Run("ness", memory="data")
    again.learn(2)
    kept = Run("ness", memory="gram")
    kept.learn(1)
    grams = kept.method.state()
    assert len(again.method.grams) == len(grams) == 3
    for name, gram in again.method.grams.items():
        torch.testing.assert_close(gram, grams[name], rtol=1e-9, atol=1e-9)


def old_splits(shape: tuple[int, ...], sizes: tuple[int, ...], batch_size: int) -> list[TrainingData]:
    """The closed chapters of a stream: a split of random images a task, each of its own scale."""
    generator = torch.Generator().manual_seed(0)
    splits = []
    for t, n in enumerate(sizes):
        x = (t + 1) * torch.randn(n, *shape, generator=generator)
        splits.append(TrainingData(t, x, torch.zeros(n, dtype=torch.long), batch_size))
    return splits


def grams_before_task(network: Network, splits: list[TrainingData]) -> dict[str, Tensor]:
    """The Grams that NESS takes of old data before a task that comes after these."""
    data = TrainingData(len(splits), torch.zeros(0), torch.zeros(0), splits[0].batch_size)
    data.grant(splits)
    method = Catalog().method("ness")(network)
    method.begin_task(len(splits), data)
    return method.grams


def network_of(backbone: str, bn_mode: str) -> Network:
    benchmark = Catalog().benchmark("toy")
    benchmark.backbone, benchmark.input_shape = backbone, (2, 6, 6)
    torch.manual_seed(0)
    return architectures.build(benchmark, bn_mode)


@pytest.mark.parametrize("sizes", [(10, 7, 9), (3, 3, 3), (8, 16, 4), (10, 7, 8)])
def test_ness_passes_old_images_in_a_row_where_a_batch_decides(sizes):
    """Where batches give the statistics, one may hold the end of a task and the start of the next."""
    splits = old_splits((2, 6, 6), sizes, batch_size=8)
    network = network_of("groupnet", "batch")
    before = {name: W.clone() for name, W in network.state_dict().items()}
    found = grams_before_task(network, splits)
    merge(network)
    assert all(torch.equal(W, before[name]) for name, W in network.state_dict().items())
    images = torch.cat([x for split in splits for x, _ in split])
    total = sum(sizes)
    cuts = [i for i in range(0, total, 8) if total - i != 1]  # a last image by itself joins the batch before it
    batches = [(part, None) for part in images.tensor_split(cuts[1:])]
    wanted = input_grams(network, batches, 0)
    assert len(wanted) == 4
    for name, gram in wanted.items():
        torch.testing.assert_close(found[name], gram, rtol=0, atol=0)
    apart = [input_grams(network, split, 0) for split in splits]
    gap = max(float((found[name] - sum(grams[name] for grams in apart)).norm() / found[name].norm()) for name in wanted)
    assert (gap > 1e-4) == any(n % 8 for n in sizes[:-1]), "it matters unless every task ends with a full batch"


@pytest.mark.parametrize(("backbone", "bn_mode"), [("convnet", "batch"), ("groupnet", "running-frozen")])
def test_ness_passes_old_images_task_by_task_elsewhere(backbone, bn_mode):
    splits = old_splits((2, 6, 6), (10, 7, 9), batch_size=8)
    network = network_of(backbone, bn_mode)
    found = grams_before_task(network, splits)
    merge(network)
    apart = [input_grams(network, split, 0) for split in splits]
    in_a_row = input_grams(network, TrainingData.in_a_row(splits), 0)
    assert found
    for name, gram in found.items():
        assert torch.equal(gram, apart[0][name] + apart[1][name] + apart[2][name])
        assert float((gram - in_a_row[name]).norm()) < 1e-6 * float(gram.norm())


@pytest.mark.parametrize("memory", ["data", "gram"])
def test_ness_says_whether_it_reads_old_data(memory):
    cls = Catalog().method("ness")
    assert cls.old_data(cls.Config(memory=memory)) == ("all" if memory == "data" else "none")


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_training_u_is_projecting_gradients_with_anchored_decay(nesterov, decay):
    torch.manual_seed(0)
    X = torch.randn(20, 6).double()
    Y = torch.randn(20, 4).double()
    W0 = torch.randn(4, 6).double()
    V = torch.linalg.qr(torch.randn(6, 3).double()).Q
    U = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    W = W0.clone().requires_grad_()
    by_u = torch.optim.SGD([U], lr=0.1, momentum=0.9, weight_decay=decay, nesterov=nesterov)
    by_w = torch.optim.SGD([W], lr=0.1, momentum=0.9, nesterov=nesterov)
    for _ in range(50):
        by_u.zero_grad()
        (X @ (W0 + U @ V.T).T - Y).square().mean().backward()
        by_u.step()
        by_w.zero_grad()
        (X @ W.T - Y).square().mean().backward()
        W.grad = W.grad @ V @ V.T + decay * (W.detach() - W0)
        by_w.step()
    torch.testing.assert_close((W0 + U @ V.T).detach(), W.detach(), atol=1e-12, rtol=0)


def test_ordinary_decay_after_projection_leaks():  # why NESS trains a parameter
    torch.manual_seed(0)
    W0 = torch.randn(4, 6).double()
    V = torch.linalg.qr(torch.randn(6, 3).double()).Q
    W = W0.clone().requires_grad_()
    optimizer = torch.optim.SGD([W], lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(50):
        W.grad = torch.randn(4, 6).double() @ V @ V.T
        optimizer.step()
    assert float(project_out((W - W0).detach(), V).norm()) > 1


def test_trainable_parameters_of_ness_on_cifar():
    from bench.nn import adapters, architectures

    network = architectures.build(Catalog().benchmark("split_cifar100"))
    network.open([1])
    ranks = dict(zip(network.blocks(), (3, 345, 225, 826, 1911), strict=True))
    downs = {name: torch.zeros(ranks[name], block.weight.shape[1]) for name, block in network.blocks().items()}
    adapters.attach(network, downs)
    method = Catalog().method("ness")(network)
    assert sum(p.numel() for p in method.parameters()) == 5_727_808


# EWC


def fisher_of(run: Run) -> dict[str, torch.Tensor]:
    return {name: value for name, value in run.method.state().items() if name.startswith("fisher")}


def test_ewc_penalty():
    run = Run("ewc", strength=5000.0)
    name, parameter = next(iter(run.network.shared_parameters().items()))
    fisher = torch.zeros_like(parameter)
    anchor = parameter.detach().clone()
    fisher.view(-1)[:2] = torch.tensor([2.0, 0.5])
    anchor.view(-1)[:2] -= torch.tensor([0.1, -2.0])
    run.method.load_state({f"fisher.{name}": fisher, f"anchor.{name}": anchor})
    assert float(run.method.penalty().detach()) == pytest.approx(5050, rel=1e-4)


def test_ewc_has_no_penalty_where_it_was_anchored_and_one_elsewhere():
    run = Run("ewc")
    run.learn(1)
    assert run.method.penalty() == 0
    with torch.no_grad():
        run.network.backbone.fc3.weight += 0.1
    assert float(run.method.penalty().detach()) > 0


def test_ewc_offline_is_the_sum_of_a_penalty_per_task():
    """Its one quadratic has the gradient of the sum over tasks."""
    run = Run("ewc", epochs=2)
    parts = []
    for task in range(2):
        old = run.method.state()
        run.learn(task + 1, first=task)
        anchor = {n: p.detach().clone() for n, p in run.network.shared_parameters().items()}
        fisher = {n: f - old.get(n, 0) for n, f in fisher_of(run).items()}
        parts.append((anchor, fisher))
    with torch.no_grad():
        for p in run.network.shared_parameters().values():
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    parameters = run.network.shared_parameters()
    assert len(parameters) == 3
    grads = torch.autograd.grad(run.method.penalty(), list(parameters.values()))
    for (name, p), grad in zip(parameters.items(), grads, strict=True):
        per_task = sum(fisher[f"fisher.{name}"] * (p - anchor[name]) for anchor, fisher in parts)
        torch.testing.assert_close(grad, run.method.config.strength * per_task.detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "weights"),
    [({"tasks": "online", "decay": 0.5}, [0.25, 0.5, 1.0]), ({"tasks": "mean"}, [1 / 3, 1 / 3, 1 / 3])],
    ids=["online", "mean"],
)
def test_ewc_with_the_latest_anchor_weighs_the_tasks(words, weights):
    """Of three tasks: the Fisher information of each has its weight, and the anchor is where the last one ended."""
    run = Run("ewc", epochs=1, **words)
    own = []

    def kept(squares):
        def of(data):
            own.append([{n: s.clone() for n, s in square.items()} for square in squares(data)])
            return own[-1]

        return of

    run.method._squares = kept(run.method._squares)
    run.learn(3)
    images = len(run.tasks[0].train)
    parameters = run.network.shared_parameters()
    assert len(own) == len(weights) and len(parameters) == 3
    for name, p in parameters.items():
        fishers = [sum(square[name] for square in batches) / images for batches in own]
        expected = sum(weight * fisher for weight, fisher in zip(weights, fishers, strict=True))
        torch.testing.assert_close(run.method.state()[f"fisher.{name}"], expected)
        assert torch.equal(run.method.state()[f"anchor.{name}"], p)


def test_ewc_moves_less_the_more_it_is_told_to():
    drift = []
    for strength in (0.0, 3000.0):
        run = Run("ewc", strength=strength)
        run.learn(1)
        before = snapshot(run.network)
        fisher = run.method.state()
        run.learn(2, first=1)
        now = run.network.state_dict()
        moves = [fisher[f"fisher.{n}"] * (now[n] - before[n]) ** 2 for n in before if "backbone" in n]
        drift.append(sum(float(move.sum()) for move in moves))
    assert drift[1] < drift[0] / 2


def test_ewc_batch_fisher_is_smaller():
    total = {}
    for kind in ("per-sample", "batch"):
        run = Run("ewc", fisher=kind, epochs=1)
        run.learn(1)
        total[kind] = sum(float(f.sum()) for f in fisher_of(run).values())
    assert 0 < total["batch"] < total["per-sample"]


# InfLoRA


@pytest.mark.parametrize("power", [4, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("energy", [0.5, 0.9], ids=["remove", "retain"])
@pytest.mark.parametrize("optimizer", first_quick(RECIPES))
def test_inflora_moves_only_in_the_allowed_space(optimizer, energy, power):
    run = Run("inflora", energy_power=power, energy=energy, **RECIPES[optimizer])
    run.learn(1)
    before = snapshot(run.network)
    state = run.method.state()
    run.learn(2, first=1)
    flags = {bool(v) for n, v in state.items() if n.endswith(".retain")}
    assert (True in flags) == (energy == 0.9)
    deltas = {name: delta for name, delta in moved(run, before).items() if float(delta.norm()) > 0}
    assert deltas
    for name, delta in deltas.items():
        basis = state[name]
        retain = bool(state[f"{name}.retain"])
        leaked = outside(delta, basis) if retain else float((delta.double() @ basis).norm() / delta.norm())
        assert leaked < 1e-5


@pytest.mark.parametrize(("scale", "length"), [("inverse-sqrt-3", 0.57735027), ("unit", 1.0)])
def test_inflora_design(scale, length):
    method = Catalog().method("inflora")
    config = method.Config(rank=2, b_scale=scale)
    network = Network(torch.nn.Linear(8, 3, bias=False), 3, 2, 2)
    run = method(network, config)
    gram = torch.diag(torch.tensor([4.0, 3, 2, 1, 0, 0, 0, 0]).double())
    run.load_state({"backbone": torch.zeros(8, 0).double(), "backbone.retain": torch.tensor(False)})
    axes = torch.eye(8).double()
    free = run._design("backbone", gram).abs()
    torch.testing.assert_close(free, length * axes[:2], atol=1e-8, rtol=0)
    run.load_state({"backbone": axes[:, :1], "backbone.retain": torch.tensor(False)})
    later = run._design("backbone", gram).abs()
    torch.testing.assert_close(later, length * axes[1:3], atol=1e-8, rtol=0)


def test_inflora_step_is_a_third_of_the_projected_gradient():
    from bench.nn.adapters import attach, merge

    torch.manual_seed(0)
    network = Network(torch.nn.Linear(4, 3, bias=False), 3, 2, 2).double()
    before = network.backbone.weight.detach().clone()
    x = torch.randn(5, 4).double()
    network(x, 0).square().sum().backward()
    gradient = network.backbone.weight.grad.clone()
    B = torch.eye(4).double()[:2] / 3**0.5
    [factors] = attach(network, {"backbone": B}).values()
    network(x, 0).square().sum().backward()
    torch.optim.SGD([factors.up], lr=0.1).step()
    merge(network)
    expected = -0.1 / 3 * gradient @ torch.diag(torch.tensor([1.0, 1, 0, 0]).double())
    torch.testing.assert_close(network.backbone.weight.detach() - before, expected, atol=1e-12, rtol=0)


def test_inflora_gives_up_directions_it_does_not_have():
    """Where new inputs leave no direction in the allowed space, the layer stays frozen."""
    method = Catalog().method("inflora")
    run = method(Network(torch.nn.Linear(8, 3, bias=False), 3, 2, 2), method.Config(rank=4))
    run.load_state({"backbone": torch.eye(8).double(), "backbone.retain": torch.tensor(False)})
    assert run._design("backbone", torch.eye(8).double()).shape == (0, 8)
    run.load_state({"backbone": torch.zeros(8, 0).double(), "backbone.retain": torch.tensor(True)})
    assert run._design("backbone", torch.eye(8).double()).shape == (0, 8)


# O-LoRA


def olora(**settings):
    method = Catalog().method("olora")
    run = method(Network(torch.nn.Linear(3, 4, bias=False), 4, 2, 2), method.Config(**settings))
    from bench.nn.adapters import Factors

    down = torch.nn.Parameter(torch.tensor([[0.5, -0.5, 1], [0, 2, 0]]))
    run.factors = {"backbone": Factors(torch.nn.Parameter(torch.zeros(4, 2)), down)}
    run.load_state({"backbone": torch.tensor([[1.0, 0, 0], [0, 1, 0]])})
    return run


def test_olora_penalty():
    assert float(olora(orthogonality=1.0).penalty()) == pytest.approx(3.0)
    assert float(olora(orthogonality=0.0, shrinkage=1.0).penalty()) == pytest.approx(2.34520788)


def test_olora_penalty_moves_the_new_pair_alone():
    run = olora(orthogonality=1.0)
    run.penalty().backward()
    up, down = run.factors["backbone"]
    assert down.grad is not None
    assert up.grad is None


@pytest.mark.slow
def test_olora_overlap_falls_with_the_penalty():
    overlap = []
    for weight in (0.0, 0.1):
        run = Run("olora", orthogonality=weight, epochs=20, lr=0.02)
        run.learn(1)
        old = run.method.state()
        run.learn(2, first=1)
        products = [old[name] @ factors.down.detach().T for name, factors in run.method.factors.items()]
        overlap.append(sum(float(product.abs().sum()) for product in products))
    assert overlap[1] < 0.5 * overlap[0]


@pytest.mark.parametrize(("a1", "rows"), [("input", (8, 16)), ("none", (0, 8))])
def test_olora_keeps_every_pair(a1, rows):
    run = Run("olora", a1=a1, epochs=1)
    run.learn(1)
    assert len(run.method.state().get("backbone.fc3", ())) == rows[0]
    run.learn(2, first=1)
    assert len(run.method.state()["backbone.fc3"]) == rows[1]


# All of them


@pytest.mark.parametrize("method", ["gpm", "ness", "inflora"])
def test_biases_and_scales_are_frozen_after_the_first_task(method):
    run = Run(method, ground=SHARED)
    start = snapshot(run.network)
    run.learn(1)
    before = snapshot(run.network)
    run.learn(2, first=1)
    vectors = {n: p for n, p in run.network.shared_parameters().items() if p.ndim == 1}
    assert len(vectors) > 3
    assert not all(torch.equal(start[n], before[n]) for n in vectors)
    assert all(torch.equal(p, before[n]) for n, p in vectors.items())


@pytest.mark.parametrize("method", ["gpm", "ness", "inflora", "olora"])
def test_first_task_is_ordinary_training(method):
    run = Run(method)
    plain = Run("finetune")
    run.learn(1)
    plain.learn(1)
    weights = run.network.state_dict()
    assert len(weights) == 6
    assert all(torch.equal(v, plain.network.state_dict()[k]) for k, v in weights.items())
