"""What every method shares: a few optional hooks, all of them empty. The base class is fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bench.core import Benchmark, Training, slices
from bench.search_space import Range

if TYPE_CHECKING:  # what a method declares can be read without torch, see `bench.catalog.declarations`
    import torch
    from torch import Tensor, nn

    from bench.nn.network import Network


UNDECLARED = "the method reads earlier tasks' data, but its `reads_old_data` does not say so"


class TrainingData:
    """The training split of a task, as a method may read it: iterate for batches (x, y) in a fixed order.

    `earlier` gives the splits of earlier tasks to methods that declare `reads_old_data`, and refuses it to others;
    to them a split is closed when its task has ended.
    """

    def __init__(self, task: int, x: Tensor, y: Tensor, batch_size: int) -> None:
        self.task, self.batch_size = task, batch_size
        self._x, self._y = x, y
        self.samples_read = 0
        self._closed = False
        self._earlier: Sequence[TrainingData] | None = None

    def grant(self, earlier: Sequence[TrainingData]) -> None:
        """Let the method read `earlier` too."""
        self._earlier = earlier

    @property
    def earlier(self) -> Sequence[TrainingData]:
        if self._earlier is None:
            raise PermissionError(UNDECLARED)
        return self._earlier

    def close(self) -> None:
        """Refuse to be read from now on."""
        self._closed = True

    def __len__(self) -> int:
        return len(self._y)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for part in slices(len(self), self.batch_size):
            yield self._take(part)

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """At most `n` random samples without replacement, (x, y)."""
        import torch

        return self._take(torch.randperm(len(self), generator=generator)[:n].to(self._x.device))

    def _take(self, part: slice | Tensor) -> tuple[Tensor, Tensor]:
        if self._closed:
            raise PermissionError(UNDECLARED)
        self.samples_read += len(self._y[part])
        return self._x[part], self._y[part]

    @property
    def nbytes(self) -> int:
        """Bytes of the inputs and labels."""
        return self._x.nbytes + self._y.nbytes


class Method:
    """A continual-learning method. A file in `methods/` (or a plugin) holds one subclass; its stem is the name.

    Per task the trainer calls `begin_task`, builds an optimiser over `parameters()`, and for every batch computes
    loss + `penalty()`, back-propagates, calls `edit_grads` and steps; then it restores the best weights and calls
    `end_task`. Whatever a method carries from task to task stands in `memory`, by name: it is saved, restored and
    counted. Random numbers come from `generator` alone, which is seeded anew for every task.
    """

    @dataclass(frozen=True)
    class Config:
        """Settings: every field has a default, a comment with its meaning and unit, and no name that `Training` has."""

        space: ClassVar[Mapping[str, Range]] = {}  # where `tune` searches beside `bench.search_space.TRAINING`

    version: ClassVar[int] = 1  # part of a cell's identity; raised when the method changes its meaning
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # settings under a protocol, where not the defaults
    joint: ClassVar[bool] = False  # trains once, on all tasks together: an upper bound, not a competitor
    config: Config

    def __init__(self, network: Network, config: Any = None, generator: torch.Generator | None = None) -> None:
        import torch

        self.network = network
        self.config = self.Config() if config is None else config
        self.generator = torch.Generator() if generator is None else generator
        self.memory: dict[str, Tensor] = {}

    @classmethod
    def unsupported(cls, benchmark: Benchmark, training: Training) -> str | None:
        """Why the method does not apply to a benchmark, or to be trained so, in a few words; or None."""
        return None

    @classmethod
    def reads_old_data(cls, config: Any) -> bool:
        """Whether the method, so configured, reads training data of earlier tasks. Tables mark it."""
        return False

    def begin_task(self, task: int, data: TrainingData) -> None:
        """Before training: every shared parameter and the task's head may learn, unless you freeze it here."""

    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser updates: by default all that may learn."""
        return [p for p in self.network.parameters() if p.requires_grad]

    def penalty(self) -> Tensor | float:
        """Added to the loss of every batch, a scalar."""
        return 0.0

    def edit_grads(self) -> None:
        """Between backward and step: change gradients in place."""

    def end_task(self, task: int, data: TrainingData) -> None:
        """After training, with the best weights restored."""

    def state(self) -> dict[str, Tensor]:
        """What the method carries between tasks, beside the network."""
        return dict(self.memory)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state()`."""
        self.memory = dict(state)

    def report(self) -> dict[str, Any]:
        """Numbers of the task just ended that a reader may want, in plain Python; stored with the result."""
        return {}
