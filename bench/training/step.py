"""One update of the weights from one batch, by gradient descent or by sharpness-aware minimization."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.core import Training
from bench.nn.normalization import steady_statistics
from bench.training.data import Batch
from bench.training.method import Method

Update = Callable[[Method, torch.optim.Optimizer, Batch, float], Tensor]
REPEATED = 10  # steps of one kind, after which the next ones are captured


def training_step(
    method: Method, optimizer: torch.optim.Optimizer, batch: Batch, rho: float, update: Update | None = None
) -> Tensor:
    """Make one update from one batch, by SAM where rho > 0. Return the loss, (), detached.

    The batch is that of the stream: x (n, *input_shape), y (n,) and the task, one or (n,).
    A small network's step is as long as its Python: what a method leaves as it is in the base class is passed over.
    """
    own = type(method)
    drawn = batch
    if own.before_step is not Method.before_step:
        batch = method.before_step(batch)
    loss = (update or eager_update)(method, optimizer, batch, rho)
    if own.after_step is not Method.after_step:
        method.after_step(drawn)
    return loss


def eager_update(method: Method, optimizer: torch.optim.Optimizer, batch: Batch, rho: float) -> Tensor:
    """Make the part of a step that is tensors alone: gradients, what the method makes of them, and the optimizer's
    step. Return the loss, detached."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    method.network.ascends = rho > 0
    loss = _backward(method, batch, parameters)
    method.network.ascends = False
    if rho:
        learning = [p for p in parameters if p.grad is not None]
        with perturbed(learning, rho), steady_statistics(method.network):
            _backward(method, batch, parameters)
    if type(method).edit_grads is not Method.edit_grads:
        method.edit_grads()
        _demand_layout(parameters)
    _step(optimizer)
    return loss


def is_static(own: type[Method]) -> bool:
    """Return whether a method's updates are the same operations on the same tensors in every step of a task: it says
    so, or has none of the hooks that an update calls."""
    hooks = ("forward", "loss", "penalty", "edit_grads")
    return own.capturable or all(getattr(own, hook) is getattr(Method, hook) for hook in hooks)


def is_capturable(method: Method, optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a GPU may replay a method's updates: they are static, on a GPU of CUDA, and by SGD, which counts
    no steps."""
    on_gpu = all(p.is_cuda for group in optimizer.param_groups for p in group["params"])
    return on_gpu and isinstance(optimizer, torch.optim.SGD) and is_static(type(method))


class CapturedUpdate:
    """`eager_update` on a GPU, replayed as a CUDA graph: one launch in the place of a hundred, on which a small
    network's step spends most of its time. It computes the same, from the same random numbers.

    A graph holds for one task, one shape of batch and one learning rate: it is made once the steps of a kind repeat,
    and all are dropped when the rate changes. Streams and graphs belong to the device, which need not be the current.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.aside = torch.cuda.Stream(device)
        self.rates: list[float] = []
        self.counts: Counter[tuple[object, ...]] = Counter()
        self.graphs: dict[tuple[object, ...], _Graph] = {}

    def __call__(self, method: Method, optimizer: torch.optim.Optimizer, batch: Batch, rho: float) -> Tensor:
        """Make the update from a batch, eagerly or by a graph. Return the loss, detached."""
        with torch.cuda.device(self.device):
            return self._update(method, optimizer, batch, rho)

    def _update(self, method: Method, optimizer: torch.optim.Optimizer, batch: Batch, rho: float) -> Tensor:
        rates = [group["lr"] for group in optimizer.param_groups]
        if rates != self.rates:
            self.rates = rates
            self.counts.clear()
            self.graphs.clear()
        kind = (batch.x.shape, batch.task if isinstance(batch.task, int) else "a task for each sample")
        self.counts[kind] += 1
        if self.counts[kind] <= REPEATED:
            return self._eager(method, optimizer, batch, rho)
        if kind not in self.graphs:
            self.graphs[kind] = _Graph(method, optimizer, batch, rho, self.aside)
        return self.graphs[kind].replay(batch)

    def _eager(self, method: Method, optimizer: torch.optim.Optimizer, batch: Batch, rho: float) -> Tensor:
        """Make the update on a stream of its own, as has to be before a capture: whatever libraries make ready at first
        use is ready there too."""
        main = torch.cuda.current_stream()
        self.aside.wait_stream(main)
        with torch.cuda.stream(self.aside):
            loss = eager_update(method, optimizer, batch, rho)
        main.wait_stream(self.aside)
        return loss


class _Graph:
    """One captured update, and the places from which it reads its batch."""

    def __init__(
        self, method: Method, optimizer: torch.optim.Optimizer, batch: Batch, rho: float, stream: torch.cuda.Stream
    ) -> None:
        task = batch.task.clone() if isinstance(batch.task, Tensor) else batch.task
        self.batch = batch._replace(x=batch.x.clone(), y=batch.y.clone(), task=task)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=stream):  # captures, computes nothing
            self.loss = eager_update(method, optimizer, self.batch, rho)
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.grads = [p.grad for p in self.parameters]

    def replay(self, batch: Batch) -> Tensor:
        """Make the update from a batch of the captured kind. Return the loss, detached."""
        torch._foreach_copy_(_tensors(self.batch), _tensors(batch))
        self.graph.replay()
        for parameter, grad in zip(self.parameters, self.grads, strict=True):
            parameter.grad = grad  # an eager step in between has put its own there
        return self.loss.clone()


