"""How far a task moves what the layers of a pre-trained network put out for images of earlier tasks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bench.core import Task
from bench.nn.activations import input_grams
from bench.nn.network import Network
from bench.nn.subspace import interference

IMAGES = 32  # test images of every earlier task; of a transformer, each is dozens of inputs
NONE = 1e-4  # of an update's largest singular value: what is rounding, in its rank

Moved = dict[str, dict[str, float]]


class Drift:
    """The weights of a network before a task, and what they met in images of earlier tasks."""

    def __init__(self, network: Network, earlier: Sequence[Task]) -> None:
        self.network = network
        device = next(network.parameters()).device
        images = torch.cat([torch.from_numpy(task.test.x[:IMAGES]) for task in earlier]).to(device)
        parts = network.test_images(images).split(IMAGES)
        self.grams = input_grams(network, [(x, torch.zeros(len(x))) for x in parts], 0)
        self.weights = {name: block.weight.clone() for name, block in network.blocks().items()}

    def measured(self) -> Moved:
        """Return, by weight block, the rank of its update ΔW since then, "rank"; and how far that moves the outputs for
        the inputs X it then had, "moved", ‖X ΔWᵀ‖_F / ‖X Wᵀ‖_F."""
        rank: dict[str, float] = {}
        moved: dict[str, float] = {}
        for name, block in self.network.blocks().items():
            delta = block.weight.double() - self.weights[name].double()
            rank[name] = int(torch.linalg.matrix_rank(delta, rtol=NONE))
            outputs = interference(self.weights[name], self.grams[name])
            moved[name] = interference(delta, self.grams[name]) / outputs if outputs else 0.0
        return {"rank": rank, "moved": moved}
