"""Clusters rest on verified ties, and the weakest one that each needs is named."""

from itertools import combinations, pairwise
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.lib.clusters import (
    LARGE,
    MANY,
    all_ties,
    clusters_table,
    connect,
    duplicates_table,
    first_of_equal_bytes,
    join_groups,
    spanning_forest,
)
from stages.lib.table import CLUSTERS, DUPLICATES

NOBODY = np.empty(0, np.int64)


def pictures(image_ids: str, **columns: list[Any]) -> pd.DataFrame:
    uris = [f"cat/{number}" for number in range(len(image_ids))]
    rows = pd.DataFrame({"uri": uris, "label": "cat", "clip": "", "image_id": list(image_ids)})
    return rows.assign(**columns)


def verified(*pairs: tuple[int, int, float]) -> pd.DataFrame:
    """Return verified pairs: copies from 0.95 on, one scene below."""
    frame = pd.DataFrame(pairs, columns=["left", "right", "similarity"])
    types = {"left": "int64", "right": "int64", "similarity": "float64"}
    frame = frame.astype(types).assign(distance=4, mirrored=False, rotation=90)
    level = frame["similarity"].ge(0.95).map({True: "remove", False: "group"}).astype(object)
    return frame.assign(level=level, detail=0.9, background=0.25)


def tabled(
    rows: pd.DataFrame, pairs: pd.DataFrame, gone: np.ndarray = NOBODY
) -> list[dict[str, Any]]:
    """Return data/clusters.csv as records; a group is named after its first picture."""
    ties = all_ties(rows, first_of_equal_bytes(rows["image_id"]), pairs)
    groups = join_groups(first_of_equal_bytes(rows["image_id"]), ties)
    group_id = rows["image_id"].groupby(groups).transform("min")
    table = clusters_table(rows, ties, group_id, gone)
    assert list(table.columns) == list(CLUSTERS.columns)
    return table.to_dict("records")


def test_a_picture_is_the_first_row_with_its_bytes() -> None:
    assert first_of_equal_bytes(pd.Series(list("ABACBA"))).tolist() == [0, 1, 0, 3, 1, 0]


def test_pairs_copies_and_frames_of_a_clip_within_a_class_are_ties() -> None:
    rows = pictures("ABCDACE", clip=["", "x", "x", "", "", "", "x"], label=[*["cat"] * 6, "dog"])

    ties = all_ties(rows, first_of_equal_bytes(rows["image_id"]), verified((0, 3, 0.91)))

    assert connect(len(rows), ties).tolist() == [0, 1, 1, 0, 0, 1, 2]


def test_ties_are_strong_except_those_of_one_scene_and_look_alikes_are_none() -> None:
    rows = pictures("ABCDADE", clip=["", "", "", "x", "", "", "x"])
    pairs = verified((0, 1, 0.96), (1, 2, 0.91), (0, 2, 0.94))
    pairs.loc[2, "level"] = "look_alike"

    ties = all_ties(rows, first_of_equal_bytes(rows["image_id"]), pairs)

    found = ties[["left", "right", "strong"]].to_numpy().tolist()
    assert found == [[0, 1, True], [1, 2, False], [0, 4, True], [3, 5, True], [3, 6, True]]


def test_the_weakest_tie_that_a_cluster_needs_is_named() -> None:
    # a–b and b–c are strong; a–c is weak, but nothing depends on it. d hangs on one tie.
    pairs = verified((0, 1, 0.98), (1, 2, 0.97), (0, 2, 0.91), (2, 3, 0.93), (0, 3, 0.90))

    assert tabled(pictures("ABCD"), pairs, gone=np.array([1, 2])) == [
        {
            "group_id": "A",
            "images": 4,
            "kept": 2,
            "labels": "cat",
            "weakest_left_uri": "cat/2",
            "weakest_right_uri": "cat/3",
            "weakest_similarity": 0.93,
        }
    ]


