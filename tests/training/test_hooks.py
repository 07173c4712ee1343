"""What the hooks carry: methods of every kind, each a plugin of a few lines, and when each hook is called."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.catalog.catalog import Catalog
from bench.tools.check import run_checks
from bench.tools.trial import Run

Plugin = Callable[..., Path]

MASK = """
needs = ("task id at test",)
def begin_task(self, task, data):
    import torch
    from torch import nn
    normal = torch.empty(64).normal_(1, 1, generator=self.generator)
    self.embedding = nn.Parameter(normal)
    self.sharpness = 1.0
def parameters(self):
    return [{"params": super().parameters()}, {"params": [self.embedding], "lr_scale": 0.1}]
def before_step(self, batch):
    self.sharpness = 0.5 + 99.5 * batch.progress
    return batch
def forward(self, x, task):
    import torch
    masks = self.memory.get("mask", {})
    if self.network.training or str(int(task)) not in masks:
        gate = torch.sigmoid(self.sharpness * self.embedding)
    else:
        gate = masks[str(int(task))]
    return self.network(x, task, gates={"backbone.fc3": gate})
def edit_grads(self):
    weight = self.network.backbone.fc3.weight
    for mask in self.memory.get("mask", {}).values():
        weight.grad *= (1 - mask)[:, None]
def after_step(self, batch):
    self.embedding.data.clamp_(-6, 6)
def end_task(self, task, data):
    import torch
    mask = torch.sigmoid(100 * self.embedding.detach())
    self.memory["mask"] = {**self.memory.get("mask", {}), str(task): mask}
def report(self):
    return {"used": {task: float(mask.mean()) for task, mask in self.memory["mask"].items()}}
"""
SCALED_PROJECTION = """
def edit_grads(self):
    for name, block in self.network.blocks().items():
        if name in self.memory.get("basis", {}):
            basis, scale = self.memory["basis"][name], self.memory["scale"][name]
            block.grad.sub_(block.grad @ basis * scale @ basis.T)
def end_task(self, task, data):
    from bench.nn.activations import input_grams
    from bench.nn.subspace import spectrum
    self.memory = {"basis": {}, "scale": {}}
    for name, gram in input_grams(self.network, data, task).items():
        values, vectors = spectrum(gram)[:2]
        self.memory["basis"][name] = vectors.float()
        self.memory["scale"][name] = (values / values.max()).clamp(0, 1).float()
"""
PATH_INTEGRAL = """
def begin_task(self, task, data):
    import torch
    named = self.network.shared_parameters()
    self.path = {n: torch.zeros_like(p) for n, p in named.items()}
    self.start = {n: p.detach().clone() for n, p in named.items()}
    self.before = self.start
def edit_grads(self):
    import torch
    named = self.network.shared_parameters()
    self.grads = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in named.items()}
def after_step(self, batch):
    named = self.network.shared_parameters()
    for name, parameter in named.items():
        self.path[name] -= self.grads[name] * (parameter.detach() - self.before[name])
    self.before = {n: p.detach().clone() for n, p in named.items()}
def penalty(self):
    omega = self.memory.get("omega", {})
    named = self.network.shared_parameters()
    return 0.1 * sum((o * (named[n] - self.memory["anchor"][n]).square()).sum() for n, o in omega.items())
def end_task(self, task, data):
    omega, anchor = self.memory.get("omega", {}), {}
    for name, parameter in self.network.shared_parameters().items():
        moved = parameter.detach() - self.start[name]
        own = self.path[name].clamp(min=0) / (moved.square() + 0.1)
        omega = {**omega, name: omega.get(name, 0) + own}
        anchor[name] = parameter.detach().clone()
    self.memory = {"omega": omega, "anchor": anchor}
    del self.path, self.start, self.before, self.grads
