"""Clusters rest on verified ties, and the weakest one that each needs is named."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.lib.clusters import (
    all_ties,
    clusters_table,
    connect,
    duplicates_table,
    first_of_equal_bytes,
    spanning_forest,
)
from stages.lib.table import CLUSTERS, DUPLICATES

NOBODY = np.empty(0, np.int64)


def pictures(image_ids: str, **columns: list[Any]) -> pd.DataFrame:
    uris = [f"cat/{number}" for number in range(len(image_ids))]
    rows = pd.DataFrame({"uri": uris, "label": "cat", "clip": "", "image_id": list(image_ids)})
    return rows.assign(**columns)


def verified(*pairs: tuple[int, int, float]) -> pd.DataFrame:
    frame = pd.DataFrame(pairs, columns=["left", "right", "similarity"])
    types = {"left": "int64", "right": "int64", "similarity": "float64"}
    return frame.astype(types).assign(distance=4, mirrored=False, rotation=90)


def tabled(
    rows: pd.DataFrame, pairs: pd.DataFrame, gone: np.ndarray = NOBODY
) -> list[dict[str, Any]]:
    """Return data/clusters.csv as records; a group is named after its first picture."""
    ties = all_ties(rows, first_of_equal_bytes(rows["image_id"]), pairs)
    groups = connect(len(rows), ties)
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


def test_duplicates_list_every_pair_and_each_copy_once() -> None:
    rows = pictures("AABCA")
    picture = first_of_equal_bytes(rows["image_id"])
    pairs = verified((0, 2, 0.96), (2, 3, 0.92)).assign(mirrored=[True, False])

    table = duplicates_table(rows, picture, pairs, 0.95)

    assert list(table.columns) == list(DUPLICATES.columns)
    assert table.sort_values(["left_uri", "right_uri"]).to_numpy().tolist() == [
        ["cat/0", "cat/1", "A", "A", 1.0, False, 0, 0, "remove"],
        ["cat/0", "cat/2", "A", "B", 0.96, True, 90, 4, "remove"],
        ["cat/0", "cat/4", "A", "A", 1.0, False, 0, 0, "remove"],
        ["cat/2", "cat/3", "B", "C", 0.92, False, 90, 4, "group"],
    ]


@pytest.mark.parametrize("count", [2, 1000])
def test_copies_cost_one_row_each(count: int) -> None:
    rows = pictures("A" * count)

    table = duplicates_table(rows, first_of_equal_bytes(rows["image_id"]), verified(), 0.95)

    assert len(table) == count - 1
