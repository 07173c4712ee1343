"""What a method is handed: a batch in every step, and the training split of a task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from bench.core import slices

if TYPE_CHECKING:  # what a method declares can be read without torch, see `bench.catalog.declarations`
    import torch
    from torch import Tensor

    from bench.nn.network import Network

Data: TypeAlias = "tuple[int, Tensor, Tensor]"  # a task, inputs (n, *input_shape), labels (n,)
Mixed: TypeAlias = "tuple[int | Tensor, Tensor, Tensor]"  # the same of several tasks: that of each sample (n,)

UNDECLARED = 'the method reads earlier tasks\' data, but its `old_data` does not say "all"'


class Batch(NamedTuple):
    """The samples of one step, with where it stands in the training of its task."""

    x: Tensor  # (n, *input_shape)
    y: Tensor  # (n,), int64, which logit is right: local to the task, or counting through the tasks
    task: int | Tensor  # of all samples, or (n,) of each
    progress: float = 0.0  # within the epoch: 0 at its first batch, 1 at its last
    epoch: int = 0


def tasks_of(batch: Batch) -> Tensor:
    """Return the task of each sample of a batch, (n,)."""
    import torch

    return torch.zeros_like(batch.y) + batch.task


class TrainingData:
    """The training split of a task, as a method may read it: iterate for batches (x, y) in a fixed order.

    `earlier` gives the splits of earlier tasks to methods whose `old_data` is "all", and refuses it to others; to them
    a split is closed when its task has ended.
    """

    def __init__(self, task: int, x: Tensor, y: Tensor, batch_size: int, network: Network | None = None) -> None:
        """Take inputs x and labels y; where a network makes its inputs of x, they are read as it has them in tests."""
        self.task, self.batch_size, self._network = task, batch_size, network
        self._x, self._y = x, y
        self.samples_read = 0
        self._closed = False
        self._earlier: Sequence[TrainingData] | None = None

    def grant(self, earlier: Sequence[TrainingData]) -> None:
        """Let the method read `earlier` too."""
        self._earlier = earlier

    @property
    def earlier(self) -> Sequence[TrainingData]:
        """Return the training splits of the tasks before this one, in order. Raises `PermissionError` where the method
        does not declare that it reads them."""
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
        """Return at most `n` random samples without replacement, (x, y)."""
        import torch

        return self._take(torch.randperm(len(self), generator=generator)[:n].to(self._x.device))

    def _take(self, part: slice | Tensor) -> tuple[Tensor, Tensor]:
        if self._closed:
            raise PermissionError(UNDECLARED)
        self.samples_read += len(self._y[part])
        x = self._x[part]
        return self._network.test_images(x) if self._network else x, self._y[part]

    @staticmethod
    def in_a_row(parts: Sequence[TrainingData]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches (x, y) of several splits as if they were one: a batch may hold the end of one split and the
        start of the next."""
        import torch

        starts = [sum(map(len, parts[:i])) for i in range(len(parts) + 1)]
        for batch in slices(starts[-1], parts[0].batch_size):
            pieces = []
            for start, part in zip(starts, parts, strict=False):
                own = slice(max(batch.start - start, 0), min(batch.stop - start, len(part)))
                if own.start < own.stop:
                    pieces.append(part._take(own))
            xs, ys = zip(*pieces, strict=True)
            yield torch.cat(xs), torch.cat(ys)

    @property
    def touched(self) -> bool:
        """Return whether anything was written to the inputs or labels, or to a view of them, in place."""
        return self._x._version + self._y._version > 0

    @property
    def nbytes(self) -> int:
        """Return the bytes of the inputs and labels."""
        return self._x.nbytes + self._y.nbytes
