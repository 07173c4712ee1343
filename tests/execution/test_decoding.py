"""A stored result is read as it was written, or not at all."""

import copy
import errno
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.analysis import render
from bench.analysis import table as tables
from bench.analysis.columns import METRICS
from bench.catalog.catalog import Catalog
from bench.catalog.plan import Request
from bench.core import Result
from bench.execution import decoding, store

ODD: list[Any] = [None, True, -1, 1.5, 10**30, "abc", "", [], {}, [[]], {"a": 1}]


@pytest.fixture
def raw(make_result: Callable[..., Result]) -> dict[str, Any]:
    """Return a result as it is stored, with a record for each task."""
    plain = json.loads(decoding.encode(make_result()))
    record = {"epochs": 3, "validation_loss": 0.5, "trainable": 10, "state_bytes": 4, "stored": 0}
    counts = {"samples_read": 1, "old_samples_read": 0, "seconds": {"train": 0.5}, "report": {"rank": {"a": 1}}}
    plain["tasks"] = [{"task": t, **record, **counts} for t in range(len(plain["matrix"]))]
    del plain[decoding.CHECKSUM]
    plain["cell"]["overrides"] = {"epochs": [5, 1]}
    return plain


def sealed(raw: dict[str, Any]) -> bytes:
    return decoding.seal(raw).encode()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value inside a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield (*path, name)
        yield from places(part, (*path, name))


