"""What is known of a machine without torch."""

import os
from pathlib import Path

import pytest

from bench.execution import machine

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
