"""The search: equal budgets, validation data alone, resumable, and a winner that is a recipe."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench import installation
from bench.catalog import plan
from bench.catalog.catalog import Catalog
from bench.core import Result, Training
from bench.execution import runner
from bench.execution.executors import ray_cluster as cluster
from bench.nn import precision
from bench.settings import space_of
from bench.tools import tuned_recipe, tuning_search
from bench.tools.tuning_search import Outcome, Search, Trial

Command = Callable[..., Any]
METHODS = [name for name in Catalog().available("Method") if Catalog().method(name).stage != "all"]
TOY = ("tune", "--bench", "toy", "--epochs", "1", "--trials", "3")


def request(*methods: str, **more: Any) -> plan.Request:
    return plan.Request(methods, ["toy"], [100], epochs=1, **more)


# Which trials: no Ray, no training


def test_every_method_has_the_same_budget_and_starts_from_its_recipe() -> None:
    trials, left_out = tuning_search.plan(request(*Catalog().available("Method")), Search(trials=4), Catalog())
    assert list(left_out) == [name for name in Catalog().available("Method") if name not in METHODS]
    for name in METHODS:
        own = [trial for trial in trials if trial.method == name]
        space = space_of(Training, Catalog().method(name).Config)
        assert [trial.number for trial in own] == [0, 1, 2, 3] and len({trial.key for trial in own}) == 4
        assert list(own[0].cells) == Catalog().plan(request(name))[0]
        for trial in own:
            [cell] = trial.cells
            resolved = {**cell.training, **cell.config}
            assert trial.settings == {field: resolved[field] for field in space}
            assert trial.number == 0 or all(trial.settings[field] in values for field, values in space.items())
    assert [trial.number for trial in trials] == sorted(trial.number for trial in trials)  # recipes first


def test_the_seed_decides_the_samples_and_more_trials_go_on() -> None:
    def keys(trials: int, *methods: str, seed: int = 0) -> list[str]:
        planned, _ = tuning_search.plan(request(*methods), Search(trials, seed=seed), Catalog())
        return [trial.key for trial in planned if trial.method == "ewc"]

    assert keys(5, "ewc")[:3] == keys(3, "ewc") == keys(3, "gpm", "ewc")
    assert not set(keys(3, "ewc")[1:]) & set(keys(3, "ewc", seed=1)[1:])


def test_a_trial_is_another_with_other_tasks_or_seeds() -> None:
    cells = Catalog().plan(plan.Request(["ewc"], ["toy"], [1, 2]))[0]
    choices = [(cells[:1], 2), (cells[:1], 3), (cells[1:], 2), (cells, 2)]
    assert len({Trial(0, {}, tuple(own), tasks).key for own, tasks in choices}) == 4


# What a trial measures


FIELD = '''"""The toy stream with another test split: as it is, or one that cannot be touched."""
from dataclasses import dataclass, replace
import numpy as np
from bench.core import Benchmark, Split, Task


class Closed:
    def __getattribute__(self, name):
        raise AssertionError("test data was read")

    def __len__(self):
        raise AssertionError("test data was read")


class Field(Benchmark):
    @dataclass(frozen=True)
    class Config:
        closed: bool = False
        validation: int = 20

    num_tasks, num_classes, input_shape, backbone = 3, 2, (1, 6, 6), "convnet"

    def stream(self, seed, data):
        generator = np.random.default_rng(seed)
        tasks = []
        for t in range(3):
            y = np.arange(100) % 2
            x = (generator.normal(size=(100, 1, 6, 6)) + y[:, None, None, None]).astype(np.float32)
            test = Closed() if self.config.closed else Split(x[70:], 1 - y[70:])  # the wrong way round
            n = self.config.validation
            tasks.append(Task(t, ("a", "b"), Split(x[:50], y[:50]), Split(x[50 : 50 + n], y[50 : 50 + n]), test))
        return tasks
'''


@pytest.fixture
def field(tmp_path: Path) -> Callable[..., Outcome]:
    """Attempts a trial of fine-tuning on a stream of its own."""
    path = tmp_path / "field.py"
    path.write_text(FIELD)

    def attempt(tasks: int = 2, seeds: tuple[int, ...] = (1,), **options: Any) -> Outcome:
        settings = {"field": options, "finetune": {"lr": 0.1}}
        cells, _ = Catalog.of([path]).plan(plan.Request(["finetune"], ["field"], seeds, 8, settings))
        return tuning_search.attempt(
            Trial(0, {}, tuple(cells), tasks), runner.Resources(catalog=Catalog.of((path,))), tmp_path
        )

    return attempt


def test_test_data_is_never_read(field: Callable[..., Outcome], tmp_path: Path) -> None:
    open_, closed = field(closed=False), field(closed=True)
    assert closed.error is None and closed.score == open_.score > 0.5  # by the test labels it would be below
    path = tmp_path / "field.py"
    [cell], _ = Catalog.of([path]).plan(plan.Request(["finetune"], ["field"], [1], 1, {"field": {"closed": True}}))
    assert "test data was read" in str(
        runner.run_cell(cell, runner.Resources(catalog=Catalog.of((path,)))).error
    )  # it can fail


def test_the_score_is_the_mean_over_the_first_tasks_and_the_seeds(
    field: Callable[..., Outcome], tmp_path: Path
) -> None:
    both = field(seeds=(1, 2))
    assert both.accuracies == (*field().accuracies, *field(seeds=(2,)).accuracies)
    assert both.score == pytest.approx(sum(both.accuracies) / 2)
    whole = field(tasks=3)
    assert whole.score != field(tasks=1).score
    again = tuning_search.stored_outcome(whole.trial, tmp_path)
    assert again == whole


def test_without_validation_data_a_trial_says_so(field: Callable[..., Outcome]) -> None:
    assert "no validation data" in str(field(validation=0).error)


def test_failures_stand_last_and_of_equals_the_recipe_first() -> None:
    trials, _ = tuning_search.plan(request("ewc"), Search(trials=5), Catalog())
    outcomes = [
        Outcome(trials[1], error="FloatingPointError: the loss became nan"), Outcome(trials[2], (0.5, 0.7)),
        Outcome(trials[3], (0.9,)), Outcome(trials[4], error="RuntimeError: x"), Outcome(trials[0], (0.6,)),
    ]  # fmt: skip
    assert [o.trial.number for o in tuned_recipe.rank_outcomes(outcomes)["ewc"]] == [3, 0, 2, 1, 4]
    assert [o.final for o in outcomes] == [True, True, True, False, True]


# A search under Ray, killed and resumed


HELD = '''"""Fine-tuning that does not end where HOLD is set, but with the recipe's settings."""
import os
import time
from dataclasses import dataclass
from bench.training.method import Method
from bench.search_space import Log
from bench.settings import setting


