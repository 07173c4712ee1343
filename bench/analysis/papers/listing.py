"""A comparison with a paper as text: a small table for each of its benchmarks, or all of it as records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.analysis.columns import METRICS
from bench.analysis.compare import Listing
from bench.analysis.papers.paper import RULE, Line
from bench.analysis.papers.published import PRINTED, known_names, paper_of
from bench.analysis.render import show
from bench.core import PROTOCOLS

CHECK = (
    "A paper contradicts itself where a printed mean or sd is further from what its own seeds give than rounding "
    "explains, half a unit of the last printed digit."
)
COPIED = "¶"  # behind a method whose row the authors took from elsewhere


def listings(lines: Sequence[Line], protocol: str, form: str) -> list[Listing]:
    """Return a table for each benchmark, in the paper's order; as `csv`, one table of records.

    In LaTeX, where each may stand alone, every caption says all; else the last one says what holds for all.
    """
    if form == "csv":
        return [records(lines, protocol)]
    sections: dict[str, list[Line]] = {}
    for line in lines:
        sections.setdefault(line.row.benchmark, []).append(line)
    rule = rule_for(lines, protocol)
    rules = [rule] * len(sections) if form == "latex" else [""] * (len(sections) - 1) + [rule]
    return [_listing(section, shared) for section, shared in zip(sections.values(), rules, strict=True)]


def _listing(lines: Sequence[Line], shared: str) -> Listing:
    """Return the table of one benchmark; its caption ends with what is `shared` by all."""
    _, special = common_setting([line.row.setting for line in lines])
    varied = any(special.values())

    def texts(line: Line) -> list[str]:
        setting = [special[line.row.setting]] if varied else []
        label = f"{line.row.method} {COPIED}" if line.row.copied else line.row.method
        return [METRICS[line.metric].label, label, *setting, str(line.number), *ours_beside(line), line.verdict]

    left = ["metric", "method", *(["setting"] if varied else [])]
    header = [*left, "paper", "ours", "n", "difference", "verdict"]
    by_metric = sorted(lines, key=lambda line: PRINTED.index(line.metric))
    rows = [texts(line) for line in by_metric]
    caption = "\n".join(filter(None, [*about_lines(lines), shared]))
    return Listing(header, rows, caption, left=len(left))


def about_lines(lines: Sequence[Line], named: bool = True) -> list[str]:
    """Return what a reader of the lines of one benchmark must know, a sentence or two each; `named` after the paper."""
    common, _ = common_setting([line.row.setting for line in lines])
    return [_about(lines, common, named), *_notes(lines)]


def ours_beside(line: Line) -> list[str]:
    """Return our number, its n, and the difference where both had the same budget."""
    if not line.ours.n:
        return ["--", "--", "--"]
    difference = f"{round(line.difference, 2) + 0.0:+.2f}" if line.budget else "--"
    return [show(line.ours, METRICS[line.metric], "±"), str(line.ours.n), difference]


def common_setting(settings: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Return what all settings of a table have in common, and by setting what it has beside that."""
    parts = {setting: setting.split("; ") for setting in settings}
    first, *others = parts.values()
    shared = set(first).intersection(*others)
    special = {}
    for setting, own in parts.items():
        special[setting] = "; ".join(part for part in own if part not in shared)
    return "; ".join(part for part in first if part in shared), special


def _about(lines: Sequence[Line], setting: str, named: bool) -> str:
    """Return whose table it is, how the paper ran it, and which of our runs stand beside it."""
    rows = [line.row for line in lines]
    facts = [_listed(row.source for row in rows), _listed(row.table for row in rows)] if named else []
    facts.append(f"{_listed(row.benchmark for row in rows)} ({_listed(row.backbone for row in rows)})")
    about = f"{'; '.join(filter(None, [', '.join(facts), setting, _our_runs(lines)]))}."
    known = {str(line.row.n or "unknown") for line in lines if not line.row.copied}
    return f"{about} n of the paper: {_listed(sorted(known))}." if known else about


