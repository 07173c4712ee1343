"""What stands below a table: what its numbers mean, under which conditions they were got, and what is amiss."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from bench import same_data
from bench.analysis.columns import METRICS
from bench.analysis.labels import CHANGED, MARKS, column_label, epochs_of
from bench.core import ONLY_SCENARIOS, PRECISIONS, PROTOCOLS, SCENARIOS, Cell, Result
from bench.text import counted, spans

Pair = tuple[Cell, Result | None]


def caption(pairs: Sequence[Pair], seeds: Mapping[str, Sequence[int]], chosen: Sequence[str]) -> str:
    """Return what the columns `chosen` show, over which seeds, and the stream, scenario, budget, protocol and precision
    of the runs; `seeds` are those wanted of each benchmark, with its budget."""
    cells = [cell for cell, _ in pairs]
    metrics = [METRICS[name] for name in chosen]
    meanings = "; ".join(f"{metric.label}: {metric.meaning}" for metric in metrics)
    sentences = [f"{meanings}. {_counts(seeds)}; best in bold."]
    sentences += _budgets(cells)
    sentences += _streams(pairs)
    sentences += _scenarios(cells)
    sentences += _protocols(cells)
    sentences += _precisions(cells)
    return " ".join(sentences)


def _counts(seeds: Mapping[str, Sequence[int]]) -> str:
    """Return the kind of spread and the seeds: of each benchmark, where they are not the same for all."""
    where: dict[tuple[int, ...], list[str]] = {}
    for column, own in seeds.items():
        where.setdefault(tuple(own), []).append(column)
    repeated = any(len(own) > 1 for own in where)
    spread = "Mean ± sample sd" if repeated else "One run, no spread"
    parts = []
    for own, columns in where.items():
        part = f"n = {len(own)} ({_seeds(len(own), spans(own, '–'))})"
        if len(where) > 1:
            part += f" on {', '.join(columns)}"
        parts.append(part)
    return f"{spread}, {'; '.join(parts)}"


def _seeds(n: int, words: Sequence[str]) -> str:
    """Return n seeds that are told in some words, such as "seeds 0, 3-8"."""
    noun = "seeds" if n > 1 else "seed"
    return f"{noun} {', '.join(words)}"


def _budgets(cells: Sequence[Cell]) -> list[str]:
    """Return a sentence on the budgets that are not the recipe's, if there are any."""
    found = set()
    for cell in cells:
        if "epochs" in cell.overrides:
            usual, own = cell.overrides["epochs"]
            epochs = counted(own, "epoch")
            found.add(f"{cell.benchmark} with {epochs} instead of {usual}")
    if not found:
        return []
    budgets = "; ".join(sorted(found))
    return [f"Not the recipe's budget: {budgets}."]


