"""Nearest neighbours: what a comparison of all with all finds, whatever the tiles and threads."""

import os
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.lib import neighbours
from stages.lib.images import CHROMA_SIDE, THUMBNAIL_BYTES, THUMBNAIL_SIDE, thumbnail
from stages.lib.neighbours import (
    DIMENSIONS,
    LEAST_PRODUCT,
    descriptors,
    nearest_neighbours,
    turned,
)

Texture = Callable[..., np.ndarray]
TURNS = range(8)


def turn_picture(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Return pixels mirrored (turn + 4) and then turned by quarters anticlockwise."""
    mirrored = pixels[:, ::-1] if turn >= 4 else pixels
    return np.ascontiguousarray(np.rot90(mirrored, turn % 4))


def turn_thumbnail(small: np.ndarray, turn: int) -> np.ndarray:
    """Return a thumbnail whose three planes are turned as `turn_picture` turns a picture."""
    sides = (THUMBNAIL_SIDE, CHROMA_SIDE, CHROMA_SIDE)
    planes = np.split(small, np.cumsum([side**2 for side in sides])[:2])
    squares = (plane.reshape(side, side) for plane, side in zip(planes, sides, strict=True))
    return np.concatenate([turn_picture(square, turn).ravel() for square in squares])


def brute_force(
    found: np.ndarray, turn: int, queries: np.ndarray, candidates: np.ndarray, count: int
) -> np.ndarray:
    """Return what `nearest_neighbours` promises, by sorting all products."""
    products = turned(found[queries], turn) @ found[candidates].T
    expected = np.full((len(queries), count), -1)
    for row, query in enumerate(queries):
        order = sorted(range(len(candidates)), key=lambda j: (-products[row, j], candidates[j]))
        near = [j for j in order if candidates[j] != query and products[row, j] > LEAST_PRODUCT]
        best = candidates[near[:count]]
        expected[row, : len(best)] = best
    return expected


def in_groups(seed: int, count: int, groups: int) -> np.ndarray:
    """Return descriptors that lie close in groups; every tenth is flat."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, DIMENSIONS))
    found = centres[rng.integers(0, groups, count)] + 0.3 * rng.normal(size=(count, DIMENSIONS))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    found[::10] = 0
    return found.astype(np.float32)


def with_ties(seed: int, count: int) -> np.ndarray:
    """Return descriptors whose products are exact in any order of summing, so many are equal.

    Sixteen numbers of ± 1/4 each: the product of two of them is a multiple of 1/8.
    """
    rng = np.random.default_rng(seed)
    base = np.sign(rng.normal(size=(3, 16)))
    found = np.zeros((count, DIMENSIONS), np.float32)
    found[:, :16] = base[rng.integers(0, 3, count)]
    flipped = rng.integers(0, 16, count)
    some = np.flatnonzero(rng.random(count) < 0.7)
    found[some, flipped[some]] *= -1
    return found / 4


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "TILE", 4)


# --- The search ---------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("tile", [4, 7, 64, 1024])
def test_1_the_search_equals_brute_force_whatever_the_tile_and_turn(
    monkeypatch: pytest.MonkeyPatch, tile: int, turn: int
) -> None:
    monkeypatch.setattr(neighbours, "TILE", tile)
    one, noise = in_groups(0, 75, 6), 0.02 * in_groups(1, 30, 30)
    # So that turned ones have neighbours; not equal ones, whose products may differ in rounding.
    found = np.concatenate([one, turned(one[:30], turn) + noise])
    everywhere = np.arange(len(found))

    nearest = nearest_neighbours(found, turn, everywhere, everywhere, 3)

    expected = brute_force(found, turn, everywhere, everywhere, 3)
    np.testing.assert_array_equal(nearest, expected)
    assert (expected >= 0).any(axis=0).all()
    assert (expected == -1).any()


@pytest.mark.parametrize("count", [1, 2, 5, 40])
@pytest.mark.parametrize("turn", [0, 1, 4])
def test_2_any_number_of_neighbours_can_be_asked_for(
    small_tiles: None, turn: int, count: int
) -> None:
    found, everywhere = in_groups(1, 33, 2), np.arange(33)

    nearest = nearest_neighbours(found, turn, everywhere, everywhere, count)

    assert nearest.shape == (33, count)
    np.testing.assert_array_equal(nearest, brute_force(found, turn, everywhere, everywhere, count))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 4), st.sampled_from(TURNS))
def test_3_of_equally_near_ones_the_first_counts(
    seed: int, size: int, count: int, turn: int
) -> None:
    found, everywhere = with_ties(seed, size), np.arange(size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "TILE", 4)

        nearest = nearest_neighbours(found, turn, everywhere, everywhere, count)

    expected = brute_force(found, turn, everywhere, everywhere, count)
    np.testing.assert_array_equal(nearest, expected)


