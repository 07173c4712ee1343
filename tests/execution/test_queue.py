"""Which cell is next, who has it, and how long it may take."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.core import Cell, Result
from bench.execution import executors, grid, status, store
from bench.execution.events import CellFinished
from bench.execution.queue import Agenda, Claims, Estimate
from bench.execution.runner import Resources
from bench.execution.status import Journal

Make = Callable[..., Result]
KEY = "0123456789ab"


def other(folder: Path, code: str) -> subprocess.Popen[str]:
    """Another process with claims on `folder`, that runs `code` and then waits for its standard input to end."""
    imports = "import sys\nfrom pathlib import Path\nfrom bench.execution.queue import Claims\n"
    program = (
        f"{imports}c = Claims(Path({str(folder)!r}))\n"
        + textwrap.dedent(code)
        + "\nprint('ready', flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_a_claim_keeps_other_processes_away_and_dies_with_its_owner(tmp_path: Path) -> None:
    owner = other(tmp_path, f"assert c.claim({KEY!r})")
    with Claims(tmp_path) as claims:
        assert not claims.claim(KEY)
        assert claims.claim("f" * 12), "another cell is free"
        owner.kill()
        owner.wait()
        assert claims.claim(KEY)


def test_a_claim_rests_on_no_number_of_a_process(tmp_path: Path) -> None:
    """As in two containers on one shared folder: the other process has this one's number, and a start of its own."""
    owner = other(tmp_path, f"import os\nos.getpid = lambda: {os.getpid()}\nassert c.claim({KEY!r})")
    with Claims(tmp_path) as claims, Journal(tmp_path, 3, 0, 1, Estimate()):
        assert not claims.claim(KEY)
        assert [process for process, _ in status.grids(tmp_path)] == [os.getpid()]
        owner.kill()
        owner.wait()
        assert claims.claim(KEY), "what the dead one had is free at once"


def test_a_released_cell_is_free(tmp_path: Path) -> None:
    owner = other(tmp_path, f"assert c.claim({KEY!r})\nc.release({KEY!r})")
    with Claims(tmp_path) as claims:
        assert claims.claim(KEY)
    owner.communicate("")


def test_claims_leave_nothing_but_an_empty_file(tmp_path: Path) -> None:
    with Claims(tmp_path) as claims:
        claims.claim(KEY)
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [(".claims", 0)]


def cells(make: Make, n: int) -> list[Cell]:
    return [make(seed=seed).cell for seed in range(n)]


def test_an_agenda_leaves_out_what_another_process_has_and_takes_over_what_it_did(make_result: Make, tmp_path: Path):
    first, second = make_result(seed=0), make_result(seed=1)
    owner = other(tmp_path, f"assert c.claim({first.cell.key!r})")
    with Claims(tmp_path) as claims:
        agenda = Agenda([first.cell, second.cell], tmp_path, claims)
        handed = iter(agenda)
        assert next(handed) == second.cell
        assert next(handed) is None
        store.save_result(first, tmp_path)
        owner.communicate("")
        assert list(handed) == [None] and [r.cell for r in agenda.found] == [first.cell]


def test_a_cell_whose_owner_died_is_run_here(make_result: Make, tmp_path: Path) -> None:
    [cell] = cells(make_result, 1)
    owner = other(tmp_path, f"assert c.claim({cell.key!r})")
    with Claims(tmp_path) as claims:
        handed = iter(Agenda([cell], tmp_path, claims))
        assert next(handed) is None
        owner.kill()
        owner.wait()
        assert list(handed) == [cell]


def test_a_failed_result_of_another_process_is_run_again(make_result: Make, tmp_path: Path) -> None:
    failed = make_result(error="on purpose")
    store.save_result(failed, tmp_path)
    with Claims(tmp_path) as claims:
        assert list(Agenda([failed.cell], tmp_path, claims)) == [failed.cell]


