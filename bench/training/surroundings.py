"""What is around the training loop and not of it: torch's global random state, and the clock."""

from __future__ import annotations

import time

import torch


class Randomness:
    """torch's global random state as it was when this was made: of the CPU, and of a GPU where one is used."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self.mps = torch.mps.get_rng_state() if device.type == "mps" else None

    def restore(self) -> None:
        """Make it the global state again."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)
        if self.mps is not None:
            torch.mps.set_rng_state(self.mps)


def now(device: torch.device) -> float:
    """Return the time in seconds, once all work handed to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


class Stopwatch:
    """Inside, time runs; afterwards it stands in a dict, in seconds."""

    def __init__(self, seconds: dict[str, float], name: str, device: torch.device) -> None:
        self.seconds, self.name, self.device = seconds, name, device

    def __enter__(self) -> None:
        self.start = now(self.device)

    def __exit__(self, *error: object) -> None:
        self.seconds[self.name] = now(self.device) - self.start
