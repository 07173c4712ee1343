"""What all figures share: their input, their look, their caption, and how they are saved.

Matplotlib's objects only; nothing global is left changed. Colours are Okabe and Ito's, told apart by the colour-blind;
every series has a marker of its own, every heat map its numbers, so that nothing is lost in grey print either.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.core import Result
from bench.text import spans

INK = "#1b1f24"
STYLE: Any = {  # Any: matplotlib's stubs want a dict of literal keys
    "font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "text.parse_math": False,  # a name with a dollar sign is a name
    "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none", "figure.facecolor": "white",
    "legend.frameon": False, "svg.fonttype": "none", "svg.hashsalt": "figure", "pdf.fonttype": 42,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}  # fmt: skip
WIDTH = 4.8  # inches: a text column, and a phone held upright
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")
MARKERS = "osD^vPX*"
DASHES = ("-", "--", ":", "-.")  # of curves: another for each round of the colours


class Plot(NamedTuple):
    """A figure with the words it needs: a file name without suffix, and a caption."""

    name: str
    caption: str
    figure: Figure
    what: str = ""  # it shows, the same on every benchmark

    @rc_context(STYLE)
    def _repr_html_(self) -> str:
        """The figure above its caption, for a notebook."""
        drawn = io.BytesIO()
        self.figure.savefig(drawn, format="png", dpi=100)
        image = f"data:image/png;base64,{base64.b64encode(drawn.getvalue()).decode()}"
        below = f"<figcaption>{escape(self.caption)}</figcaption>"
        return f'<figure><img alt="{escape(self.what)}" src="{image}">{below}</figure>'


@dataclass(frozen=True)
class Runs:
    """The runs behind one column of the table, a benchmark under a budget: all that a figure is drawn from."""

    name: str  # of the column
    protocol: str  # scenario, tasks, budget
    seeds: list[int]  # those asked for
    results: dict[str, list[Result]]  # by row of the table, without failures; every row, be it empty

    def present(self) -> dict[str, list[Result]]:
        """Return the rows with a result."""
        return {row: results for row, results in self.results.items() if results}

    @property
    def counted_seeds(self) -> str:
        """Return the seeds asked for, and their number, in words."""
        n = len(self.seeds)
        return f"n = {n} (seed{'s' if n > 1 else ''} {', '.join(spans(self.seeds, '–'))})"

    def label(self, row: str) -> str:
        """Return the row, and its n where seeds are missing."""
        n = len(self.results[row])
        return row + (f" (n={n})" if n < len(self.seeds) else "")

    def style(self, row: str) -> dict[str, Any]:
        """Return colour and marker of a row: the same in every figure."""
        k = list(self.results).index(row)
        return {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)], "markersize": 4.5}

    def dash(self, row: str) -> str:
        """Return the line of a curve: rows of one colour have different ones."""
        k = list(self.results).index(row)
        return DASHES[k // len(COLOURS) % len(DASHES)]

    def plot(self, what: str, figure: Figure, caption: str, rows: Sequence[str] = ()) -> Plot:
        """Return the figure with its name, and a caption that ends with protocol, n and seeds."""
        rows = rows or list(self.results)
        n = len(self.seeds)
        counts = [f"{row} n = {len(self.results[row])}" for row in rows if 0 < len(self.results[row]) < n]
        without = [row for row in rows if not self.results[row]]
        counts += [f"without a result: {', '.join(without)}"] if without else []
        ending = "; ".join([self.counted_seeds, *counts])
        told = f"{caption} {self.name}: {self.protocol}; {ending}."
        return Plot(slug(f"{self.name}-{what}"), told, figure, what)


def slug(text: str) -> str:
    """Return a text as a file name, without suffix."""
    return re.sub(r"[^\w.=]+", "-", text).strip("-.")[:80]


def canvas(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """Return an empty figure, in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def stretch(tasks: int) -> float:
    """Return how much larger a heat map is drawn, so that the numbers of many tasks can be read."""
    return min(max(1.0, tasks / 12), 3.5)


def legend(figure: Figure) -> None:
    """Draw the legend below the axes, for which the figure grows."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    longest = max(map(len, labels), default=0)
    columns = max(1, min(4, 66 // (longest + 7)))
    figure.set_figheight(figure.get_figheight() + 0.17 * math.ceil(len(labels) / columns))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=1.8, columnspacing=1.2)


def sd(values: np.ndarray) -> np.ndarray:
    """Sample standard deviation over the first axis; 0 for a single run."""
    return values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])


def heat_map(
    axes: Axes, shade: np.ndarray, numbers: np.ndarray, colours: Any, limits: tuple[float, float], decimals: int
) -> Any:
    """Cells coloured by `shade` with `numbers` in them, both (rows, columns), NaN left blank; columns are tasks."""
    image = axes.pcolormesh(np.ma.masked_invalid(shade), cmap=colours, vmin=limits[0], vmax=limits[1])
    size = 9 if len(numbers.T) <= 6 else 7
    for (i, j), value in np.ndenumerate(numbers):
        if np.isfinite(value) and len(numbers.T) <= 40:
            red, green, blue, _ = image.cmap(image.norm(shade[i, j]))
            on_colour = "white" if 0.3 * red + 0.6 * green + 0.1 * blue < 0.5 else "black"
            colour = on_colour if np.isfinite(shade[i, j]) else INK
            axes.text(j + 0.5, i + 0.5, f"{value:.{decimals}f}", color=colour, size=size, ha="center", va="center")
    for axis, count in ((axes.xaxis, len(numbers.T)), (axes.yaxis, len(numbers))):
        axis.set_ticks(np.arange(count) + 0.5, [str(k + 1) for k in range(count)])
        axis.set_tick_params(length=0)
    axes.set(xlim=(0, len(numbers.T)), ylim=(len(numbers), 0))
    axes.spines[:].set_visible(False)
    return image


@rc_context(STYLE)
def save_figure(plot: Plot, folder: Path, formats: Sequence[str]) -> None:
    """Write the figure in each of the formats, "pdf", "png" and "svg", with the caption as its description."""
    about: dict[str, Any] = {
        "pdf": {"Subject": plot.caption, "CreationDate": None},
        "png": {"Description": plot.caption},
        "svg": {"Description": plot.caption, "Date": None},
    }
    for suffix in formats:
        plot.figure.savefig(folder / f"{plot.name}.{suffix}", dpi=200, metadata=about[suffix])
        plot.figure.set_layout_engine("none")  # the first format has laid it out, which takes as long as drawing it
