"""What a search found: tables of its trials, and the best settings as a recipe, written and read."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis.columns import percent
from bench.config import nearest, require
from bench.core import PROTOCOLS, UserError
from bench.installation import program
from bench.text import counted, spans

if TYPE_CHECKING:
    from bench.analysis.compare import Listing
    from bench.catalog.plan import Request
    from bench.tools.tuning_search import Outcome, Search

Ranked = dict[str, "list[Outcome]"]  # by method, best first


def rank_outcomes(outcomes: Sequence[Outcome]) -> Ranked:
    """Return the outcomes of each method, the best one first.

    Failures are last; of equals the recipe stands first, then the one sampled first.
    """
    ranked: Ranked = {outcome.trial.method: [] for outcome in outcomes}
    for outcome in sorted(outcomes, key=_standing):
        ranked[outcome.trial.method].append(outcome)
    return ranked


def _standing(outcome: Outcome) -> tuple[bool, float, int]:
    score = 0.0 if outcome.error else outcome.score
    return outcome.error is not None, -score, outcome.trial.number


def trial_listings(ranked: Ranked, request: Request, search: Search) -> list[Listing]:
    """Return a table of the trials of each method, then one of the best settings against the recipe's."""
    from bench.analysis.compare import Listing

    tables, summary = [], []
    for method, outcomes in ranked.items():
        fields = list(outcomes[0].trial.settings)
        rows = [[str(i), *_row(outcome, fields)] for i, outcome in enumerate(outcomes, 1)]
        header = [method, "validation ACC", "trial", *fields]
        tables.append(Listing(header, rows, f"{counted(len(rows), 'trial')} of {method}."))
        own, best = _recipe(outcomes), outcomes[0]
        summary.append([method, _settings(own), _settings(best), _score_in_words(own), _score_in_words(best)])
    header = ["method", "settings of the recipe", "best settings", "ACC of the recipe", "best ACC"]
    return [*tables, Listing(header, summary, _basis(request, search), left=3)]


def _row(outcome: Outcome, fields: Sequence[str]) -> list[str]:
    number = str(outcome.trial.number) if outcome.trial.number else "0, the recipe"
    return [_score_in_words(outcome), number, *(str(outcome.trial.settings[field]) for field in fields)]


def to_toml(ranked: Ranked, request: Request, search: Search, command: str, commit: Mapping[str, Any]) -> str:
    """Return the best settings of each method as a recipe, with where they come from."""
    code = "no commit"
    if commit:
        changes = " with changes" if commit["dirty"] else ""
        code = f"commit {commit['commit']}{changes}"
    budget = f"{counted(request.epochs, 'epoch')} a task" if request.epochs else "the recipe's epochs"
    lines = [
        f"# Settings chosen by `{command}`",
        f"# {datetime.now(UTC):%Y-%m-%d}, {code}",
        f"# {counted(search.trials, 'trial')} of each method, the recipe's own settings among them; {budget}, "
        f"{request.precision}",
        f"# {_basis(request, search)}",
        f"# To run with them: {program()} --recipe FILE",
        f"bench = {json.dumps(request.benchmarks[0])}",
        f"protocol = {json.dumps(request.protocols[0])}",
        *([f"scenario = {json.dumps(request.scenario)}"] if request.scenario else []),
    ]
    for method, outcomes in ranked.items():
        lines += ["", *_table(method, outcomes)]
    return "\n".join(lines) + "\n"


def _table(method: str, outcomes: Sequence[Outcome]) -> list[str]:
    best = outcomes[0]
    if best.error:
        return [f"# {method}: every trial failed"]
    origin = "the recipe"
    if best.trial.number:
        origin = f"trial {best.trial.number}; the recipe {_score_in_words(_recipe(outcomes))}"
    name = method if method.isidentifier() else json.dumps(method)
    settings = [f"{field} = {json.dumps(value)}" for field, value in best.trial.settings.items()]
    return [f"[{name}]  # validation ACC {_score_in_words(best)}: {origin}", *settings]


def stem(request: Request) -> str:
    """Return the name of the recipe's file."""
    [benchmark], [protocol] = request.benchmarks, request.protocols
    facts = [protocol] if protocol != next(iter(PROTOCOLS)) else []
    facts += [request.precision] if request.precision != "fp32" else []
    facts += [request.scenario] if request.scenario else []
    return "-".join([benchmark, *facts])


def read_user_recipe(
    path: Path, benchmarks: Sequence[str], protocols: Sequence[str], scenario: str, known: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Return the settings in a recipe of the user's, by method or benchmark. One that a search wrote names the
    benchmark, the protocol and perhaps the scenario it is for, and is refused for others."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:  # of the file, of its text or of its TOML
        raise UserError(f"--recipe {path}: {getattr(error, 'strerror', error)}") from error
    except RecursionError as error:
        raise UserError(f"--recipe {path} is nested too deep to be read") from error
    for key, chosen in (("bench", benchmarks), ("protocol", protocols), ("scenario", [scenario])):
        own = raw.pop(key) if isinstance(raw.get(key), str) else None
        require(
            own is None or list(chosen) == [own],
            f"--recipe {path} is for --{key} {own}, not {','.join(chosen) or 'the default'}: its line '{key}' says so",
        )
    for name, table in raw.items():
        if name not in known:
            raise nearest(f"method or benchmark in {path}", name, known)
        require(isinstance(table, dict), f"--recipe {path}: '{name}' is no table: write [{name}] above its settings")
    return raw


def _basis(request: Request, search: Search) -> str:
    seeds = ", ".join(spans(request.seeds, "–"))
    precision = f"; precision: {request.precision}" if request.precision != "fp32" else ""
    tasks = f"the first {search.tasks} tasks, after the last of them"
    return f"ACC on the validation data of {tasks}; seeds: {seeds}{precision}."


def _recipe(outcomes: Sequence[Outcome]) -> Outcome:
    return next(outcome for outcome in outcomes if outcome.trial.number == 0)


def _score_in_words(outcome: Outcome) -> str:
    if outcome.error:
        return "diverged" if outcome.diverged else "failed"
    return f"{percent(outcome.score):.2f}"


def _settings(outcome: Outcome) -> str:
    return ", ".join(f"{name}={value}" for name, value in outcome.trial.settings.items())
