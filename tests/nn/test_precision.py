"""bf16: where it is used and where not, that methods learn under it, and that its cells are never taken for others."""

import dataclasses
import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from driving import frozen_network, watched

from bench.catalog import plan, recipes
from bench.catalog.catalog import Catalog
from bench.cli import command_line, commands
from bench.core import Result
from bench.execution import runner
from bench.nn import activations, architectures, normalization, precision
from bench.tools.trial import Run, difference
from bench.training import evaluation, loop, step
from bench.training.data import Batch
from bench.training.method import Method

METHODS = list(Catalog().available("Method"))


def cells_of(*methods: str, seeds: tuple[int, ...] = (0,), how: str = "bf16", plugins: tuple[Path, ...] = ()) -> Any:
    return Catalog.of(plugins).plan(plan.Request(methods, ["toy"], seeds, 2, precision=how))[0]


def bits(result: Result) -> object:
    """Return everything but the clock."""
    tasks = []
    for task in result.tasks:
        tasks.append({name: value for name, value in task.items() if name != "seconds"})
    return result.matrix, tasks


def toy_run(name: str, how: str = "bf16", **settings: Any) -> Run:
    run = Run(name, **settings)
    run.network.precision = how
    return run


# What is computed in it, and what is not


def test_layers_compute_in_it_while_training_and_evaluating() -> None:
    run, seen = toy_run("finetune"), []

    def look(layer: Any, inputs: Any, out: torch.Tensor) -> None:
        seen.append((run.network.training, out.dtype))

    run.network.head(0).register_forward_hook(look)
    run.learn(1)
    assert set(seen) == {(True, torch.bfloat16), (False, torch.bfloat16)}
    x = torch.from_numpy(run.tasks[0].test.x)
    answers = run.method.logits(x, 0)
    assert answers.dtype == torch.float32
    assert torch.equal(answers, answers.bfloat16().float())
    loss, _ = evaluation.evaluate(run.method, 0, x, torch.from_numpy(run.tasks[0].test.y))
    assert torch.tensor(loss).bfloat16().item() != loss  # added up in more digits than bf16 has


def test_in_fp32_a_network_computes_as_it_is() -> None:
    run = toy_run("finetune", "fp32")
    x = torch.from_numpy(run.tasks[0].test.x)
    assert torch.equal(run.method.logits(x, 0), run.network(x, 0))


HOOKS = """def look(self):
    import torch
    assert not torch.is_autocast_enabled("cpu")
def begin_task(self, task, data):
    self.look()
    for p in self.parameters():
        p.register_hook(lambda grad: self.look())
def penalty(self):
    self.look()
    return 0.0
def edit_grads(self):
    self.look()
    import torch
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in self.parameters())
def end_task(self, task, data):
    self.look()"""


def test_hooks_and_the_backward_pass_are_outside(plugin: Any) -> None:
    path = plugin("looks", HOOKS)
    result = runner.run_cell(*cells_of("looks", plugins=(path,)), runner.Resources(catalog=Catalog.of((path,))))
    assert result.error is None, result.traceback


def test_what_methods_compute_for_themselves_has_the_same_bits() -> None:
    run = toy_run("finetune", "fp32")
    x = torch.from_numpy(run.tasks[0].train.x)
    y = torch.from_numpy(run.tasks[0].train.y)
    found = []
    for how in ("fp32", "bf16"):
        run.network.precision = how
        grams = activations.input_grams(run.network, [(x, y)], 0)
        found.append(grams | activations.squared_gradients(run.network, x, y, 0))
    assert not difference(*found)


def test_statistics_of_normalization_are_settled_in_fp32() -> None:
    x = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = []
    for how in ("fp32", "bf16"):
        network = frozen_network()
        network.precision = how
        normalization.settle_statistics(network, network, [(0, x, torch.zeros(16, dtype=torch.long))], 8)
        found.append(dict(network.named_buffers()))
    assert found[0]
    assert not difference(*found)