def mutated(raw: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(raw)
    place: Any = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return changed


def mutations(raw: dict[str, Any]) -> list[dict[str, Any]]:
    everywhere = [mutated(raw, path, value) for path in places(raw) for value in ODD]
    return [changed for changed in everywhere if json.dumps(changed) != json.dumps(raw)]


def test_what_is_written_is_read(raw: dict[str, Any]) -> None:
    result = decoding.decode(sealed(raw))
    assert decoding.decode(decoding.encode(result).encode()) == result
    assert decoding.decode(json.dumps(raw).encode()) == result, "a file from before checksums"
    shuffled = json.dumps(dict(reversed(json.loads(sealed(raw)).items())), indent=7)
    assert decoding.decode(shuffled.encode()) == result, "the checksum is of the content, not of its spaces"


def test_every_mutated_value_is_refused(raw: dict[str, Any]) -> None:
    seal = json.loads(sealed(raw))[decoding.CHECKSUM]
    refused = 0
    for changed in mutations(raw):
        with pytest.raises(ValueError, match=r"."):
            decoding.decode(json.dumps({**changed, decoding.CHECKSUM: seal}).encode())
        refused += 1
    assert refused > 500


def test_without_a_checksum_a_mutated_value_is_refused_or_of_its_type(raw: dict[str, Any]) -> None:
    """Nothing but ValueError comes of it, and what is accepted can be made a table of."""
    outcomes = {"refused": 0, "accepted": 0}
    for changed in mutations(raw):
        try:
            result = decoding.decode(json.dumps(changed).encode())
        except ValueError as error:
            outcomes["refused"] += 1
            assert str(error)
            continue
        outcomes["accepted"] += 1
        table = tables.summarize([(result.cell, result)], list(METRICS), [result.cell.seed])
        assert render.to_markdown(table).startswith("|")
    assert outcomes["refused"] > 3 * outcomes["accepted"] > 0


def test_a_flipped_bit_is_refused_or_harmless(raw: dict[str, Any]) -> None:
    good = sealed(raw)
    expected = decoding.decode(good)
    generator = random.Random(0)
    refused = 0
    for _ in range(300):
        place, bit = generator.randrange(len(good)), generator.randrange(8)
        content = bytearray(good)
        content[place] ^= 1 << bit
        try:
            assert decoding.decode(bytes(content)) == expected
        except ValueError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": ' * 100_000, "nested too deep"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": [{"b": 1, "b": 1}]}', "twice"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"a": [-' + b"9" * 5000 + b"]}", "digits"),
        (b"\xff\xfe", "utf-8"),
        (b"[]", "no object but a list"),
        (b"", "Expecting value"),
        (b"{}", "missing required field"),
    ],
)
def test_what_is_no_result(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        decoding.decode(content)


def test_parts_that_contradict_one_another(raw: dict[str, Any]) -> None:
    size = len(raw["matrix"])
    for path, value, says in [
        (("error",), "ValueError: no", "or an error in its place"),
        (("matrix",), [], "or an error in its place"),
        (("matrix",), raw["matrix"][1:], f"row 0 of the accuracy matrix has {size} numbers, not {size - 1}"),
        (("matrix", size - 1, 0), None, f"row {size - 1} of the accuracy matrix has a gap"),
        (("matrix", size - 1), [None] * size, f"row {size - 1} of the accuracy matrix has a gap"),
        (("matrix", 1, 0), None, "row 1 of the accuracy matrix has a gap"),
        (("matrix", 0, 0), 1.25, "1.25 is no accuracy"),
        (("tasks",), raw["tasks"] * 2, f"records of {2 * size} tasks"),
        (("cell", "seed"), -1, "no seed -1"),
        (("more",), 1, "unknown field 'more'"),
        (("cell", "more"), 1, "unknown field 'more'"),
    ]:
        with pytest.raises(ValueError, match=says):
            decoding.decode(sealed(mutated(raw, path, value)))


def test_fingerprints_of_other_seeds_are_under_their_numbers(raw: dict[str, Any]) -> None:
    told = mutated(raw, ("environment", "data_of"), {"0": "ab", "4294967295": "cd"})
    assert decoding.decode(sealed(told)).environment["data_of"]["0"] == "ab"
    for wrong in ({"a": "ab"}, {"-1": "ab"}, {"9" * 5000: "ab"}, {"0": 1}, ["ab"]):
        with pytest.raises(ValueError, match="data_of"):
            decoding.decode(sealed(mutated(raw, ("environment", "data_of"), wrong)))


def test_a_copy_under_another_name_is_not_taken(
    command: Any, make_result: Callable[..., Result], tmp_path: Path
) -> None:
    """As when the file of joint training is put in the place of fine-tuning's."""
    joint, tuned = (make_result(method=name, benchmark="toy") for name in ("joint", "finetune"))
    source, place = (store.save_result(result, tmp_path) for result in (joint, tuned))
    place.write_bytes(source.read_bytes())
    warning = store.stored_result(tuned.cell, tmp_path)
    assert isinstance(warning, str) and "a copy under another name" in warning and str(place) in warning
    answer = command("table", "--out", tmp_path)
    assert answer.code == 0 and answer.err.count("a copy under another name") == 1
    assert "joint" in answer.out and "finetune" not in answer.out


ELSE: dict[str, Callable[[Path], None]] = {
    "folder": Path.mkdir,
    "dangling link": lambda place: place.symlink_to("nowhere"),
    "link to itself": lambda place: place.symlink_to(place),
    "pipe that nobody writes to": os.mkfifo,
    "device without an end": lambda place: place.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", ELSE)
def test_something_else_in_the_place_of_a_result(kind: str, make_result: Callable[..., Result], tmp_path: Path) -> None:
    good, other = (make_result(seed=seed) for seed in (0, 1))
    store.save_result(good, tmp_path)
    place = tmp_path / other.cell.path
    ELSE[kind](place)
    found = list(store.load_all(tmp_path))
    assert found[0] == good and isinstance(found[1], str) and f"{place} cannot be read" in found[1]
    assert isinstance(store.stored_result(other.cell, tmp_path), str)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_result_that_may_not_be_read(
    number: int, make_result: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated, for root may read everything; so too on a broken disk and where a server has forgotten the file."""
    good, other = (make_result(seed=seed) for seed in (0, 1))
    _, place = (store.save_result(result, tmp_path) for result in (good, other))
    read = Path.read_bytes

    def guarded(path: Path) -> bytes:
        if path == place:
            raise OSError(number, os.strerror(number))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", guarded)
    said = f"{place} cannot be read: {os.strerror(number)}"
    assert list(store.load_all(tmp_path)) == [good, said]
    assert store.stored_result(other.cell, tmp_path) == f"{said}; the cell runs again"


def test_damaged_files_end_no_command(command: Any, make_result: Callable[..., Result], tmp_path: Path) -> None:
    """Each is told by one line, and the others stand in the table."""
    contents = [b"", b"[" * 100_000, b'{"schema": 2}', b"\xff", b'{"schema": 3}']
    store.save_result(make_result(method="gpm", benchmark="toy", seed=50), tmp_path)
    for seed, content in enumerate(contents):
        store.save_result(make_result(method="gpm", benchmark="toy", seed=seed), tmp_path).write_bytes(content)
    for words in (["table"], ["report"]):
        answer = command(*words, "--out", tmp_path)
        lines = [line for line in answer.err.splitlines() if "seed" in line and "toy/gpm" in line]
        assert answer.code == 0 and len(lines) == len(contents), answer.err
        assert "Traceback" not in answer.err


def test_damaged_files_end_no_run(command: Any, tmp_path: Path) -> None:
    """Those of its own cells: each is told, and its cell is to be run."""
    cells = Catalog().plan(Request(["gpm"], ["toy"], range(4))).cells
    for cell, content in zip(cells, [b"[" * 100_000, b"\xff", b'{"schema": 3}', b'{"a": NaN}'], strict=True):
        (tmp_path / cell.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / cell.path).write_bytes(content)
    answer = command("--methods", "gpm", "--bench", "toy", "--seeds", "0-3", "--out", tmp_path, "--dry-run")
    assert (answer.code, answer.err.count("the cell runs again")) == (0, 4)
    assert answer.out.startswith("4 cells: 0 done, 4 to run")


def test_a_scenario_is_one_that_is_known(raw: dict[str, Any]) -> None:
    del raw["cell"]["scenario"]
    assert decoding.decode(sealed(raw)).cell.scenario == "task-il"
    shared = mutated(raw, ("tasks", 0, "untrained"), [0.5] * len(raw["matrix"]))
    assert decoding.decode(sealed(shared)).cell.scenario == "domain-il"
    told = mutated(raw, ("cell", "scenario"), "class-il")
    assert decoding.decode(sealed(told)).cell.scenario == "class-il"
    with pytest.raises(ValueError, match="scenario"):
        decoding.decode(sealed(mutated(raw, ("cell", "scenario"), "class_il")))


def test_tests_over_all_classes_are_of_class_il_and_make_sense(raw: dict[str, Any]) -> None:
    size = len(raw["matrix"])
    raw["cell"]["scenario"] = "class-il"
    raw["tasks"][0]["seen"] = 0.5
    raw["tasks"][-1]["confusion"] = [[1 / size] * size for _ in range(size)]
    raw["tasks"][-1]["within"] = list(raw["matrix"][-1])
    result = decoding.decode(sealed(raw))
    assert result.seen == [0.5]
    assert result.within is not None and result.within.tolist() == raw["matrix"][-1]
    below = raw["matrix"][-1][0] - 0.01
    assert below >= 0
    assert result.confusion is not None and result.confusion.shape == (size, size)
    wrong = [
        (("cell", "scenario"), "task-il", "is none of task-il"),
        (("tasks", 0, "seen"), 1.5, "no accuracy between 0 and 1"),
        (("tasks", 0, "seen"), None, "seen"),
        (("tasks", -1, "within"), [1.0] * (size - 1), f"{size - 1} accuracies within tasks after task {size - 1}"),
        (("tasks", -1, "within", 0), 1.5, "accuracy within a task is 1.5"),
        (("tasks", -1, "within", 0), below, "accuracy within a task is"),
        (("tasks", -1, "within"), 1.0, "within"),
        (("tasks", -1, "confusion"), [[1.0]], "shares of 1"),
        (("tasks", -1, "confusion"), raw["tasks"][-1]["confusion"][:-1], f"{size - 1} rows, not {size}"),
        (("tasks", -1, "confusion", 0), [1.0] * size, "shares of 1"),
        (("tasks", -1, "confusion", 0), [2.0, -1.0, *[0.0] * (size - 2)], "shares of 1"),
    ]
    for path, value, said in wrong:
        with pytest.raises(ValueError, match=said):
            decoding.decode(sealed(mutated(raw, path, value)))
