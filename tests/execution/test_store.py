"""Results on disk: whole or not at all, and never mistaken for another's."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import many_results
import pytest

from bench import installation
from bench.core import SCHEMA, Result
from bench.execution import store

PUBLISHED = installation.ROOT / "results" / "published"


def test_round_trip(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    result = make_result(acc=61.7, bwt=-3.3, overrides={"epochs": [5, 1]}, traits={"joint": True})
    path = store.save_result(result, tmp_path)
    assert path == tmp_path / "bench" / "a" / f"seed0-{result.cell.key}.json"
    assert store.load_result(path) == result
    assert list(store.load_all(tmp_path)) == [result]
    assert store.stored_result(result.cell, tmp_path) == result
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file stays


def test_an_error_is_kept_with_its_traceback(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    failed = replace(make_result(error="ValueError: é ± \u2028"), traceback="Traceback\n  line\n")
    assert store.load_result(store.save_result(failed, tmp_path)) == failed


def test_numbers_survive_to_the_last_bit(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    result = replace(make_result(), matrix=[[0.1 + 0.2, None], [1 / 3, 2**-40]])
    assert store.load_result(store.save_result(result, tmp_path)).matrix == result.matrix


def test_a_cell_that_was_never_run(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    assert store.stored_result(make_result().cell, tmp_path) is None
    assert list(store.load_all(tmp_path / "nowhere")) == []


def older(text: str) -> str:
    return json.dumps({**json.loads(text), "schema": SCHEMA - 1})


def without_cell(text: str) -> str:
    return json.dumps({k: v for k, v in json.loads(text).items() if k != "cell"})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: "", "damaged"),
        (lambda text: "[]", "damaged"),
        (lambda text: "null", "damaged"),
        (without_cell, "damaged"),
        (older, f"schema {SCHEMA - 1}"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_warning(
    tmp_path: Path, make_result: Callable[..., Result], damage: Callable[[str], str], says: str
) -> None:
    path, other = (store.save_result(make_result(seed=seed), tmp_path) for seed in (0, 1))
    path.write_text(damage(path.read_text()))
    warning = store.stored_result(make_result(seed=0).cell, tmp_path)
    assert isinstance(warning, str)
    assert str(path) in warning
    assert says in warning
    kinds = {type(found) for found in store.load_all(tmp_path)}
    assert kinds == {str, Result}
    assert store.load_result(other) == make_result(seed=1)


def copied(path: Path, folder: Path) -> list[Path]:
    """Copies of a result as people and systems make them, in the results folder `folder`."""
    method, benchmark = path.parent, path.parent.parent
    places = [
        path.with_name(f"{path.stem} (1).json"),
        path.with_name(f"{path.stem} copy.json"),
        path.with_name(path.name.replace("seed0", "seed7")),
        path.with_name("seed0-000000000000.json"),
        method.with_name("a-old") / path.name,
        method.with_name("b") / path.name,
        benchmark.with_name("bench (2)") / "a" / path.name,
        folder / "backup" / "bench" / "a" / path.name,
        path.with_name(f".#{path.name}"),
        path.with_name(f"Copy of {path.name}"),
        path.with_name(f"{path.name}.bak"),
    ]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    return places


def test_copies_are_never_counted_nor_preferred(
    tmp_path: Path, make_result: Callable[..., Result], command: Any
) -> None:
    """Not even where their content is another's: what its name says is what is read."""
    result = make_result(acc=61.7)
    path = store.save_result(result, tmp_path)
    places = copied(path, tmp_path)
    (tmp_path / "bench" / "linked").symlink_to(path.parent, target_is_directory=True)
    found = list(store.load_all(tmp_path))
    assert [one for one in found if isinstance(one, Result)] == [result]
    warnings = [one for one in found if isinstance(one, str)]
    for place in places[:7]:
        [warning] = [one for one in warnings if one.startswith(f"{place} is damaged, or a copy")]
        assert warning.endswith(f"it holds {result.cell.path}") and "\n" not in warning
    assert store.stored_result(result.cell, tmp_path) == result
    assert f"{tmp_path}: 1 result, " in command("status", "--out", tmp_path).out
    path.unlink()
    assert store.stored_result(result.cell, tmp_path) is None, "a copy does not stand for what was deleted"
    assert not any(isinstance(one, Result) for one in store.load_all(tmp_path))


def test_a_copy_under_the_name_of_another_cell_is_not_its_result(
    tmp_path: Path, make_result: Callable[..., Result]
) -> None:
    result, other = make_result(seed=0), make_result(seed=1).cell
    (tmp_path / other.path).parent.mkdir(parents=True)
    (tmp_path / other.path).write_bytes(store.save_result(result, tmp_path).read_bytes())
    assert "a copy under another name" in str(store.stored_result(other, tmp_path))


def test_the_key_covers_what_decides_a_number_and_nothing_else(make_result: Callable[..., Result]) -> None:
    cell = make_result().cell
    same = [
        replace(cell, overrides={"epochs": [5, 1]}),
        replace(cell, traits={"joint": True}),
        replace(cell, source={"method": "0"}),
        replace(cell, precision="fp32"),
    ]
    assert {c.key for c in same} == {cell.key}
    other = [
        replace(cell, benchmark="b"),
        replace(cell, method="b"),
        replace(cell, seed=1),
        replace(cell, training={**cell.training, "lr": 0.2}),
        replace(cell, config={"rank": 1}),
        replace(cell, versions={"method": 2}),
        replace(cell, precision="bf16"),
        replace(cell, protocol="sound"),
    ]
    assert len({c.key for c in [cell, *other]}) == len(other) + 1


def test_every_published_result_stands_under_its_key() -> None:
    paths = list(PUBLISHED.glob("*/*/seed*.json"))
    assert len(paths) > 20
    for path in paths:
        assert PUBLISHED / store.load_result(path).cell.path == path


def test_the_key_survives_json(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    result = make_result(config={"layers": (1, 2), "b": 1, "a": 0.1})
    assert store.load_result(store.save_result(result, tmp_path)).cell.key == result.cell.key


def test_the_words_of_the_request_win(tmp_path: Path, make_result: Callable[..., Result]) -> None:
    store.save_result(make_result(overrides={"lr": [0.2, 0.1]}), tmp_path)
    asked = make_result().cell
    found = store.stored_result(asked, tmp_path)
    assert isinstance(found, Result)
    assert found.cell == asked


def test_a_key_is_made_once(make_result: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of thousands of cells asks for each key many times."""
    cell = make_result(config={"a": [1, {"b": 2.0}]}).cell
    made: list[bytes] = []
    sha256 = hashlib.sha256
    monkeypatch.setattr("bench.core.hashlib.sha256", lambda text: made.append(text) or sha256(text))
    assert len({cell.key for _ in range(5)}) == len({cell.group for _ in range(5)}) == 1
    assert len(made) == 2
    assert json.loads(made[0])["config"] == {"a": [1, {"b": 2.0}]} and b'"seed"' not in made[1]
    changed = replace(cell, seed=1)
    assert changed.key != cell.key and changed.group == cell.group


def test_many_results_are_read_back(tmp_path: Path) -> None:
    assert many_results.fill(tmp_path, 120) == 120
    found = list(store.load_all(tmp_path))
    assert len({result.cell.key for result in found if isinstance(result, Result)}) == len(found) == 120
