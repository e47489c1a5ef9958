"""Per-image work over several processes, in order: the result never depends on how many."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal, TypeVar

from joblib import Parallel, cpu_count, delayed
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.params import STRICT
from stages.lib.progress import track

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 16
FEW = 4 * CHUNK  # starting worker processes costs about a second; below this it never pays


@dataclass(frozen=True, config=STRICT)
class ParallelParams:
    """How work is spread over processes. Changes no result, so no stage depends on it."""

    backend: Literal["loky", "threading"]
    workers: Annotated[int, Field(ge=0)]


def map_in_order(
    function: Callable[[T], R],
    items: Sequence[T],
    params: ParallelParams,
    description: str,
    unit: str = "images",
) -> Iterator[R]:
    """Yield `function(item)` for every item, in the order of the items.

    function: a top-level function (it travels to other processes).
    params.workers: 0 means one per core; 1, or few items, means no processes at all.
    Memory stays bounded: only a few chunks are under way at a time.
    """
    workers = params.workers or cpu_count()
    if workers == 1 or len(items) <= FEW:
        yield from track(map(function, items), len(items), description, unit)
        return
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    pool = Parallel(n_jobs=workers, backend=params.backend, return_as="generator", batch_size=1)
    done = pool(delayed(_run_chunk)(function, chunk) for chunk in chunks)
    yield from track((result for chunk in done for result in chunk), len(items), description, unit)


def _run_chunk(function: Callable[[T], R], chunk: Sequence[T]) -> list[R]:
    return [function(item) for item in chunk]
