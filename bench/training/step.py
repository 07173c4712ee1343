"""One update of the weights from one batch, by gradient descent or by sharpness-aware minimization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.core import Training
from bench.nn.normalization import steady_statistics
from bench.training.data import Batch
from bench.training.method import Method


def training_step(method: Method, optimizer: torch.optim.Optimizer, batch: Batch, rho: float) -> Tensor:
    """Make one update from one batch, by SAM where rho > 0. Return the loss, detached.

    A small network's step is as long as its Python: what a method leaves as it is in the base class is passed over.
    """
    own = type(method)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    drawn = batch
    if own.before_step is not Method.before_step:
        batch = method.before_step(batch)
    loss = _backward(method, batch, parameters)
    if rho:
        learning = [p for p in parameters if p.grad is not None]
        with perturbed(learning, rho), steady_statistics(method.network):
            _backward(method, batch, parameters)
    if own.edit_grads is not Method.edit_grads:
        method.edit_grads()
        _demand_layout(parameters)
    _step(optimizer)
    if own.after_step is not Method.after_step:
        method.after_step(drawn)
    return loss


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
