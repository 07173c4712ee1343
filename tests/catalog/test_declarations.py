"""A plan without torch is the plan with it; and what cannot be planned so is planned with the whole file."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import installation
from bench.catalog.declarations import declared_class, outline

PLAN = """
import json, sys
from dataclasses import asdict
from pathlib import Path
if sys.argv[1] == "whole":
    import torch
from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.core import PROTOCOLS
plugins = [Path(word) for word in sys.argv[2:]]
catalog = Catalog.of(plugins)
methods = [*catalog.available("Method"), *catalog.variants()]
benchmarks = list(catalog.available("Benchmark"))
cells, reasons = catalog.plan(Request(methods, benchmarks, [0], None, {}, list(PROTOCOLS)))
told = [[*where, why] for where, why in reasons.items()]
print(json.dumps(["torch" in sys.modules, [[cell.key, asdict(cell)] for cell in cells], told]))
"""

HEADER = '"""A method."""\n\nfrom dataclasses import dataclass\n\nfrom bench.training.method import Method\n'
IDEA = '''"""A method whose settings, flags and reasons depend on each other and on helpers; its hooks need torch."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bench.nn.activations import input_grams
from bench.config import require
from bench.training.data import TrainingData
from bench.training.method import Method, OldData

LIMIT = 4


def most(benchmark) -> int:
    return LIMIT * benchmark.num_classes


def unused(x: Tensor) -> Tensor:
    return torch.relu(x)


class Idea(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        size: int = LIMIT  # of a thing
        rule: Literal["a", "b"] = "a"  # of it

        def __post_init__(self) -> None:
            require(self.size <= LIMIT, f"size must be at most {LIMIT}")

    protocols = {"sound": {"rule": "b"}}
    found: dict[str, nn.Module] = {}
    config: Config

    def begin_task(self, task: int, data: TrainingData) -> None:
        self.grams = input_grams(self.network, data, task)

    def _layer(self, size: int = LIMIT) -> nn.Module:
        return nn.Linear(size, size)

    @classmethod
    def _stores(cls, config: Config) -> bool:
        return config.size > 3

    @classmethod
    def old_data(cls, config: Config) -> OldData:
        return "all" if cls._stores(config) else "none"

    @classmethod
    def unsupported(cls, benchmark, training) -> str | None:
        return "too many classes" if most(benchmark) > 30 else None
'''


def plan(how: str, *plugins: Path) -> tuple[bool, list[tuple[str, dict[str, object]]], list[list[str]]]:
    """Whether torch was imported, the cells, and the reasons why methods do not apply, in a process of its own."""
    words = [sys.executable, "-c", PLAN, how, *map(str, plugins)]
    done = subprocess.run(words, cwd=installation.ROOT, capture_output=True, text=True, check=True)
    with_torch, cells, reasons = json.loads(done.stdout)
    return with_torch, cells, reasons


@pytest.fixture
def idea(tmp_path: Path) -> Path:
    path = tmp_path / "idea.py"
    path.write_text(IDEA)
    return path


@pytest.mark.slow
def test_a_plan_without_torch_is_the_plan_with_it(idea: Path) -> None:
    """Every method and variant on every benchmark under every protocol, and a method with helpers of its own."""
    light, whole = plan("light", idea), plan("whole", idea)
    assert (light[0], whole[0]) == (False, True)
    assert len(light[1]) > 100 and light[1:] == whole[1:]
    own = {cell["benchmark"]: cell for _, cell in light[1] if cell["method"] == "idea" and cell["protocol"] == "sound"}
    assert own["digits"]["traits"] == {"joint": False, "reads_old_data": True, "replays": False}
    assert own["digits"]["config"] == {"size": 4, "rule": "b"}
    assert ["idea", "split_cifar100", "too many classes"] in light[2] and "split_cifar100" not in own


def test_what_training_alone_needs_is_left_out(idea: Path) -> None:
    left = ast.unparse(outline(ast.parse(IDEA), "Idea"))
    for gone in ("import torch", "Tensor", "input_grams", "unused", "nn."):
        assert gone not in left
    for kept in (
        "found = {}",
        "def most",
        "def _stores",
        "config.size > 3",
        "require",
        "def begin_task(self, task, data)",
    ):
        assert kept in left
    assert "def _layer(self, size=LIMIT)" in left


OUTSIDE = {  # each needs more of its file than an outline has
    "a hint in quotes": (
        "from torch import dtype\n",
        "@dataclass(frozen=True)\nclass Config(Method.Config):\n    kind: 'dtype | None' = None",
    ),
    "a name made up": ("def real(): return 3\n", "x = globals()['real']()"),
}


@pytest.mark.parametrize(("top", "body"), OUTSIDE.values(), ids=OUTSIDE)
@pytest.mark.slow
def test_what_does_not_run_in_part_is_imported_whole(tmp_path: Path, top: str, body: str) -> None:
    path = tmp_path / "own.py"
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    path.write_text(f"{HEADER}{top}\n\nclass Own(Method):\n{indented}")
    assert declared_class(path, "Own") is None
    code = (
        "import sys, pathlib; from bench.catalog.catalog import Catalog\n"
        f"cls = Catalog.of([{str(path)!r}]).declaration('own')\n"
        "assert 'torch' in sys.modules or cls.x == 3"
    )
    subprocess.run([sys.executable, "-c", code], cwd=installation.ROOT, check=True)


@pytest.mark.parametrize("line", ["import no_such_module", "from bench.no_such_module import x", "1 / 0"])
def test_a_file_that_does_not_import_is_told_by_a_plan(tmp_path: Path, line: str) -> None:
    path = tmp_path / "own.py"
    path.write_text(f"{HEADER}{line}\n\n\nclass Own(Method):\n    def penalty(self):\n        return x\n")
    words = [sys.executable, "run_bench.py", "--dry-run", "--plugin", str(path), "--methods", "own"]
    done = subprocess.run(words, cwd=installation.ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and f"{path} does not import" in done.stderr and done.stderr.count("\n") == 1


def test_a_used_import_a_decorator_and_a_star_stay(tmp_path: Path) -> None:
    source = (
        "from math import *\nfrom functools import cache, partial\nimport os.path\n\n\n"
        "class Own(Method):\n    where = os.path.sep\n\n    @cache\n"
        "    def _f(self, x: partial = sqrt(4)):\n        pass\n"
    )
    left = ast.unparse(outline(ast.parse(source), "Own"))
    assert left.startswith("from math import *\nfrom functools import cache, partial\nimport os.path")
    assert "@cache" in left and "x=sqrt(4)" in left


def test_a_decorator_of_torch_goes() -> None:
    source = "import torch\n\n\nclass Own(Method):\n    @torch.no_grad()\n    def edit_grads(self):\n        pass\n"
    assert "torch" not in ast.unparse(outline(ast.parse(source), "Own"))


def test_a_misfit_has_its_line_without_torch(plugin: Callable[..., Path]) -> None:
    path = plugin("bad", "x = 1\ndef end_task(self, task, data, more): ...")
    code = (
        "import sys, pathlib; from bench.catalog.catalog import Catalog; from bench.core import UserError\n"
        f"try:\n    Catalog.of([{str(path)!r}]).declaration('bad')\n"
        "except UserError as error:\n    print(error)\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=installation.ROOT, capture_output=True, text=True, check=True
    )
    assert "bad.py, line 8" in done.stdout and "(self, task, data, more)" in done.stdout
