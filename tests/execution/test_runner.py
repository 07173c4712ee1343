"""What is set before a cell runs, for it decides the bits."""

from collections.abc import Iterator

import pytest
import torch

from bench.execution import runner
from bench.execution.runner import Resources


@pytest.fixture(autouse=True)
def _arithmetic_comes_back() -> Iterator[None]:
    yield
    runner.set_arithmetic(Resources())


@pytest.mark.parametrize("tf32", [True, False])
def test_arithmetic_is_what_the_resources_say_whatever_it_was(tf32: bool) -> None:
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = False
    torch.backends.cudnn.allow_tf32 = not tf32
    torch.set_float32_matmul_precision("highest" if tf32 else "high")
    runner.set_arithmetic(Resources(threads=2, tf32=tf32))
    assert torch.get_num_threads() == 2
    assert torch.backends.cudnn.deterministic, "cuDNN's fastest algorithms add up in any order"
    assert torch.backends.cudnn.allow_tf32 == tf32
    assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
