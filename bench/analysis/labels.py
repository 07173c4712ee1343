"""What rows and columns of a table are called: the words in which a cell's settings are shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.core import ONLY_SCENARIOS, Cell
from bench.text import counted, printable

MARKS = {
    "reads_old_data": ("†", "reads earlier tasks' training data, which counts as state"),
    "replays": ("*", "replays stored samples of earlier tasks, which count as state"),
    "joint": ("‡", "trains on all tasks at once: an upper bound, never marked best"),
    "imported": ("§", "accuracy matrix imported, not run here"),
}  # trait -> what stands behind the name of a row, and what it means
CHANGED = "°"  # behind an entry


def row_label(cell: Cell) -> str:
    """Return the method, what the user changed of it, and the marks of its traits."""
    own = [name for name in cell.overrides if name != "epochs" and "." not in name]
    label = cell.method
    if own:
        changes = [f"{name}={cell.overrides[name][1]}" for name in own]
        label += f" ({', '.join(changes)})"
    if "other" in cell.traits:
        label += f" [{cell.traits['other']}]"
    marks = [mark for trait, (mark, _) in MARKS.items() if cell.traits.get(trait)]
    return " ".join([printable(label), *marks])


def without_marks(row: str) -> str:
    """Return the label of a row without its marks."""
    marks = "".join(mark for mark, _ in MARKS.values())
    return row.rstrip(" " + marks)


def stream_label(benchmark: str, scenario: str) -> str:
    """Return the benchmark; and the scenario, where a benchmark may be run in another too."""
    return benchmark if scenario in ONLY_SCENARIOS else f"{benchmark} ({scenario})"


def column_label(cell: Cell) -> str:
    """Return the benchmark; and scenario, budget, options, protocol and precision where they are not the usual ones."""
    facts = [] if cell.scenario in ONLY_SCENARIOS else [cell.scenario]
    if "epochs" in cell.overrides:
        epochs = cell.training.get("epochs")
        facts.append(counted(epochs, "epoch") if isinstance(epochs, int) else f"{epochs} epochs")
    options = [name for name in cell.overrides if "." in name]
    facts += [f"{name.partition('.')[2]}={cell.overrides[name][1]}" for name in options]
    if cell.protocol != "published":
        facts.append(cell.protocol)
    if cell.precision != "fp32":
        facts.append(cell.precision)
    return printable(with_facts(cell.benchmark, facts))


def is_usual(cell: Cell) -> bool:
    """Return whether a cell has the recipe's budget, in fp32, on the benchmark as it is."""
    changed = [name for name in cell.overrides if name == "epochs" or "." in name]
    return not changed and cell.precision == "fp32"


def with_facts(label: str, facts: Sequence[str]) -> str:
    """Return a label with facts in brackets, behind those that it has; without brackets where there are none."""
    if not facts:
        return label
    start = f"{label.removesuffix(')')}, " if label.endswith(")") else f"{label} ("
    return f"{start}{', '.join(facts)})"


def labels_of(cell: Cell) -> tuple[str, str]:
    """Return the row and the column of a table that a cell is averaged in."""
    return row_label(cell), column_label(cell)


def epochs_of(cells: Iterable[Cell]) -> str:
    """Return the least and the most epochs of a task, as in "5 epochs" or "1 to 5 epochs"; '' where no cell knows."""
    budgets = [cell.training.get("epochs") for cell in cells]
    epochs = {budget for budget in budgets if isinstance(budget, int)}
    if not epochs:
        return ""
    least, most = min(epochs), max(epochs)
    return counted(most, "epoch") if least == most else f"{least} to {most} epochs"
