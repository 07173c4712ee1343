"""Figures of what methods report of their layers: ranks, and interference against a bound on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import LogLocator

from bench.analysis.figures.figure import INK, MARKERS, STYLE, WIDTH, Plot, Runs, canvas, heat_map, legend, stretch

DEPTH = LinearSegmentedColormap.from_list("depth", ["#7a4fb5", "#3b7dbd", "#21a08c", "#7fc04a", "#d8b219"])
SHARE = LinearSegmentedColormap.from_list("share", ["#f7fbff", "#6baed6", "#08519c"])


def reported(runs: Runs, row: str, key: str) -> dict[str, np.ndarray]:
    """Return what a method reported under `key` of each layer: layer -> (n, T), NaN where it said nothing."""
    results = runs.results[row]
    shape = len(results), max(len(result.tasks) for result in results)
    found: dict[str, np.ndarray] = {}
    for k, result in enumerate(results):
        for t, record in enumerate(result.tasks):
            for layer, value in _numbers(record, key).items():
                series = found.setdefault(layer, np.full(shape, np.nan))
                series[k, t] = value
    return found


def _numbers(record: Mapping[str, Any], key: str) -> dict[str, float]:
    """Return the numbers by layer that a record reports under `key`; none where it reports something else."""
    told = record.get("report", {}).get(key)
    if not isinstance(told, dict):
        return {}
    return {layer: value for layer, value in told.items() if isinstance(value, int | float)}


def ranks(runs: Runs) -> list[Plot]:
    """Draw, for each method that reports a 'rank' of its layers, layers against tasks."""
    found = {row: reported(runs, row, "rank") for row in runs.present()}
    return [_ranks(runs, row, by_layer) for row, by_layer in found.items() if by_layer]


@rc_context(STYLE)
def _ranks(runs: Runs, row: str, found: dict[str, np.ndarray]) -> Plot:
    """Draw ranks as a heat map; `found`: layer -> (n, T)."""
    numbers = np.array([values.mean(axis=0) for values in found.values()])  # (layers, T)
    most = np.nanmax(np.where(np.isfinite(numbers), numbers, 0), axis=1, keepdims=True)
    figure, axes = canvas(1.3 + 0.3 * len(found), WIDTH * stretch(len(numbers.T)))
    image = heat_map(axes, numbers / np.maximum(most, 1), numbers, SHARE, (0, 1), 0)
    axes.set(title=runs.label(row), xlabel="task", ylabel="layer", yticklabels=list(found))
    figure.colorbar(image, ax=axes, label="share of the\nlayer's largest")
    caption = (
        f"Ranks that {row} reports of its layers, in directions, mean over seeds; whether they are free or protected, "
        "the method's file says. Color: that number over the layer's largest. Blank: nothing was reported."
    )
    return runs.plot(f"rank-{row}", figure, caption, [row])


def bounds(runs: Runs) -> list[Plot]:
    """Draw, for each method that reports 'interference' of its layers and a 'bound' on it, one against the other."""
    plots = []
    for row in runs.present():
        measured, bound = reported(runs, row, "interference"), reported(runs, row, "bound")
        both = [layer for layer in measured if layer in bound]
        pairs = {layer: np.array([bound[layer], measured[layer]]).reshape(2, -1) for layer in both}
        if pairs:
            plots.append(_bounds(runs, row, pairs))
    return plots


@rc_context(STYLE)
def _bounds(runs: Runs, row: str, pairs: dict[str, np.ndarray]) -> Plot:
    """Draw the bound against the measured; `pairs`: layer -> both, (2, points), NaN where not reported."""
    figure, axes = canvas(3.6)
    shades = np.linspace(0, 0.85, len(pairs))
    for k, (layer, (bound, measured)) in enumerate(pairs.items()):
        colour = DEPTH(shades[k])
        axes.plot(bound, measured, MARKERS[k % len(MARKERS)], color=colour, label=layer, markersize=4.5, alpha=0.8)
    points = np.concatenate(list(pairs.values()), axis=1)
    bound, measured = points[:, np.isfinite(points).all(axis=0)]
    positive = (bound > 0) & (measured > 0)
    if positive.any():
        drawn = points[np.isfinite(points) & (points > 0)]
        ends = [drawn.min(), drawn.max()]
        axes.plot(ends, ends, color=INK, linestyle="--", linewidth=1, label="measured = bound")
    axes.set(xscale="log", yscale="log", title=runs.label(row))
    axes.set(xlabel="bound (norm of outputs)", ylabel="measured interference (norm of outputs)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    legend(figure)
    counts = f"{int((measured <= bound).sum())} of {len(bound)} within the bound"
    if positive.any():
        counts += f", the largest ratio {(measured[positive] / bound[positive]).max():.3g}"
    if not positive.all():
        counts += f"; {int((~positive).sum())} at zero are not drawn"
    caption = (
        f"Interference of {row}: by how much learning a task moved a layer's outputs on the inputs of all earlier "
        "tasks (Frobenius norm over those inputs), against the bound that the method gives for it. One point per "
        f"layer, task and seed: {counts}."
    )
    return runs.plot(f"bound-{row}", figure, caption, [row])
