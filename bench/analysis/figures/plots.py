"""The figures: pure functions from `Runs` to `Plot`s."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator

from bench import metrics
from bench.analysis.figures.figure import INK, MARKERS, STYLE, WIDTH, Plot, Runs, canvas, heat_map, legend, sd, stretch
from bench.core import Result

CHANGE = LinearSegmentedColormap.from_list("change", ["#b35806", "#f1a340", "#f7f7f7", "#67a9cf", "#2166ac"])
DEPTH = LinearSegmentedColormap.from_list("depth", ["#7a4fb5", "#3b7dbd", "#21a08c", "#7fc04a", "#d8b219"])
SHARE = LinearSegmentedColormap.from_list("share", ["#f7fbff", "#6baed6", "#08519c"])


def mean_matrix(results: Sequence[Result]) -> np.ndarray:
    """The accuracy matrix in percent, mean over the runs, (T, T); NaN above the diagonal and where not measured."""
    mean = 100 * np.mean([result.R for result in results], axis=0)
    return np.where(np.tril(np.ones_like(mean)) > 0, mean, np.nan)


def matrices(runs: Runs) -> list[Plot]:
    """The accuracy matrix of every method, coloured on one scale."""
    means = {row: mean_matrix(results) for row, results in runs.present().items()}
    changes = [change for R in means.values() for change in (R - np.diag(R)).ravel() if np.isfinite(change)]
    limit = max([1.0, *map(abs, changes)])
    return [_matrix(runs, row, R, limit) for row, R in means.items()]


@rc_context(STYLE)
def _matrix(runs: Runs, row: str, R: np.ndarray, limit: float) -> Plot:
    """In the manner of the papers' heat maps, which are green and red around a blue diagonal."""
    scale = stretch(len(R))
    figure, axes = canvas(3.9 * scale, WIDTH * scale)
    image = heat_map(axes, R - np.diag(R), R, CHANGE, (-limit, limit), 1 if len(R) <= 10 else 0)
    for t in np.flatnonzero(np.isfinite(np.diag(R))).tolist():
        axes.add_patch(Rectangle((t, t), 1, 1, facecolor="#c9c9c9", edgecolor="black", linewidth=1.4))
    axes.set(title=runs.label(row), xlabel="accuracy (%) on task", ylabel="after learning task", aspect="equal")
    figure.colorbar(image, ax=axes, label="change since learnt (points)", shrink=0.85).outline.set_visible(False)
    spread = "mean over seeds" if len(runs.results[row]) > 1 else "one seed"
    caption = (
        f"Accuracy matrix of {row}, {spread}: accuracy in percent on a task (column) after learning a task (row). "
        "Framed: just learnt. Blue: a task is better than when it was learnt; orange: worse, that is, forgotten "
        "(colours that the colour-blind can tell apart, on one scale for all methods)."
    )
    return runs.plot(f"matrix-{row}", figure, caption, [row])


def first_task(runs: Runs) -> Plot:
    """How the first task fares while others are learnt."""
    return _over_time(runs, "first-task", "accuracy (%) on task 1", "Accuracy on the first task", lambda R: R[:, 0])


def average(runs: Runs) -> Plot:
    """How the tasks seen so far fare, on average."""
    label, text = "mean accuracy (%) on tasks learnt", "Mean accuracy on the tasks learnt so far"
    return _over_time(runs, "average", label, text, lambda R: np.array([R[i, : i + 1].mean() for i in range(len(R))]))


@rc_context(STYLE)
def _over_time(runs: Runs, what: str, label: str, text: str, series: Callable[[np.ndarray], np.ndarray]) -> Plot:
    figure, axes = canvas(3.1)
    for row, results in runs.present().items():
        values = 100 * np.array([series(result.R) for result in results])  # (n, T)
        mean, spread, time = values.mean(axis=0), sd(values), np.arange(values.shape[1]) + 1
        style = runs.style(row)
        axes.plot(time, mean, label=runs.label(row), linewidth=1.4, **style)
        axes.fill_between(time, mean - spread, mean + spread, color=style["color"], alpha=0.18, linewidth=0)
        axes.set_xticks(time if len(time) <= 12 else time[4::5])
    axes.set(xlabel="tasks learnt", ylabel=label, ylim=(None, min(axes.get_ylim()[1], 101)))
    legend(figure)
    band = "the band is ± one sample sd over seeds" if len(runs.seeds) > 1 else "one seed, no band"
    caption = f"{text} after each task, mean; {band}. A method that trains once has a point at the end only."
    return runs.plot(what, figure, caption)