def measured(make: Make, method: str, seconds: float, epochs: int = 1, benchmark: str = "bench") -> Result:
    result = make(method, training={"epochs": epochs}, benchmark=benchmark)
    result.environment["seconds"] = seconds
    return result


def test_an_estimate_is_of_the_nearest_kind(make_result: Make) -> None:
    estimate = Estimate()
    ask = measured(make_result, "a", 0).cell
    assert estimate.of(ask) is None and estimate.left([ask], [], 1) is None
    estimate.learn(measured(make_result, "b", 100, benchmark="other"))
    assert estimate.of(ask) == 100
    estimate.learn(measured(make_result, "b", 10))
    assert estimate.of(ask) == 10
    estimate.learn(measured(make_result, "a", 4))
    estimate.learn(measured(make_result, "a", 6))
    assert estimate.of(ask) == 5


def test_what_is_left_is_shared_by_the_workers(make_result: Make) -> None:
    estimate = Estimate()
    estimate.learn(measured(make_result, "a", 10))
    a = measured(make_result, "a", 0).cell
    assert estimate.left([a] * 4, [], 2) == 20
    assert estimate.left([a], [(a, 4.0)], 2) == 10, "no cell ends before it ends"
    assert estimate.left([], [(a, 40.0)], 2) == 0
    estimate.learn(measured(make_result, "b", 50))
    b = measured(make_result, "b", 0).cell
    assert estimate.left([a, a, a, b], [], 1) == 80
    assert estimate.left([a, a, a, b], [], 2) == 50, "the longest cell is longer than half of all"


@pytest.mark.parametrize(("workers", "left"), [(1, [30, 20, 10, 0]), (2, [15, 10, 10, 0]), (0, [30, 20, 10, 0])])
def test_a_grid_tells_after_every_cell_what_is_left_for_its_workers(
    make_result: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, left: list[float]
) -> None:
    def ten_seconds_each(agenda: Agenda, resources: Resources) -> Iterator[CellFinished]:
        for cell in agenda:
            assert cell is not None
            yield CellFinished(Result(cell, environment={"seconds": 10.0}))

    monkeypatch.setitem(executors.EXECUTORS, "invented", ten_seconds_each)
    resources = Resources(workers=workers, address="elsewhere")  # where data is made ready
    events = grid.run_grid(cells(make_result, 4), [], resources, "invented", tmp_path)
    assert [event.left for event in events if isinstance(event, CellFinished)] == left


def test_grids_whose_processes_have_the_same_number_do_not_wait_for_one_another(tmp_path: Path) -> None:
    """As in two containers on one shared folder; and what the first one leaves ends nothing of the second's."""
    with Journal(tmp_path, 3, 0, 1, Estimate()), Journal(tmp_path, 5, 0, 1, Estimate()):
        found = list(status.grids(tmp_path))
        assert [process for process, _ in found] == [os.getpid()] * 2
        assert {note["total"] for _, note in found} == {3, 5}
        with Journal(tmp_path, 7, 0, 1, Estimate()):
            pass
        assert len(list(status.grids(tmp_path))) == 2
    assert list(status.grids(tmp_path)) == []


def test_the_longest_cells_come_first(make_result: Make) -> None:
    estimate = Estimate()
    for method, seconds in (("a", 1), ("b", 9)):
        estimate.learn(measured(make_result, method, seconds))
    a, b = (measured(make_result, method, 0).cell for method in "ab")
    assert estimate.longest_first([a, b]) == [b, a]
    assert Estimate().longest_first([a, measured(make_result, "c", 0, epochs=7).cell])[0].method == "c"


def test_this_file_needs_no_shared_memory_of_the_parent(tmp_path: Path) -> None:
    """A forked child holds no claim of its parent: the kernel gives record locks to one process."""
    with Claims(tmp_path) as claims:
        assert claims.claim(KEY)
        if (child := os.fork()) == 0:
            os._exit(0 if Claims(tmp_path).claim(KEY) else 7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
