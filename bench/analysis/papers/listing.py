"""A comparison with a paper as text: a small table for each of its benchmarks, or all of it as records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bench.analysis.compare import Listing
from bench.analysis.papers.paper import PRINTED, RULE, Line, names
from bench.analysis.render import show
from bench.analysis.table import METRICS
from bench.core import PROTOCOLS

CHECK = (
    "A paper contradicts itself where a printed mean or sd is further from what its own seeds give than rounding "
    "explains, half a unit of the last printed digit."
)
COPIED = "¶"  # behind a method whose row the authors took from elsewhere


def listings(lines: Sequence[Line], protocol: str, form: str) -> list[Listing]:
    """A table a benchmark, in the paper's order. In LaTeX, where each may stand alone, every caption says all; else
    the last one says what holds for all. As `csv`, one table of records."""
    if form == "csv":
        return [records(lines, protocol)]
    sections: dict[str, list[Line]] = {}
    for line in lines:
        sections.setdefault(line.row.benchmark, []).append(line)
    last, shared = list(sections)[-1], _rule(lines, protocol)
    return [_listing(section, shared if form == "latex" or name == last else "") for name, section in sections.items()]


def _listing(lines: Sequence[Line], shared: str) -> Listing:
    common, special = _settings([line.row.setting for line in lines])
    varied = any(special.values())

    def texts(line: Line) -> list[str]:
        setting = [special[line.row.setting]] if varied else []
        label = line.row.method + (f" {COPIED}" if line.row.copied else "")
        return [METRICS[line.metric].label, label, *setting, str(line.number), *_ours(line), line.verdict]

    left = ["metric", "method", *(["setting"] if varied else [])]
    header = [*left, "paper", "ours", "n", "difference", "verdict"]
    rows = [texts(line) for metric in PRINTED for line in lines if line.metric == metric]
    caption = "\n".join(filter(None, [_about(lines, common), *_notes(lines), shared]))
    return Listing(header, rows, caption, left=len(left))


def _ours(line: Line) -> list[str]:
    """Our number, its n and the difference."""
    if not line.ours.n:
        return ["--", "--", "--"]
    difference = f"{round(line.difference, 2) + 0.0:+.2f}"
    return [show(line.ours, METRICS[line.metric], "±"), str(line.ours.n), difference]


def _settings(settings: Iterable[str]) -> tuple[str, dict[str, str]]:
    """What all settings of a table have in common, and what each has beside that."""
    parts = {setting: setting.split("; ") for setting in settings}
    common = [part for part in next(iter(parts.values())) if all(part in others for others in parts.values())]
    special = {setting: "; ".join(part for part in own if part not in common) for setting, own in parts.items()}
    return "; ".join(common), special


def _about(lines: Sequence[Line], setting: str) -> str:
    """Whose table it is, how the paper ran it, and which of our runs stand beside it."""
    facts = [_listed(getattr(line.row, name) for line in lines) for name in ("source", "table", "benchmark")]
    here = next((line.benchmark for line in lines if line.benchmark), "")
    seeds = sorted({seed for line in lines for seed in line.seeds})
    ours = f"ours: {here}, seeds {_listed(seeds)}" if seeds else f"ours: {here}, no run" if here else "no such one here"
    about = f"{', '.join(facts)} ({_listed(line.row.backbone for line in lines)}); {setting}; {ours}."
    known = {str(line.row.n or "unknown") for line in lines if not line.row.copied}
    return f"{about} n of the paper: {_listed(sorted(known))}." if known else about


def _notes(lines: Sequence[Line]) -> list[str]:
    """Where the paper contradicts itself; what was copied; what it is known from; what is not here."""
    clashes = [
        f"{line.row.method}, {METRICS[line.metric].label}: printed {line.number}, its own seeds give "
        f"{line.number.own[0]:.2f} ± {line.number.own[1]:.2f}"
        for line in lines
        if line.number.contradicted
    ]
    notes = [f"The paper contradicts itself: {'; '.join(clashes)}."] if clashes else []
    notes += [f"{caveat}." for caveat in sorted({line.row.caveat for line in lines} - {""})]
    copied = {f"{COPIED} {line.row.remark}, its n unknown." for line in lines if line.row.copied}
    by_confidence: dict[str, list[str]] = {}
    for line in lines:
        by_confidence.setdefault(line.row.confidence, []).append(line.row.method)
    doubtful = [f"Confidence {word}: {_listed(of)}." for word, of in by_confidence.items() if word != "verified"]
    missing = _listed(line.row.method for line in lines if not line.method)
    return [*notes, *sorted(copied), *doubtful, *([f"No method or recipe of one here: {missing}."] if missing else [])]


def _rule(lines: Sequence[Line], protocol: str) -> str:
    """What holds for every table: how numbers are compared and checked, and where they come from."""
    words = dict.fromkeys(line.row.confidence for line in lines)
    sources = "; ".join(f"{word}: {names()['confidence'].get(word, 'not said')}" for word in words)
    checked = f" {CHECK}" if any(line.number.values for line in lines) else ""
    return (
        "Mean ± sample sd, in percent; ours in fp32 under the recipe's settings, "
        f"protocol {protocol} ({PROTOCOLS[protocol]}); "
        f"difference: ours minus the paper. Verdict: {RULE}.{checked}\nConfidence in the paper's numbers: {sources}."
    )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def records(lines: Sequence[Line], protocol: str) -> Listing:
    """Everything known of every line, unrounded where it is ours."""
    rows = [{name: _plain(value) for name, value in _record(line, protocol).items()} for line in lines]
    return Listing(list(rows[0]), [list(row.values()) for row in rows], "")


def _record(line: Line, protocol: str) -> dict[str, object]:
    row, number, ours = line.row, line.number, line.ours
    own = number.own
    return {
        "source": row.source, "table": row.table, "benchmark": row.benchmark, "backbone": row.backbone,
        "setting": row.setting, "method": row.method, "remark": row.remark, "confidence": row.confidence,
        "metric": line.metric, "mean": number.mean, "sd": number.sd, "n": row.n, "seeds_mean": own[0],
        "seeds_sd": own[1], "contradicted": number.contradicted if number.values else None, "protocol": protocol,
        "our_benchmark": line.benchmark, "our_method": line.method, "our_mean": ours.mean, "our_sd": ours.sd,
        "our_n": ours.n, "our_epochs": line.epochs, "difference": line.difference, "verdict": line.verdict,
    }  # fmt: skip


def _plain(value: object) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)
