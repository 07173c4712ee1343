"""A backbone with its heads, and the weight matrices that subspace methods govern."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from bench.core import UserError, Views
from bench.nn.images import central_views, random_views
from bench.nn.layers import Convolution, Projections, Weighted


class WeightBlock:
    """The matrix (o, d) that one projector governs: a Linear weight, or one group of a convolution's kernel.

    Columns of a kernel are ordered (channel, row, column), as in `grams.unfold_inputs`.
    """

    def __init__(self, name: str, layer: Weighted, group: int = 0) -> None:
        self.name = name
        self.layer = layer
        self.group = group
        rows = layer.weight.shape[0] // groups_of(layer)
        self._rows = slice(group * rows, (group + 1) * rows)

    @property
    def weight(self) -> Tensor:
        """Return the matrix (o, d) as a view: writing to it changes the layer."""
        return self._matrix(self.layer.weight.detach())

    @property
    def grad(self) -> Tensor:
        """Return the gradient (o, d) as a view: writing to it changes the step. Raises `RuntimeError` without one."""
        if self.layer.weight.grad is None:
            raise RuntimeError(f"{self.name} has no gradient")
        return self._matrix(self.layer.weight.grad)

    def _matrix(self, tensor: Tensor) -> Tensor:
        matrix = tensor.view(len(tensor), -1)  # fails where a copy would be needed, which would swallow what is written
        return matrix[self._rows]


def groups_of(layer: nn.Module) -> int:
    """Return the number of groups of a convolution, and 1 for another layer."""
    return layer.groups if isinstance(layer, Convolution) else 1


def blocks_of(name: str, layer: Weighted) -> list[WeightBlock]:
    """Return the weight blocks (o, d) of a layer: one, `name`, or one per group, `name.g0`, `name.g1`, ..."""
    groups = groups_of(layer)
    if groups == 1:
        return [WeightBlock(name, layer)]
    return [WeightBlock(f"{name}.g{g}", layer, g) for g in range(groups)]


class Network(nn.Module):
    """A backbone with a head for every task, or one shared head. A call gives logits, see `forward`."""

    statistics_frozen = False  # where set, normalization that tracks statistics uses them in training too
    together = 0  # how many heads, the first ones, answer as one, whatever the task; 0: each for its own task alone
    old_heads = 0  # how many heads, the first ones, later tasks go on to learn, so that they are shared
    task_known = False  # where all tasks share one head: whether tests tell a method the task of their images
    channels_last = False  # where set, images pass through the backbone in this memory format; weights keep theirs
    precision = "fp32"  # of training and evaluation, one of `core.PRECISIONS`: see `bench.nn.precision`
    views: Views | None = None  # how its inputs are made of a benchmark's images; None: these are its inputs
    fault = ""  # why its layers may not be taken for matrices, see `bench.training.demands.matrices`
    ascends = False  # in SAM's first pass, whose gradient no method edits
    samples_told_apart = False  # whether `activations.sample_gradients` has been held against autograd

    def __init__(
        self, backbone: nn.Module, features: int, num_classes: int, num_heads: int, head_bias: bool = False
    ) -> None:
        super().__init__()
        self.backbone = backbone
        named = self.named_parameters(remove_duplicate=False)
        self._frozen = {name for name, p in named if not p.requires_grad}  # as the backbone was made
        self.heads = nn.ModuleList(nn.Linear(features, num_classes, bias=head_bias) for _ in range(num_heads))

    @property
    def shares_its_head(self) -> bool:
        """Return whether one head serves all tasks."""
        return len(self.heads) == 1

    @property
    def pretrained(self) -> bool:
        """Return whether the weights of the backbone come from other data than the stream."""
        return bool(getattr(self.backbone, "pretrained", False))

    def training_images(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a benchmark's images x (n, *stored) as the network gets them in training, (n, *input_shape)."""
        return x if self.views is None else random_views(x, self.views, generator)

    def test_images(self, x: Tensor) -> Tensor:
        """Return a benchmark's images x (n, *stored) as the network gets them in tests, (n, *input_shape)."""
        return x if self.views is None else central_views(x, self.views)

    def head(self, task: int) -> nn.Linear:
        """Return the head (num_classes, f) that serves a task."""
        place = 0 if self.shares_its_head else task
        return cast(nn.Linear, self.heads[place])

    def forward(
        self,
        x: Tensor,
        task: int | Tensor,
        gates: Mapping[str, Tensor] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the logits (n, num_classes) for inputs (n, *input_shape), by a task's head or each sample's own (n,).

        Of heads that answer `together` they are those of all of them, (n, together * num_classes), in order. `gates`
        multiply the outputs of layers, by path: (out,) for all samples or (n, out). `weights` stand in the place of
        parameters, by name.
        """
        if weights:
            with sdpa_kernel(SDPBackend.MATH):  # alone has second derivatives, which such weights are made for
                return cast(Tensor, functional_call(self, dict(weights), (x, task, gates)))
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        if not gates:
            return self._logits(self.backbone(x), task)
        with _gated(self, gates):
            return self._logits(self.backbone(x), task)

    def _logits(self, features: Tensor, task: int | Tensor) -> Tensor:
        if not self.together:
            return self.answer(features, task)
        return torch.cat([self.head(t)(features) for t in range(self.together)], dim=1)

    def answer(self, features: Tensor, task: int | Tensor) -> Tensor:
        """Return the logits (n, num_classes) of features (n, f), by the head of a task or of each sample's (n,)."""
        if self.shares_its_head:
            return cast(Tensor, self.heads[0](features))
        if not isinstance(task, Tensor):
            return self.head(task)(features)
        everything = torch.stack([head(features) for head in self.heads], dim=1)  # (n, T, num_classes)
        samples = torch.arange(len(features), device=task.device)
        return everything[samples, task]

    def train(self, mode: bool = True) -> Network:
        """Enter training mode and return the network; normalization with frozen statistics stays in evaluation mode."""
        super().train(mode)
        if not self.statistics_frozen:
            return self
        for module in self.modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                module.eval()
        return self

    def layers(self) -> dict[str, Weighted]:
        """Return every Linear, Conv1d and Conv2d layer that later tasks share, by its path, in order of registration.

        A shared head is one of them; heads of single tasks are not, nor are layers whose weights the backbone was made
        with frozen. Raises `UserError` where a layer is not what it is taken for.
        """
        if self.fault:
            raise UserError(f"methods that update weight matrices do not apply: {self.fault}")
        found: dict[str, Weighted] = {}
        for name, module in self.named_modules():
            own = self.shares_its_head or not name.startswith("heads.")
            if own and isinstance(module, Weighted) and self._may_learn(name, module):
                found[name] = module
        return found

    def _may_learn(self, path: str, layer: nn.Module) -> bool:
        """Return whether a layer's weight, or what it is computed from, was not made frozen."""
        names = [f"{path}.{name}" for name, _ in layer.named_parameters() if name != "bias"]
        return not self._frozen.issuperset(names)

    def blocks(self) -> dict[str, WeightBlock]:
        """Return the weight matrices (o, d) of `layers()`, by name."""
        found: dict[str, WeightBlock] = {}
        for name, layer in self.layers().items():
            for block in blocks_of(name, layer):
                found[block.name] = block
        return found

    def same_inputs(self) -> dict[str, str]:
        """Return, by the path of one of `layers()`, that of the first which gets the same inputs: only of layers that
        come after such a one, as the values' projection does after the keys'."""
        layers = self.layers()
        found: dict[str, str] = {}
        for path, module in self.named_modules():
            if isinstance(module, Projections):
                own = [f"{path}.{name}" for name in module.PARTS if f"{path}.{name}" in layers]
                found |= dict.fromkeys(own[1:], own[0] if own else "")
        return found

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """Return all parameters that later tasks share, by name: everything but the heads of single tasks, and but what
        the backbone was made with frozen. Heads of earlier tasks that go on learning are among them, once a task ends
        its own too."""
        named = self.named_parameters()
        return {name: p for name, p in named if self._is_shared(name) and name not in self._frozen}

    def _is_shared(self, name: str) -> bool:
        place, _, rest = name.partition(".")
        return self.shares_its_head or place != "heads" or int(rest.partition(".")[0]) < self.old_heads

    def open(self, tasks: list[int]) -> None:
        """Let all shared parameters and the heads of `tasks` learn, and no other head."""
        self.requires_grad_(False)
        for parameter in self.shared_parameters().values():
            parameter.requires_grad_(True)
        for task in tasks:
            self.head(task).requires_grad_(True)

    def freeze(self) -> None:
        """Let no shared parameter learn."""
        for parameter in self.shared_parameters().values():
            parameter.requires_grad_(False)


@contextmanager
def _gated(network: Network, gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Multiply the outputs of layers by their gates inside the block."""

    def multiply(gate: Tensor) -> Callable[[nn.Module, object, Tensor], Tensor]:
        def hook(layer: nn.Module, inputs: object, output: Tensor) -> Tensor:
            own = gate if gate.dim() == 2 else gate.unsqueeze(0)  # (n or 1, out)
            places = [1] * (output.dim() - 2)
            return output * own.view(*own.shape, *places)

        return hook

    with ExitStack() as stack:
        for path, gate in gates.items():
            layer = network.get_submodule(path)
            handle = layer.register_forward_hook(multiply(gate))
            stack.callback(handle.remove)
        yield