def test_the_descriptors_with_ties_have_ties_at_the_last_place_and_at_the_limit() -> None:
    """The test above proves something only if it is so."""
    found, everywhere = with_ties(0, 40), np.arange(40)
    products = found @ found.T
    last = brute_force(found, 0, everywhere, everywhere, 3)[:, 2]

    tied = (products == products[everywhere, last][:, None]).sum(axis=1)

    assert (tied[last >= 0] > 1).any()
    assert (products == LEAST_PRODUCT).any()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sets(st.integers(0, 49)).map(sorted),
    st.sets(st.integers(0, 49)).map(sorted),
    st.sampled_from(TURNS),
)
def test_4_queries_are_compared_with_the_candidates_alone(
    seed: int, asked: list[int], there: list[int], turn: int
) -> None:
    found = with_ties(seed, 50)
    queries, candidates = np.array(asked, np.int64), np.array(there, np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "TILE", 4)

        nearest = nearest_neighbours(found, turn, queries, candidates, 3)

    np.testing.assert_array_equal(nearest, brute_force(found, turn, queries, candidates, 3))


@pytest.mark.parametrize("turn", TURNS)
def test_5_the_number_of_threads_has_no_say(
    monkeypatch: pytest.MonkeyPatch, small_tiles: None, turn: int
) -> None:
    found, everywhere = with_ties(2, 90), np.arange(90)
    expected = brute_force(found, turn, everywhere, everywhere, 3)

    for threads in (1, 2, 8, 8, 8):
        monkeypatch.setattr(os, "cpu_count", lambda threads=threads: threads)
        nearest = nearest_neighbours(found, turn, everywhere, everywhere, 3)

        np.testing.assert_array_equal(nearest, expected)


@pytest.mark.parametrize("turn", TURNS)
def test_6_flat_pictures_have_no_neighbours_and_are_none(turn: int) -> None:
    found = np.zeros((6, DIMENSIONS), np.float32)
    found[4:, 0] = 1  # two alike among four flat ones

    nearest = nearest_neighbours(found, turn, np.arange(6), np.arange(6), 3)

    assert set(nearest.ravel()) <= {-1, 4, 5}
    assert (nearest[:4] == -1).all()


def test_7_a_picture_is_no_neighbour_of_its_own_even_if_it_is_symmetric() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    symmetric = np.maximum(pixels, pixels[:, ::-1])
    found = descriptors(np.stack([thumbnail(symmetric)]))
    np.testing.assert_allclose(turned(found, 4), found, atol=0.05)

    assert nearest_neighbours(found, 4, np.arange(1), np.arange(1), 2).tolist() == [[-1, -1]]


def test_8_no_neighbours_can_be_asked_for() -> None:
    found, everywhere = in_groups(0, 20, 2), np.arange(20)

    assert nearest_neighbours(found, 0, everywhere, everywhere, 0).shape == (20, 0)


# --- The search in the nearest cells alone ------------------------------------------------------


@pytest.mark.parametrize("turn", TURNS)
def test_a_search_in_all_cells_is_exact(monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 50)
    monkeypatch.setattr(neighbours, "TILE", 7)
    found, everywhere = with_ties(4, 90), np.arange(90)
    assert not neighbours.is_exact(90)

    nearest = nearest_neighbours(found, turn, everywhere, everywhere, 3)

    # There are fewer cells than are looked into.
    np.testing.assert_array_equal(nearest, brute_force(found, turn, everywhere, everywhere, 3))


@pytest.mark.parametrize("probes", [1, 2, 5])
@pytest.mark.parametrize("turn", [0, 1, 4])
def test_what_a_search_in_few_cells_finds_is_true_and_more_cells_find_more(
    monkeypatch: pytest.MonkeyPatch, turn: int, probes: int
) -> None:
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 50)
    one, everywhere = in_groups(3, 400, 12), np.arange(600)
    found = np.concatenate([one, turned(one[:200], turn) + 0.02 * in_groups(1, 200, 200)])
    all_near = brute_force(found, turn, everywhere, everywhere, 600)

    share = []
    for some in (probes, 25):  # which is all of them
        monkeypatch.setattr(neighbours, "PROBES", some)
        nearest = nearest_neighbours(found, turn, everywhere, everywhere, 3)
        for row, near in zip(nearest, all_near, strict=True):
            kept = [at for at in near if at >= 0 and at in row]
            assert row[row >= 0].tolist() == kept  # neighbours, and the nearest first
        share.append(np.mean(nearest == all_near[:, :3]))

    assert share[0] <= share[1] == 1