@rc_context(STYLE)
def trade_off(runs: Runs) -> Plot:
    """ACC against BWT; a method without a BWT is a level."""
    figure, axes = canvas(3.1)
    for row, results in runs.present().items():
        points = 100 * np.array([[metrics.bwt(r.R), metrics.acc(r.R)] for r in results])  # (n, 2)
        (x, y), (dx, dy), style = points.mean(axis=0), sd(points), runs.style(row)
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
        f"were learnt (negative: forgetting), means; {spread}; upper right is best."
    )
    return runs.plot("acc-bwt", figure, caption)


COSTS: dict[str, Callable[[Result], float]] = {
    "time of a run (s)": lambda r: float(r.environment["seconds"]),
    "peak memory (MB)": lambda r: r.environment["process_peak_bytes"] / 1e6,
    "trained parameters\nper task (thousands)": lambda r: float(np.mean([t["trainable"] for t in r.tasks])) / 1e3,
    "state at the end (MB)": lambda r: r.tasks[-1]["state_bytes"] / 1e6,
    "old samples read (thousands)": lambda r: sum(t["old_samples_read"] for t in r.tasks) / 1e3,
}


@rc_context(STYLE)
def costs(runs: Runs) -> Plot:
    """What each method spends, a panel a kind."""
    rows = list(runs.present())
    figure = Figure(figsize=(WIDTH, 1.8 + 0.55 * len(rows)), layout="constrained")
    panels = figure.subplots(3, 2, sharey=True).ravel()
    panels[-1].set_axis_off()
    for panel, (label, cost) in zip(panels, COSTS.items(), strict=False):
        _bars(panel, runs, rows, cost)
        panel.set(
            xlabel=label, yticks=range(len(rows)), yticklabels=map(runs.label, rows), ylim=(len(rows) - 0.4, -0.6)
        )
    for panel in panels[0::2]:
        panel.set_ylabel("method")
    spread = "bars are ± one sample sd over seeds" if len(runs.seeds) > 1 else "one seed, no spread"
    caption = (
        f"Costs, means; {spread}. Time of a run: all tasks, evaluation included, on the machine of the run. Peak "
        "memory: of the process, in which earlier runs may have left their mark (on a GPU: of the device). Trained "
        "parameters: mean over tasks. State: what a method carries from task to task beside the network. Old samples "
        "read: training samples of earlier tasks, over the whole run. No bar: not measured."
    )
    return runs.plot("costs", figure, caption)


def _bars(panel: Axes, runs: Runs, rows: Sequence[str], cost: Callable[[Result], float]) -> None:
    for k, row in enumerate(rows):
        values = np.array([_measured(cost, result) for result in runs.results[row]])
        mean, spread = values.mean(), sd(values)
        if np.isfinite(mean):
            panel.barh(k, mean, 0.7, color=runs.style(row)["color"])
            panel.errorbar(mean, k, xerr=spread or None, color=INK, capsize=1.5, linewidth=0.8)
            label = f"{mean:.3g}" if mean < 1000 else f"{mean:.0f}"
            panel.annotate(label, (mean + spread, k), (4, 0), textcoords="offset points", va="center", fontsize=7)
    panel.margins(x=0.28)
    panel.set_xlim(left=0)
    panel.locator_params(axis="x", nbins=4)


def _measured(cost: Callable[[Result], float], result: Result) -> float:
    try:
        return cost(result)
    except (KeyError, IndexError):  # the result came from elsewhere, without its costs
        return np.nan


