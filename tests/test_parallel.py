"""Work spread over workers gives what a plain loop gives, in its order."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from lethal import decode

from stages.lib import parallel
from stages.lib.errors import InputError
from stages.lib.isolation import Limits, Lost
from stages.lib.parallel import CHUNK, FEW, ParallelParams, map_in_order, require_backend


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


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_cluster_without_an_address_is_an_error_before_any_work(backend: str) -> None:
    taken: list[int] = []

    with pytest.raises(InputError, match="parallel.address.* got ''"):
        list(map_in_order(taken.append, range(3), ParallelParams(backend, 0, ""), "test"))

    assert taken == []


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_cluster_without_its_package_is_an_error_that_names_the_remedy(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "find_spec", lambda _: None)

    with pytest.raises(InputError, match="requirements-cluster.txt"):
        require_backend(ParallelParams(backend, 0, "tcp://10.0.0.1:8786"))


@pytest.mark.skipif(not find_spec("distributed"), reason="needs requirements-cluster.txt")
@pytest.mark.parametrize("isolate", [None, Limits(5.0, 300)])
def test_a_dask_cluster_gives_the_results_in_order(
    isolate: Limits | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import LocalCluster

    root = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), str(root / "tests")]))
    items = [f"item {number}" for number in range(FEW + 10)]
    expected: list[object] = [item.upper() for item in items]
    if isolate:
        items[5], expected[5] = "crash", Lost("decoder_crash")

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        params = ParallelParams("dask", 0, cluster.scheduler_address)
        found = list(map_in_order(decode, items, params, "test", isolate=isolate))

    assert found == expected