def test_a_copy_lies_in_a_cell_that_is_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 0)
    monkeypatch.setattr(neighbours, "PROBES", 4)
    rng = np.random.default_rng(0)
    found = in_groups(0, 500, 500)
    copies = found[:100] + 0.02 * rng.normal(size=(100, DIMENSIONS)).astype(np.float32)
    both = np.concatenate([found, copies])

    nearest = nearest_neighbours(both, 0, np.arange(100), np.arange(600), 1)

    textured = found[:100].any(axis=1)
    assert (nearest[textured, 0] == np.arange(500, 600)[textured]).mean() > 0.98


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_the_number_of_threads_has_no_say_in_cells_either(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 0)
    monkeypatch.setattr(neighbours, "PROBES", 2)
    found, everywhere = with_ties(5, 120), np.arange(120)
    expected = nearest_neighbours(found, 4, everywhere, everywhere, 3)

    monkeypatch.setattr(os, "cpu_count", lambda: threads)

    nearest = nearest_neighbours(found, 4, everywhere, everywhere, 3)
    np.testing.assert_array_equal(nearest, expected)


@pytest.mark.parametrize(("queries", "candidates"), [(0, 0), (0, 3), (3, 0), (3, 1)])
@pytest.mark.parametrize("exact_up_to", [0, 100])
def test_few_or_no_queries_and_candidates_are_no_error(
    monkeypatch: pytest.MonkeyPatch, queries: int, candidates: int, exact_up_to: int
) -> None:
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", exact_up_to)
    found = in_groups(0, 10, 1)

    nearest = nearest_neighbours(
        found, 0, np.arange(1, queries + 1), np.arange(4, 4 + candidates), 2
    )

    assert nearest.shape == (queries, 2)
    assert set(nearest.ravel()) <= {-1, *range(4, 4 + candidates)}


# --- Descriptors --------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", TURNS)
def test_the_turned_descriptor_is_the_descriptor_of_the_turned_thumbnail(turn: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, THUMBNAIL_BYTES), dtype=np.uint8)

    expected = descriptors(np.stack([turn_thumbnail(small, turn) for small in noise]))

    np.testing.assert_allclose(turned(descriptors(noise), turn), expected, atol=1e-5)
    # No two turns give the same, so none of them can stand for another.
    others = [turned(descriptors(noise), other) for other in TURNS if other != turn]
    assert min(np.abs(other - expected).max(axis=1).min() for other in others) > 0.01


@pytest.mark.parametrize("turn", TURNS)
def test_the_nearest_of_a_turned_picture_is_the_picture(
    textured_picture: Texture, turn: int
) -> None:
    originals = [textured_picture(seed, 64, 64) for seed in range(8)]
    copies = [turn_picture(picture, turn) for picture in originals]
    found = descriptors(np.stack([thumbnail(picture) for picture in [*originals, *copies]]))

    nearest = nearest_neighbours(found, turn, np.arange(8), np.arange(8, 16), 1)

    assert nearest.ravel().tolist() == list(range(8, 16))


def test_descriptors_have_unit_length_and_brightness_does_not_matter(
    textured_picture: Texture,
) -> None:
    pictures = np.stack([thumbnail(textured_picture(seed)) for seed in range(8)])
    dim = pictures.copy()
    dim[:, : THUMBNAIL_SIDE**2] //= 2
    brighter = dim.copy()
    brighter[:, : THUMBNAIL_SIDE**2] += 90

    found = descriptors(pictures)

    assert found.shape == (8, DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(descriptors(dim), descriptors(brighter), atol=1e-5)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_grey_flat_picture_has_no_descriptor_and_neither_has_one_with_next_to_no_contrast(
    value: int,
) -> None:
    flat = np.full((2, THUMBNAIL_BYTES), 128, np.uint8)
    flat[:, : THUMBNAIL_SIDE**2] = value
    flat[1, : THUMBNAIL_SIDE**2 // 2] ^= 1  # the upper half is a step off: a difference of 1/255

    assert (descriptors(flat) == 0).all()


def test_colour_tells_pictures_of_equal_luma_apart() -> None:
    two = np.full((2, THUMBNAIL_BYTES), 128, np.uint8)
    two[0, THUMBNAIL_SIDE**2 :] = 90
    two[1, THUMBNAIL_SIDE**2 :] = 170

    red, green = descriptors(two)

    assert red @ green < 0


def test_no_pictures_have_no_descriptors() -> None:
    assert descriptors(np.zeros((0, THUMBNAIL_BYTES), np.uint8)).shape == (0, DIMENSIONS)
