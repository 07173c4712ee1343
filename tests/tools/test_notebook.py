"""The suite from Python: the same cells as the command line, shown in a notebook."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bench


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