def test_copies_hold_together_by_a_similarity_of_one() -> None:
    found = tabled(pictures("AABA"), verified())

    assert [(row["images"], row["weakest_similarity"]) for row in found] == [(3, 1.0)]
    assert (found[0]["weakest_left_uri"], found[0]["weakest_right_uri"]) == ("cat/0", "cat/1")


def test_what_a_clip_alone_holds_together_has_no_weakest_tie() -> None:
    rows = pictures("ABCD", clip=["x", "x", "x", ""])

    by_clip = tabled(rows, verified((0, 1, 0.91), (1, 2, 0.92)))
    beyond = tabled(rows, verified((0, 1, 0.91), (2, 3, 0.97)))

    assert (by_clip[0]["images"], by_clip[0]["weakest_left_uri"]) == (3, "")
    assert np.isnan(by_clip[0]["weakest_similarity"])
    assert (beyond[0]["images"], beyond[0]["weakest_similarity"]) == (4, 0.97)


def test_a_single_picture_is_no_cluster_and_labels_are_joined() -> None:
    rows = pictures("ABCD", label=["owl", "cat", "owl", "dog"])

    found = tabled(rows, verified((0, 1, 0.96), (1, 2, 0.96)))

    assert [(row["images"], row["labels"]) for row in found] == [(3, "cat|owl")]
    assert tabled(pictures("AB"), verified()) == []


@st.composite
def weighted_graphs(draw: st.DrawFn) -> tuple[int, pd.DataFrame]:
    count = draw(st.integers(2, 8))
    edges = draw(st.lists(st.sampled_from(list(combinations(range(count), 2))), unique=True))
    values = st.sampled_from([0.90, 0.91, 0.95, 0.99, 1.0])
    return count, verified(*[(left, right, draw(values)) for left, right in sorted(edges)])


@given(weighted_graphs())
def test_the_forest_connects_what_the_ties_connect_and_no_weaker_tie_is_needed(
    graph: tuple[int, pd.DataFrame],
) -> None:
    count, ties = graph

    forest = spanning_forest(count, ties)

    whole = connect(count, ties)
    assert connect(count, forest).tolist() == whole.tolist()
    assert len(forest) == count - len(set(whole))
    # Cutting at any level leaves the same clusters as cutting all the ties there: the property that
    # makes the forest's smallest tie the weakest that a cluster needs.
    for level in (0.905, 0.93, 0.97, 0.995):
        strong = [connect(count, edges[edges["similarity"] >= level]) for edges in (forest, ties)]
        assert strong[0].tolist() == strong[1].tolist()


def test_the_weakest_tie_of_a_group_lies_within_it() -> None:
    rows = pictures("ABCDEFGH")
    # Two groups of four, with one tie between them: the weakest of all, which joins nothing.
    within = [(at, at + 1, 0.97) for at in (0, 1, 2, 4, 5, 6)]

    found = tabled(rows, verified(*within, (3, 4, 0.91)))

    assert [(row["images"], row["weakest_similarity"]) for row in found] == [(4, 0.97)] * 2


# --- Groups -------------------------------------------------------------------------------------

Tie = tuple[int, int, float, bool]


def ties_of(*ties: Tie) -> pd.DataFrame:
    frame = pd.DataFrame(ties, columns=["left", "right", "similarity", "strong"])
    types = {"left": "int64", "right": "int64", "similarity": "float64", "strong": "bool"}
    return frame.astype(types)


def chain(*rows: int, strong: bool) -> list[Tie]:
    return [(left, right, 0.9, strong) for left, right in pairwise(rows)]


def groups_of(count: int, *ties: Tie, copies: int = 0) -> set[frozenset[int]]:
    """Return the groups as sets of rows. copies: how many rows, the last, equal row 0 in bytes."""
    picture = np.where(np.arange(count) < count - copies, np.arange(count), 0)
    equal = [(0, at, 1.0, True) for at in range(count - copies, count)]
    return partition(join_groups(picture, ties_of(*ties, *equal)))


