"""Per-image work over several processes, in order: the result never depends on how many."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar, overload

from joblib import Parallel, cpu_count, delayed, parallel_config
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.errors import InputError
from stages.lib.isolation import Limits, Lost, end_all, pack, run_isolated
from stages.lib.params import STRICT
from stages.lib.progress import track

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 16
FEW = 4 * CHUNK  # starting worker processes costs about a second; below this it never pays
WINDOW = 8  # chunks per worker that are under way or wait
CLUSTERS = {"dask": "distributed", "ray": "ray"}  # backend: the package that it needs


@dataclass(frozen=True, config=STRICT)
class ParallelParams:
    """How work is spread over processes. Changes no result, so no stage depends on it.

    address: of the scheduler of an existing cluster, for dask and ray.
    """

    backend: Literal["loky", "threading", "dask", "ray"]
    workers: Annotated[int, Field(ge=0)]
    address: str


@overload
def map_in_order(
    function: Callable[[T], R],
    items: Sequence[T],
    params: ParallelParams,
    description: str,
    unit: str = "images",
    isolate: None = None,
) -> Iterator[R]: ...


@overload
def map_in_order(
    function: Callable[[T], R],
    items: Sequence[T],
    params: ParallelParams,
    description: str,
    unit: str = "images",
    *,
    isolate: Limits,
) -> Iterator[R | Lost]: ...


def map_in_order(
    function: Callable[[T], R],
    items: Sequence[T],
    params: ParallelParams,
    description: str,
    unit: str = "images",
    isolate: Limits | None = None,
) -> Iterator[R | Lost]:
    """Yield `function(item)` for every item, in the order of the items.

    function: a top-level function (it travels to other processes). isolate: what an item may cost;
    each worker then runs the function in a child process of its own, and an item on which that dies
    yields Lost. params.workers: 0 means one per core; 1, or few items, means no workers at all.
    Memory stays bounded: only a few chunks are under way at a time.
    Raises InputError for a cluster without address or package.
    """
    require_backend(params)
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    calls = _calls(function, chunks, isolate)
    workers = params.workers or (-1 if params.backend in CLUSTERS else cpu_count())
    # Where children do the work, processes of loky would only pass it on: threads own the children.
    backend = "threading" if isolate and params.backend == "loky" else params.backend
    try:
        if workers != 1 and len(items) > FEW:
            run = _on_ray if backend == "ray" else _on_workers
            results = _flat(run(calls, workers, backend, params.address))
        elif isolate:
            results = _flat(call(*given) for call, given, _ in calls)
        else:
            results = map(function, items)  # each is taken when its result is asked for
        yield from track(results, len(items), description, unit)
    finally:
        end_all()


def require_backend(params: ParallelParams) -> None:
    """Raise InputError where the backend is a cluster that cannot be reached."""
    package = CLUSTERS.get(params.backend)
    if package and not params.address:
        raise InputError(
            f"parallel.backend {params.backend!r} is a cluster that runs already: give its "
            "scheduler's address as parallel.address, e.g. 'tcp://10.0.0.1:8786', got ''"
        )
    if package and find_spec(package) is None:
        raise InputError(
            f"parallel.backend {params.backend!r} needs the package {package}: "
            "`pip install -r requirements-cluster.txt`, or choose loky"
        )


def _calls(
    function: Callable[[T], R], chunks: Iterable[Sequence[T]], isolate: Limits | None
) -> Iterator[Any]:
    if isolate is None:
        return (delayed(_run_chunk)(function, chunk) for chunk in chunks)
    task = pack(function, isolate)
    return (delayed(run_isolated)(task, chunk) for chunk in chunks)


def _on_workers(
    calls: Iterator[Any], workers: int, backend: str, address: str
) -> Iterator[list[Any]]:
    place = {"scheduler_host": address} if backend == "dask" else {}
    with parallel_config(backend=backend, n_jobs=workers, **place):
        # Chunks wait at each worker, so that none stands idle where this process is slow to wake.
        pool = Parallel(return_as="generator", batch_size=1, pre_dispatch=f"{WINDOW} * n_jobs")
    yield from pool(calls)


def _on_ray(calls: Iterator[Any], workers: int, backend: str, address: str) -> Iterator[list[Any]]:
    import ray
    from ray.util.joblib import register_ray

    ray.init(address=address, ignore_reinit_error=True)
    register_ray()
    if workers < 0:
        workers = int(ray.cluster_resources()["CPU"])
    with parallel_config(backend=backend, n_jobs=workers):
        pool = Parallel(batch_size=1)  # this backend knows no generators
    while results := pool(islice(calls, WINDOW * workers)):
        yield from results


def _flat(chunks: Iterable[list[Any]]) -> Iterator[Any]:
    return (result for chunk in chunks for result in chunk)


def _run_chunk(function: Callable[[T], R], chunk: Sequence[T]) -> list[R]:
    return [function(item) for item in chunk]
