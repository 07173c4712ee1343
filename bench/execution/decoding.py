"""From the bytes of a stored result to a result, strictly: what is not exactly that is a ValueError of one line.

A file carries a checksum of its content, so that a damaged digit is no number. Files from before there was one are held
to the same form.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, fields
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec

from bench.core import SCHEMA, Cell, Result

CHECKSUM = "checksum"
Object = dict[str, Any]


class OtherSchemaError(ValueError):
    """A result of another version of the suite, which is not damaged."""


class TaskForm(TypedDict, total=False):
    """What the suite reads of the record of a task. A method's report is its own affair."""

    task: int
    epochs: int
    validation_loss: float | None
    trainable: int
    state_bytes: int
    stored: int
    samples_read: int
    old_samples_read: int
    seconds: dict[str, float]
    report: Object
    untrained: list[float | None]
    seen: float
    within: list[float]
    confusion: list[list[float]]
    drift: dict[str, dict[str, float]]


class EnvironmentForm(TypedDict, total=False):
    """What the suite reads of the environment."""

    commit: str
    dirty: bool
    library: str
    python: str
    packages: dict[str, str | None]
    platform: str
    device: str
    cpu: str
    threads: int
    tf32: bool
    precision: str
    data: str
    data_of: dict[Annotated[str, msgspec.Meta(pattern="^[0-9]{1,10}$")], str]
    seconds: float
    process_peak_bytes: int
    resumed_after: int


class CellForm(TypedDict):
    """A cell as it is stored, its types tighter than those of `Cell`."""

    benchmark: str
    method: str
    seed: int
    training: dict[str, bool | int | float | str | None]
    config: Object
    source: NotRequired[dict[str, str]]
    overrides: NotRequired[dict[str, tuple[Any, Any]]]
    traits: NotRequired[dict[str, bool]]
    options: NotRequired[Object]
    protocol: NotRequired[str]
    scenario: NotRequired[Literal["task-il", "class-il", "domain-il", "task-il-shared"]]
    precision: NotRequired[str]
    versions: NotRequired[dict[str, int]]


class Form(TypedDict):
    """A result as it is stored."""

    cell: CellForm
    matrix: list[list[float | None]]
    tasks: list[TaskForm]
    error: str | None
    traceback: str | None
    environment: EnvironmentForm
    schema: int


def encode(result: Result) -> str:
    """Return a result as text, with its checksum."""
    return seal(asdict(result))


def decode(content: bytes) -> Result:
    """Return the result that `encode` made the content of. Raises ValueError."""
    raw = parse_json(content)
    if raw.get("schema", SCHEMA) != SCHEMA:  # of which the checksum, too, may be another
        raise OtherSchemaError(f"has schema {raw['schema']!r}, this version reads {SCHEMA}")
    return result_of(verified(raw))


def result_of(raw: Object) -> Result:
    """Return a result from its fields, all of which have to be of their types and fit together. Raises ValueError."""
    try:
        msgspec.convert(raw, Form, strict=True)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    if raw["schema"] != SCHEMA:
        raise OtherSchemaError(f"has schema {raw['schema']}, this version reads {SCHEMA}")
    _demand_known_fields(raw, Result)
    _demand_known_fields(raw["cell"], Cell)
    result = Result(**{**raw, "cell": Cell(**{"scenario": _scenario_before(raw), **raw["cell"]})})
    _demand_sense(result)
    return result


def _demand_known_fields(raw: Object, form: type[Result] | type[Cell]) -> None:
    """Raise ValueError for a field that a later version may know."""
    unknown = set(raw) - {field.name for field in fields(form)}
    if unknown:
        raise ValueError(f"unknown field {sorted(unknown)[0]!r}")


def _scenario_before(raw: Object) -> str:
    """Return the scenario of a result from before results told it: under a head that tasks shared, an untrained network
    was tested too."""
    untrained = any(record.get("untrained") for record in raw["tasks"])
    return "domain-il" if untrained else "task-il"


