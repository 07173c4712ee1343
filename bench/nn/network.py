"""A backbone with its heads, and the weight matrices that subspace methods govern."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm


class WeightBlock:
    """The matrix (o, d) that one projector governs: a Linear weight, or one group of a Conv2d kernel.

    Columns of a kernel are ordered (channel, row, column), as in `grams.unfold_inputs`.
    """

    def __init__(self, name: str, layer: nn.Linear | nn.Conv2d, group: int = 0) -> None:
        self.name, self.layer, self.group = name, layer, group
        rows = layer.weight.shape[0] // groups_of(layer)
        self._rows = slice(group * rows, (group + 1) * rows)

    @property
    def weight(self) -> Tensor:
        """(o, d), a view: writing to it changes the layer."""
        return self._matrix(self.layer.weight.detach())

    @property
    def grad(self) -> Tensor:
        """(o, d), a view of the gradient: writing to it changes the step."""
        if self.layer.weight.grad is None:
            raise RuntimeError(f"{self.name} has no gradient")
        return self._matrix(self.layer.weight.grad)

    def _matrix(self, tensor: Tensor) -> Tensor:
        return tensor.view(len(tensor), -1)[self._rows]  # fails, where a copy would swallow what is written to it


def groups_of(layer: nn.Module) -> int:
    """1 for a Linear layer."""
    return layer.groups if isinstance(layer, nn.Conv2d) else 1


def blocks_of(name: str, layer: nn.Linear | nn.Conv2d) -> list[WeightBlock]:
    """One block, `name`; or, of a grouped convolution, one per group: `name.g0`, `name.g1`, ..."""
    groups = groups_of(layer)
    return [WeightBlock(f"{name}.g{g}" if groups > 1 else name, layer, g) for g in range(groups)]


class Network(nn.Module):
    """A backbone with a head for every task, or one shared head. A call gives logits, see `forward`."""

    statistics_frozen = False  # where set, normalization that tracks statistics uses them in training too
    channels_last = False  # where set, images pass through the backbone in this memory format; weights keep theirs
    precision = "fp32"  # of training and evaluation, one of `core.PRECISIONS`: see `bench.nn.precision`

    def __init__(self, backbone: nn.Module, features: int, num_classes: int, num_heads: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleList(nn.Linear(features, num_classes, bias=False) for _ in range(num_heads))

    def head(self, task: int) -> nn.Linear:
        """The head that serves a task."""
        return cast(nn.Linear, self.heads[task if len(self.heads) > 1 else 0])

    def forward(
        self,
        x: Tensor,
        task: int | Tensor,
        gates: Mapping[str, Tensor] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the logits (n, num_classes) of a task's head, or of each sample's own task (n,).

        `gates` multiply the outputs of layers, by path: (out,) for all samples or (n, out). `weights` stand in the
        place of parameters, by name.
        """
        if weights:
            return cast(Tensor, functional_call(self, dict(weights), (x, task, gates)))
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        if not gates:
            return self.answer(self.backbone(x), task)
        with _gated(self, gates):
            return self.answer(self.backbone(x), task)

    def answer(self, features: Tensor, task: int | Tensor) -> Tensor:
        """Return the logits (n, num_classes) of features (n, f), by the head of a task or of each sample's (n,)."""
        if not isinstance(task, Tensor) or len(self.heads) == 1:
            return self.head(task if isinstance(task, int) else 0)(features)
        everything = torch.stack([head(features) for head in self.heads], dim=1)  # (n, T, num_classes)
        return everything[torch.arange(len(features), device=task.device), task]

    def train(self, mode: bool = True) -> Network:
        """Training mode; normalization with frozen statistics stays in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if self.statistics_frozen and isinstance(module, _BatchNorm) and module.running_mean is not None:
                module.eval()
        return self

    def layers(self) -> dict[str, nn.Linear | nn.Conv2d]:
        """Every Linear and Conv2d layer that later tasks share, by its path, in order of registration.

        A shared head is one of them; heads of single tasks are not.
        """
        return {
            name: module
            for name, module in self.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d) and self._is_shared(name)
        }

    def blocks(self) -> dict[str, WeightBlock]:
        """The weight matrices of `layers()`, by name."""
        return {b.name: b for name, layer in self.layers().items() for b in blocks_of(name, layer)}

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """All parameters that later tasks share, by name: everything but the heads of single tasks."""
        return {name: p for name, p in self.named_parameters() if self._is_shared(name)}

    def _is_shared(self, name: str) -> bool:
        return len(self.heads) == 1 or not name.startswith("heads.")

    def open(self, tasks: list[int]) -> None:
        """Let all shared parameters and the heads of `tasks` learn, and no other head."""
        self.requires_grad_(False)
        for parameter in self.shared_parameters().values():
            parameter.requires_grad_(True)
        for task in tasks:
            self.head(task).requires_grad_(True)

    def freeze(self) -> None:
        """No shared parameter learns."""
        for parameter in self.shared_parameters().values():
            parameter.requires_grad_(False)


@contextmanager
def _gated(network: Network, gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the outputs of layers are multiplied by their gates."""

    def multiply(gate: Tensor) -> Callable[[nn.Module, object, Tensor], Tensor]:
        def hook(layer: nn.Module, inputs: object, output: Tensor) -> Tensor:
            own = gate if gate.dim() == 2 else gate.unsqueeze(0)
            return output * own.view(*own.shape, *[1] * (output.dim() - 2))

        return hook

    with ExitStack() as stack:
        for path, gate in gates.items():
            layer = network.get_submodule(path)
            stack.callback(layer.register_forward_hook(multiply(gate)).remove)
        yield
