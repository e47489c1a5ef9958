"""Duplicates: hashes propose every pair within the radius, pixels decide, groups are transitive."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from stages.lib import duplicates
from stages.lib.duplicates import (
    connected_groups,
    find_duplicates,
    hamming_pairs,
    propose_pairs,
    verify_pairs,
)
from stages.lib.hashing import is_flat, perceptual_hash, sha256_hex
from stages.lib.images import THUMBNAIL_SIDE, thumbnail, to_grey

RADIUS, SIMILARITY = 10, 0.95
HASHES = st.integers(0, 2**64 - 1)
# Few bits set, so that pairs within a small radius are common.
CLOSE_HASHES = st.sets(st.integers(0, 63), max_size=4).map(lambda bits: sum(1 << b for b in bits))


def rows_of(*pictures: np.ndarray) -> pd.DataFrame:
    """Return what scan says of pictures, as far as the search for duplicates reads it."""
    greys = [to_grey(np.ascontiguousarray(picture)) for picture in pictures]
    return pd.DataFrame(
        {
            "image_id": [
                sha256_hex(np.ascontiguousarray(picture).tobytes()) for picture in pictures
            ],
            "phash": np.array([perceptual_hash(grey) for grey in greys], np.uint64),
            "phash_mirrored": np.array(
                [perceptual_hash(grey[:, ::-1]) for grey in greys], np.uint64
            ),
            "thumbnail": [thumbnail(grey).tobytes() for grey in greys],
        }
    )


def found_in(rows: pd.DataFrame, radius: int = RADIUS) -> list[tuple[int, int]]:
    pairs = find_duplicates(rows, radius, SIMILARITY)
    return list(zip(pairs["left"], pairs["right"], strict=True))


def reencoded(pixels: np.ndarray) -> np.ndarray:
    """Return pixels a little off everywhere, as after another encoding."""
    noise = np.random.default_rng(0).integers(-6, 7, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def faded(pixels: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    return (pixels * (1 - share) + other * share).astype(np.uint8)


# --- Hamming search -----------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@pytest.mark.parametrize("radius", [0, 1, 2, 7, 16, 64])
@given(hashes=st.lists(CLOSE_HASHES | HASHES, max_size=25), cells=st.integers(1, 200))
def test_1_the_search_equals_brute_force_whatever_the_size_of_its_blocks(
    monkeypatch: pytest.MonkeyPatch, radius: int, hashes: list[int], cells: int
) -> None:
    monkeypatch.setattr(duplicates, "BLOCK_CELLS", cells)
    array = np.array(hashes, np.uint64)

    found = hamming_pairs(array, array, radius)

    expected = [
        [i, j]
        for i, j in combinations(range(len(hashes)), 2)
        if (hashes[i] ^ hashes[j]).bit_count() <= radius
    ]
    assert found.tolist() == expected


@given(
    queries=st.lists(CLOSE_HASHES, min_size=9, max_size=9),
    hashes=st.lists(CLOSE_HASHES, min_size=9, max_size=9),
)
def test_2_queries_of_their_own_are_compared_with_the_hashes_behind_them(
    queries: list[int], hashes: list[int]
) -> None:
    found = hamming_pairs(np.array(queries, np.uint64), np.array(hashes, np.uint64), 4)

    expected = [
        [i, j] for i, j in combinations(range(9), 2) if (queries[i] ^ hashes[j]).bit_count() <= 4
    ]
    assert found.tolist() == expected


@pytest.mark.parametrize("count", [0, 1])
def test_3_fewer_than_two_rows_have_no_pairs(
    count: int, textured_picture: Callable[..., np.ndarray]
) -> None:
    rows = rows_of(textured_picture(0)).iloc[:count]

    assert hamming_pairs(np.zeros(count, np.uint64), np.zeros(count, np.uint64), 64).shape == (0, 2)
    assert list(find_duplicates(rows, RADIUS, SIMILARITY).columns) == list(duplicates.PAIR_COLUMNS)
    assert found_in(rows) == []


# --- Duplicates ---------------------------------------------------------------------------------


def test_copies_are_found_and_different_pictures_are_not(
    textured_picture: Callable[..., np.ndarray],
) -> None:
    originals = [textured_picture(seed) for seed in range(12)]
    copies = [reencoded(picture) for picture in originals[:4]]

    assert found_in(rows_of(*originals, *copies)) == [(0, 12), (1, 13), (2, 14), (3, 15)]


def test_equal_bytes_are_pairs_of_distance_zero_and_similarity_one(
    textured_picture: Callable[..., np.ndarray],
) -> None:
    picture, other = textured_picture(0), textured_picture(1)

    pairs = find_duplicates(rows_of(picture, other, picture), RADIUS, SIMILARITY)

    expected = pd.DataFrame(
        [(0, 2, 0, False, 1.0)], columns=["left", "right", "distance", "mirrored", "similarity"]
    )
    assert_frame_equal(pairs, expected, check_dtype=False)
    assert [str(pairs[name].dtype) for name in ("left", "similarity")] == ["int64", "float64"]


def test_three_equal_copies_are_all_paired_with_one_another_and_with_a_near_copy(
    textured_picture: Callable[..., np.ndarray],
) -> None:
    picture = textured_picture(0)

    found = found_in(rows_of(picture, reencoded(picture), picture, textured_picture(1), picture))

    assert found == [(0, 1), (0, 2), (0, 4), (1, 2), (1, 4), (2, 4)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("swap", [False, True])
def test_a_mirrored_copy_is_found_and_said_to_be_mirrored(
    textured_picture: Callable[..., np.ndarray], seed: int, swap: bool
) -> None:
    picture = textured_picture(seed)
    two = [picture, reencoded(picture[:, ::-1])]

    pairs = find_duplicates(rows_of(*two[:: -1 if swap else 1]), RADIUS, SIMILARITY)

    assert pairs["mirrored"].tolist() == [True]
    assert pairs["similarity"].iloc[0] >= SIMILARITY


def test_a_pair_proposed_straight_and_mirrored_is_listed_once(
    textured_picture: Callable[..., np.ndarray],
) -> None:
    half = textured_picture(0, 48, 32)
    picture = np.concatenate([half, half[:, ::-1]], axis=1)
    rows = rows_of(picture, reencoded(picture))
    rows["phash"] = rows["phash_mirrored"] = np.uint64(0x5555_5555_5555_5555)

    proposed = propose_pairs(rows, 0)

    assert proposed["mirrored"].tolist() == [False, True]
    assert len(verify_pairs(rows, proposed, SIMILARITY)) == 1


@pytest.mark.parametrize("radius", [10, 16, 64])
def test_flat_pictures_match_nothing(
    textured_picture: Callable[..., np.ndarray], radius: int
) -> None:
    flat = [np.full((48, 64, 3), value, np.uint8) for value in (0, 100, 101, 255)]
    rows = rows_of(*flat, textured_picture(0))
    assert is_flat(rows["phash"].to_numpy()).tolist() == [True] * 4 + [False]

    assert len(propose_pairs(rows, radius)) == 0
    assert found_in(rows, radius) == []


def test_flat_pictures_with_equal_bytes_are_still_equal() -> None:
    flat = np.full((48, 64, 3), 100, np.uint8)

    assert found_in(rows_of(flat, flat)) == [(0, 1)]


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_order_of_the_rows_has_no_say(
    textured_picture: Callable[..., np.ndarray], mirrored: bool
) -> None:
    originals = [textured_picture(seed) for seed in range(30)]
    # Shifted copies lie at the edge of the radius, where a search in one direction would miss some.
    copies = [reencoded(np.roll(picture, 1, axis=1)) for picture in originals]
    copies = [copy[:, ::-1] if mirrored else copy for copy in copies]
    rows = rows_of(*originals, *copies)
    order = np.random.default_rng(0).permutation(len(rows))

    there = {frozenset(pair) for pair in found_in(rows, 6)}
    back = {frozenset(order[list(pair)]) for pair in found_in(rows.iloc[order], 6)}

    assert there == back
    assert len(there) > 10


def test_the_index_of_the_rows_has_no_say(textured_picture: Callable[..., np.ndarray]) -> None:
    picture = textured_picture(0)
    rows = rows_of(picture, textured_picture(1), reencoded(picture), picture)

    relabelled = rows.set_index(pd.Index([7, 7, 3, 0]))

    assert found_in(relabelled) == found_in(rows)


def test_a_proposed_pair_stays_only_if_the_pixels_agree(
    textured_picture: Callable[..., np.ndarray],
) -> None:
    rows = rows_of(*(textured_picture(seed) for seed in range(8)))
    rows["phash"] = rows["phash_mirrored"] = np.uint64(0x5555_5555_5555_5555)

    proposed = propose_pairs(rows, 0)

    assert len(proposed) == 2 * 28
    assert len(verify_pairs(rows, proposed, SIMILARITY)) == 0


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_every_verified_pair_is_at_least_as_similar_as_asked_for(
    textured_picture: Callable[..., np.ndarray], level: float
) -> None:
    start, end = textured_picture(0), textured_picture(1)
    rows = rows_of(*(faded(start, end, share) for share in np.linspace(0, 1, 9)))

    at_level = find_duplicates(rows, 64, level)
    all_pairs = find_duplicates(rows, 64, 0.0)

    assert (at_level["similarity"] >= level).all()
    assert len(at_level) == (all_pairs["similarity"] >= level).sum() > 0


# --- Groups -------------------------------------------------------------------------------------


def partition(groups: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in set(groups)}


def test_groups_are_transitive() -> None:
    groups = connected_groups(6, np.array([0, 1, 4]), np.array([1, 2, 5]))

    assert partition(groups) == {frozenset({0, 1, 2}), frozenset({3}), frozenset({4, 5})}


def test_without_edges_every_row_is_its_own_group() -> None:
    none = np.empty(0, np.int64)

    assert partition(connected_groups(3, none, none)) == {frozenset({at}) for at in range(3)}


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20))
def test_groups_equal_those_of_merging_sets_one_edge_at_a_time(
    edges: list[tuple[int, int]],
) -> None:
    expected = {frozenset({at}) for at in range(12)}
    for pair in edges:
        touched = {group for group in expected if group & set(pair)}
        expected = expected - touched | {frozenset().union(*touched)}

    left, right = (np.array([edge[side] for edge in edges], np.int64) for side in (0, 1))

    assert partition(connected_groups(12, left, right)) == expected


def test_a_thumbnail_has_the_size_that_the_comparison_expects(
    textured_picture: Callable[..., np.ndarray],
) -> None:
    assert len(rows_of(textured_picture(0))["thumbnail"].iloc[0]) == THUMBNAIL_SIDE**2
