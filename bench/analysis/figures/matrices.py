"""Heat maps over tasks: the accuracy matrix of each method, and which tasks are taken for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from bench.analysis.columns import percent
from bench.analysis.figures.figure import STYLE, WIDTH, Plot, Runs, canvas, heat_map, stretch
from bench.analysis.figures.reported import SHARE
from bench.core import Result

CHANGE = LinearSegmentedColormap.from_list("change", ["#b35806", "#f1a340", "#f7f7f7", "#67a9cf", "#2166ac"])


def mean_matrix(results: Sequence[Result]) -> np.ndarray:
    """Return the accuracy matrix (T, T) in percent, mean over runs; NaN above the diagonal and where not measured."""
    mean = percent(np.mean([result.R for result in results], axis=0))
    return np.where(np.tril(np.ones_like(mean)) > 0, mean, np.nan)


def matrices(runs: Runs) -> list[Plot]:
    """Draw the accuracy matrix of every method, coloured on one scale."""
    means = {row: mean_matrix(results) for row, results in runs.present().items()}
    changes = [np.ravel(R - np.diag(R)) for R in means.values()]  # NaN above the diagonal
    limit = float(np.nanmax(np.abs(np.concatenate([[1.0], *changes]))))
    return [_matrix(runs, row, R, limit) for row, R in means.items()]


@rc_context(STYLE)
def _matrix(runs: Runs, row: str, R: np.ndarray, limit: float) -> Plot:
    """Draw a matrix in the manner of the papers' heat maps, which are green and red around a blue diagonal."""
    scale = stretch(len(R))
    figure, axes = canvas(3.9 * scale, WIDTH * scale)
    image = heat_map(axes, R - np.diag(R), R, CHANGE, (-limit, limit), 1 if len(R) <= 10 else 0)
    for t in np.flatnonzero(np.isfinite(np.diag(R))).tolist():
        axes.add_patch(Rectangle((t, t), 1, 1, facecolor="#c9c9c9", edgecolor="black", linewidth=1.4))
    axes.set(title=runs.label(row), xlabel="accuracy (%) on task", ylabel="after learning task", aspect="equal")
    figure.colorbar(image, ax=axes, label="change since learned (points)", shrink=0.85).outline.set_visible(False)
    spread = "mean over seeds" if len(runs.results[row]) > 1 else "one seed"
    caption = (
        f"Accuracy matrix of {row}, {spread}: accuracy in percent on a task (column) after learning a task (row). "
        "Framed: just learned. Blue: a task is better than when it was learned; orange: worse, that is, forgotten "
        "(colors that the color-blind can tell apart, on one scale for all methods)."
    )
    return runs.plot(f"matrix-{row}", figure, caption, [row])


def mean_confusion(results: Sequence[Result]) -> np.ndarray | None:
    """Return the shares of the images of each task that are taken for classes of each, (T, T) in percent, mean over
    runs; None where a run has not counted them."""
    counted = [result.confusion for result in results]
    found = [shares for shares in counted if shares is not None]
    return percent(np.mean(found, axis=0)) if len(found) == len(counted) else None


def confusions(runs: Runs) -> list[Plot]:
    """Draw, for each method in class-il, which tasks its images are taken for."""
    means = {row: mean_confusion(results) for row, results in runs.present().items()}
    return [_confusion(runs, row, shares) for row, shares in means.items() if shares is not None]


@rc_context(STYLE)
def _confusion(runs: Runs, row: str, shares: np.ndarray) -> Plot:
    """Draw the shares (T, T), in percent, as a heat map with a frame around what is right."""
    scale = stretch(len(shares))
    figure, axes = canvas(3.9 * scale, WIDTH * scale)
    image = heat_map(axes, shares, shares, SHARE, (0, 100), 1 if len(shares) <= 10 else 0)
    for t in range(len(shares)):
        axes.add_patch(Rectangle((t, t), 1, 1, fill=False, edgecolor="black", linewidth=1.4))
    axes.set(title=runs.label(row), xlabel="taken for a class of task", ylabel="images of task", aspect="equal")
    figure.colorbar(image, ax=axes, label="share of the images (%)", shrink=0.85).outline.set_visible(False)
    spread = "mean over seeds" if len(runs.results[row]) > 1 else "one seed"
    caption = (
        f"Confusion between tasks of {row}, {spread}: of the test images of a task (row), the percentage that is taken "
        "for a class of a task (column) after the last task, the task unknown. Framed: the right task, though it may "
        "be another of its classes."
    )
    return runs.plot(f"confusion-{row}", figure, caption, [row])
