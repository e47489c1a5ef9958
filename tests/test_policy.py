"""Which of several duplicates stays is decided by the pictures, never by their order."""

from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.lib.overrides import Overrides
from stages.lib.policy import (
    beside_official_set,
    choose_kept,
    preference,
    removed_table,
    settle_conflicts,
)
from stages.lib.table import REMOVED

NOTHING = Overrides(frozenset(), frozenset(), {}, frozenset())
RULE = "clean.remove_similarity = 0.95"


def pictures(*changes: dict[str, Any]) -> pd.DataFrame:
    """Return rows alike but for what is given; uri and image_id default to a letter: a, b, c …"""
    usual = {"label": "cat", "official_split": "", "width": 64, "height": 48}
    usual |= {"format": "jpeg", "bytes": 1000}
    letters = "abcdefgh"
    rows = [
        {"uri": letters[at], "image_id": letters[at], **usual, **change}
        for at, change in enumerate(changes)
    ]
    return pd.DataFrame(rows).astype({"width": "int32", "height": "int32"})  # as in the table


def duplicates(*pairs: tuple[int, int, float]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["left", "right", "similarity"])


def keeping(*image_ids: str) -> Overrides:
    return Overrides(frozenset(image_ids), frozenset(), {}, frozenset())


def removed_of(rows: pd.DataFrame, pairs: pd.DataFrame, overrides: Overrides = NOTHING) -> set[str]:
    return {removal.uri for removal in choose_kept(rows, pairs, overrides, set(), RULE).values()}


BETTER_FIRST = [
    ({"official_split": "test"}, {"official_split": "val", "width": 999}),
    ({"official_split": "val"}, {"official_split": "train", "width": 999}),
    ({"official_split": "test"}, {"width": 999}),
    ({"width": 65}, {"format": "png", "bytes": 9999}),
    ({"width": 50_000, "height": 50_000}, {"format": "png"}),
    ({"format": "png"}, {"format": "jpeg", "bytes": 9999}),
    ({"format": "bmp"}, {"format": "webp", "bytes": 9999}),
    ({"bytes": 1001}, {"bytes": 1000}),
    ({"uri": "x/1.jpg"}, {"uri": "x/2.jpg"}),
]


@pytest.mark.parametrize(("better", "worse"), BETTER_FIRST)
@pytest.mark.parametrize("swap", [False, True])
def test_the_better_of_two_comes_first(
    better: dict[str, Any], worse: dict[str, Any], swap: bool
) -> None:
    two = [{"uri": "x", **better}, {"uri": "x", **worse}]
    rows = pictures(*(two[::-1] if swap else two))

    first = preference(rows, NOTHING)[0]

    assert first == (1 if swap else 0)


def test_a_picture_that_a_person_wants_comes_before_larger_ones() -> None:
    rows = pictures({"width": 999}, {})

    assert preference(rows, keeping("b")) == [1, 0]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_order_of_preference_is_one_for_all_orders_of_rows(order: tuple[int, ...]) -> None:
    rows = pictures({"width": 99}, {"format": "png"}, {"bytes": 2000}, {})

    shuffled = rows.iloc[list(order)]

    assert "".join(shuffled["uri"].iloc[preference(shuffled, NOTHING)]) == "abcd"


def test_of_two_duplicates_one_goes_and_its_row_says_why() -> None:
    rows = pictures({}, {"width": 99})

    found = choose_kept(rows, duplicates((0, 1, 0.97)), NOTHING, set(), RULE)

    assert vars(found[0]) == {
        "uri": "a",
        "image_id": "a",
        "label": "cat",
        "action": "remove",
        "reason": "near_duplicate",
        "kept_uri": "b",
        "similarity": 0.97,
        "rule": RULE,
    }
    assert list(found) == [0]


def test_equal_content_is_called_an_exact_duplicate() -> None:
    rows = pictures({"image_id": "same"}, {"image_id": "same"})

    found = choose_kept(rows, duplicates((0, 1, 1.0)), NOTHING, set(), RULE)

    assert [(removal.reason, removal.rule) for removal in found.values()] == [
        ("exact_duplicate", "equal sha256")
    ]


def test_a_chain_keeps_its_far_end() -> None:
    # a ~ b ~ c ~ d, but a is no duplicate of c: c stays although its neighbour b goes.
    rows = pictures({"width": 99}, {"width": 98}, {"width": 97}, {"width": 96})
    chain = duplicates((0, 1, 0.96), (1, 2, 0.96), (2, 3, 0.96))

    assert removed_of(rows, chain) == {"b", "d"}