def _tensors(batch: Batch) -> list[Tensor]:
    return [part for part in batch if isinstance(part, Tensor)]


def _backward(method: Method, batch: Batch, parameters: Sequence[Tensor]) -> Tensor:
    """Fill gradients anew. Return the loss, detached."""
    for parameter in parameters:
        parameter.grad = None
    loss = method.loss(batch)
    loss.backward()
    return loss.detach()


def _step(optimizer: torch.optim.Optimizer) -> None:
    """Make an optimizer's step without the wrapper that tells torch's profiler of it, which takes as long as the step
    itself of a small network."""
    step = type(optimizer).step
    getattr(step, "__wrapped__", step)(optimizer)


def _demand_layout(parameters: Sequence[Tensor]) -> None:
    """Bring gradients into the memory layout of their parameters: a method may have put a transpose there, and fused
    optimizers do not look at strides."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
            parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)


class perturbed:  # noqa: N801  a context manager
    """SAM's ascent (Foret et al. 2021): inside, weights stand at w + rho g / ‖g‖, the norm over all of them."""

    def __init__(self, parameters: Sequence[Tensor], rho: float) -> None:
        grads = [p.grad for p in parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads]))
        self.parameters = list(parameters)
        self.saved = [p.detach().clone() for p in parameters]
        self.shift = [g * (rho / (norm + 1e-16)) for g in grads]

    @torch.no_grad()
    def __enter__(self) -> None:
        torch._foreach_add_(self.parameters, self.shift)

    @torch.no_grad()
    def __exit__(self, *error: object) -> None:
        torch._foreach_copy_(self.parameters, self.saved)  # w + e - e is not w in floating point


def make_optimizer(parameters: Sequence[Any], training: Training) -> torch.optim.Optimizer:
    """Return a fresh optimizer of parameters or of groups of them: no moment outlives its task.

    Fused, it reads every parameter once a step.
    """
    grouped = isinstance(parameters[0], dict)
    groups: list[dict[str, Any]] = [dict(group) for group in parameters] if grouped else [{"params": parameters}]
    for group in groups:
        group["lr"] = training.lr * group.setdefault("lr_scale", 1.0)
    every = tensors_of(parameters)
    plain = all(p.is_contiguous() for p in every)  # fused, strides are not looked at
    settings: dict[str, Any] = {"lr": training.lr, "weight_decay": training.weight_decay, "fused": plain}
    if training.optimizer == "adam":
        return torch.optim.Adam(groups, **settings)
    optimizer = torch.optim.SGD(groups, momentum=training.momentum, **settings)
    if training.momentum:  # made beforehand: fused, it cannot do so for a head whose first batch comes later
        for parameter in every:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def tensors_of(parameters: Sequence[Any]) -> list[Tensor]:
    """Return the tensors among parameters or groups of them."""
    if parameters and isinstance(parameters[0], dict):
        return [tensor for group in parameters for tensor in group["params"]]
    return list(parameters)
