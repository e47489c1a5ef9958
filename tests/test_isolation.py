"""An item on which a decoder crashes, hangs or starves costs that item and nothing else."""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lethal import LETHAL, crash_at_first, decode, folder_of, process_id

from stages.lib import isolation
from stages.lib.isolation import Limits, Lost, Sandbox, end_all, pack, run_isolated
from stages.lib.parallel import FEW, ParallelParams, map_in_order

ROOT = Path(__file__).parent.parent
LIMITS = Limits(seconds=1.0, megabytes=100)


def is_alive(process: int) -> bool:
    """Tell whether a process runs; one that has ended and is not yet collected does not."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    yield
    end_all()


def run(*items: str) -> list[str | Lost]:
    return run_isolated(pack(decode, LIMITS), items)


def test_results_come_in_order_from_one_child() -> None:
    assert run("a", "b", "c") == ["A", "B", "C"]

    processes = set(run_isolated(pack(process_id, LIMITS), range(50)))

    assert len(processes) == 1
    assert os.getpid() not in processes


@pytest.mark.parametrize("how", LETHAL)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_lethal_item_costs_that_item_wherever_it_stands(how: str, place: int) -> None:
    items = ["a", "b", "c", "d"]
    items.insert(place, how)

    found = run(*items)

    assert found == [Lost(LETHAL[how]) if item == how else item.upper() for item in items]


def test_several_lethal_items_in_a_row_each_get_their_own_reason() -> None:
    items = ["crash", "starve", "a", "hang", "crash", "b", "exit"]

    assert run(*items) == [Lost(LETHAL[item]) if item in LETHAL else item.upper() for item in items]


def test_an_item_that_dies_only_after_others_is_tried_alone_and_lives(tmp_path: Path) -> None:
    work = functools.partial(crash_at_first, memory=tmp_path)
    items = ["a", "flaky1", "b", "flaky2", "c"]

    assert run_isolated(pack(work, LIMITS), items) == [item.upper() for item in items]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_hang_lasts_no_longer_than_twice_the_limit_and_two_starts() -> None:
    started = time.monotonic()

    assert run("hang") == [Lost("timeout")]
    assert time.monotonic() - started < 2 * LIMITS.seconds + 10


def test_time_is_counted_per_item() -> None:
    nap = pack(time.sleep, Limits(seconds=0.5, megabytes=300))

    assert run_isolated(nap, [0.2] * 5) == [None] * 5


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_the_result_is_the_same_with_every_backend_and_number_of_workers(
    backend: str, workers: int
) -> None:
    items = [f"item {number}" for number in range(FEW + 20)]
    items[3], items[40], items[70] = "crash", "starve", "hang"
    params = ParallelParams(backend, workers, "")

    found = list(map_in_order(decode, items, params, "test", isolate=LIMITS))

    assert found == [Lost(LETHAL[item]) if item in LETHAL else item.upper() for item in items]
    assert not isolation._open


@pytest.mark.parametrize("count", [3, FEW + 20])
def test_a_defect_of_ours_is_raised_and_says_where_it_was(count: int) -> None:
    items = ["a"] * (count - 1) + ["defect"]

    with pytest.raises(ZeroDivisionError, match="ours") as raised:
        list(map_in_order(decode, items, ParallelParams("loky", 2, ""), "test", isolate=LIMITS))

    assert "in decode" in raised.value.__notes__[0]
    assert not isolation._open


def test_a_child_that_cannot_even_start_is_an_error_and_no_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolation, "START", "raise SystemExit(7)")

    with pytest.raises(RuntimeError, match="before any work"):
        run("a")


def test_what_decoders_print_does_not_reach_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("noise", "noise") == ["NOISE", "NOISE"]

    assert capfd.readouterr() == ("", "")


def test_the_child_works_where_its_owner_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = pack(folder_of, LIMITS)
    monkeypatch.chdir(tmp_path)

    assert run_isolated(task, [0]) == [str(tmp_path)]


def test_a_child_without_work_ends_by_itself_and_its_owner_takes_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = "import stages.lib.isolation as i; i.IDLE_SECONDS = 0.2; "
    monkeypatch.setattr(isolation, "START", isolation.START.replace("from ", start + "from ", 1))
    task = pack(process_id, LIMITS)
    (first,) = run_isolated(task, [0])
    time.sleep(1)

    (second,) = run_isolated(task, [0])

    assert first != second
    assert not is_alive(first)


def test_an_ended_sandbox_starts_no_more_children() -> None:
    sandbox = Sandbox(pack(process_id, LIMITS))
    (child,) = sandbox.run([0])

    sandbox.end()

    assert not is_alive(child)
    with pytest.raises(RuntimeError, match="stopped"):
        list(sandbox.run([0]))


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_no_child_outlives_its_owner(tmp_path: Path, backend: str, ending: signal.Signals) -> None:
    code = (
        "import sys; sys.path[:0] = [{tests!r}, {root!r}]\n"
        "from lethal import slow\n"
        "from stages.lib.isolation import Limits\n"
        "from stages.lib.parallel import ParallelParams, map_in_order\n"
        "work = map_in_order(slow, [{folder!r}] * 500, ParallelParams({backend!r}, 2, ''), 't', "
        "isolate=Limits(9.0, 300))\n"
        "print(len(list(work)))"
    ).format(tests=str(ROOT / "tests"), root=str(ROOT), folder=str(tmp_path), backend=backend)
    owner = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    children = [int(path.name) for path in tmp_path.iterdir()]

    owner.send_signal(ending)
    owner.wait()
    time.sleep(1)

    assert len(children) == 2
    assert [child for child in children if is_alive(child)] == []
