"""What every method shares: a few optional hooks, all of them empty. The base class is fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bench.core import Benchmark, Settings, Training, UserError
from bench.training.data import Batch, TrainingData

if TYPE_CHECKING:  # what a method declares can be read without torch, see `bench.catalog.declarations`
    import torch
    from torch import Tensor

    from bench.nn.network import Network

OldData = Literal["none", "stored", "all"]
Span = Literal["task", "all"]
Memory = dict[str, Any]  # of tensors, or of dicts of tensors, however deep
SAMPLES = "samples"  # where in its memory a method keeps samples of the stream: x, y and whatever belongs to each
SEPARATOR = "/"  # between the names of a nested memory where it is flat


class Method:
    """A continual-learning method. A file in `methods/` (or a plugin) holds one subclass; its stem is the name.

    Once a task: `begin_task`; an optimizer over `parameters()`; epochs; the best weights come back; `end_task`; the
    evaluation. In every step: `before_step`, then `loss` and its gradients, `edit_grads`, the optimizer, `after_step`.
    Every evaluation goes through `forward`. `loss` and `edit_grads` compute with tensors alone and never ask a GPU for
    a number, so that a step can be captured as a graph; the others are plain Python.

    Whatever a method carries from task to task stands in `memory`, by name: it is saved, restored and counted. Random
    numbers come from `generator` alone, which is seeded anew for every task.
    """

    @dataclass(frozen=True)
    class Config(Settings):
        """The settings, each declared by `bench.settings.setting`, and none by a name that `Training` has."""

    version: ClassVar[int] = 1  # part of a cell's identity; raised when the method changes its meaning
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # settings under a protocol, or in a scenario, where not
    # the defaults
    stage: ClassVar[Span] = "task"  # trains task after task; or once, on all of them: an upper bound
    trains_old_heads: ClassVar[bool] = False  # whether heads of earlier tasks go on learning
    needs: ClassVar[tuple[str, ...]] = ()  # of NEEDS in `bench.training.needs`: what a benchmark has to offer
    capturable: ClassVar[bool] = False  # whether a GPU may replay a step: its own `forward`, `loss`, `penalty` and
    # `edit_grads` do the same in every step of a task, with the same tensors, and look at no number
    by_default: ClassVar[bool] = True  # whether a command that names no method runs this one
    config: Config

    def __init__(self, network: Network, config: Any = None, generator: torch.Generator | None = None) -> None:
        import torch

        self.network = network
        self.config = self.Config() if config is None else config
        self.generator = torch.Generator() if generator is None else generator
        self.memory: Memory = {}

    @classmethod
    def unsupported(cls, benchmark: Benchmark, training: Training) -> str | None:
        """Why the method does not apply to a benchmark, or to be trained so, in a few words; or None.

        What `needs` says need not be said here again.
        """
        return None

    @classmethod
    def old_data(cls, config: Any) -> OldData:
        """Return what the method, so configured, uses of earlier tasks' training data. Tables mark it.

        "none"; "stored", samples that it keeps in `memory["samples"]`, which is a dict of tensors with a row a sample;
        or "all", every image, by `data.earlier`.
        """
        return "none"

    def begin_task(self, task: int, data: TrainingData) -> None:
        """Before training: every shared parameter and the task's head may learn, unless you freeze it here."""

    def parameters(self) -> list[Any]:
        """Return what the optimizer updates: by default all that may learn.

        Parameters of your own may be among them: they are snapshotted and restored with the others. Or groups, as
        torch's optimizers take them, in which `lr_scale` multiplies the rate.
        """
        return [p for p in self.network.parameters() if p.requires_grad]

    def before_step(self, batch: Batch) -> Batch:
        """Before every step: return the batch to train on, with replayed samples mixed in, say."""
        return batch

    def forward(self, x: Tensor, task: int | Tensor) -> Tensor:
        """Return the logits (n, num_classes) of the head of a task, or of each sample's own task (n,).

        Training and every evaluation go through here. In class-il the network may give the logits of all tasks so far,
        (n, tasks * num_classes). Where the task of a test image is not told, evaluation gives 0.
        """
        return self.network(x, task)

    def loss(self, batch: Batch) -> Tensor:
        """Return what a step reduces, a scalar: the mean cross-entropy, and `penalty`."""
        from torch.nn import functional as F

        loss = F.cross_entropy(self.logits(batch.x, batch.task), batch.y)
        penalty = self.penalty()
        if isinstance(penalty, float | int) and penalty == 0:
            return loss
        return loss + penalty

    def penalty(self) -> Tensor | float:
        """Return what is added to the cross-entropy of every batch, a scalar."""
        return 0.0

    def validation_penalty(self) -> float:
        """Return what is added to the cross-entropy of the validation data, by which epochs are compared: where a
        released code has its penalty there too."""
        return 0.0

    def edit_grads(self) -> None:
        """Between backward and step: change gradients in place."""

    def after_step(self, batch: Batch) -> None:
        """After every step, with the batch as it was before `before_step`: fill buffers, add up paths, clamp."""

    def end_task(self, task: int, data: TrainingData) -> None:
        """After training, with the best weights restored."""

    def report(self) -> dict[str, Any]:
        """Return numbers of the task just ended that a reader may want, in plain Python; stored with the result."""
        return {}

    def logits(self, x: Tensor, task: int | Tensor) -> Tensor:
        """Return what `forward` gives, in float32, computed in the network's precision. No hook: call it in `loss`."""
        from bench.nn.precision import compute

        return compute(self.forward, self.network.precision, x, task)

    def state(self) -> dict[str, Tensor]:
        """Return what the method carries between tasks, beside the network: its memory, flat. No hook."""
        return flat(self.memory)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state()`. No hook."""
        self.memory = nested(state)

    def stored_samples(self) -> int:
        """Return the number of samples of the stream that are kept in memory. No hook."""
        return len(self.memory.get(SAMPLES, {}).get("y", ()))


NO_HOOKS = ("logits", "state", "load_state", "stored_samples")  # the methods of `Method` that none overrides


def flat(memory: Memory, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of a nested memory, each as it is, by name: the names on the way to it joined by SEPARATOR.

    Raises `UserError` for a name that would not come back from a checkpoint as it is.
    """
    found: dict[str, Tensor] = {}
    for name, value in memory.items():
        if not isinstance(name, str) or SEPARATOR in name:
            place = f"memory[{prefix.rstrip(SEPARATOR)!r}]" if prefix else "memory"
            remedy = f"use text without '{SEPARATOR}', such as str(task)"
            raise UserError(f"the name {name!r} in {place} would be another after a checkpoint: {remedy}")
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}{SEPARATOR}")
        else:
            found[f"{prefix}{name}"] = value
    return found


def nested(state: Mapping[str, Tensor]) -> Memory:
    """Return the memory that `flat` made `state` of: dictionaries within each other, a level for every name joined in a
    key, with the same tensors."""
    memory: Memory = {}
    for path, tensor in state.items():
        *folders, name = path.split(SEPARATOR)
        place = memory
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = tensor
    return memory