def _streams(pairs: Sequence[Pair]) -> list[str]:
    """Return a sentence for each benchmark and scenario: its tasks, and its epochs; those of imported cells are not
    known."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for cell, result in pairs:
        stream = (cell.benchmark, cell.scenario)
        groups.setdefault(stream, []).append((cell, result))
    sentences = []
    for (benchmark, _), own in groups.items():
        facts = ", ".join(stream_facts(own))
        sentences.append(f"{benchmark}: {facts}.")
    return sentences


def stream_facts(pairs: Sequence[Pair]) -> list[str]:
    """Return in words the tasks, the scenario and the epochs of cells of one benchmark, as far as they are known."""
    cells = [cell for cell, _ in pairs]
    measured = [(cell, result.matrix) for cell, result in pairs if result is not None and result.matrix]
    sizes = sorted({len(matrix) for _, matrix in measured})
    facts: list[str] = []
    if sizes:
        number = " or ".join(map(str, sizes))
        facts.append(f"{number} task" if sizes == [1] else f"{number} tasks")
    finished = [cell for cell, _ in measured]
    facts += dict.fromkeys(cell.scenario for cell in finished or cells)
    epochs = epochs_of(cells)
    if epochs:
        facts.append(f"at most {epochs} a task")
    return facts


def _scenarios(cells: Sequence[Cell]) -> list[str]:
    """Return what each scenario is, where benchmarks may be run in several, and how its tests are counted."""
    used = dict.fromkeys(cell.scenario for cell in cells if cell.scenario not in ONLY_SCENARIOS)
    counts = {"class-il": "; ACC and AIA count every test image alike"}
    sentences = []
    for name in used:
        how = counts.get(name, "")
        sentences.append(f"Scenario {name}: {SCENARIOS[name]}{how}.")
    return sentences


def _protocols(cells: Sequence[Cell]) -> list[str]:
    """Return what each protocol is, but for imported cells, which were not run under one of ours."""
    used = {cell.protocol for cell in cells if not cell.traits.get("imported")}
    meanings = {name: PROTOCOLS.get(name, "unknown") for name in sorted(used)}
    return [f"Protocol {name}: {meaning}." for name, meaning in meanings.items()]


def _precisions(cells: Sequence[Cell]) -> list[str]:
    """Return what each precision is, but for the usual one."""
    used = {cell.precision for cell in cells} - {"fp32"}
    meanings = {name: PRECISIONS.get(name, "unknown") for name in sorted(used)}
    return [f"Precision {name}: {meaning}." for name, meaning in meanings.items()]


def notes(
    pairs: Sequence[Pair],
    chosen: Sequence[str],
    joint: Collection[tuple[str, int]],
    unsupported: Mapping[tuple[str, str], str],
    changed: Mapping[str, Sequence[str]],
) -> list[str]:
    """Return a line, without its full stop, for each mark, and for what is amiss with some entries or rows.

    `joint` holds the column and seed of every joint result, `unsupported` says why a method does not apply to a
    benchmark, and `changed` what has changed since a cell was run, by its key.
    """
    used: set[str] = set()
    for cell, _ in pairs:
        used.update(trait for trait, holds in cell.traits.items() if holds)
    lines = [f"{mark} {meaning}" for trait, (mark, meaning) in MARKS.items() if trait in used]
    against_joint = any(METRICS[name].against_joint for name in chosen)
    if against_joint and _lacks_joint(pairs, joint):
        lines.append("I lacks a finished run of joint training on some benchmark and seed, under the same budget")
    lines += inapplicable_lines(unsupported)
    lines += _changes(pairs, changed)
    lines += _set_apart(pairs)
    lines += _other_data(pairs)
    return lines


def inapplicable_lines(unsupported: Mapping[tuple[str, str], str]) -> list[str]:
    """Return a line for each reason why methods do not apply, with those methods and where."""
    lines = []
    for why, streams in by_reason(unsupported).items():
        where: dict[tuple[str, ...], list[str]] = {}
        for stream, methods in streams.items():
            where.setdefault(tuple(methods), []).append(stream)
        parts = []
        for rows, names in where.items():
            verb = "does" if len(rows) == 1 else "do"
            parts.append(f"{', '.join(rows)} {verb} not apply to {', '.join(names)}")
        lines.append(f"{'; '.join(parts)}: {why}")
    return lines


def by_reason(unsupported: Mapping[tuple[str, str], str]) -> dict[str, dict[str, list[str]]]:
    """Return the methods that do not apply, by the reason and by the benchmark with its scenario."""
    found: dict[str, dict[str, list[str]]] = {}
    for (method, stream), why in unsupported.items():
        found.setdefault(why, {}).setdefault(stream, []).append(method)
    return found


def _lacks_joint(pairs: Sequence[Pair], joint: Collection[tuple[str, int]]) -> bool:
    """Return whether some finished result has no joint one to be measured against."""
    for cell, result in pairs:
        finished = result is not None and result.error is None
        if finished and (column_label(cell), cell.seed) not in joint:
            return True
    return False


def _changes(pairs: Sequence[Pair], changed: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a line on what has changed since some run, if anything has."""
    found: set[str] = set()
    for cell, result in pairs:
        if result is not None:
            found.update(changed.get(cell.key, ()))
    if not found:
        return []
    parts = ", ".join(sorted(found))
    return [f"{CHANGED} changed since it was run: {parts}"]


def _set_apart(pairs: Sequence[Pair]) -> list[str]:
    """Return lines on the rows that may not be averaged with the row of their name, if there are any."""
    reasons = {"under other settings or an older version": False, "on other data": True}
    lines = []
    for reason, of_data in reasons.items():
        traits = [cell.traits for cell, _ in pairs if cell.traits.get("other_data", False) == of_data]
        others = sorted({own["other"] for own in traits if "other" in own})
        if others:
            rows = ", ".join(f"[{name}]" for name in others)
            lines.append(f"{rows}: run {reason} than the row of that name")
    return lines


def _other_data(pairs: Sequence[Pair]) -> list[str]:
    """Return a line on the benchmarks and seeds that were not run on the same data throughout, if there are any."""
    results = [result for _, result in pairs if result is not None]
    seeds: dict[str, list[str]] = {}
    for benchmark, seed in same_data.differing(results):
        seeds.setdefault(benchmark, []).append(str(seed))
    if not seeds:
        return []
    places = [f"{benchmark}, {_seeds(len(own), own)}" for benchmark, own in seeds.items()]
    return [f"not all rows rest on the same data: {'; '.join(places)}"]
