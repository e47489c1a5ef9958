"""Duplicates: hashes and neighbours propose, pixels decide, and no order of rows changes that."""

import os
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from PIL import Image

from stages.lib import duplicates, registration, verification
from stages.lib.detail import encode_detail
from stages.lib.duplicates import PAIR_COLUMNS, Proposer, SearchParams, find_duplicates
from stages.lib.hashing import is_flat, perceptual_hashes
from stages.lib.images import THUMBNAIL_BYTES, thumbnail, to_grey
from stages.lib.neighbours import DIMENSIONS
from stages.lib.registration import band_passed, registered_similarity

Texture = Callable[..., np.ndarray]
Table = tuple[pd.DataFrame, np.ndarray]
TURNS = range(8)


def no_details(wanted: Sequence[int]) -> dict[int, bytes]:
    """Return no detail image of any row: the thumbnails alone decide."""
    return dict.fromkeys(wanted, b"")


def details_of(*pictures: np.ndarray) -> Callable[[Sequence[int]], dict[int, bytes]]:
    """Return the reader of the detail images of `table_of(*pictures)`."""
    made = [encode_detail(np.ascontiguousarray(picture)) for picture in pictures]
    return lambda wanted: {row: made[row] for row in wanted}


def params_of(
    hash_radius: int = 6,
    neighbours: int = 3,
    mirrored: bool = True,
    rotations: bool = False,
    similarity: float = 0.70,
) -> SearchParams:
    return SearchParams(
        hash_radius, neighbours, mirrored, rotations, max(similarity, 0.85), similarity
    )


def search_in(table: Table, **search: Any) -> pd.DataFrame:
    """Return every pair that was compared, whatever its level."""
    return find_duplicates(*table, no_details, params_of(**search))


def table_of(*pictures: np.ndarray, ids: str = "") -> Table:
    """Return what scan says of pictures, as far as the search for duplicates reads it.

    ids: a letter each; without them the pictures are named in their order.
    """
    upright = [np.ascontiguousarray(picture) for picture in pictures]
    hashes = np.array([perceptual_hashes(to_grey(picture)) for picture in upright], np.uint64)
    rows = pd.DataFrame(
        {
            "image_id": list(ids) or [f"{at:03}" for at in range(len(pictures))],
            "phash": hashes[:, 0],
            "phash_mirrored": hashes[:, 1],
            "thumbnail": np.arange(len(pictures)),
        }
    )
    return rows, np.stack([thumbnail(picture) for picture in upright])


def found_in(table: Table, **search: Any) -> list[tuple[int, int]]:
    pairs = search_in(table, **search)
    return list(zip(pairs["left"], pairs["right"], strict=True))


