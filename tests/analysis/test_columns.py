"""A cost and a percentage mean the same in tables, figures and frames."""

from pathlib import Path

import numpy as np
import pytest
from test_plots import made_up, over_classes, runs_of

from bench.analysis import columns, frames
from bench.analysis.columns import METRICS
from bench.analysis.figures import plots
from bench.analysis.table import summarize
from bench.core import Result
from bench.execution import store


def varied() -> Result:
    """A run of four tasks, no two of which cost the same."""
    result = made_up(tasks=4)
    for t, record in enumerate(result.tasks):
        record |= {
            "trainable": 4000 - 1000 * t,
            "state_bytes": 1_000_000 * (t + 1),
            "old_samples_read": 100 * t,
            "stored": 10 * t,
        }
    return result


def test_costs_by_hand() -> None:
    result = varied()
    assert columns.trainable(result) == (4000 + 3000 + 2000 + 1000) / 4
    assert columns.state_bytes(result) == 4e6
    assert columns.old_samples_read(result) == 100 + 200 + 300
    assert columns.stored(result) == 30
    assert columns.seconds(result) == 2
    assert columns.peak_bytes(result) == 3e8


def test_over_classes_acc_and_aia_count_every_test_image_alike() -> None:
    result = over_classes()
    assert METRICS["acc"].of(result) == pytest.approx((3 * 0.5 + 0.8) / 4)
    assert METRICS["aia"].of(result) == pytest.approx((0.9 + 0.575) / 2)
    assert METRICS["within"].of(result) == pytest.approx(0.8)
    result.tasks = []  # as of a matrix computed elsewhere: every task counts alike
    assert METRICS["acc"].of(result) == pytest.approx((0.5 + 0.8) / 2)
    assert METRICS["aia"].of(result) == pytest.approx((0.9 + 0.65) / 2) and np.isnan(METRICS["within"].of(result))


def test_joint_training_has_no_average_over_time() -> None:
    result = over_classes()
    result.matrix, result.tasks = [[None, None], [0.5, 0.8]], result.tasks[1:]
    assert METRICS["acc"].of(result) == pytest.approx(0.575) and np.isnan(METRICS["aia"].of(result))


@pytest.mark.parametrize("task", [{}, {"trainable": 5}])
def test_what_was_not_recorded_is_missing(task: dict[str, float]) -> None:
    result = made_up(tasks=1)
    result.tasks, result.environment = [task] if task else [], {}
    assert np.isnan([columns.state_bytes(result), columns.old_samples_read(result)]).all()
    assert np.isnan([columns.seconds(result), columns.peak_bytes(result)]).all()
    assert columns.trainable(result) == pytest.approx(task.get("trainable", np.nan), nan_ok=True)


PANELS = {
    "seconds": "time of a run (s)",
    "trainable": "trained parameters\nper task (thousands)",
    "state": "state at the end (MB)",
    "old": "old samples read (thousands)",
}


def test_table_figure_and_frame_agree_on_every_cost(tmp_path: Path) -> None:
    result = varied()
    costs = [name for name, metric in METRICS.items() if not metric.quality]
    assert set(costs) == {*PANELS, "stored"}, (
        "every cost is drawn but the number of samples, whose bytes are in the state"
    )
    entries = summarize([(result.cell, result)], costs).entries
    shown = {name: entries["own", ("stream", name)].mean for name in costs}
    drawn = {axes.get_xlabel(): axes.patches for axes in plots.costs(runs_of(own=[result])).figure.axes}
    bars = {name: drawn[panel][0].get_width() for name, panel in PANELS.items()}
    assert bars == pytest.approx({name: shown[name] for name in PANELS})
    assert shown == pytest.approx({"stored": 30, "seconds": 2, "trainable": 2.5, "state": 4, "old": 0.6})
    store.save_result(result, tmp_path)
    row = frames.load_results(tmp_path).iloc[0]
    names = {
        "stored": "stored",
        "seconds": "seconds",
        "trainable": "trainable",
        "state": "state_bytes",
        "old": "old_samples_read",
    }
    units = {"stored": 1, "seconds": 1, "trainable": 1e3, "state": 1e6, "old": 1e3}
    assert {name: row[column] / units[name] for name, column in names.items()} == pytest.approx(shown)


def test_percent_is_said_in_one_place() -> None:
    """The table, a figure and the metric itself agree; a cost is no fraction."""
    result = made_up(tasks=4)
    accuracy = METRICS["acc"].of(result)
    entry = summarize([(result.cell, result)], ["acc"]).entries["own", ("stream", "acc")]
    last = plots.average(runs_of(own=[result])).figure.axes[0].get_lines()[0].get_ydata()[-1]
    assert METRICS["acc"].shown(accuracy) == entry.mean == pytest.approx(last) == pytest.approx(82.5)
    assert METRICS["state"].shown(3.0) == 3
    assert columns.percent(np.array([0.25, np.nan]))[0] == 25