def partition(groups: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == number).tolist()) for number in set(groups)}


def sizes(groups: set[frozenset[int]]) -> list[int]:
    return sorted(map(len, groups), reverse=True)


def test_strong_ties_always_join_however_long_the_chain() -> None:
    assert sizes(groups_of(100, *chain(*range(100), strong=True))) == [100]


def test_without_ties_every_row_is_a_group() -> None:
    assert sizes(groups_of(3)) == [1, 1, 1]
    assert groups_of(0) == set()


@pytest.mark.parametrize("similarity", ["equal", "falling", "rising", "alternating"])
@pytest.mark.parametrize("length", [2, LARGE, 3 * LARGE, 200])
def test_a_chain_of_single_weak_ties_joins_a_few_and_stops_at_large(
    length: int, similarity: str
) -> None:
    value = {
        "equal": lambda at: 0.9,
        "falling": lambda at: 0.9 - at / 1000,
        "rising": lambda at: 0.7 + at / 1000,
        "alternating": lambda at: 0.8 + 0.1 * (at % 2),
    }[similarity]

    found = groups_of(length, *((at, at + 1, value(at), False) for at in range(length - 1)))

    # What joins last may itself be of less than MANY.
    assert min(length, MANY) <= sizes(found)[0] < LARGE + MANY - 1
    assert (len(found) == 1) == (length <= LARGE)


