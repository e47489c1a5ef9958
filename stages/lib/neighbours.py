"""Exact nearest neighbours of small colour descriptors: proposes what perceptual hashes miss."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.fft import dctn
from threadpoolctl import threadpool_limits

from stages.lib.images import CHROMA_SIDE, THUMBNAIL_SIDE
from stages.lib.progress import track

Descriptors = NDArray[np.float32]  # (images, DIMENSIONS), unit length; all zero: a flat picture
Positions = NDArray[np.int64]

BLOCKS = 8  # a descriptor starts from the means of 8 × 8 blocks
LUMA_ORDER, CHROMA_ORDER = 6, 2  # highest u + v of the cosine coefficients kept
LEAST_NORM = 8.0  # coefficients together below this: next to nothing to see
# Copies whose descriptors have a smaller product are rare: 2 % of 3,635 verified pairs of CIFAR-10.
LEAST_PRODUCT = 0.75

TILE = 512  # pictures compared with as many others at a time: 1 MB of products, which fits a cache
EXACT_UP_TO = (
    200_000  # pictures; the products grow with the square: 1,000,000 would take 20 minutes
)
PROBES = 24  # cells that a query looks into beyond that
GROUP = 64  # products that are looked at together, since hardly any is near enough


def descriptors(thumbnails: NDArray[np.uint8]) -> Descriptors:
    """Return low cosine coefficients of luma (without its mean), Cb and Cr at unit length.

    thumbnails: (images, THUMBNAIL_BYTES). They keep what an 8 × 8 colour-mean descriptor tells, in
    a fifth of the numbers; a mirrored or turned picture's are the same ones with other signs and
    places, see `turned`.
    """
    count = len(thumbnails)
    cells = THUMBNAIL_SIDE // BLOCKS
    luma = thumbnails[:, : THUMBNAIL_SIDE**2].reshape(count, BLOCKS, cells, BLOCKS, cells)
    cells = CHROMA_SIDE // BLOCKS
    chroma = thumbnails[:, THUMBNAIL_SIDE**2 :].reshape(count, 2, BLOCKS, cells, BLOCKS, cells)
    planes = np.empty((count, 3, BLOCKS, BLOCKS), np.float32)
    planes[:, 0] = luma.mean(axis=(2, 4), dtype=np.float32)
    planes[:, 1:] = chroma.mean(axis=(3, 5), dtype=np.float32) - 128
    spectrum = dctn(planes, axes=(2, 3), norm="ortho", overwrite_x=True)
    plane, u, v = _PLACES.T
    found = spectrum[:, plane, u, v]
    norm = np.linalg.norm(found, axis=1, keepdims=True)
    return np.where(norm < LEAST_NORM, 0, found / np.maximum(norm, LEAST_NORM)).astype(np.float32)


def turned(found: Descriptors, turn: int) -> Descriptors:
    """Return what the descriptors would be if the pictures were mirrored (turn + 4) and then turned
    by `turn` quarters anticlockwise.
    """
    plane, u, v = _PLACES.T
    signs = np.where(v % 2, -1.0, 1.0) if turn >= 4 else np.ones(len(plane))
    order = np.arange(len(plane))
    place = {tuple(where): at for at, where in enumerate(_PLACES.tolist())}
    for _ in range(turn % 4):
        # A quarter turn transposes, then flips top and bottom.
        swap = np.array([place[(c, b, a)] for c, a, b in _PLACES.tolist()])
        order, signs = order[swap], signs[swap] * np.where(u % 2, -1.0, 1.0)
    return np.ascontiguousarray(found[:, order] * signs.astype(np.float32))


def _places() -> NDArray[np.int64]:
    """Return plane, u, v of the coefficients kept, low frequencies first."""
    kept = [
        (u + v, plane, u, v)
        for plane in range(3)
        for u in range(BLOCKS)
        for v in range(BLOCKS)
        if (plane > 0 or u + v > 0) and u + v <= (CHROMA_ORDER if plane else LUMA_ORDER)
    ]
    return np.array([where[1:] for where in sorted(kept)])


_PLACES = _places()
DIMENSIONS = len(_PLACES)


def nearest_neighbours(
    descriptors: Descriptors, turn: int, queries: Positions, candidates: Positions, count: int
) -> Positions:
    """Return for each query, turned first, the `count` nearest candidates; −1: there are fewer.

    queries, candidates: positions in `descriptors`. Of equally near candidates the first counts.
    Those below LEAST_PRODUCT are no neighbours, and a flat picture has none. Shape (queries,
    count), nearest first. Exact among up to EXACT_UP_TO candidates, see `is_exact`.
    """
    if count == 0:
        return np.empty((len(queries), 0), np.int64)
    rows = turned(descriptors[queries], turn)
    others = descriptors[candidates]
    # What i turned is to j, j turned is to i (but for a single quarter turn): half the products do.
    halved = turn not in (1, 3) and np.array_equal(queries, candidates)
    if is_exact(len(candidates)):
        blocks = list(_all_tiles(len(queries), len(candidates), halved))
    else:
        blocks, halved = list(_tiles_of_cells(rows, others)), False
    work = threading.local()
    held: list[_Nearest] = []

    def run(block: tuple[Positions, Positions]) -> None:
        if not hasattr(work, "best"):
            work.best = _Nearest(len(queries), count)
            held.append(work.best)
        of, among = block
        products = rows[of] @ others[among].T
        best: _Nearest = work.best
        if halved and of[0] < among[0]:
            best.keep_both_ways(products, of, among, queries, candidates)
        else:
            best.keep(products, of, queries[of], candidates[among])

    # One thread each for the matrix products: the blocks are what is spread over the cores.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in track(threads.map(run, blocks), len(blocks), "compare descriptors", "blocks"):
            pass
    return _merge(held, len(queries), count)


def is_exact(candidates: int) -> bool:
    """Tell whether every product is taken among so many candidates.

    Beyond EXACT_UP_TO they are sorted into cells around pivots, and a query looks only into the
    PROBES cells whose pivots are nearest to it: see benchmarks/README.md for what that misses.
    """
    return candidates <= EXACT_UP_TO


def _all_tiles(
    queries: int, candidates: int, halved: bool
) -> Iterator[tuple[Positions, Positions]]:
    """Yield which queries to compare with which candidates: all, or those behind the diagonal."""
    for top in range(0, queries, TILE):
        for low in range(top if halved else 0, candidates, TILE):
            yield (
                np.arange(top, min(top + TILE, queries)),
                np.arange(low, min(low + TILE, candidates)),
            )


def _tiles_of_cells(
    rows: Descriptors, others: Descriptors
) -> Iterator[tuple[Positions, Positions]]:
    """Yield which queries to compare with which candidates: those of the nearest cells."""
    pivots = others[:: max(round(len(others) ** 0.5), 1)]
    cell_of = _nearest_pivots(others, pivots, 1)[:, 0]
    probed = _nearest_pivots(rows, pivots, min(PROBES, len(pivots)))
    members = np.split(np.argsort(cell_of, kind="stable"), _ends(cell_of, len(pivots)))
    order = np.argsort(probed, axis=None, kind="stable") // probed.shape[1]
    visitors = np.split(order, _ends(probed.ravel(), len(pivots)))
    for of, among in zip(visitors, members, strict=True):
        for top in range(0, len(of), TILE):
            for low in range(0, len(among), TILE):
                yield of[top : top + TILE], among[low : low + TILE]


def _ends(values: Positions, count: int) -> Positions:
    ends: Positions = np.cumsum(np.bincount(values, minlength=count))[:-1]
    return ends


def _nearest_pivots(rows: Descriptors, pivots: Descriptors, count: int) -> Positions:
    """Return which pivots are nearest to each row, in any order. Shape (rows, count)."""
    found = np.empty((len(rows), count), np.int64)
    for start in range(0, len(rows), TILE):
        products = rows[start : start + TILE] @ pivots.T
        found[start : start + TILE] = np.argpartition(-products, count - 1, axis=1)[:, :count]
    return found


class _Nearest:
    """The nearest found so far by one thread: products and positions, nearest first."""

    def __init__(self, rows: int, count: int) -> None:
        self.values = np.full((rows, count), LEAST_PRODUCT, np.float32)
        self.which = np.full((rows, count), -1, np.int64)

    def keep(
        self, products: Descriptors, of: Positions, queries: Positions, candidates: Positions
    ) -> None:
        """Enter what is near enough to the queries in the rows `of`."""
        values, which = self.values[of], self.which[of]
        _keep(products, queries, candidates, values, which)
        self.values[of], self.which[of] = values, which

    def keep_both_ways(
        self,
        products: Descriptors,
        of: Positions,
        among: Positions,
        queries: Positions,
        candidates: Positions,
    ) -> None:
        """Enter what is near enough to either side, where queries and candidates are the same."""
        top, low = of[0], among[0]
        _keep_both_ways(
            products, queries[of], candidates[among],
            self.values[top:], self.which[top:], self.values[low:], self.which[low:],
        )  # fmt: skip


def _merge(held: list[_Nearest], rows: int, count: int) -> Positions:
    """Return the nearest of what all threads found: which thread saw what has no say."""
    if not held:
        return np.full((rows, count), -1, np.int64)
    values = np.concatenate([one.values for one in held], axis=1)
    which = np.concatenate([one.which for one in held], axis=1)
    order = np.lexsort((np.where(which < 0, np.iinfo(np.int64).max, which), -values), axis=1)
    return np.take_along_axis(which, order[:, :count], axis=1)


@njit(nogil=True, cache=True, fastmath=True)
def _enter(values, which, row, value, candidate):  # type: ignore[no-untyped-def]
    """Enter a candidate in the sorted list of a row, if it is nearer than the last of it."""
    place = values.shape[1] - 1
    if value < values[row, place] or (
        value == values[row, place] and candidate > which[row, place]
    ):
        return  # an empty place holds LEAST_PRODUCT and −1, so just that much is not enough
    while place > 0 and (
        values[row, place - 1] < value
        or (values[row, place - 1] == value and which[row, place - 1] > candidate)
    ):
        values[row, place] = values[row, place - 1]
        which[row, place] = which[row, place - 1]
        place -= 1
    values[row, place] = value
    which[row, place] = candidate


@njit(nogil=True, cache=True, fastmath=True)
def _keep(products, queries, candidates, values, which):  # type: ignore[no-untyped-def]
    """Enter into values and which, one list per row of products, what is near enough."""
    rows, count = products.shape
    last = values.shape[1] - 1
    for row in range(rows):
        for group in range(0, count, GROUP):
            end = min(group + GROUP, count)
            highest = np.float32(-1)
            for j in range(group, end):
                highest = max(highest, products[row, j])
            if highest < values[row, last]:
                continue
            for j in range(group, end):
                if products[row, j] >= values[row, last] and candidates[j] != queries[row]:
                    _enter(values, which, row, products[row, j], candidates[j])


@njit(nogil=True, cache=True, fastmath=True)
def _keep_both_ways(  # type: ignore[no-untyped-def]
    products, queries, candidates, values, which, column_values, column_which
):
    """Do what `_keep` does for the rows, and the same for the columns, in one pass."""
    rows, count = products.shape
    last = values.shape[1] - 1
    limits = column_values[:count, last].copy()
    for row in range(rows):
        for group in range(0, count, GROUP):
            end = min(group + GROUP, count)
            highest, excess = np.float32(-1), np.float32(-9)
            for j in range(group, end):
                highest = max(highest, products[row, j])
                excess = max(excess, products[row, j] - limits[j])
            if highest >= values[row, last]:
                for j in range(group, end):
                    if products[row, j] >= values[row, last]:
                        _enter(values, which, row, products[row, j], candidates[j])
            if excess >= 0:
                for j in range(group, end):
                    if products[row, j] >= limits[j]:
                        _enter(column_values, column_which, j, products[row, j], queries[row])
                        limits[j] = column_values[j, last]