def test_whoever_goes_resembles_one_that_stays() -> None:
    rng = np.random.default_rng(0)
    rows = pictures(*({"width": int(width)} for width in rng.integers(50, 60, 8)))
    edges = [(i, j, 0.96) for i in range(8) for j in range(i) if rng.random() < 0.3]

    found = choose_kept(rows, duplicates(*edges), NOTHING, set(), RULE)

    partners = {at: {i + j - at for i, j, _ in edges if at in (i, j)} for at in range(8)}
    stays = set(range(8)) - set(found)
    assert 0 < len(found) < 8
    for at, removal in found.items():
        assert "abcdefgh".index(removal.kept_uri) in partners[at] & stays
    assert not any(partners[at] & stays for at in stays)


def test_the_most_similar_one_that_stays_is_named() -> None:
    rows = pictures({"width": 99}, {"width": 98}, {"width": 10})

    found = choose_kept(rows, duplicates((0, 2, 0.96), (1, 2, 0.98)), NOTHING, set(), RULE)

    assert [(removal.uri, removal.kept_uri) for removal in found.values()] == [("c", "b")]


def test_a_wanted_picture_stays_even_beside_an_official_one() -> None:
    rows = pictures({"official_split": "test"}, {"official_split": "train"})

    assert removed_of(rows, duplicates((0, 1, 0.99)), keeping("b")) == set()
    assert removed_of(rows, duplicates((0, 1, 0.99))) == {"b"}


@pytest.mark.parametrize(
    ("first", "second", "gone"),
    [
        ("test", "train", {"b"}),
        ("test", "", {"b"}),
        ("test", "val", {"b"}),
        ("val", "train", {"b"}),
        ("test", "test", set()),
        ("val", "val", set()),
        ("train", "train", {"b"}),
        ("train", "", {"b"}),
    ],
)
def test_official_sets_yield_to_higher_ones_alone(first: str, second: str, gone: set[str]) -> None:
    rows = pictures({"official_split": first}, {"official_split": second})

    assert removed_of(rows, duplicates((0, 1, 0.99))) == gone


def test_what_is_gone_already_removes_nothing() -> None:
    rows = pictures({"width": 99}, {})

    assert choose_kept(rows, duplicates((0, 1, 0.99)), NOTHING, {0}, RULE) == {}


def test_duplicates_under_two_labels_are_no_reason_to_keep_one() -> None:
    rows = pictures({"width": 99}, {"label": "dog"})

    assert removed_of(rows, duplicates((0, 1, 0.99))) == set()


def test_a_label_conflict_quarantines_both_and_names_the_other_label() -> None:
    rows = pictures({}, {"label": "dog"})

    found = settle_conflicts(rows, duplicates((0, 1, 0.97)), NOTHING)

    rule = "clean.label_conflicts = quarantine: also labelled "
    assert [
        (removal.uri, removal.action, removal.reason, removal.kept_uri, removal.rule)
        for removal in found.values()
    ] == [
        ("a", "quarantine", "label_conflict", "b", f"{rule}'dog'"),
        ("b", "quarantine", "label_conflict", "a", f"{rule}'cat'"),
    ]


@pytest.mark.parametrize(
    ("first", "second", "gone"),
    [
        ("test", "train", {1}),
        ("test", "", {1}),
        ("test", "val", {1}),
        ("val", "train", {1}),
        ("test", "test", set()),
        ("val", "val", set()),
        ("", "train", {0, 1}),
    ],
)
def test_in_a_conflict_official_pictures_stay(first: str, second: str, gone: set[int]) -> None:
    rows = pictures({"official_split": first}, {"official_split": second, "label": "dog"})

    assert set(settle_conflicts(rows, duplicates((0, 1, 0.97)), NOTHING)) == gone


def test_in_a_conflict_a_wanted_picture_stays() -> None:
    rows = pictures({}, {"label": "dog"})

    assert set(settle_conflicts(rows, duplicates((0, 1, 0.97)), keeping("a"))) == {1}


def test_equal_labels_are_no_conflict() -> None:
    assert settle_conflicts(pictures({}, {}), duplicates((0, 1, 0.97)), NOTHING) == {}


def test_who_shares_a_group_with_a_higher_official_rank_is_named() -> None:
    rows = pictures(
        {"official_split": "test"},
        {"official_split": "val"},
        {"official_split": "train"},
        {"official_split": "val"},
        {},
        {},
    )

    found = beside_official_set(rows, np.array([0, 0, 0, 1, 1, 2], np.int32))

    assert found == {1, 2, 4}


def test_no_removals_are_a_table_without_rows() -> None:
    assert list(removed_table([]).columns) == list(REMOVED.columns)
    assert len(removed_table([])) == 0