@pytest.mark.parametrize("size", [MANY, 5, 8, 9])
@pytest.mark.parametrize("other", [MANY, 12, 40])
def test_two_groups_of_many_join_where_half_of_the_smaller_one_is_tied(
    size: int, other: int
) -> None:
    within = [
        *chain(*range(size), strong=True),
        *chain(*range(size, size + other), strong=True),
    ]
    needed = -(-min(size, other) // 2)
    between: list[Tie] = [(at, size + at, 0.9, False) for at in range(needed)]

    enough = groups_of(size + other, *within, *between)
    too_few = groups_of(size + other, *within, *between[1:])

    assert sizes(enough) == [size + other]
    assert sizes(too_few) == sorted([size, other], reverse=True)


@pytest.mark.parametrize("small", [1, 2, MANY - 1])
@pytest.mark.parametrize(("large", "needed"), [(LARGE - 1, 1), (LARGE, 2), (5 * LARGE, 2)])
def test_a_few_join_a_group_by_one_tie_and_a_large_one_by_two(
    small: int, large: int, needed: int
) -> None:
    within = [*chain(*range(large), strong=True)]
    within += chain(*range(large, large + small), strong=True)
    between: list[Tie] = [(at, large + at % small, 0.8, False) for at in range(needed)]

    assert len(groups_of(large + small, *within, *between)) == 1
    assert len(groups_of(large + small, *within, *between[1:])) == 2


@pytest.mark.parametrize("copies", [0, 1, MANY, 10 * LARGE])
def test_equal_bytes_count_once(copies: int) -> None:
    # The copies of the first image have no ties but to it: they must not ask for more.
    assert len(groups_of(2 + copies, (0, 1, 0.8, False), copies=copies)) == 1


def test_the_strongest_of_weak_ties_joins_first() -> None:
    groups = [*chain(*range(LARGE - 1), strong=True), (LARGE, LARGE + 1, 0.9, True)]
    # Either may still join by a single tie; after it the group is large.
    ties: list[Tie] = [(0, LARGE - 1, 0.8, False), (1, LARGE, 0.81, False)]

    found = groups_of(LARGE + 2, *groups, *ties)

    assert frozenset({LARGE - 1}) in found


def test_ties_that_were_too_few_join_once_others_have() -> None:
    # Two ties of each of the first two groups to the third are too few, four of both are enough.
    first, second, third = range(8), range(8, 16), range(16, 24)
    within = [tie for group in (first, second, third) for tie in chain(*group, strong=True)]
    to_third: list[Tie] = [(at, 16 + at, 0.95, False) for at in (0, 1)]
    to_third += [(at, 8 + at, 0.94, False) for at in (8, 9)]
    between: list[Tie] = [(at, 8 + at, 0.8, False) for at in range(4)]

    assert sizes(groups_of(24, *within, *to_third)) == [8, 8, 8]
    assert sizes(groups_of(24, *within, *to_third, *between)) == [24]


@st.composite
def tied_rows(draw: st.DrawFn) -> tuple[int, pd.DataFrame]:
    """Return a count and ties, no two of them equally similar."""
    count = draw(st.integers(2, 24))
    edges = draw(st.lists(st.sampled_from(list(combinations(range(count), 2))), unique=True))
    values = draw(st.permutations(range(len(edges))))
    strong = draw(st.lists(st.booleans(), min_size=len(edges), max_size=len(edges)))
    return count, ties_of(
        *(
            (*edge, 0.5 + value / 1000, sure)
            for edge, value, sure in zip(edges, values, strong, strict=True)
        )
    )


@given(tied_rows(), st.randoms(use_true_random=False))
def test_neither_the_order_of_the_rows_nor_that_of_the_ties_affects_the_groups(
    drawn: tuple[int, pd.DataFrame], random: Random
) -> None:
    count, ties = drawn
    place = np.array(random.sample(range(count), count))
    ends = np.sort(place[ties[["left", "right"]].to_numpy()], axis=1)
    moved = ties.assign(left=ends[:, 0], right=ends[:, 1])
    moved = moved.iloc[random.sample(range(len(ties)), len(ties))]

    there, back = (join_groups(np.arange(count), some) for some in (ties, moved))

    assert partition(back[place]) == partition(there)


@given(tied_rows())
def test_groups_lie_between_the_strong_ties_and_all_ties(drawn: tuple[int, pd.DataFrame]) -> None:
    count, ties = drawn

    groups = pd.Series(join_groups(np.arange(count), ties))

    core, everything = connect(count, ties[ties["strong"]]), connect(count, ties)
    assert (groups.groupby(core).nunique() == 1).all()
    assert (pd.Series(everything).groupby(groups).nunique() == 1).all()


@given(tied_rows())
def test_where_all_ties_are_strong_groups_are_connected_components(
    drawn: tuple[int, pd.DataFrame],
) -> None:
    count, ties = drawn

    groups = join_groups(np.arange(count), ties.assign(strong=True))

    assert partition(groups) == partition(connect(count, ties))


# --- Tables -------------------------------------------------------------------------------------


def test_duplicates_list_every_pair_and_each_copy_once() -> None:
    rows = pictures("AABCA")
    picture = first_of_equal_bytes(rows["image_id"])
    pairs = verified((0, 2, 0.96), (0, 3, 0.91), (2, 3, 0.92))
    pairs = pairs.assign(mirrored=[True, False, False], level=["remove", "look_alike", "group"])

    table = duplicates_table(rows, picture, pairs)

    assert list(table.columns) == list(DUPLICATES.columns)
    assert table.sort_values(["left_uri", "right_uri"]).to_numpy().tolist() == [
        ["cat/0", "cat/1", "A", "A", 1.0, False, 0, 0, 1.0, 0.0, "remove"],
        ["cat/0", "cat/2", "A", "B", 0.96, True, 90, 4, 0.9, 0.25, "remove"],
        ["cat/0", "cat/3", "A", "C", 0.91, False, 90, 4, 0.9, 0.25, "look_alike"],
        ["cat/0", "cat/4", "A", "A", 1.0, False, 0, 0, 1.0, 0.0, "remove"],
        ["cat/2", "cat/3", "B", "C", 0.92, False, 90, 4, 0.9, 0.25, "group"],
    ]


@pytest.mark.parametrize("count", [2, 1000])
def test_copies_cost_one_row_each(count: int) -> None:
    rows = pictures("A" * count)

    table = duplicates_table(rows, first_of_equal_bytes(rows["image_id"]), verified())

    assert len(table) == count - 1