# Methods under it


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_every_method_learns_toy_tasks(method: str) -> None:
    run = toy_run(method)
    R, records = run.session.run()
    learnt = [R[i][i] for i in range(3) if R[i][i] is not None]
    assert learnt
    assert min(learnt) > 0.8
    assert all(0 <= record.validation_loss < 10 for record in records)
    tensors = {**run.network.state_dict(), **run.method.state()}
    assert torch.bfloat16 not in {tensor.dtype for tensor in tensors.values()}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_every_method_is_as_good_on_digits(method: str) -> None:
    """Two tasks of the recipe, in four epochs: losses within 5 % or 0.03, where they come near 0, accuracies within 3
    points. FS-DGPM's rate lets logits grow until a single wrong answer decides a loss, so that its losses are left out.
    """
    benchmark = Catalog().benchmark("digits")
    cls = Catalog().method(method)
    tasks = benchmark.stream(0, Path())[:2]
    training, config = recipes.resolve(method, cls, Catalog().recipe("digits"), {"epochs": 4})
    accuracies, losses = [], []
    for how in ("fp32", "bf16"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = architectures.build(benchmark)
            network.precision = how
        R, records = loop.Session(network, cls(network, config, torch.Generator()), tasks, training, 7).run()
        accuracies.append(sum(R[-1]) / 2)  # type: ignore[arg-type]
        losses.append([record.validation_loss for record in records])
    assert losses[0] != losses[1], "both computed the same"
    if method != "fsdgpm":
        assert losses[1] == pytest.approx(losses[0], rel=0.05, abs=0.03)
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.03)


@pytest.mark.slow
def test_sharpness_aware_steps_with_frozen_statistics() -> None:
    """The AlexNet's convolutions, normalisation and dropout: gradients stay in float32, and near those of fp32."""
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    moved = []
    for how in ("fp32", "bf16"):
        network = frozen_network().train()
        network.precision = how
        before = torch.cat([p.detach().flatten().clone() for p in network.parameters()])
        torch.manual_seed(0)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        loss = step.training_step(Method(network), optimizer, Batch(x, torch.arange(8), 0), 0.05)
        assert loss.dtype == torch.float32
        assert {p.dtype for p in network.parameters()} == {torch.float32}
        moved.append(torch.cat([p.detach().flatten() for p in network.parameters()]) - before)
    assert not torch.equal(*moved)
    assert torch.cosine_similarity(*moved, dim=0) > 0.8


# Cells of their own


def test_a_result_says_which_it_was_and_was_computed_so() -> None:
    losses = []
    for how in ("fp32", "bf16"):
        result = runner.run_cell(*cells_of("finetune", how=how), runner.Resources())
        assert result.environment["precision"] == how == dataclasses.asdict(result.cell)["precision"]
        losses.append([task["validation_loss"] for task in result.tasks])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_the_same_request_made_today_is_the_same_cell() -> None:
    [cell] = cells_of("ness")
    assert cell.precision == "bf16"
    assert cell.key != dataclasses.replace(cell, precision="fp32").key


@pytest.mark.slow
def test_one_is_never_taken_for_the_other(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "slowdown", lambda device: 0.5)
    words = ("--bench", "toy", "--methods", "finetune,gpm", "--seeds", "0,1", "--epochs", "1", "--out", tmp_path)
    for more in ((), ("--precision", "bf16")):
        first = command(*words, *more)
        again = command(*words, *more)
        assert first.out.startswith("4 cells: 0 done, 4 to run")
        assert again.out.startswith("4 cells: 4 done, 0 to run")
        assert first.code == 0
        assert "warning" not in first.err
    assert "Precision bf16: training and evaluation under autocast to bfloat16." in first.out
    stems = {path.stem.rpartition("-")[0]: path for path in (tmp_path / "tables").glob("*.json")}
    assert stems.keys() == {"toy-1epochs", "toy-1epochs-bf16"}
    manifest = json.loads(stems["toy-1epochs-bf16"].read_text())
    assert manifest["command"].endswith("--precision bf16")
    assert len(manifest["cells"]) == 4
    assert [facts["precision"] for facts in manifest["environments"]] == ["bf16"]
    table = command("table", "--out", tmp_path).out
    assert "toy (1 epoch) ACC" in table
    assert "toy (1 epoch, bf16) ACC" in table
    assert "(n=" not in table