def _demand_sense(result: Result) -> None:
    """Raise ValueError where parts that are each of the right type contradict one another."""
    size = len(result.matrix)
    if (result.error is None) == (size == 0):
        raise ValueError("there must be an accuracy matrix, or an error in its place")
    for index, row in enumerate(result.matrix):
        _demand_row(row, index, size)
    if size and len(result.tasks) not in (0, 1, size):  # none of a matrix computed elsewhere, one of joint training
        raise ValueError(f"there are records of {len(result.tasks)} tasks for a matrix of {size}")
    for record in result.tasks:
        _demand_of_classes(record, result)
    if result.cell.seed < 0:
        raise ValueError(f"there is no seed {result.cell.seed}")


def _demand_of_classes(record: Object, result: Result) -> None:
    """Raise ValueError unless what a record says of all classes together is of a test over all of them."""
    seen, within, confusion = (record.get(name) for name in ("seen", "within", "confusion"))
    if seen is None and within is None and confusion is None:
        return
    if result.cell.scenario != "class-il":
        raise ValueError(f"a test over all classes is none of {result.cell.scenario}")
    if seen is not None and not 0 <= seen <= 1:
        raise ValueError(f"{seen!r} is no accuracy between 0 and 1")
    size = len(result.matrix)
    _demand_within(within, record, result)
    for row in confusion or ():
        if len(row) != size or min(row) < 0 or abs(sum(row) - 1) > 1e-6:
            raise ValueError(f"a row of the confusion between tasks is no {size} shares of 1")
    if confusion is not None and len(confusion) != size:
        raise ValueError(f"the confusion between tasks has {len(confusion)} rows, not {size}")


def _demand_within(within: list[float] | None, record: Object, result: Result) -> None:
    """Raise ValueError unless accuracies within tasks are some, and none below that of the same task over all classes:
    whoever finds a class among all finds it among those of its task."""
    if within is None or not result.matrix:
        return
    t = record.get("task", -1)
    row = result.matrix[t][: t + 1] if 0 <= t < len(result.matrix) else []
    if len(within) != len(row):
        raise ValueError(f"there are {len(within)} accuracies within tasks after task {t}")
    for told, untold in zip(within, row, strict=True):
        if not (untold or 0) - 1e-9 <= told <= 1:
            raise ValueError(f"an accuracy within a task is {told!r}, where that over all classes is {untold!r}")


def _demand_row(row: list[float | None], index: int, size: int) -> None:
    """Raise ValueError unless a row of R has an accuracy for every task learned, or, but for the last, for none."""
    if len(row) != size:
        raise ValueError(f"row {index} of the accuracy matrix has {len(row)} numbers, not {size}")
    for accuracy in row:
        if accuracy is not None and not 0 <= accuracy <= 1:
            raise ValueError(f"{accuracy!r} is no accuracy between 0 and 1")
    skipped = all(accuracy is None for accuracy in row) and index < size - 1
    if None in row[: index + 1] and not skipped:
        raise ValueError(f"row {index} of the accuracy matrix has a gap")


def seal(raw: Object) -> str:
    """Return an object as JSON text with a checksum of its content."""
    return json.dumps({**raw, CHECKSUM: checksum(raw)}, indent=1) + "\n"


def unseal(content: bytes) -> Object:
    """Return the object that `seal` made the content of. Raises ValueError."""
    return verified(parse_json(content))


def parse_json(content: bytes) -> Object:
    """Return the object that JSON in UTF-8 holds, checksum and all. Raises ValueError."""
    try:
        raw = json.loads(
            content.decode(), object_pairs_hook=_without_repetition, parse_constant=_refuse, parse_float=_finite
        )
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(raw, dict):
        raise ValueError(f"it holds no object but a {type(raw).__name__}")
    return raw


def verified(raw: Object) -> Object:
    """Return an object without its checksum, which has to be right where there is one. Raises ValueError."""
    content = {name: value for name, value in raw.items() if name != CHECKSUM}
    if CHECKSUM in raw and raw[CHECKSUM] != checksum(content):
        raise ValueError("its content is not what its checksum says")
    return content


def checksum(raw: Object) -> str:
    """Return 16 hex digits over an object, whatever the order and the spaces in which its JSON is written."""
    return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()[:16]


def _without_repetition(pairs: list[tuple[str, Any]]) -> Object:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number
