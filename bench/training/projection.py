"""What methods that project gradients share: how much of a layer's inputs they protect, and the projection itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from bench.config import require
from bench.core import Settings, Training
from bench.search_space import Linear
from bench.settings import setting
from bench.training.data import TrainingData

if TYPE_CHECKING:  # what a method declares can be read without torch, see `bench.catalog.declarations`
    import torch
    from torch import Tensor

    from bench.nn.network import Network, WeightBlock


@dataclass(frozen=True)
class Protection(Settings):
    """How much of the inputs of a layer is protected after a task, as GPM has it."""

    energy: float = setting(
        0.97,
        "share of a layer's input energy to protect after the first task",
        above=0,
        at_most=1,
        search=Linear(0.9, 0.995),
    )
    layer_energies: tuple[float, ...] = setting(
        (), "the same layer by layer, in layer order; empty: energy for all", above=0, at_most=1
    )
    energy_step: float = setting(0.003, "added to it with every task", search=Linear(0.0, 0.01))
    samples: int = setting(125, "training samples drawn for the input matrix", at_least=1)
    layer_samples: tuple[int, ...] = setting(
        (), "of these, how many each layer uses, in layer order; empty: all", at_least=1
    )
    first_rule: Literal["below", "reach"] = setting("below", "first task: the authors' code, or the paper")


class Inputs(NamedTuple):
    """The inputs of a weight block after a task, by their Gram (d, d), and the share of its trace to protect."""

    gram: Tensor
    energy: float


def inputs_to_protect(
    network: Network, config: Protection, data: TrainingData, generator: torch.Generator
) -> Iterator[tuple[str, Inputs]]:
    """Yield every weight block's name and its inputs on samples drawn from a task. Raises `UserError`."""
    from bench.nn.activations import input_grams
    from bench.nn.subspace import energy_schedule

    layers, blocks = network.layers(), network.blocks()
    for name in ("layer_samples", "layer_energies"):
        count = len(getattr(config, name))
        require(count in (0, len(layers)), f"{name} has {count} numbers for {len(layers)} layers")
    rows = dict(zip(layers, config.layer_samples, strict=False))
    energies = dict(zip(layers.values(), config.layer_energies, strict=False))
    batch = data.sample(config.samples, generator)
    for name, gram in input_grams(network, [batch], data.task, rows).items():
        start = energies.get(blocks[name].layer, config.energy)
        yield name, Inputs(gram, energy_schedule(start, config.energy_step, data.task))


class Projection:
    """The gradient G (o, d) of a weight block without a share of its component in a subspace: G - G M Λ Mᵀ."""

    def __init__(self, block: WeightBlock, basis: Tensor, shares: Tensor | None = None) -> None:
        """`basis` is M (d, k); `shares` the diagonal of Λ (k,), without which it is the identity."""
        self.block = block
        self.back = basis.T.to(block.weight)
        self.out = (basis if shares is None else basis * shares).to(block.weight)

    def __call__(self) -> None:
        """Change the gradient in place."""
        grad = self.block.grad
        grad.sub_((grad @ self.out) @ self.back)

    def freed(self, rows: Tensor) -> Tensor:
        """Return rows (n, d), of a gradient or of inputs, without that share: see `bench.nn.steering`."""
        return rows - (rows @ self.out) @ self.back


def projections(
    network: Network, bases: Mapping[str, Tensor], shares: Mapping[str, Tensor] | None = None
) -> list[Projection]:
    """Return the projections of all weight blocks that have a basis, from tensors by the block's name."""
    found = []
    for name, block in network.blocks().items():
        if name in bases and bases[name].shape[1]:
            found.append(Projection(block, bases[name], shares[name] if shares else None))
    return found


def open_weights(network: Network) -> None:
    """Of what tasks share, let only the weights of layers learn: no bias, and nothing of normalization."""
    network.freeze()
    for layer in network.layers().values():
        layer.weight.requires_grad_(True)


def why_not_projected(training: Training) -> str | None:
    """Return why projecting gradients would not project updates in such a training, in a few words; or None."""
    if training.optimizer != "sgd":
        return f"it projects gradients, and {training.optimizer} would change their direction: train it with sgd"
    if training.weight_decay:
        return "it projects gradients, and weight decay would be added to them: set weight_decay to 0"
    return None