def reported(runs: Runs, row: str, key: str) -> dict[str, np.ndarray]:
    """What a method reported under `key` of each layer: layer -> (n, T), NaN where it said nothing."""
    found: dict[str, np.ndarray] = {}
    shape = len(runs.results[row]), max(len(result.tasks) for result in runs.results[row])
    for k, result in enumerate(runs.results[row]):
        for t, record in enumerate(result.tasks):
            numbers = record.get("report", {}).get(key)
            for layer, value in numbers.items() if isinstance(numbers, dict) else ():
                if isinstance(value, int | float):
                    found.setdefault(layer, np.full(shape, np.nan))[k, t] = value
    return found


def ranks(runs: Runs) -> list[Plot]:
    """For each method that reports a 'rank' of its layers: layers against tasks."""
    return [_ranks(runs, row, found) for row in runs.present() if (found := reported(runs, row, "rank"))]


@rc_context(STYLE)
def _ranks(runs: Runs, row: str, found: dict[str, np.ndarray]) -> Plot:
    numbers = np.array([values.mean(axis=0) for values in found.values()])  # (layers, T)
    most = np.nanmax(np.where(np.isfinite(numbers), numbers, 0), axis=1, keepdims=True)
    figure, axes = canvas(1.3 + 0.3 * len(found), WIDTH * stretch(len(numbers.T)))
    image = heat_map(axes, numbers / np.maximum(most, 1), numbers, SHARE, (0, 1), 0)
    axes.set(title=runs.label(row), xlabel="task", ylabel="layer", yticklabels=list(found))
    figure.colorbar(image, ax=axes, label="share of the\nlayer's largest")
    caption = (
        f"Ranks that {row} reports of its layers, in directions, mean over seeds; whether they are free or protected, "
        "the method's file says. Colour: that number over the layer's largest. Blank: nothing was reported."
    )
    return runs.plot(f"rank-{row}", figure, caption, [row])


def bounds(runs: Runs) -> list[Plot]:
    """For each method that reports the 'interference' of its layers and a 'bound' on it: one against the other."""
    plots = []
    for row in runs.present():
        measured, bound = reported(runs, row, "interference"), reported(runs, row, "bound")
        pairs = {n: np.array([bound[n], measured[n]]).reshape(2, -1) for n in measured if n in bound}
        if pairs:
            plots.append(_bounds(runs, row, pairs))
    return plots


@rc_context(STYLE)
def _bounds(runs: Runs, row: str, pairs: dict[str, np.ndarray]) -> Plot:
    """`pairs`: layer -> (2, points), the bound and the measured."""
    figure, axes = canvas(3.6)
    shades = np.linspace(0, 0.85, len(pairs))
    for k, (layer, (bound, measured)) in enumerate(pairs.items()):
        colour = DEPTH(shades[k])
        axes.plot(bound, measured, MARKERS[k % len(MARKERS)], color=colour, label=layer, markersize=4.5, alpha=0.8)
    points = np.concatenate(list(pairs.values()), axis=1)
    bound, measured = points[:, np.isfinite(points).all(axis=0)]
    positive = (bound > 0) & (measured > 0)
    if positive.any():
        ends = [f(points[np.isfinite(points) & (points > 0)]) for f in (np.min, np.max)]
        axes.plot(ends, ends, color=INK, linestyle="--", linewidth=1, label="measured = bound")
    axes.set(xscale="log", yscale="log", title=runs.label(row))
    axes.set(xlabel="bound (norm of outputs)", ylabel="measured interference (norm of outputs)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    legend(figure)
    caption = (
        f"Interference of {row}: by how much learning a task moved a layer's outputs on the inputs of all earlier "
        "tasks (Frobenius norm over those inputs), against the bound that the method gives for it. One point per "
        f"layer, task and seed: {int((measured <= bound).sum())} of {len(bound)} within the bound"
        + (f", the largest ratio {(measured[positive] / bound[positive]).max():.3g}" if positive.any() else "")
        + (f"; {int((~positive).sum())} at zero are not drawn" if not positive.all() else "")
        + "."
    )
    return runs.plot(f"bound-{row}", figure, caption, [row])


def all_of(runs: Runs) -> list[Plot]:
    """Every figure that the runs allow."""
    if not runs.present():
        return []
    overview = [average(runs), first_task(runs), trade_off(runs)]
    return [*overview, *matrices(runs), *ranks(runs), *bounds(runs), costs(runs)]