def test_a_checkpoint_of_the_other_is_not_used(tmp_path: Path) -> None:
    [plain], [reduced] = cells_of("finetune", how="fp32"), cells_of("finetune")

    def stop(cell: Any, task: int, epoch: int) -> None:
        if task == 2:
            raise KeyboardInterrupt

    trained: list[int] = []
    for cell, other in ((plain, reduced), (reduced, plain)):
        with pytest.raises(KeyboardInterrupt):
            watched(cell, runner.Resources(checkpoints=tmp_path), stop)
        [path] = tmp_path.glob("*.npz")
        path.rename(tmp_path / f"{other.key}.npz")
        result = watched(other, runner.Resources(checkpoints=tmp_path), lambda c, t, e: trained.append(t))
        assert trained[0] == 0
        assert bits(result) == bits(runner.run_cell(other, runner.Resources()))
        (tmp_path / f"{other.key}.npz").unlink()
        trained.clear()


def test_a_killed_cell_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    [cell] = cells_of("ness")

    def stop(cell: Any, task: int, epoch: int) -> None:
        if task == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watched(cell, runner.Resources(checkpoints=tmp_path), stop)
    result = runner.run_cell(cell, runner.Resources(checkpoints=tmp_path))
    assert result.environment["resumed_after"] == 2
    assert bits(result) == bits(runner.run_cell(cell, runner.Resources()))


# The command line


@pytest.mark.parametrize("verb", [[], ["tune"]])
@pytest.mark.parametrize(("name", "near"), [("bf61", "bf16"), ("bfloat16", "bf16"), ("fp23", "fp32")])
def test_another_name_is_refused_with_the_nearest(command: Any, verb: list[str], name: str, near: str) -> None:
    answer = command(*verb, "--precision", name, "--dry-run")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert f"unknown precision '{name}': did you mean '{near}'?\n" in answer.err


@pytest.mark.parametrize("verb", [[], ["tune", "--trials", "1"]])
def test_where_it_is_slower_a_warning_tells_the_ratio_and_the_run_goes_on(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    monkeypatch.setattr(precision, "slowdown", lambda device: 2.345)
    words = (*verb, "--bench", "toy", "--methods", "finetune", "--seeds", "0", "--epochs", "1", "--out", tmp_path)
    answer = command(*words, "--precision", "bf16", "--dry-run")
    assert answer.code == 0
    assert "1 to run" in answer.out
    [line] = [line for line in answer.err.splitlines() if line.startswith("warning")]
    assert "--precision bf16" in line
    assert "this cpu takes 2.35 times as long as in fp32" in line
    assert "warning" not in command(*words, "--dry-run").err


def test_of_a_cluster_nothing_is_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "slowdown", lambda device: 1 / 0)
    commands.warn_if_slower("bf16", runner.Resources(address="auto"))
    assert capsys.readouterr().err == ""


def test_the_ratio_is_measured_in_a_moment_and_leaves_the_random_state_alone() -> None:
    state = torch.get_rng_state()
    start = time.perf_counter()
    ratio = precision.slowdown("cpu")
    assert time.perf_counter() - start < 10  # a fifth of a second, on a machine that is not busy
    assert 0.01 < ratio < 1000
    assert torch.equal(torch.get_rng_state(), state)


def test_the_command_in_words_asks_for_the_same() -> None:
    request = plan.Request(["gpm"], ["toy"], [0, 1], 2, precision="bf16")
    line = command_line.command_line(request)
    assert shlex.split(line)[-2:] == ["--precision", "bf16"]
    assert "--precision" not in command_line.command_line(dataclasses.replace(request, precision="fp32"))


def test_what_failed_runs_again_in_the_same_precision(
    command: Any, plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "slowdown", lambda device: 0.5)
    path = plugin("breaks", "def begin_task(self, task, data):\n    raise RuntimeError('on purpose')")
    words = ("--plugin", path, "--bench", "toy", "--methods", "breaks", "--seeds", "0", "--epochs", "1")
    answer = command(*words, "--precision", "bf16", "--out", tmp_path / "out")
    assert answer.code == 1
    [line] = re.findall(r"to run just these again: python run_bench.py (.*)", answer.err)
    again = command(*shlex.split(line))
    assert again.code == 1
    assert len(list((tmp_path / "out").glob("toy/breaks/*.json"))) == 1