class Held(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        eps: float = setting(0.1, "of nothing", search=Log(0.01, 1))

    def begin_task(self, task, data):
        while self.config.eps != 0.1 and "HOLD" in os.environ:
            time.sleep(0.05)
'''


class Killed(NamedTuple):
    words: tuple[str, ...]
    plugin: Path
    out: Path
    early: dict[Path, int]  # outcomes that were there, and when each was written


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """A search of two methods by two workers, killed while each works on a trial that does not end."""
    folder = tmp_path_factory.mktemp("killed")
    plugin, out = folder / "held.py", folder / "out"
    plugin.write_text(HELD)
    words = (*TOY, "--methods", "held,finetune", "--workers", "2", "--plugin", str(plugin), "--out", str(out))
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "run_bench.py", *words], cwd=installation.ROOT, env={**os.environ, "HOLD": "1"},
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list(out.glob("tune/toy/*/*.json"))) < 3 and time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    early = {path: path.stat().st_mtime_ns for path in out.glob("tune/toy/*/*.json")}
    return Killed(words, plugin, out, early)


@pytest.mark.ray
def test_a_killed_search_goes_on(killed: Killed, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(killed.early) == 3  # both recipes, and the first sample of fine-tuning
    answer = command(*killed.words)
    assert answer.code == 0 and answer.out.startswith("6 trials: 3 done, 3 to run (Ray Tune, 2 at a time")
    assert [line[:6] for line in answer.err.splitlines()] == ["[1/3] ", "[2/3] ", "[3/3] "]  # and nothing of Ray's
    assert {path: path.stat().st_mtime_ns for path in killed.early} == killed.early
    assert len(list(killed.out.glob("tune/toy/*/*.json"))) == 6

    catalog = Catalog.of((killed.plugin,))
    trials, _ = tuning_search.plan(request("held", "finetune"), Search(trials=3), catalog)
    for trial in trials:  # what it gives without Ray and without a kill
        alone = tuning_search.attempt(trial, runner.Resources(catalog=catalog), killed.out.parent)
        there = tuning_search.stored_outcome(trial, killed.out)
        assert isinstance(there, Outcome) and there.accuracies == alone.accuracies

    monkeypatch.setattr(cluster, "connected", None)  # cannot be called: the same command runs nothing
    again = command(*killed.words)
    assert again.code == 0 and again.err == "" and again.out.startswith("6 trials: 6 done, 0 to run")
    assert again.out.split("\n", 1)[1] == answer.out.split("\n", 1)[1]


# The command line, its trials in this process


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The trials that were run, one after the other and without Ray."""
    names: list[str] = []

    def run(trials: list[Trial], resources: runner.Resources, out: Path, tell: Callable[[Outcome], None]) -> None:
        for trial in trials:
            names.append(f"{trial.method} {trial.number}")
            tell(tuning_search.attempt(trial, resources, out))

    monkeypatch.setattr(tuning_search, "run_trials", run)
    return names


def test_the_winner_is_a_recipe(command: Command, ran: list[str], tmp_path: Path) -> None:
    answer = command(*TOY, "--methods", "finetune,ewc", "--out", tmp_path)
    assert answer.code == 0 and ran == ["finetune 0", "ewc 0", "finetune 1", "ewc 1", "finetune 2", "ewc 2"]
    path = tmp_path / "tune" / "toy.toml"
    assert answer.out.rstrip().endswith(f"recipe: {path}")
    recipe, text = tomllib.loads(path.read_text()), path.read_text()
    assert recipe["bench"] == "toy" and recipe["protocol"] == "published"
    for part in (
        "--trials 3",
        "--search-seed 0",
        "first 3 tasks",
        "seeds: 100",
        "1 epoch a task",
        "3 trials of each method",
    ):
        assert part in text
    for name in ("finetune", "ewc"):
        trials, _ = tuning_search.plan(request(name), Search(trials=3), Catalog())
        best = max((tuning_search.stored_outcome(trial, tmp_path) for trial in trials), key=lambda o: o.score)  # type: ignore[union-attr, return-value]
        assert recipe[name] == best.trial.settings  # type: ignore[union-attr]
    # settings that are not the recipe's, as if by --set
    path.write_text(text.replace(f"lr = {recipe['ewc']['lr']}", "lr = 0.0123"))
    words = ("--bench", "toy", "--methods", "ewc", "--seeds", "0", "--epochs", "1", "--out", tmp_path)
    by_file = command(*words, "--recipe", path)
    by_set = command(*words, "--set", "ewc.lr=0.0123", "--set", f"ewc.strength={recipe['ewc']['strength']}")
    assert by_file.code == 0 and "lr=0.0123" in by_file.out
    assert by_set.out.startswith("1 cell: 1 done, 0 to run")
    above = command(*words, "--recipe", path, "--set", "ewc.lr=0.0456", "--dry-run")
    assert above.out.startswith("1 cell: 0 done, 1 to run")


def test_failures_do_not_stop_the_search(
    command: Command, ran: list[str], plugin: Callable[..., Path], tmp_path: Path
) -> None:
    body = "def penalty(self):\n    raise RuntimeError('on purpose')"
    nan = plugin("diverges", "def penalty(self):\n    return float('nan')")
    words = (*TOY, "--plugin", plugin("raises", body), "--plugin", nan, "--methods", "raises,diverges,finetune")
    answer = command(*words, "--out", tmp_path / "out")
    assert answer.code == 1 and len(ran) == 9
    assert answer.err.count("failed: raises") == 3 and "failed: diverges" not in answer.err
    assert "| diverged |" in " ".join(answer.out.split()) and "RuntimeError: on purpose" in answer.err
    text = (tmp_path / "out" / "tune" / "toy.toml").read_text()
    assert "# raises: every trial failed" in text and set(tomllib.loads(text)) == {"bench", "protocol", "finetune"}
    [record, *_] = (tmp_path / "out").glob("tune/toy/raises/*.json")
    assert "on purpose" in record.read_text() and "Traceback" in record.read_text()
    command(*words, "--out", tmp_path / "out")
    assert ran[9:] == ["raises 0", "raises 1", "raises 2"]  # what diverged would again, what failed might not


def test_interrupted_in_a_search(
    command: Command, ran: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    attempt = tuning_search.attempt

    def once(trial: Trial, *rest: Any) -> Outcome:
        if len(ran) == 2:
            raise KeyboardInterrupt
        return attempt(trial, *rest)

    monkeypatch.setattr(tuning_search, "attempt", once)
    words = (*TOY, "--methods", "finetune", "--out", tmp_path)
    answer = command(*words)
    assert answer.code == 130 and "the same command runs the others" in answer.err
    assert not (tmp_path / "tune" / "toy.toml").exists()
    monkeypatch.setattr(tuning_search, "attempt", attempt)
    assert command(*words).code == 0 and ran == ["finetune 0", "finetune 1", "finetune 1", "finetune 2"]


def test_a_damaged_trial_runs_again(command: Command, ran: list[str], tmp_path: Path) -> None:
    words = (*TOY, "--methods", "finetune", "--out", tmp_path)
    first = command(*words)
    path = sorted(tmp_path.glob("tune/toy/finetune/*.json"))[0]
    path.write_text(path.read_text()[:100])
    again = command(*words)
    assert again.code == 0 and str(path) in again.err and "runs again" in again.err and len(ran) == 4
    assert again.out.split("\n", 1)[1] == first.out.split("\n", 1)[1]


def changed_score(place: Path, other: Path) -> None:
    record = json.loads(place.read_text())
    record["results"][0]["matrix"][-1][0] = 1.0
    place.write_text(json.dumps(record))


DAMAGE: dict[str, tuple[Callable[[Path, Path], object], str]] = {  # of a trial's file, beside that of another trial
    "another trial's": (lambda place, other: place.write_bytes(other.read_bytes()), "holds other cells than the trial"),
    "another score": (changed_score, "checksum"),
    "no number": (lambda place, other: place.write_text('{"results": NaN}'), "NaN is no number"),
    "nested": (lambda place, other: place.write_text("[" * 100_000), "nested too deep"),
    "a folder": (lambda place, other: (place.unlink(), place.mkdir()), "cannot be read"),
    "a pipe": (lambda place, other: (place.unlink(), os.mkfifo(place)), "cannot be read"),
    "a dangling link": (lambda place, other: (place.unlink(), place.symlink_to("nowhere")), "cannot be read"),
}


@pytest.mark.parametrize(("harm", "said"), DAMAGE.values(), ids=DAMAGE)
def test_what_is_not_the_outcome_of_a_trial_is_not_used(
    tmp_path: Path, harm: Callable[[Path, Path], object], said: str
) -> None:
    trials, _ = tuning_search.plan(request("finetune"), Search(trials=2), Catalog())
    for trial, accuracy in zip(trials, (0.25, 0.75), strict=True):
        results = [Result(cell, [[accuracy]]) for cell in trial.cells]
        assert tuning_search._save(trial, results, tmp_path).score == accuracy
    places = [tmp_path / trial.path for trial in trials]
    harm(*places)
    found = tuning_search.stored_outcome(trials[0], tmp_path)
    assert isinstance(found, str) and str(places[0]) in found and said in found
    assert found.endswith("the trial runs again") and "\n" not in found
    other = tuning_search.stored_outcome(trials[1], tmp_path)
    assert isinstance(other, Outcome) and other.score == 0.75


def test_a_dry_run_of_a_search(command: Command, ran: list[str], tmp_path: Path) -> None:
    answer = command(*TOY, "--methods", "all", "--protocol", "sound", "--out", tmp_path / "out", "--dry-run")
    assert answer.code == 0 and not ran and not (tmp_path / "out").exists()
    assert answer.out.count("to run  ") == 3 * len(METHODS) and "to run  ewc, the recipe (lr=" in answer.out
    assert "joint is not tuned" in answer.err


def test_another_protocol_has_a_recipe_of_its_own(command: Command, ran: list[str], tmp_path: Path) -> None:
    words = (*TOY[:-1], "1", "--methods", "finetune", "--out", tmp_path)
    command(*words)
    command(*words, "--protocol", "sound")
    assert [path.name for path in sorted(tmp_path.glob("tune/*.toml"))] == ["toy-sound.toml", "toy.toml"]


def test_another_precision_has_trials_and_a_recipe_of_its_own(
    command: Command, ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "slowdown", lambda device: 0.5)
    words = (*TOY[:-1], "1", "--methods", "finetune", "--out", tmp_path)
    plain, reduced = command(*words), command(*words, "--precision", "bf16")
    assert ran == ["finetune 0", "finetune 0"] and len(list(tmp_path.glob("tune/toy/finetune/*.json"))) == 2
    texts = {path.name: path.read_text() for path in tmp_path.glob("tune/*.toml")}
    assert set(texts) == {"toy-bf16.toml", "toy.toml"}
    assert "--precision bf16" in texts["toy-bf16.toml"] and "--precision" not in texts["toy.toml"]
    assert "precision: bf16." in reduced.out and "precision:" not in plain.out


def test_a_method_that_does_not_apply_is_explained(
    command: Command, plugin: Callable[..., Path], tmp_path: Path
) -> None:
    own = plugin("picky", "@classmethod\ndef unsupported(cls, benchmark, training):\n    return 'it needs a ViT'")
    answer = command(*TOY, "--plugin", own, "--methods", "picky,finetune", "--out", tmp_path, "--dry-run")
    assert answer.code == 0 and "picky is not tuned: it needs a ViT" in answer.err


def test_a_lost_worker_is_a_failure_that_is_tried_again() -> None:
    [trial], _ = tuning_search.plan(request("finetune"), Search(trials=1), Catalog())
    lost = Outcome(trial, error=tuning_search.LOST)
    assert not lost.final and not lost.diverged


RECIPES = {
    "method": ("[ewk]\nlr = 0.1", ["ewk", "'ewc'", "FILE"]),
    "field": ("[ewc]\nstrenght = 1.0", ["FILE, line 2: ", "strenght", "'strength'"]),
    "type": ("[ewc]\nstrength = 'strong'", ["FILE, line 2: ewc.strength is float"]),
    "benchmark": ('bench = "digits"\n[ewc]\nlr = 0.1', ["--bench digits", "FILE"]),
    "protocol": ('protocol = "sound"\n[ewc]\nlr = 0.1', ["--protocol sound"]),
    "no table": ("ewc = 3", ["'ewc' is no table", "[ewc]"]),
    "no TOML": ("[ewc\n", ["FILE"]),
    "no text": ("\udcff", ["FILE"]),
}


@pytest.mark.parametrize(("text", "parts"), RECIPES.values(), ids=RECIPES)
def test_a_bad_recipe_is_one_line(command: Command, tmp_path: Path, text: str, parts: list[str]) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text, errors="surrogateescape")
    answer = command("--bench", "toy", "--methods", "ewc", "--recipe", path, "--out", tmp_path / "out")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert all(part.replace("FILE", str(path)) in answer.err for part in parts), answer.err


BAD = {
    "trials": (["--trials", "0"], ["--trials", "0"]),
    "tasks": (["--bench", "toy", "--tasks", "4"], ["--tasks", "1 and 3", "toy", "not 4"]),
    "no task": (["--tasks", "0"], ["--tasks", "1 and 5", "not 0"]),
    "method": (["--methods", "fintune"], ["'finetune'"]),
    "benchmark": (["--bench", "digit"], ["'digits'"]),
    "benchmarks": (["--bench", "digits,toy"], ["one --bench", "digits,toy"]),
    "protocols": (["--protocol", "all"], ["one --protocol"]),
    "seeds": (["--seeds", "x"], ["--seeds"]),
    "workers": (["--workers", "0"], ["--workers"]),
    "epochs": (["--epochs", "0"], ["--epochs"]),
    "upper bound": (["--methods", "joint"], ["joint is not tuned", "upper bound"]),
    "no recipe": (["run", "--recipe", "/nowhere/x.toml"], ["/nowhere/x.toml", "No such file"]),
}


@pytest.mark.parametrize(("words", "parts"), BAD.values(), ids=BAD)
def test_a_bad_search_is_one_line(command: Command, tmp_path: Path, words: list[str], parts: list[str]) -> None:
    verb = [] if words[0] == "run" else ["tune"]
    answer = command(*verb, *words, "--out", tmp_path / "out")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert all(part in answer.err for part in parts), answer.err
    assert not (tmp_path / "out").exists()