def _our_runs(lines: Sequence[Line]) -> str:
    """Return the benchmark and the seeds of our runs beside these lines, or what is missing."""
    here = _listed(line.row.stream.label for line in lines if line.benchmark)
    if not here:
        return "no such one here"
    seeds: set[int] = set()
    for line in lines:
        seeds.update(line.seeds)
    return f"ours: {here}, seeds {_listed(sorted(seeds))}" if seeds else f"ours: {here}, no run"


def _notes(lines: Sequence[Line]) -> list[str]:
    """Return where the paper contradicts itself; whose spreads these are; what was copied; what it is known from; what
    is not here."""
    clashes = [_clash(line) for line in lines if line.number.contradicted]
    notes = [f"The paper contradicts itself: {'; '.join(clashes)}."] if clashes else []
    caveats = {line.row.caveat for line in lines} - {""}
    notes += [f"{caveat}." for caveat in sorted(caveats)]
    quoting = dict.fromkeys(line.number.quoted for line in lines if line.number.quoted)
    notes += [f"Spreads as {paper_of(key).source} prints them beside the same means." for key in quoting]
    copied = {_copied(line) for line in lines if line.row.copied}
    by_confidence: dict[str, list[str]] = {}
    for line in lines:
        by_confidence.setdefault(line.row.confidence, []).append(line.row.method)
    doubtful = [f"Confidence {word}: {_listed(of)}." for word, of in by_confidence.items() if word != "verified"]
    missing = _listed(line.row.method for line in lines if not line.method)
    absent = [f"No method or recipe of one here: {missing}."] if missing else []
    return [*notes, *sorted(copied), *doubtful, *absent]


def _copied(line: Line) -> str:
    """Return where a row was taken from, and whether it is known of how many runs it is."""
    unknown = ", its n unknown" if line.row.n is None else ""
    return f"{COPIED} {line.row.remark}{unknown}."


def _clash(line: Line) -> str:
    """Return what a paper prints of a method, beside what its own seeds give."""
    mean, sd = line.number.own
    label = METRICS[line.metric].label
    return f"{line.row.method}, {label}: printed {line.number}, its own seeds give {mean:.2f} ± {sd:.2f}"


def rule_for(lines: Sequence[Line], protocol: str) -> str:
    """Return what holds for every table: how numbers are compared and checked, and where they come from."""
    words = dict.fromkeys(line.row.confidence for line in lines)
    sources = "; ".join(f"{word}: {known_names()['confidence'].get(word, 'not said')}" for word in words)
    checked = f" {CHECK}" if any(line.number.values for line in lines) else ""
    return (
        "Mean ± sample sd, in percent; ours in fp32 under the recipe's settings, "
        f"protocol {protocol} ({PROTOCOLS[protocol]}); "
        "difference: ours minus the paper, under the same budget. "
        f"Verdict: {RULE}.{checked}\nConfidence in the paper's numbers: {sources}."
    )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def records(lines: Sequence[Line], protocol: str) -> Listing:
    """Return everything known of every line, unrounded where it is ours."""
    found = [_record(line, protocol) for line in lines]
    rows = [list(map(_plain, record.values())) for record in found]
    return Listing(list(found[0]), rows, "")


def _record(line: Line, protocol: str) -> dict[str, object]:
    row, number, ours = line.row, line.number, line.ours
    own = number.own
    return {
        "source": row.source, "table": row.table, "benchmark": row.benchmark, "backbone": row.backbone,
        "setting": row.setting, "method": row.method, "remark": row.remark, "confidence": row.confidence,
        "metric": line.metric, "mean": number.mean, "sd": number.sd, "sd_from": number.quoted, "n": row.n,
        "seeds_mean": own[0], "seeds_sd": own[1], "contradicted": number.contradicted if number.values else None,
        "protocol": protocol,
        "our_benchmark": line.benchmark and line.row.stream.label, "our_scenario": line.scenario,
        "our_method": line.method, "our_mean": ours.mean, "our_sd": ours.sd, "our_n": ours.n,
        "our_epochs": line.epochs, "difference": line.difference, "verdict": line.verdict,
    }  # fmt: skip


def _plain(value: object) -> str:
    """Return a value as text; '' for None and NaN."""
    missing = value is None or value != value
    return "" if missing else str(value)
