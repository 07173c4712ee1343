"""The figures: pure functions from `Runs` to `Plot`s."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.columns import METRICS, curve, peak_bytes, percent
from bench.analysis.figures.figure import INK, STYLE, WIDTH, Plot, Runs, canvas, legend, sd
from bench.analysis.figures.matrices import confusions, matrices
from bench.analysis.figures.reported import bounds, ranks
from bench.core import Result


def first_task(runs: Runs) -> Plot:
    """Draw how the first task fares while others are learned."""
    return _over_time(runs, "first-task", "accuracy (%) on task 1", "Accuracy on the first task", lambda r: r.R[:, 0])


def average(runs: Runs) -> Plot:
    """Draw how the tasks seen so far fare, on average."""
    label, text = "mean accuracy (%) on tasks learned", "Mean accuracy on the tasks learned so far"
    return _over_time(runs, "average", label, text, curve)


@rc_context(STYLE)
def _over_time(runs: Runs, what: str, label: str, text: str, series: Callable[[Result], np.ndarray]) -> Plot:
    """Draw a series of each result, fractions (T,), mean and spread over runs."""
    figure, axes = canvas(3.1)
    for row, results in runs.present().items():
        values = percent(np.array([series(result) for result in results]))  # (n, T)
        mean, spread = values.mean(axis=0), sd(values)
        time = 1 + np.arange(len(mean))
        style = runs.style(row)
        axes.plot(time, mean, label=runs.label(row), linewidth=1.4, linestyle=runs.dash(row), **style)
        axes.fill_between(time, mean - spread, mean + spread, color=style["color"], alpha=0.18, linewidth=0)
        axes.set_xticks(time if len(time) <= 12 else time[4::5])
    axes.set(xlabel="tasks learned", ylabel=label, ylim=(None, min(axes.get_ylim()[1], 101)))
    legend(figure)
    band = "the band is ± one sample sd over seeds" if len(runs.seeds) > 1 else "one seed, no band"
    caption = f"{text} after each task, mean; {band}. A method that trains once has a point at the end only."
    return runs.plot(what, figure, caption)


@rc_context(STYLE)
def trade_off(runs: Runs) -> Plot:
    """Draw ACC against BWT; a method without a BWT is a level."""
    figure, axes = canvas(3.1)
    for row, results in runs.present().items():
        points = percent(np.array([_bwt_and_acc(result) for result in results]))  # (n, 2)
        (x, y), (dx, dy) = points.mean(axis=0), sd(points)
        style = runs.style(row)
        if np.isfinite(x):
            axes.errorbar(x, y, dy, dx, label=runs.label(row), linestyle="none", capsize=2, linewidth=1, **style)
        else:
            axes.axhline(y, label=f"{runs.label(row)}, no BWT", color=style["color"], linestyle="--", linewidth=1.2)
    axes.set(xlabel="BWT (points)", ylabel="ACC (%)")
    axes.grid(color="#888888", alpha=0.25, linewidth=0.5)
    legend(figure)
    spread = "bars are ± one sample sd over seeds" if len(runs.seeds) > 1 else "one seed, no spread"
    caption = (
        "ACC, the mean accuracy over all tasks at the end, against BWT, the mean change of earlier tasks since they "
        f"were learned (negative: forgetting), means; {spread}; upper right is best."
    )
    return runs.plot("acc-bwt", figure, caption)


def _bwt_and_acc(result: Result) -> tuple[float, float]:
    return METRICS["bwt"].of(result), METRICS["acc"].of(result)


COSTS: dict[str, Callable[[Result], float]] = {  # in the units of the labels; those of the table are the table's
    "time of a run (s)": METRICS["seconds"].of,
    "peak memory (MB)": lambda result: peak_bytes(result) / 1e6,
    "trained parameters\nper task (thousands)": METRICS["trainable"].of,
    "state at the end (MB)": METRICS["state"].of,
    "old samples read (thousands)": METRICS["old"].of,
}


@rc_context(STYLE)
def costs(runs: Runs) -> Plot:
    """Draw what each method spends, a panel for each kind of cost."""
    rows = list(runs.present())
    figure = Figure(figsize=(WIDTH, 1.8 + 0.55 * len(rows)), layout="constrained")
    panels = figure.subplots(3, 2, sharey=True).ravel()
    panels[-1].set_axis_off()
    for panel, (label, cost) in zip(panels, COSTS.items(), strict=False):
        _bars(panel, runs, rows, cost)
        panel.set(xlabel=label, ylim=(len(rows) - 0.4, -0.6))
        panel.set_yticks(range(len(rows)), [runs.label(row) for row in rows])
    for panel in panels[0::2]:
        panel.set_ylabel("method")
    spread = "bars are ± one sample sd over seeds" if len(runs.seeds) > 1 else "one seed, no spread"
    caption = (
        f"Costs, means; {spread}. Time of a run: all tasks, evaluation included, on the machine of the run. Peak "
        "memory: of the process, in which earlier runs may have left their mark (on a GPU: of the device). Trained "
        "parameters: mean over tasks. State: what a method carries from task to task besides the network. Old samples "
        "read: training samples of earlier tasks, over the whole run. No bar: not measured."
    )
    return runs.plot("costs", figure, caption)


def _bars(panel: Axes, runs: Runs, rows: Sequence[str], cost: Callable[[Result], float]) -> None:
    """Draw a bar a row, with its number; no bar where the cost of a run was not recorded."""
    for k, row in enumerate(rows):
        values = np.array([cost(result) for result in runs.results[row]])
        mean, spread = values.mean(), sd(values)
        if not np.isfinite(mean):
            continue
        panel.barh(k, mean, 0.7, color=runs.style(row)["color"])
        panel.errorbar(mean, k, xerr=spread or None, color=INK, capsize=1.5, linewidth=0.8)
        label = f"{mean:.3g}" if mean < 1000 else f"{mean:.0f}"
        panel.annotate(label, (mean + spread, k), (4, 0), textcoords="offset points", va="center", fontsize=7)
    panel.margins(x=0.28)
    panel.set_xlim(left=0)
    panel.locator_params(axis="x", nbins=4)


def all_of(runs: Runs) -> list[Plot]:
    """Draw every figure that the runs allow."""
    if not runs.present():
        return []
    overview = [average(runs), first_task(runs), trade_off(runs)]
    return [*overview, *matrices(runs), *confusions(runs), *ranks(runs), *bounds(runs), costs(runs)]
