"""The figures: what they show is what was measured, and each says what its axes are and what stands behind it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from bench.analysis.figures import figure, plots
from bench.analysis.figures.figure import Plot, Runs
from bench.core import Cell, Result

Make = Callable[..., Result]


def made_up(seed: int = 0, tasks: int = 4, method: str = "own", lost: float = 0.05, report: bool = True) -> Result:
    """Every task is learnt to 0.9 and a bit, and loses `lost` with every later one."""
    R = [[0.9 + seed / 100 - lost * (i - j) if j <= i else None for j in range(tasks)] for i in range(tasks)]
    told = {"rank": {"conv": 3, "fc": 50}, "interference": {"conv": 1.0, "fc": 2.0}, "bound": {"conv": 2.0, "fc": 8.0}}
    records = [
        {
            "task": t,
            "trainable": 2000,
            "state_bytes": 5_000_000,
            "old_samples_read": 100,
            "report": told if report and t else {},
        }
        for t in range(tasks)
    ]
    cell = Cell("stream", method, seed, {"epochs": 3}, {})
    return Result(cell, R, records, environment={"seconds": 2.0 + seed, "process_peak_bytes": 300_000_000})


def over_classes(seed: int = 0, method: str = "own") -> Result:
    """A run in class-il over two tasks of which the first has three times as many test images as the second."""
    result = made_up(seed, 2, method)
    result.cell = replace(result.cell, scenario="class-il")
    result.matrix = [[0.9, None], [0.5, 0.8]]
    for t, seen in enumerate((0.9, (3 * 0.5 + 0.8) / 4)):
        result.tasks[t]["seen"] = seen
    result.tasks[1]["within"] = [0.7, 0.9]
    result.tasks[1]["confusion"] = [[0.6 + seed / 10, 0.4 - seed / 10], [0.125, 0.875]]
    return result


def runs_of(**results: list[Result]) -> Runs:
    return Runs("stream", "task-il, 4 tasks, at most 3 epochs a task", [0, 1, 2], results)


def saved(plot: Plot, folder: Path) -> bytes:
    """The figure as a file."""
    figure.save_figure(plot, folder, ["pdf"])
    return (folder / f"{plot.name}.pdf").read_bytes()


@pytest.fixture
def runs() -> Runs:
    single = made_up(method="single", report=False)
    single.matrix[:-1] = [[None] * 4] * 3  # measured once, at the end
    whole = [made_up(seed) for seed in range(3)]
    return runs_of(own=whole, **{"a <b> $x": [made_up(lost=0.1, report=False)], "single": [single], "absent": []})


def test_every_figure_names_its_axes_and_says_n_and_protocol(runs: Runs) -> None:
    drawn = plots.all_of(runs)
    kinds = {"average", "first-task", "acc-bwt", "matrix-own", "matrix-a-b-x", "rank-own", "bound-own", "costs"}
    assert {f"stream-{kind}" for kind in kinds} <= {plot.name for plot in drawn}
    assert len({plot.name for plot in drawn}) == len(drawn)
    for plot in drawn:
        assert any(axes.axison for axes in plot.figure.axes), plot.name
        for k, axes in enumerate(plot.figure.axes):
            if axes.axison:
                named = bool(axes.get_ylabel()), bool(axes.get_xlabel())
                bar, inner = axes.get_label() == "<colorbar>", plot.name.endswith("costs") and k % 2
                assert named == (not inner, not bar), plot.name
        ending = "stream: task-il, 4 tasks, at most 3 epochs a task; n = 3 (seeds 0, 1, 2)"
        assert ending in plot.caption, plot.name


def test_missing_seeds_and_methods_are_told(runs: Runs) -> None:
    plot = plots.average(runs)
    assert "a <b> $x n = 1; single n = 1; without a result: absent" in " ".join(
        plot.caption.replace(", ", "; ").split()
    )
    labels = plot.figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["own", "a <b> $x (n=1)", "single (n=1)"]


def test_curves_are_the_mean_over_seeds(runs: Runs) -> None:
    def line(plot: Plot, k: int) -> np.ndarray:
        return np.asarray(plot.figure.axes[0].get_lines()[k].get_ydata(), dtype=float)

    first, average = plots.first_task(runs), plots.average(runs)
    np.testing.assert_allclose(line(first, 0), [91, 86, 81, 76])
    np.testing.assert_allclose(line(average, 0), [91, 88.5, 86, 83.5])
    assert np.isfinite(line(average, 2)).tolist() == [False, False, False, True]  # trained once


def numbers(plot: Plot) -> dict[tuple[int, int], str]:
    """The text in the cells of a heat map, by (row, column)."""
    texts = plot.figure.axes[0].texts
    return {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in texts}


def test_the_matrix_shows_the_lower_triangle(runs: Runs) -> None:
    (plot, *_) = plots.matrices(runs)
    shown = numbers(plot)
    assert set(shown) == {(i, j) for i in range(4) for j in range(i + 1)}
    assert (shown[0, 0], shown[3, 0]) == ("91.0", "76.0")
    assert len(plot.figure.axes[0].patches) == 4  # the framed diagonal


def test_all_matrices_share_a_scale_that_is_even_around_zero(runs: Runs) -> None:
    limits = {plot.figure.axes[0].collections[0].get_clim() for plot in plots.matrices(runs)}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high == pytest.approx(-30)


def test_the_confusion_between_tasks_is_a_mean_over_seeds() -> None:
    runs = runs_of(own=[over_classes(seed) for seed in range(3)], other=[made_up(0, 2)])
    [plot] = plots.confusions(runs)
    assert numbers(plot) == {(0, 0): "70.0", (0, 1): "30.0", (1, 0): "12.5", (1, 1): "87.5"}
    axes = plot.figure.axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("images of task", "taken for a class of task")
    assert len(axes.patches) == 2 and plot.what == "confusion-own" and "mean over seeds" in plot.caption


def test_over_classes_every_test_image_counts_alike() -> None:
    [axes] = plots.average(runs_of(own=[over_classes()])).figure.axes
    np.testing.assert_allclose(np.asarray(axes.lines[0].get_ydata()), [90, 57.5])


@pytest.mark.parametrize("tasks", [1, 2, 20])
@pytest.mark.slow
def test_streams_of_any_length(tasks: int, tmp_path: Path) -> None:
    drawn = plots.all_of(runs_of(own=[made_up(seed, tasks) for seed in range(3)]))
    assert saved(drawn[-1], tmp_path).startswith(b"%PDF")


def test_ranks_and_bound_come_from_reports(runs: Runs) -> None:
    (ranks,), (bound,) = plots.ranks(runs), plots.bounds(runs)
    assert numbers(ranks) == {(layer, t): text for layer, text in ((0, "3"), (1, "50")) for t in (1, 2, 3)}
    assert "18 of 18 within the bound, the largest ratio 0.5" in bound.caption


@pytest.mark.parametrize("told", [{"rank": 3, "interference": {"fc": None}, "bound": {"fc": "wide"}}, {"rank": []}, {}])
def test_a_report_of_another_shape_is_left_alone(told: dict[str, Any]) -> None:
    result = made_up()
    for record in result.tasks:
        record["report"] = told
    runs = runs_of(own=[result])
    assert plots.ranks(runs) == plots.bounds(runs) == []


def test_a_bound_of_zero_is_counted_and_not_drawn(tmp_path: Path) -> None:
    result = made_up()
    result.tasks[1]["report"] = {"interference": {"conv": 0.0}, "bound": {"conv": 0.0}}
    (plot,) = plots.bounds(runs_of(own=[result]))
    assert "5 of 5 within" in plot.caption and "1 at zero" in plot.caption
    assert saved(plot, tmp_path)


def test_costs_that_were_not_measured_have_no_bar(make_result: Make) -> None:
    bars = [len(axes.patches) for axes in plots.costs(runs_of(own=[make_result()])).figure.axes]
    assert bars == [1, 0, 0, 0, 0, 0]


def test_nothing_global_is_changed(runs: Runs, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    figure.save_figure(plots.trade_off(runs), tmp_path, ["pdf", "png", "svg"])
    assert dict(matplotlib.rcParams) == before
    assert {path.suffix for path in tmp_path.iterdir()} == {".pdf", ".png", ".svg"}


@pytest.mark.parametrize(("suffix", "start"), [("pdf", b"%PDF"), ("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_figure_is_saved_in_the_format_asked_for(runs: Runs, tmp_path: Path, suffix: str, start: bytes) -> None:
    figure.save_figure(plots.average(runs), tmp_path, [suffix])
    [path] = tmp_path.iterdir()
    assert path.name == f"stream-average.{suffix}" and path.read_bytes().startswith(start)


def test_drawing_twice_gives_the_same_file(runs: Runs, tmp_path: Path) -> None:
    def drawn(folder: Path) -> bytes:
        folder.mkdir()
        [plot] = plots.ranks(runs)
        figure.save_figure(plot, folder, ["svg"])
        [path] = folder.iterdir()
        return path.read_bytes()

    assert drawn(tmp_path / "a") == drawn(tmp_path / "b")


def test_many_methods_are_told_apart() -> None:
    runs = runs_of(**{f"m{k}": [made_up(method=f"m{k}", tasks=2, report=False)] for k in range(28)})
    lines = plots.average(runs).figure.axes[0].get_lines()
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 28
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 28
