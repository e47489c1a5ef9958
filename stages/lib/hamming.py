"""Exact search for hashes that lie close together: every pair within a radius, none missed."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stages.lib.progress import track

Hashes = NDArray[np.uint64]
Pairs = NDArray[np.int64]

BANDS, BAND_BITS = 4, 16
VALUES = 1 << BAND_BITS
BLOCKS = 64  # pieces of work, each a range of band values
COMPILED = Path(__file__).parent / "__pycache__"  # where Numba keeps its code


def hamming_join(queries: Hashes, hashes: Hashes, radius: int) -> Pairs:
    """Return every (i, j) whose hashes `queries[i]` and `hashes[j]` differ in at most `radius`
    bits.

    Exact, by the pigeonhole principle (multi-index hashing, Norouzi et al. 2012): the 64 bits are
    cut into four bands, and two hashes within the radius agree up to a few bits in at least one of
    them, so only hashes whose band is that close are compared. Shape (pairs, 2), sorted.
    """
    limits = band_limits(radius)
    pieces = [
        (band, start)
        for band in range(BANDS)
        if limits[band] >= 0
        for start in range(0, VALUES, VALUES // BLOCKS)
    ]
    tables = [_Bands(queries, hashes, band) for band in range(BANDS)]
    masks = [_masks(limit) for limit in limits]

    def run(piece: tuple[int, int]) -> Pairs:
        band, start = piece
        table = tables[band]
        pairs: Pairs = _join(
            table.queries, table.query_rows, table.query_starts,
            table.hashes, table.hash_rows, table.hash_starts,
            masks[band], limits, band, start, start + VALUES // BLOCKS, radius,
        )  # fmt: skip
        return pairs

    if not any(COMPILED.glob("hamming.*.nbi")):
        print("compiling the search for duplicates, once: up to a minute", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        done = threads.map(run, pieces)
        found = list(track(done, len(pieces), "compare hashes", "blocks"))
    pairs = np.concatenate(found) if found else np.empty((0, 2), np.int64)
    ordered: Pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return ordered


def band_limits(radius: int) -> NDArray[np.int64]:
    """Return for each band in how many bits it may differ; −1: it need not be searched.

    Were every band beyond its limit, the hashes would differ in sum(limits + 1) bits or more, which
    is radius + 1.
    """
    share, more = divmod(radius + 1 - BANDS, BANDS) if radius >= BANDS - 1 else (-1, radius + 1)
    return np.array([share + (band < more) for band in range(BANDS)], np.int64)


class _Bands:
    """Queries and hashes sorted by the value of one band, with where each value starts."""

    def __init__(self, queries: Hashes, hashes: Hashes, band: int) -> None:
        self.queries, self.query_rows, self.query_starts = _sorted_by_band(queries, band)
        self.hashes, self.hash_rows, self.hash_starts = _sorted_by_band(hashes, band)


def _sorted_by_band(
    hashes: Hashes, band: int
) -> tuple[Hashes, NDArray[np.int32], NDArray[np.int64]]:
    values = ((hashes >> np.uint64(BAND_BITS * band)) & np.uint64(VALUES - 1)).astype(np.uint16)
    rows = np.argsort(values, kind="stable").astype(np.int32)
    starts = np.zeros(VALUES + 1, np.int64)
    np.cumsum(np.bincount(values, minlength=VALUES), out=starts[1:])
    return hashes[rows], rows, starts


def _masks(limit: int) -> NDArray[np.int64]:
    """Return the numbers of BAND_BITS bits of which at most `limit` are one."""
    return np.array(list(_few_ones(limit)), np.int64)


def _few_ones(limit: int) -> Iterator[int]:
    for ones in range(limit + 1):
        for bits in combinations(range(BAND_BITS), ones):
            yield sum(1 << bit for bit in bits)


@njit(nogil=True, cache=True)
def _ones(value):  # type: ignore[no-untyped-def]
    """Count one-bits; the compiler turns this form into the processor's own instruction."""
    value -= (value >> np.uint64(1)) & np.uint64(0x5555555555555555)
    value = (value & np.uint64(0x3333333333333333)) + (
        (value >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (value * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit(nogil=True, cache=True)
def _join(  # type: ignore[no-untyped-def]
    queries, query_rows, query_starts, hashes, hash_rows, hash_starts,
    masks, limits, band, low, high, radius,
):  # fmt: skip
    """Compare the queries whose band lies in low to high with the hashes whose band is close."""
    found = np.empty((1024, 2), np.int64)
    count = 0
    reach = np.uint64(radius)
    for value in range(low, high):
        for mask in masks:
            other = value ^ mask
            for i in range(query_starts[value], query_starts[value + 1]):
                query = queries[i]
                for j in range(hash_starts[other], hash_starts[other + 1]):
                    differing = query ^ hashes[j]
                    if _ones(differing) > reach:
                        continue
                    earlier = False
                    for before in range(band):
                        part = (differing >> np.uint64(BAND_BITS * before)) & np.uint64(VALUES - 1)
                        earlier = earlier or np.int64(_ones(part)) <= limits[before]
                    if earlier:  # an earlier band has reported this pair
                        continue
                    if count == len(found):
                        grown = np.empty((2 * count, 2), np.int64)
                        grown[:count] = found
                        found = grown
                    found[count, 0] = query_rows[i]
                    found[count, 1] = hash_rows[j]
                    count += 1
    return found[:count].copy()
