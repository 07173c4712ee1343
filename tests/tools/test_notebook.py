"""The suite from Python: the same cells as the command line, shown in a notebook."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bench
from bench.core import Result


def test_every_name_of_the_face_is_there_and_documented() -> None:
    assert set(bench.__all__) <= set(dir(bench)) and len(bench.__all__) > 15
    undocumented = [name for name in bench.__all__ if not getattr(bench, name).__doc__]
    assert undocumented == []
    with pytest.raises(AttributeError, match="no attribute 'tabel'"):
        _ = bench.tabel  # type: ignore[attr-defined]


def test_a_run_is_that_of_the_command_line_and_is_not_run_twice(command: Callable[..., Any], tmp_path: Path) -> None:
    results = bench.run(["finetune", "gpm"], "toy", seeds=2, epochs=1, out=tmp_path)
    assert [(r.cell.method, r.cell.seed, r.error) for r in results] == [
        (method, seed, None) for method in ("finetune", "gpm") for seed in (0, 1)
    ]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("toy/*/*.json")}
    answer = command(
        "--methods", "finetune,gpm", "--bench", "toy", "--seeds", "0,1", "--epochs", "1", "--out", tmp_path
    )
    assert answer.out.startswith("4 cells: 4 done, 0 to run")
    assert [r.matrix for r in bench.run("gpm", "toy", [1], epochs=1, out=tmp_path)] == [results[3].matrix]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("toy/*/*.json")} == before
    assert str(bench.table(results)) in answer.out


def test_a_scenario_is_asked_for_by_name(tmp_path: Path) -> None:
    [result] = bench.run("er", "toy", [0], epochs=1, scenario="class-il", out=tmp_path)
    assert result.cell.scenario == "class-il" and len(result.seen) == 3
    with pytest.raises(bench.UserError, match="toy has no scenario domain-il: it is run in task-il or class-il"):
        bench.run("er", "toy", [0], scenario="domain-il", out=tmp_path)


def test_what_a_notebook_shows(tmp_path: Path) -> None:
    results = bench.run(["finetune", "joint"], "toy", seeds=1, epochs=1, out=tmp_path)
    shown = results._repr_html_()
    assert "<table>" in shown and "joint \N{DOUBLE DAGGER}" in shown and "ACC: mean accuracy" in shown
    assert bench.table(results, ["forgetting"])._repr_html_() != shown
    names = [plot.name for plot in bench.figures(results)]
    assert any("matrix-finetune" in name for name in names) and len(set(names)) == len(names)
    page = bench.report(bench.load(tmp_path), tmp_path / "page.html")
    assert page.read_text().startswith("<!doctype html>") and "finetune" in page.read_text()


def test_two_versions_of_a_method_are_two_rows_as_on_the_command_line(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    from bench.execution import store

    [today] = bench.run("gpm", "toy", seeds=1, epochs=1, out=tmp_path)
    for seed in (0, 1):
        versions, source = {**today.cell.versions, "method": 0}, {**today.cell.source, "method": "0" * 12}
        store.save_result(
            replace(today, cell=replace(today.cell, seed=seed, versions=versions, source=source)), tmp_path
        )
    results = bench.load(tmp_path)
    printed = str(bench.table(results))
    assert printed == command("table", "--out", tmp_path).out.strip()
    [other] = [row for row in bench.table(results).table.rows if row != "gpm"]
    assert other.startswith("gpm [") and "\N{DEGREE SIGN}" in printed
    assert str(bench.table(list(results))) == printed, "a list has the built-in catalog"
    assert any(other in plot.caption for plot in bench.figures(results))
    page = bench.report(results, tmp_path / "page.html").read_text()
    assert other in page and "\N{DEGREE SIGN}" in page


def test_what_is_shown_in_a_notebook_is_short(make_result: Callable[..., Result]) -> None:
    from bench.tools.notebook import Results, Verdicts

    results = Results((make_result("a"), make_result("a", 1), make_result("b", error="E")))
    assert repr(results) == "<3 results of a, b on bench, 1 failed>"
    assert repr(results[:2]) == "<2 results of a on bench>" and isinstance(results[:2], Results)
    assert repr(Results(())) == "<0 results>" and Results(())._repr_html_() is None
    assert repr(bench.table(results)) == str(bench.table(results))
    plots = bench.figures(results)
    assert plots[0]._repr_html_().startswith('<figure><img alt="') and plots[0]._repr_html_() in plots._repr_html_()
    assert plots[0].caption[:20] in plots[0]._repr_html_() and "data:image/png;base64,iVBOR" in plots[0]._repr_html_()
    verdicts = Verdicts(bench.tools.check.Verdict("a_b", "", "P.", failure, "m, a method") for failure in (None, "no"))
    assert repr(verdicts) == "m, a method\n  ok    a b: P.\n  FAIL  a b: P.\n        no"


def test_nothing_to_show_is_said(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    for show in (bench.table, bench.figures, lambda results: bench.report(results, tmp_path / "page.html")):
        with pytest.raises(bench.UserError, match="no result to show"):
            show([])
    with pytest.raises(bench.UserError, match="did you mean 'acc'"):
        bench.table([make_result()], "accc")


def test_what_does_not_apply_is_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="left out: trgp on toy_shared: ") as told:
        results = bench.run(["finetune", "trgp"], "toy_shared", seeds=1, epochs=1, out=tmp_path)
    assert len(results) == 1 and len(told) == 1 and told[0].filename == __file__
    with pytest.raises(bench.UserError, match="nothing to do: trgp does not apply to toy_shared"):
        bench.run("trgp", "toy_shared", out=tmp_path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seeds": "x"}, "a list or how many, not 'x'"),
        ({"seeds": True}, "a list or how many, not True"),
        ({"seeds": 1.5}, "a list or how many, not 1.5"),
        ({"seeds": -1}, "from 1 to 10,000 seeds"),
        ({"seeds": []}, "from 1 to 10,000 seeds"),
        ({"seeds": 10**12}, "from 1 to 10,000 seeds"),
        ({"seeds": [1.5]}, "a whole number .* not 1.5"),
        ({"seeds": [0, -1]}, "a whole number .* not -1"),
        ({"seeds": [True]}, "a whole number .* not True"),
        ({"seeds": ["0"]}, "a whole number .* not '0'"),
        ({"seeds": [2**32]}, "a whole number"),
        ({"seeds": [1, 1]}, "given twice"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"protocol": "publish"}, "did you mean 'published'"),
        ({"executor": "rya"}, "did you mean 'ray'"),
    ],
)
def test_a_wrong_word_is_refused_before_anything_runs(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(bench.UserError, match=said) as caught:
        bench.run("finetune", "toy", **{"seeds": 1, "epochs": 1, "out": tmp_path, **wrong})
    assert "\n" not in str(caught.value) and not any(tmp_path.iterdir())


def test_seeds_of_numpy_are_numbers(tmp_path: Path) -> None:
    [result] = bench.run("finetune", "toy", np.arange(3, 4), epochs=1, out=tmp_path)
    assert type(result.cell.seed) is int and bench.load(tmp_path)[0].cell.seed == 3


def test_a_failed_cell_is_in_the_results(plugin: Callable[..., Path], tmp_path: Path) -> None:
    from bench.catalog.catalog import Catalog

    catalog = Catalog.of([plugin("breaks", "def begin_task(self, task, data):\n    raise RuntimeError('on purpose')")])
    [result] = bench.run("breaks", "toy", 1, out=tmp_path, catalog=catalog)
    assert result.error == "RuntimeError: on purpose"


def test_wrong_requests_are_errors_in_words(tmp_path: Path) -> None:
    with pytest.raises(bench.UserError, match="did you mean 'ness'"):
        bench.run("nes", "toy", out=tmp_path)
    with pytest.raises(bench.UserError, match="did you mean 'eps'"):
        bench.run("ness", "toy", settings={"ness": {"epss": 1}}, out=tmp_path)
    (tmp_path / "toy" / "ness").mkdir(parents=True)
    (tmp_path / "toy" / "ness" / "seed0-000000000000.json").write_text("{")
    with pytest.raises(bench.UserError, match="damaged"):
        bench.load(tmp_path)


@pytest.mark.slow
def test_checks_of_a_file(plugin: Callable[..., Path]) -> None:
    verdicts = bench.check(plugin("lazy", "def parameters(self):\n    return []"))
    failed = {verdict.check for verdict in verdicts if verdict.failure}
    assert "toy_tasks_are_learnt" in failed and "names_survive" not in failed
