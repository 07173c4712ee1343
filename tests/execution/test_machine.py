"""What is known of a machine without torch."""

import os
import sys
from pathlib import Path

import pytest
import torch

from bench.core import UserError
from bench.execution import machine, runner

X86 = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu sse2 avx512_bf16 amx_tile\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16\n"
OLD = "processor\t: 0\nmodel name\t: Old CPU\nflags\t\t: fpu sse2 notbf16\n"


def test_a_cpu_has_a_name_and_a_number_of_cores() -> None:
    assert machine.cpu().endswith(f", {os.cpu_count()} cores") and not machine.cpu().startswith(",")


@pytest.mark.parametrize(("text", "has"), [(X86, True), (ARM, True), (OLD, False), ("", False)])
def test_instructions_for_bf16_are_those_the_system_tells(
    monkeypatch: pytest.MonkeyPatch, text: str, has: bool
) -> None:
    monkeypatch.setattr(machine, "_cpuinfo", lambda: text)
    assert machine.has_bf16() == has


@pytest.mark.parametrize("driver", ["nvidiactl", "nvmap", "dxg", "kfd"])
def test_a_gpu_shows_by_its_driver(tmp_path: Path, driver: str) -> None:
    (tmp_path / "nvme0").touch()
    assert not machine.may_have_gpu(tmp_path)
    (tmp_path / driver).touch()
    assert machine.may_have_gpu(tmp_path)


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Make this a machine with so many GPUs of CUDA."""
    monkeypatch.setattr(machine, "has_cuda", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("wanted", "count", "found"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:0", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
        ("cuda:01", 2, "cuda:1"),
    ],
)
def test_a_device_is_found(monkeypatch: pytest.MonkeyPatch, wanted: str, count: int, found: str) -> None:
    gpus(monkeypatch, count)
    assert machine.find_device(wanted) == found


@pytest.mark.parametrize(
    ("wanted", "count", "says"),
    [
        ("cuda", 0, "no CUDA device here"),
        ("cuda:1", 0, "no CUDA device here"),
        ("cuda:2", 2, "cuda:0 to cuda:1"),
        ("cuda:", 2, "unknown device"),
        ("cuda:-1", 2, "unknown device"),
        ("cuda:9999", 2, "unknown device"),
        ("cpu:0", 2, "unknown device"),
        ("mps:0", 2, "unknown device"),
        ("auto:1", 2, "unknown device"),
        ("msp", 2, "did you mean 'mps'"),
        ("mps", 2, "PyTorch finds no Apple GPU here"),
    ],
)
def test_a_device_that_is_not_here_is_told(monkeypatch: pytest.MonkeyPatch, wanted: str, count: int, says: str) -> None:
    gpus(monkeypatch, count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=says) as raised:
        machine.find_device(wanted)
    assert "\n" not in str(raised.value)


def test_mps_is_taken_on_a_mac_and_never_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert machine.find_device("mps") == "mps" == machine.device_name("mps")
    assert machine.find_device("auto") == "cpu", "other numbers than a CPU's are asked for"


def test_a_gpu_is_known_by_its_model_whatever_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", {"cuda": "A", "cuda:1": "B"}.get)
    assert [machine.device_name(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "A", "B"]


def test_memory_is_counted_on_the_gpu_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", {"cuda:1": 17}.get)
    assert runner.measure_peak_bytes("cuda:1") == 17
    assert runner.measure_peak_bytes("cpu") > 2**24, "of a process that has imported torch"


def test_memory_on_a_mac_is_told_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    linux = runner.measure_peak_bytes("cpu")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert 0 < runner.measure_peak_bytes("mps") < linux / 100