"""
KINDS = {"mask": MASK, "scaled_projection": SCALED_PROJECTION, "path_integral": PATH_INTEGRAL}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_a_method_of_each_kind_is_a_plugin_that_passes_every_check(kind: str, plugin: Plugin) -> None:
    verdicts = list(run_checks("Method", kind, Catalog.of([plugin(kind, KINDS[kind])])))
    assert len(verdicts) >= 13
    assert [verdict for verdict in verdicts if verdict.failure] == []


def test_a_mask_protects_what_it_covers_and_its_parameter_is_trained_and_restored(plugin: Plugin) -> None:
    run = Run("mask", Catalog.of([plugin("mask", MASK)]))
    run.learn(1)
    weight = run.network.backbone.fc3.weight
    before = weight.detach().clone()
    mask = run.method.memory["mask"]["0"]
    trained = run.method.embedding.detach().clone()
    run.learn(2, first=1)
    moved = (weight.detach() - before).abs().amax(1)
    assert (mask > 0.999).any()
    assert float(moved[mask > 0.999].max()) < 1e-3 < float(moved[mask < 0.001].max())
    assert not torch.equal(trained, run.method.embedding)


def test_a_path_integral_adds_up_to_the_change_of_the_loss(plugin: Plugin) -> None:
    """Along a path of small steps without penalty, Σ -g Δθ over all parameters is what the loss fell by."""
    run = Run("path_integral", Catalog.of([plugin("path_integral", PATH_INTEGRAL)]), lr=1e-3, epochs=30, batch_size=48)
    x = torch.from_numpy(run.tasks[0].train.x)
    y = torch.from_numpy(run.tasks[0].train.y)
    losses, totals = [], []

    def loss() -> float:
        return float(torch.nn.functional.cross_entropy(run.network(x, 0), y).detach())

    losses.append(loss())
    end = run.method.end_task

    def noted(task, data) -> None:
        totals.append(sum(float(p.sum()) for p in run.method.path.values()))
        losses.append(loss())
        end(task, data)

    run.method.end_task = noted
    heads = [head.weight for head in run.network.heads]
    before = [head.detach().clone() for head in heads]
    run.learn(1)
    fell = losses[0] - losses[1]
    assert any(not torch.equal(a, b) for a, b in zip(heads, before, strict=True))
    assert 0.2 * fell < totals[0] < fell, "the heads' share of the fall is not among the shared parameters'"


def test_when_each_hook_is_called(plugin: Plugin) -> None:
    body = "\n".join(
        f"def {name}(self, *words):\n    self.__dict__.setdefault('calls', []).append('{name}')\n"
        f"    return super().{name}(*words)"
        for name in ("begin_task", "before_step", "forward", "loss", "penalty", "edit_grads", "after_step", "end_task")
    )
    run = Run("noted", Catalog.of([plugin("noted", body)]), epochs=1, batch_size=24)
    run.learn(1)
    step = ["before_step", "loss", "forward", "penalty", "edit_grads", "after_step"]
    assert run.method.calls == ["begin_task", *step, *step, "forward", "end_task", "forward"]


def test_before_step_changes_what_is_trained_on_and_after_step_sees_what_was_drawn(plugin: Plugin) -> None:
    body = (
        "def before_step(self, batch):\n    return batch._replace(x=batch.x * 0)\n"
        "def loss(self, batch):\n    assert not batch.x.any()\n    return super().loss(batch)\n"
        "def after_step(self, batch):\n    assert batch.x.any()\n    self.seen = batch"
    )
    run = Run("blanks", Catalog.of([plugin("blanks", body)]), epochs=2)
    run.learn(1)
    assert (run.method.seen.epoch, run.method.seen.progress, run.method.seen.task) == (1, 1.0, 0)


def test_a_group_of_parameters_has_a_rate_of_its_own(plugin: Plugin) -> None:
    body = (
        "def parameters(self):\n    *rest, last = super().parameters()\n"
        "    return [{'params': rest}, {'params': [last], 'lr_scale': 0.0}]"
    )
    run = Run("still", Catalog.of([plugin("still", body)]), epochs=2)
    before = {name: p.detach().clone() for name, p in run.network.named_parameters()}
    run.learn(1)
    moved = {name for name, p in run.network.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"backbone.conv1.weight", "backbone.conv2.weight", "backbone.fc3.weight"}


def test_a_nested_memory_goes_round_by_its_flat_state() -> None:
    method = Run("finetune").method
    method.memory = {"a": torch.ones(2), "b": {"c": torch.zeros(1), "d": {"e.f": torch.ones(3)}}}
    assert list(method.state()) == ["a", "b/c", "b/d/e.f"]
    other = Run("finetune").method
    other.load_state(method.state())
    assert torch.equal(other.memory["b"]["d"]["e.f"], torch.ones(3))
    assert list(other.memory["b"]) == ["c", "d"]


def test_gates_and_weights_of_the_network() -> None:
    network = Run("finetune").network.eval()
    x = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    off = torch.zeros(64)
    assert not network(x, 0, gates={"backbone.fc3": off}).any()
    by_sample = torch.cat([torch.ones(1, 16), torch.zeros(2, 16)])
    gated = network(x, 0, gates={"backbone.conv1": by_sample})
    torch.testing.assert_close(gated[0], network(x, 0)[0])
    assert not gated[1:].any()
    assert network(x, 0).any()
    name = "backbone.fc3.weight"
    doubled = network(x, 0, weights={name: 2 * network.get_parameter(name)})
    torch.testing.assert_close(doubled, 2 * network(x, 0))  # no bias: linear from there on, where ReLU does not cut
    mixed = network(x, torch.tensor([0, 1, 2]))
    for i in range(3):
        torch.testing.assert_close(mixed[i], network(x, i)[i])