def reencoded(pixels: np.ndarray) -> np.ndarray:
    """Return pixels a little off everywhere, as after another encoding."""
    noise = np.random.default_rng(0).integers(-6, 7, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def faded(pixels: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    return (pixels * (1 - share) + other * share).astype(np.uint8)


def cropped(pixels: np.ndarray) -> np.ndarray:
    """Return a picture without a border of 1/14 of each side, as large as before."""
    top, left = (round(side / 14) for side in pixels.shape[:2])
    image = Image.fromarray(pixels[top:-top, left:-left])
    return np.asarray(image.resize(pixels.shape[1::-1], Image.Resampling.BICUBIC))


def turn_picture(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Return pixels mirrored (turn + 4) and then turned by quarters anticlockwise."""
    return np.rot90(pixels[:, ::-1] if turn >= 4 else pixels, turn % 4)


def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be proposed by descriptors."""
    monkeypatch.setattr(
        duplicates, "descriptors", lambda some: np.zeros((len(some), DIMENSIONS), np.float32)
    )


def far_hashes(table: Table) -> Table:
    """Return the table with hashes of which no two are close."""
    rows, thumbnails = table
    rng = np.random.default_rng(0)
    bits = np.stack([rng.permutation(64) < 32 for _ in range(2 * len(rows))])
    hashes = np.packbits(bits, axis=1).view(np.uint64).reshape(2, -1)
    return rows.assign(phash=hashes[0], phash_mirrored=hashes[1]), thumbnails


# --- What is found ------------------------------------------------------------------------------


def test_copies_are_found_and_different_pictures_are_not(textured_picture: Texture) -> None:
    originals = [textured_picture(seed) for seed in range(12)]
    copies = [reencoded(picture) for picture in originals[:4]]

    found = found_in(table_of(*originals, *copies))

    assert found == [(0, 12), (1, 13), (2, 14), (3, 15)]


def test_the_table_says_how_similar_and_how_far_apart(textured_picture: Texture) -> None:
    pictures = [textured_picture(seed) for seed in (0, 1, 0)]

    pairs = find_duplicates(*table_of(*pictures), details_of(*pictures), params_of())

    found = [(0, 2, 1.0, False, 0, 0, "remove", 1.0, 0.0)]
    expected = pd.DataFrame(found, columns=list(PAIR_COLUMNS))
    assert_frame_equal(pairs, expected)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("rotations", [False, True])
def test_fewer_than_two_rows_have_no_pairs(
    textured_picture: Texture, count: int, rotations: bool
) -> None:
    rows, thumbnails = table_of(textured_picture(0))

    pairs = search_in((rows.iloc[:count], thumbnails), rotations=rotations)

    assert list(pairs.columns) == list(PAIR_COLUMNS)
    assert pairs.empty


@pytest.mark.parametrize("rotations", [False, True])
def test_hashes_alone_find_copies(
    textured_picture: Texture, monkeypatch: pytest.MonkeyPatch, rotations: bool
) -> None:
    pictures = [textured_picture(seed) for seed in range(6)]
    table = table_of(*pictures, *(reencoded(picture) for picture in pictures))
    blind(monkeypatch)

    assert found_in(table, rotations=rotations) == [(at, at + 6) for at in range(6)]


def test_neighbours_find_the_copies_that_hashes_miss(
    textured_picture: Texture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [textured_picture(seed) for seed in range(8, 16)]
    rows, thumbnails = table_of(*pictures, *(cropped(picture) for picture in pictures))
    hashes = rows["phash"].to_numpy()
    assert np.bitwise_count(hashes[:8] ^ hashes[8:]).min() > 10

    with_neighbours = found_in((rows, thumbnails), hash_radius=10)
    blind(monkeypatch)
    without = found_in((rows, thumbnails), hash_radius=10)

    assert with_neighbours == [(at, at + 8) for at in range(8)]
    assert without == []


def test_hashes_find_the_copies_that_have_too_many_neighbours(textured_picture: Texture) -> None:
    picture = textured_picture(0)
    # Of each one there are more copies than it has neighbours.
    copies = [faded(picture, textured_picture(1), share / 100) for share in range(6)]
    pairs = list(combinations(range(6), 2))

    proposer = Proposer(*table_of(*copies), params_of(neighbours=1))

    assert {(left, right) for left, right, _ in proposer.by_hash().tolist()} == set(pairs)
    assert {(left, right) for left, right, _ in proposer.by_neighbors().tolist()} < set(pairs)


def test_who_resembles_a_paired_image_is_compared_with_it_too(textured_picture: Texture) -> None:
    picture = textured_picture(0)
    copies = [faded(picture, textured_picture(1), share / 100) for share in range(6)]

    found = found_in(far_hashes(table_of(*copies)), neighbours=1)

    assert found == list(combinations(range(6), 2))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("means", ["hashes", "neighbours"])
def test_a_mirrored_copy_is_found_by_either_means_and_said_to_be_mirrored(
    textured_picture: Texture, monkeypatch: pytest.MonkeyPatch, seed: int, swap: bool, means: str
) -> None:
    picture = textured_picture(seed)
    two = [picture, reencoded(picture[:, ::-1])]
    table = table_of(*two[:: -1 if swap else 1])
    if means == "hashes":
        blind(monkeypatch)
    else:
        table = far_hashes(table)

    pairs = search_in(table)

    assert pairs[["left", "right", "mirrored", "rotation"]].values.tolist() == [[0, 1, True, 0]]
    assert pairs["similarity"].iloc[0] > 0.95


def test_a_symmetric_pair_is_listed_once_and_not_as_mirrored(textured_picture: Texture) -> None:
    half = textured_picture(0, 48, 32)
    picture = np.concatenate([half, half[:, ::-1]], axis=1)

    pairs = search_in(table_of(picture, reencoded(picture)))

    assert pairs[["left", "right", "mirrored"]].values.tolist() == [[0, 1, False]]


@pytest.mark.parametrize("mirrored", [False, True])
def test_of_several_ways_to_turn_a_copy_the_most_similar_counts(
    textured_picture: Texture, mirrored: bool
) -> None:
    picture = textured_picture(0, 64, 64)
    nearly_symmetric = faded(picture, picture[:, ::-1], 0.3)
    copy = reencoded(nearly_symmetric)[:, :: -1 if mirrored else 1]
    table = table_of(nearly_symmetric, copy)
    other_way = pd.Series({"left": 0, "right": 1, "mirrored": not mirrored, "rotation": 0})
    assert 0.7 < looks_like(table, other_way) < 0.9

    pairs = search_in(table)

    assert pairs["mirrored"].tolist() == [mirrored]
    assert pairs["similarity"].iloc[0] > 0.95


@pytest.mark.parametrize("column", ["phash", "phash_mirrored"])
def test_the_hash_of_a_flat_picture_proposes_nothing(
    textured_picture: Texture, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    rows, thumbnails = table_of(textured_picture(0), reencoded(textured_picture(0)))
    blind(monkeypatch)
    assert found_in((rows, thumbnails)) == [(0, 1)]

    flat = rows.assign(**{column: np.uint64(2**63)})

    assert found_in((flat, thumbnails)) == []


def test_a_proposed_pair_stays_only_if_the_pixels_agree(textured_picture: Texture) -> None:
    rows, thumbnails = table_of(*(textured_picture(seed) for seed in range(8)))
    alike = np.uint64(0x5555_5555_5555_5555)

    found = found_in((rows.assign(phash=alike, phash_mirrored=alike), thumbnails), neighbours=7)

    assert found == []


@pytest.mark.parametrize("similarity", [0.70, 0.85, 0.93, 0.99])
def test_pairs_reach_the_similarity_asked_for(textured_picture: Texture, similarity: float) -> None:
    start, end = textured_picture(0), textured_picture(1)
    table = table_of(*(faded(start, end, share) for share in np.linspace(0, 1, 15)))

    at_level = search_in(table, neighbours=14, similarity=similarity)
    everything = search_in(table, neighbours=14, similarity=0.5)

    expected = everything[everything["similarity"] >= similarity].reset_index(drop=True)
    assert_frame_equal(at_level, expected)
    assert 0 < len(at_level) < len(everything)


@pytest.mark.parametrize("rotations", [False, True])
@pytest.mark.parametrize("radius", [0, 10, 16])
def test_flat_pictures_match_nothing(
    textured_picture: Texture, radius: int, rotations: bool
) -> None:
    flat = [np.full((48, 64, 3), value, np.uint8) for value in (0, 0, 100, 101, 255)]
    nearly = reencoded(flat[2]) // 6 * 6  # noise without a picture
    faint = flat[2] + (np.arange(64, dtype=np.uint8)[:, None] // 32)
    table = table_of(*flat, faint, nearly, textured_picture(0))
    assert is_flat(table[0]["phash"].to_numpy())[:5].all()

    assert found_in(table, hash_radius=radius, rotations=rotations) == []


@pytest.mark.parametrize("rotations", [False, True])
@pytest.mark.parametrize("means", ["hashes", "neighbours"])
def test_mirrored_copies_are_found_only_when_asked_for(
    textured_picture: Texture, monkeypatch: pytest.MonkeyPatch, means: str, rotations: bool
) -> None:
    picture = textured_picture(0, 64, 64)
    table = table_of(*(turn_picture(picture, turn) for turn in (0, 4, 7)), reencoded(picture))
    if means == "hashes":
        blind(monkeypatch)
    else:
        table = far_hashes(table)

    asked, not_asked = (
        search_in(table, mirrored=mirrored, rotations=rotations) for mirrored in (True, False)
    )

    assert asked["mirrored"].any()
    assert not not_asked["mirrored"].any()
    # The two mirrored ones are turned copies of each other, and no mirror images.
    expected = [[0, 3], [1, 2]] if rotations else [[0, 3]]
    assert not_asked[["left", "right"]].values.tolist() == expected


def test_details_decide_the_level_of_a_pair(textured_picture: Texture) -> None:
    picture, other = (textured_picture(seed, 96, 128, 12) for seed in (0, 1))
    changed = picture.copy()
    changed[40:56, 56:72] = other[40:56, 56:72]
    pictures = [picture, reencoded(picture), changed]

    pairs = find_duplicates(*table_of(*pictures), details_of(*pictures), params_of())

    levels = {(row.left, row.right): row.level for row in pairs.itertuples()}
    assert levels[0, 1] == "remove"
    assert levels[0, 2] != "remove"


def test_details_are_read_of_pairs_that_resemble_each_other_alone(
    textured_picture: Texture,
) -> None:
    rows, thumbnails = table_of(*(textured_picture(seed) for seed in (0, 1, 2, 0)))
    places = rows.assign(thumbnail=[3, 2, 1, 0])
    asked: set[int] = set()

    def read(wanted: Sequence[int]) -> dict[int, bytes]:
        asked.update(wanted)
        return no_details(wanted)

    find_duplicates(places, thumbnails[::-1].copy(), read, params_of())

    assert asked == {0, 3}


# --- Rotations ----------------------------------------------------------------------------------


def looks_like(table: Table, pair: Any) -> float:
    """Return how similar the right picture is to the left one if turned as the pair says."""
    rows, thumbnails = table
    left, right = (rows["thumbnail"].to_numpy()[[at]] for at in (pair.left, pair.right))
    turn = np.array([4 * pair.mirrored + pair.rotation // 90])
    bands = band_passed(thumbnails)
    return float(registered_similarity(thumbnails, bands, left, right, turn)[0][0])


@pytest.mark.parametrize("ids", ["ab", "ba"])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("means", ["hashes", "neighbours"])
@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_copy_is_found_and_its_rotation_is_right_both_ways_round(
    textured_picture: Texture,
    monkeypatch: pytest.MonkeyPatch,
    turn: int,
    means: str,
    swap: bool,
    ids: str,
) -> None:
    picture = textured_picture(5, 64, 64)
    two = [turn_picture(picture, turn), reencoded(picture)]
    table = table_of(*two[:: -1 if swap else 1], ids=ids)
    if means == "hashes":
        blind(monkeypatch)
    else:
        monkeypatch.setattr(duplicates, "hamming_join", lambda *_: np.empty((0, 2), np.int64))

    pairs = search_in(table, rotations=True)

    # Turning the right one so gives the left one; mirrored ones undo themselves.
    back = turn if turn >= 4 or not swap else -turn % 4
    assert pairs[["left", "right"]].values.tolist() == [[0, 1]]
    assert pairs[["mirrored", "rotation"]].values.tolist() == [[turn >= 4, 90 * (back % 4)]]
    assert looks_like(table, pairs.iloc[0]) > 0.95


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("turn", TURNS[1:])
def test_a_turned_copy_is_found_where_only_one_of_the_two_is_the_nearest(
    textured_picture: Texture, monkeypatch: pytest.MonkeyPatch, turn: int, first: bool
) -> None:
    picture = textured_picture(1, 64, 64)
    turned = turn_picture(picture, turn)
    copies = [faded(turned, textured_picture(9, 64, 64), 0.1 * at) for at in range(3)]
    one = 0 if first else 3  # the one whose only neighbour is one of three
    table = table_of(*([picture, *copies] if first else [*copies, picture]))
    monkeypatch.setattr(duplicates, "hamming_join", lambda *_: np.empty((0, 2), np.int64))

    pairs = search_in(table, neighbours=1, rotations=True)

    others = pairs[(pairs["left"] == one) | (pairs["right"] == one)]
    assert len(others) == 3
    assert (others["mirrored"] == (turn >= 4)).all()


@pytest.mark.parametrize("turn", [1, 2, 3, 5, 6, 7])
def test_rotations_are_found_only_when_asked_for(textured_picture: Texture, turn: int) -> None:
    picture = textured_picture(0, 64, 64)
    table = table_of(picture, turn_picture(picture, turn))

    assert found_in(table, rotations=False) == []
    assert found_in(table, rotations=True) == [(0, 1)]


def test_among_turned_pictures_the_others_are_still_found(textured_picture: Texture) -> None:
    originals = [textured_picture(seed, 64, 64) for seed in range(8)]
    turned = [turn_picture(reencoded(picture), turn) for turn, picture in enumerate(originals)]
    table = table_of(*originals, *turned, reencoded(originals[3]))

    pairs = search_in(table, rotations=True)

    found = pairs[["left", "right"]].values.tolist()
    assert sorted([*found]) == sorted([*([at, at + 8] for at in range(8)), [3, 16], [11, 16]])
    assert min(looks_like(table, pair) for pair in pairs.itertuples()) > 0.9


def test_looking_for_rotations_finds_what_is_found_without(
    textured_picture: Texture, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = textured_picture(0)
    rows, thumbnails = table_of(picture, cropped(picture))
    blind(monkeypatch)
    alike = (rows.assign(phash=rows["phash"].iloc[0]), thumbnails)
    assert found_in(alike) == [(0, 1)]

    assert found_in(alike, rotations=True) == [(0, 1)]


# --- The order of the rows ----------------------------------------------------------------------


def by_ids(table: Table, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return pairs named by image_id, the smaller one on the left, whatever the rows' order."""
    names = table[0]["image_id"].to_numpy()
    left, right = names[pairs["left"]], names[pairs["right"]]
    assert (pairs["left"] < pairs["right"]).all()
    swapped = left > right
    back = np.where(pairs["mirrored"], pairs["rotation"], -pairs["rotation"] % 360)
    named = pairs.assign(
        left=np.where(swapped, right, left),
        right=np.where(swapped, left, right),
        rotation=np.where(swapped, back, pairs["rotation"]),
    )
    return named.sort_values(["left", "right"], ignore_index=True)


@pytest.fixture(scope="module")
def many(textured_picture: Texture) -> Table:
    """Return pictures and copies of every kind and turn among them."""
    originals = [textured_picture(seed, 64, 64) for seed in range(16)]
    copies = [
        turn_picture(
            cropped(picture) if seed % 3 else reencoded(picture), seed % 8 if seed < 12 else 0
        )
        for seed, picture in enumerate(originals)
    ]
    between = [faded(originals[0], originals[1], share) for share in (0.1, 0.3, 0.4, 0.5)]
    return table_of(*originals, *copies, *between)


@pytest.mark.parametrize("rotations", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_the_rows_has_no_say(many: Table, seed: int, rotations: bool) -> None:
    rows, thumbnails = many
    order = np.random.default_rng(seed).permutation(len(rows))
    shuffled = (rows.iloc[order], thumbnails)

    there, back = (search_in(table, rotations=rotations) for table in (many, shuffled))

    assert_frame_equal(by_ids(shuffled, back), by_ids(many, there))
    assert len(there) > 8
    if rotations:
        assert there["rotation"].nunique() == 4


def test_neither_the_index_of_the_rows_nor_the_place_of_the_thumbnails_has_a_say(
    many: Table,
) -> None:
    rows, thumbnails = many
    order = np.random.default_rng(0).permutation(len(rows))
    place = np.argsort(order) + 2
    others = np.random.default_rng(1).integers(0, 256, (2, THUMBNAIL_BYTES), dtype=np.uint8)
    elsewhere = np.concatenate([others, thumbnails[order], others])
    relabelled = rows.assign(thumbnail=place).set_index(pd.Index([7] * len(rows)))

    found = search_in((relabelled, elsewhere))

    assert_frame_equal(found, search_in(many))


@pytest.mark.parametrize("rotations", [False, True])
def test_how_the_work_is_divided_has_no_say(
    many: Table, monkeypatch: pytest.MonkeyPatch, rotations: bool
) -> None:
    whole = search_in(many, rotations=rotations)
    monkeypatch.setattr(duplicates, "PART", 5)
    monkeypatch.setattr(registration, "COARSE_CHUNK", 3)
    monkeypatch.setattr(registration, "FINE_CHUNK", 2)
    monkeypatch.setattr(verification, "CHUNK", 3)

    for threads in (1, 4):
        monkeypatch.setattr(os, "cpu_count", lambda threads=threads: threads)
        assert_frame_equal(search_in(many, rotations=rotations), whole)


def test_the_rows_and_thumbnails_are_not_changed(many: Table) -> None:
    before = many[0].copy(deep=True), many[1].copy()

    search_in(many, rotations=True)

    assert_frame_equal(many[0], before[0])
    np.testing.assert_array_equal(many[1], before[1])
