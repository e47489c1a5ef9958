"""Work spread over workers gives what a plain loop gives, in its order."""

import pytest

from stages.lib.parallel import CHUNK, FEW, ParallelParams, map_in_order


def square(number: int) -> int:
    return number * number


def refuse_seven(number: int) -> int:
    if number == 7:
        raise ZeroDivisionError("seven")
    return number


@pytest.mark.parametrize(
    "backend",
    ["loky", "threading"],
)
@pytest.mark.parametrize("count", [FEW + 1, FEW + CHUNK])
def test_every_backend_gives_the_results_in_order(backend: str, count: int) -> None:
    found = map_in_order(square, range(count), ParallelParams(backend, 2, ""), "test")

    assert list(found) == [number * number for number in range(count)]


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, FEW, FEW + 1])
def test_the_number_of_workers_has_no_say(workers: int, count: int) -> None:
    found = map_in_order(square, range(count), ParallelParams("threading", workers, ""), "test")

    assert list(found) == [number * number for number in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_the_work_is_not_swallowed(workers: int) -> None:
    params = ParallelParams("threading", workers, "")

    with pytest.raises(ZeroDivisionError, match="seven"):
        list(map_in_order(refuse_seven, range(FEW + 1), params, "test"))


def test_one_worker_takes_items_only_when_asked_for() -> None:
    taken: list[int] = []

    results = map_in_order(taken.append, range(FEW + 1), ParallelParams("loky", 1, ""), "test")
    next(results)

    assert taken == [0]
