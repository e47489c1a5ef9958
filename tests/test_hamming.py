"""The Hamming join: every pair within the radius, each once, as a comparison of all with all."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.lib import hamming
from stages.lib.hamming import band_limits, hamming_join

HASHES = st.integers(0, 2**64 - 1)
# Few bits set, so that pairs within a small radius are common.
CLOSE_HASHES = st.sets(st.integers(0, 63), max_size=4).map(lambda bits: sum(1 << b for b in bits))
LISTS = st.lists(CLOSE_HASHES | HASHES, max_size=25)
LARGEST_RADIUS = 16  # that params allow


def brute_force(queries: np.ndarray, hashes: np.ndarray, radius: int) -> np.ndarray:
    """Return the pairs that a comparison of all with all finds, in order."""
    return np.argwhere(np.bitwise_count(queries[:, None] ^ hashes[None, :]) <= radius)


def random_hashes(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def clustered(seed: int, count: int, centres: int) -> np.ndarray:
    """Return hashes 0 to 16 bits from one of a few others, so that pairs at any distance exist."""
    rng = np.random.default_rng(seed)
    around = rng.integers(0, 2**64, centres, dtype=np.uint64)
    flips = [
        sum(1 << int(bit) for bit in rng.choice(64, rng.integers(0, 17), replace=False))
        for _ in range(count)
    ]
    return around[rng.integers(0, centres, count)] ^ np.array(flips, np.uint64)


@pytest.mark.parametrize("radius", [*range(LARGEST_RADIUS + 1), 20])
def test_1_the_join_equals_brute_force_at_every_radius(radius: int) -> None:
    queries = np.concatenate([clustered(0, 150, 3), random_hashes(1, 50)])
    # Others than the queries, and some of them too.
    hashes = np.concatenate([clustered(0, 150, 3)[::-2], clustered(2, 120, 3), queries[:30]])

    found = hamming_join(queries, hashes, radius)

    expected = brute_force(queries, hashes, radius)
    np.testing.assert_array_equal(found, expected)
    # Pairs at just that distance are there, or the test would not tell the radius from the next.
    distances = np.bitwise_count(queries[:, None] ^ hashes[None, :])
    assert (distances == radius).any()
    assert (distances == radius + 1).any()


@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("radius", [0, 1, 2, 3, 7, 10])
@given(queries=LISTS, hashes=LISTS)
def test_2_the_join_equals_brute_force_on_any_hashes(
    radius: int, queries: list[int], hashes: list[int]
) -> None:
    one, other = np.array(queries, np.uint64), np.array(hashes, np.uint64)

    found = hamming_join(one, other, radius)

    np.testing.assert_array_equal(found, brute_force(one, other, radius))


@pytest.mark.parametrize("radius", [0, 3, 10, LARGEST_RADIUS])
@pytest.mark.parametrize("value", [0, 2**64 - 1, 2**63, 0x5555_5555_5555_5555])
def test_3_equal_hashes_are_all_paired_once_though_every_band_proposes_them(
    value: int, radius: int
) -> None:
    equal = np.full(50, value, np.uint64)  # 2,500 pairs: more than a block first makes room for

    found = hamming_join(equal, equal, radius)

    assert found.tolist() == [[i, j] for i in range(50) for j in range(50)]


@pytest.mark.parametrize("band", range(4))
@pytest.mark.parametrize("radius", [3, 10, LARGEST_RADIUS])
def test_4_bits_that_differ_in_one_band_only_are_counted_like_any_others(
    radius: int, band: int
) -> None:
    ones = np.arange(LARGEST_RADIUS + 1, dtype=np.uint64)
    # 0, 1, 2 … bits set, the lowest of one band first.
    hashes = ((np.uint64(1) << ones) - np.uint64(1)) << np.uint64(16 * band)

    found = hamming_join(np.zeros(1, np.uint64), hashes, radius)

    assert found[:, 1].tolist() == list(range(radius + 1))


@pytest.mark.parametrize(("queries", "hashes"), [(0, 0), (0, 5), (5, 0)])
def test_5_nothing_on_one_side_is_no_pair(queries: int, hashes: int) -> None:
    found = hamming_join(np.zeros(queries, np.uint64), np.zeros(hashes, np.uint64), 10)

    assert found.shape == (0, 2)
    assert found.dtype == np.int64


@pytest.mark.parametrize("threads", [1, 3])
def test_6_the_number_of_threads_has_no_say(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    hashes = clustered(3, 400, 5)
    expected = brute_force(hashes, hashes, 8)

    monkeypatch.setattr(os, "cpu_count", lambda: threads)

    np.testing.assert_array_equal(hamming_join(hashes, hashes, 8), expected)


def test_7_the_queries_and_hashes_are_not_changed() -> None:
    queries, hashes = clustered(0, 40, 2), clustered(1, 40, 2)
    before = queries.copy(), hashes.copy()

    hamming_join(queries, hashes, 6)

    np.testing.assert_array_equal(queries, before[0])
    np.testing.assert_array_equal(hashes, before[1])


# --- The pigeonhole principle -------------------------------------------------------------------


@pytest.mark.parametrize("radius", range(64))
def test_bands_all_beyond_their_limits_differ_in_more_bits_than_the_radius(radius: int) -> None:
    limits = band_limits(radius)

    assert len(limits) == hamming.BANDS
    assert (limits + 1).sum() == radius + 1
    assert limits.min() >= -1
    assert np.ptp(limits) <= 1  # evenly: the cost of a band grows by the power of its limit


def test_the_bands_are_the_whole_hash() -> None:
    assert hamming.BANDS * hamming.BAND_BITS == 64
    assert hamming.VALUES % hamming.BLOCKS == 0
