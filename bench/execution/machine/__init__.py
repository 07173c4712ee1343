"""What is known of this machine; PyTorch is imported only where a GPU is in question."""

from __future__ import annotations

import os
import platform
import re
import sys
from functools import cache
from pathlib import Path

from bench.config import nearest
from bench.core import UserError

DEVICES = ("auto", "cpu", "cuda", "cuda:0", "mps")  # cuda:1 and so on, too
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


def has_mps() -> bool:
    """Whether PyTorch has a GPU of Apple's to work on. It is asked only on macOS."""
    if sys.platform != "darwin":
        return False
    import torch

    return torch.backends.mps.is_available()


def is_cuda(device: str) -> bool:
    """Whether a device is a GPU of CUDA, such as "cuda" or "cuda:1"."""
    return device.partition(":")[0] == "cuda"


def find_device(wanted: str) -> str:
    """Return the device that is asked for: "cpu", "cuda", "cuda:1" or "mps"; for "auto", "cuda" where there is such a
    GPU, else "cpu". Raises `UserError` where it is not here."""
    kind, colon, index = wanted.partition(":")
    numbered = kind == "cuda" and index.isdecimal() and len(index) < 4
    if kind not in DEVICES or (colon and not numbered):
        raise nearest("device", wanted, DEVICES)
    if wanted == "auto":
        return "cuda" if has_cuda() else "cpu"
    if kind == "cuda":
        _demand_cuda(wanted, int(index or 0))
    if kind == "mps" and not has_mps():
        raise UserError("--device mps: PyTorch finds no Apple GPU here; use --device cpu")
    return f"cuda:{int(index)}" if colon else kind


def device_name(device: str) -> str:
    """Return what a device is called: "cpu", "mps", or the model of the GPU, whatever its number."""
    if not is_cuda(device):
        return device
    import torch

    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else device


def _demand_cuda(wanted: str, index: int) -> None:
    """Raise `UserError` unless there are more GPUs of CUDA than `index`."""
    if not has_cuda():
        raise UserError(f"--device {wanted}: there is no CUDA device here; use --device cpu")
    import torch

    count = torch.cuda.device_count()
    if index >= count:
        raise UserError(f"--device {wanted}: the CUDA devices here are cuda:0 to cuda:{count - 1}")


@cache
def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not a Linux
        return ""
