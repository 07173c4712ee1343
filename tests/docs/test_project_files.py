"""The files around the code: versions that agree, workflows and scripts that parse, an example that runs."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import PAGES, ROOT

import bench
from bench import installation

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOTEBOOK = json.loads((ROOT / "examples" / "first_table.ipynb").read_text(encoding="utf-8"))


def test_one_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == PROJECT["version"] == bench.__version__
    assert citation["authors"] == PROJECT["authors"]


def test_one_list_of_python_versions() -> None:
    tests = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    versions = tests["jobs"]["tests"]["strategy"]["matrix"]["python"]
    stated = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert versions == stated and PROJECT["requires-python"] == f">={versions[0]}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_made_of_shell(path: Path) -> None:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    lines = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert len(lines) > 3
    done = subprocess.run(["bash", "-n"], input="\n".join(lines), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    named = [word for line in lines for word in line.split() if word.startswith("tests/")]
    assert [word for word in named if not (ROOT / word).exists()] == []


def test_every_version_of_python_meets_the_slow_tests_and_those_of_ray() -> None:
    """What is left out without a word on the command line; a machine of theirs has no GPU."""
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))["jobs"]["tests"]
    [line] = [step["run"] for step in job["steps"] if step.get("run", "").startswith("pytest")]
    assert line.split(" -m ")[1].startswith('"not gpu" ')


def test_pre_commit_calls_what_the_tests_install() -> None:
    [local] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    called = {hook["entry"].split()[0] for hook in local["hooks"]}
    installed = {re.split(r"\W", name)[0] for name in PROJECT["optional-dependencies"]["test"]}
    assert called == {"ruff", "mypy"} <= installed


def test_the_image_copies_what_is_there() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert {words[0] for words in lines} <= {"FROM", "ARG", "RUN", "COPY", "ENV", "WORKDIR", "ENTRYPOINT"}
    copied = {name for words in lines if words[0] == "COPY" for name in words[1:-1]}
    needed = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "bench", "methods", "datasets"}
    assert copied == needed
    assert not {name for name in copied if not (ROOT / name).exists()}


def test_every_file_that_is_named_is_there() -> None:
    kinds = r"[\w./-]+/[\w.-]*\.(?:py|toml|sh|ipynb|csv|yml)"
    ours = ("bench/", "methods/", "datasets/", "deploy/", "examples/", "docs/", "tests/")
    named = {name for page in PAGES for span in page.spans for name in re.findall(kinds, span)}
    own = {name for name in named if name.startswith(ours)}
    assert len(own) > 5
    assert not {name for name in own if not (ROOT / name).exists()}


def fake(folder: Path, name: str, text: str) -> None:
    """Put a command of SLURM's into a folder."""
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


@pytest.mark.slow
@pytest.mark.ray
def test_the_slurm_script_runs_a_grid_on_a_node(tmp_path: Path) -> None:
    """SLURM is made up, Ray is real: a cluster is started, joined and stopped, whatever token Ray has left in the home
    folder."""
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("a" * 64)
    tools = tmp_path / "tools"
    tools.mkdir()
    fake(tools, "scontrol", "echo 127.0.0.1")
    fake(tools, "srun", 'while [ "$1" != ray ]; do shift; done; exec "$@"')
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "one", "SLURM_JOB_NUM_NODES": "1"}
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, **job, "SLURM_CPUS_PER_TASK": "1", "SLURM_SUBMIT_DIR": str(ROOT), "PATH": path}
    environment["HOME"] = str(tmp_path)
    grid = ["--methods", "finetune", "--bench", "toy", "--seeds", "0,1", "--epochs", "1", "--out"]
    done = subprocess.run(
        ["bash", str(ROOT / "deploy" / "slurm.sh"), *grid, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "| finetune" in done.stdout
    assert len(list(tmp_path.glob("toy/finetune/seed*.json"))) == 2


def test_the_notebook_is_one() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"]) > 5
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert code and not any(cell["outputs"] for cell in code)  # results age


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(installation, "results", lambda: tmp_path / "results")
    names: dict[str, Any] = {}
    shown = [run_cell("".join(c["source"]), names) for c in NOTEBOOK["cells"] if c["cell_type"] == "code"]
    assert len(list(tmp_path.glob("results/digits/*/*.json"))) == 3
    assert "ness" in shown[1]._repr_html_() and (tmp_path / "report.html").exists()


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as a notebook does: return the value of its last line, if that is an expression."""
    *before, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        before, last = [*before, last], ast.Expr(ast.Constant(None))
    exec(compile(ast.Module(before, []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)
