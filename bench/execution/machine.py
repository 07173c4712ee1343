"""What is known of this machine without importing PyTorch."""

from __future__ import annotations

import os
import platform
import re
import sys
from functools import cache
from pathlib import Path

GPU_DRIVERS = ("nvidiactl", "nvmap", "dxg", "kfd")  # in /dev: NVIDIA's, of its small boards, WSL's, and AMD's
BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux names such instructions on x86 and ARM


@cache
def cpu() -> str:
    """Return the model of the CPU and the number of its cores, such as "AMD EPYC 7B13, 2 cores"."""
    model = re.search(r"^model name\s*: (.+)$", _cpuinfo(), re.MULTILINE)
    name = model[1] if model else platform.processor() or platform.machine()
    return f"{name.strip()}, {os.cpu_count()} cores"


def has_bf16() -> bool:
    """Whether the CPU says that it has instructions for bfloat16."""
    flags = re.search(r"^(?:flags|Features)\s*: (.+)$", _cpuinfo(), re.MULTILINE)
    return flags is not None and bool(BF16 & set(flags[1].split()))


def may_have_gpu(dev: Path = Path("/dev")) -> bool:
    """Whether there is a driver through which PyTorch could reach a GPU: where there is none, it need not be asked."""
    return any((dev / name).exists() for name in GPU_DRIVERS)


def has_cuda() -> bool:
    """Whether PyTorch has a GPU to work on. It is asked only where there may be one, or where it is imported."""
    if "torch" not in sys.modules and not may_have_gpu():
        return False
    import torch

    return torch.cuda.is_available()


@cache
def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not a Linux
        return ""
