"""Which of several duplicates stays is decided by the pictures, never by their order."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.lib.clusters import first_of_equal_bytes
from stages.lib.overrides import Overrides
from stages.lib.policy import (
    Fitness,
    beside_official_set,
    choose_kept,
    find_unusable,
    preference,
    removals,
    removed_table,
)
from stages.lib.quality import FlagLimits, measure_quality, raise_flags
from stages.lib.table import REMOVED

NOTHING = Overrides(frozenset(), frozenset(), {}, frozenset())
RULE = "clean.remove_similarity = 0.95"


def pictures(*changes: dict[str, Any]) -> pd.DataFrame:
    """Return rows alike but for what is given; uri is a letter, image_id its capital."""
    usual = {"label": "cat", "official_split": "", "width": 64, "height": 48}
    usual |= {"format": "jpeg", "bytes": 1000}
    letters = "abcdefgh"
    rows = [
        {"uri": letters[at], "image_id": letters[at].upper(), **usual, **change}
        for at, change in enumerate(changes)
    ]
    return pd.DataFrame(rows).astype({"width": "int32", "height": "int32"})  # as in the table


def duplicates(*pairs: tuple[int, int, float]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["left", "right", "similarity"])


def keeping(*image_ids: str) -> Overrides:
    return Overrides(frozenset(image_ids), frozenset(), {}, frozenset())


def removed_rows(
    rows: pd.DataFrame,
    pairs: pd.DataFrame,
    overrides: Overrides = NOTHING,
    gone: tuple[int, ...] = (),
) -> pd.DataFrame:
    picture = first_of_equal_bytes(rows["image_id"])
    before = np.array(gone, np.int64)
    return removed_table(rows, choose_kept(rows, picture, pairs, overrides, before, RULE))


def removed_of(rows: pd.DataFrame, pairs: pd.DataFrame, overrides: Overrides = NOTHING) -> set[str]:
    return set(removed_rows(rows, pairs, overrides)["uri"])


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

    assert preference(rows, keeping("B")).tolist() == [1, 0]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_order_of_preference_is_one_for_all_orders_of_rows(order: tuple[int, ...]) -> None:
    rows = pictures({"width": 99}, {"format": "png"}, {"bytes": 2000}, {})

    shuffled = rows.iloc[list(order)]

    assert "".join(shuffled["uri"].iloc[preference(shuffled, NOTHING)]) == "abcd"


def test_of_two_duplicates_one_goes_and_its_row_says_why() -> None:
    rows = pictures({}, {"width": 99})

    found = removed_rows(rows, duplicates((0, 1, 0.97)))

    assert found.to_dict("records") == [
        {
            "uri": "a",
            "image_id": "A",
            "label": "cat",
            "action": "remove",
            "reason": "near_duplicate",
            "kept_uri": "b",
            "kept_image_id": "B",
            "similarity": 0.97,
            "rule": RULE,
            "group_id": "",
        }
    ]


def test_equal_content_is_called_an_exact_duplicate() -> None:
    rows = pictures({"image_id": "same"}, {"image_id": "same"})

    found = removed_rows(rows, duplicates())

    columns = ["uri", "reason", "kept_uri", "similarity", "rule"]
    assert found[columns].to_numpy().tolist() == [
        ["b", "exact_duplicate", "a", 1.0, "equal sha256"]
    ]


def test_a_copy_of_what_goes_goes_too_and_names_what_stays() -> None:
    rows = pictures({"image_id": "same"}, {"width": 99}, {"image_id": "same"})

    found = removed_rows(rows, duplicates((0, 1, 0.97)))

    assert found[["uri", "reason", "kept_uri"]].to_numpy().tolist() == [
        ["a", "near_duplicate", "b"],
        ["c", "near_duplicate", "b"],
    ]


def test_ten_thousand_copies_leave_one() -> None:
    rows = pd.concat([pictures({"image_id": "same"})] * 10_000, ignore_index=True)
    rows = rows.assign(uri=[f"{number:05}" for number in range(len(rows))])

    found = removed_rows(rows, duplicates())

    assert len(found) == 9_999
    assert set(found["kept_uri"]) == {"00000"}


def test_a_chain_keeps_its_far_end() -> None:
    # a ~ b ~ c ~ d, but a is no duplicate of c: c stays although its neighbour b goes.
    rows = pictures({"width": 99}, {"width": 98}, {"width": 97}, {"width": 96})
    chain = duplicates((0, 1, 0.96), (1, 2, 0.96), (2, 3, 0.96))

    assert removed_of(rows, chain) == {"b", "d"}


def test_whoever_goes_resembles_one_that_stays() -> None:
    rng = np.random.default_rng(0)
    rows = pictures(*({"width": int(width)} for width in rng.integers(50, 60, 8)))
    edges = [(i, j, 0.96) for i in range(8) for j in range(i) if rng.random() < 0.3]

    found = removed_rows(rows, duplicates(*edges))

    partners = {at: {i + j - at for i, j, _ in edges if at in (i, j)} for at in range(8)}
    stays = set(range(8)) - {"abcdefgh".index(uri) for uri in found["uri"]}
    assert 0 < len(found) < 8
    for uri, kept_uri in zip(found["uri"], found["kept_uri"], strict=True):
        assert "abcdefgh".index(kept_uri) in partners["abcdefgh".index(uri)] & stays
    assert not any(partners[at] & stays for at in stays)


def test_the_most_similar_one_that_stays_is_named() -> None:
    rows = pictures({"width": 99}, {"width": 98}, {"width": 10})

    found = removed_rows(rows, duplicates((0, 2, 0.96), (1, 2, 0.98)))

    assert found[["uri", "kept_uri"]].to_numpy().tolist() == [["c", "b"]]


def test_a_wanted_picture_stays_even_beside_an_official_one() -> None:
    rows = pictures({"official_split": "test"}, {"official_split": "train"})

    assert removed_of(rows, duplicates((0, 1, 0.99)), keeping("B")) == set()
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

    assert removed_rows(rows, duplicates((0, 1, 0.99)), gone=(0,)).empty


def test_duplicates_under_two_labels_are_no_reason_to_keep_one() -> None:
    rows = pictures({"width": 99}, {"label": "dog"})

    assert removed_of(rows, duplicates((0, 1, 0.99))) == set()


@pytest.mark.parametrize("official", ["test", "val"])
def test_copies_inside_an_official_set_stay_and_take_the_others_with_them(official: str) -> None:
    usual = {"image_id": "same"}
    rows = pictures(
        {**usual, "official_split": official}, {**usual, "official_split": official}, usual
    )

    assert removed_of(rows, duplicates()) == {"c"}


def test_who_shares_a_group_with_a_higher_official_rank_is_named() -> None:
    splits = ("test", "val", "train", "val", "", "")
    rows = pictures(*({"official_split": name} for name in splits))
    groups = np.array([0, 0, 0, 1, 1, 2])

    found = [
        beside_official_set(rows, groups, np.array(gone, np.int64))["at"].tolist()
        for gone in ([], [2])
    ]

    assert found == [[1, 2, 4], [1, 4]]


# --- Fit for use ----------------------------------------------------------------------------------

LIMITS = FlagLimits(
    dark=0.35, bright=0.8, blurry=50, low_information=2.0, odd_size=5.0, odd_aspect=3.0
)
FITNESS = Fitness(
    keep_suspect=("missing_eoi",),
    formats=("jpeg", "png"),
    colours=("grey", "colour"),
    min_side=16,
    masks="quarantine",
    single_color="quarantine",
    flags=LIMITS,
    remove_flagged=("dark", "odd_aspect"),
)
SOUND = {"verdict": "ok", "reason": "", "colour": "colour", "sharpness": 900.0, "entropy": 7.0}
SOUND |= {"brightness_low": 0.2, "brightness_high": 0.9, "mask": "", "single_color": ""}
UNFIT = [
    ({"image_id": "DROP"}, "dropped", "overrides.csv"),
    ({"verdict": "corrupt", "reason": "truncated"}, "truncated", "scan: corrupt"),
    ({"verdict": "unsupported", "reason": "animated"}, "animated", "scan: unsupported"),
    (
        {"verdict": "unsupported", "reason": "too_few_levels"},
        "too_few_levels",
        "scan: unsupported: fewer than 60 gray levels in the range of scan.value_ranges; write the "
        "range that matters there, as {uint16: [0, 4095]}",
    ),
    (
        {"verdict": "suspect", "reason": "damaged"},
        "damaged",
        "scan: suspect, not in clean.keep_suspect [missing_eoi]",
    ),
    ({"format": "gif"}, "unwanted_format", "gif is not in clean.formats [jpeg, png]"),
    ({"colour": "cmyk"}, "unwanted_colour", "cmyk is not in clean.colours [grey, colour]"),
    ({"height": 15}, "too_small", "clean.min_side = 16"),
    ({"mask": "beside a.jpg"}, "mask", "beside a.jpg"),
    ({"single_color": "one color"}, "single_color", "one color"),
    ({"brightness_high": 0.21}, "dark", "clean.flags.dark = 0.35: brightness_high 0.21"),
    (
        {"width": 200, "height": 40},
        "odd_aspect",
        "clean.flags.odd_aspect = 3: longer side / shorter side 5",
    ),
]


def unfit(rows: pd.DataFrame, *kept: str, fitness: Fitness = FITNESS) -> pd.DataFrame:
    measured = measure_quality(rows)
    overrides = Overrides(frozenset(kept), frozenset({"DROP"}), {}, frozenset())
    empty = rows[["mask", "single_color"]]
    raised = raise_flags(measured, LIMITS)
    return removed_table(rows, find_unusable(rows, overrides, fitness, measured, raised, empty))


@pytest.mark.parametrize(("change", "reason", "rule"), UNFIT)
def test_what_is_unfit_goes_and_its_rule_says_why(
    change: dict[str, Any], reason: str, rule: str
) -> None:
    rows = pictures(SOUND, {**SOUND, **change}, SOUND)

    found = unfit(rows)

    assert found[["uri", "reason", "rule"]].to_numpy().tolist() == [["b", reason, rule]]
    action = "quarantine" if reason in ("mask", "single_color") else "remove"
    assert found[["action", "kept_uri", "kept_image_id"]].to_numpy().tolist() == [[action, "", ""]]


@pytest.mark.parametrize(
    ("treatment", "actions"), [("quarantine", ["quarantine"]), ("drop", ["remove"]), ("keep", [])]
)
@pytest.mark.parametrize(("reason", "policy"), [("mask", "masks"), ("single_color",) * 2])
def test_an_image_without_content_is_treated_as_its_policy_says(
    reason: str, policy: str, treatment: Any, actions: list[str]
) -> None:
    rows = pictures(SOUND, {**SOUND, reason: "evidence"}, {**SOUND, "height": 15})

    found = unfit(rows, fitness=replace(FITNESS, **{policy: treatment}))

    assert found.loc[found["reason"] == reason, "action"].tolist() == actions
    assert found.loc[found["reason"] == "too_small", "action"].tolist() == ["remove"]
    assert len(found) == len(actions) + 1


@pytest.mark.parametrize("first", range(len(UNFIT)))
def test_of_several_reasons_the_more_serious_one_is_given(first: int) -> None:
    later = [change for change, _, _ in UNFIT[first:] if "verdict" not in change]
    changes = {key: value for change in later for key, value in change.items()} | UNFIT[first][0]

    found = unfit(pictures(SOUND, {**SOUND, **changes}, SOUND))

    assert found["reason"].tolist() == [UNFIT[first][1]]


@pytest.mark.parametrize(("change", "reason", "rule"), UNFIT[1:])
def test_a_wanted_picture_stays_unless_it_cannot_be_decoded(
    change: dict[str, Any], reason: str, rule: str
) -> None:
    rows = pictures(SOUND, {**SOUND, **change}, SOUND)

    found = unfit(rows, "B")

    lost = change.get("verdict") in ("corrupt", "unsupported")
    assert found["reason"].tolist() == ([reason] if lost else [])


def test_a_flag_removes_nothing_unless_asked_to() -> None:
    rows = pictures(*({**SOUND, **change} for change, reason, _ in UNFIT[-2:]))

    found = unfit(rows, fitness=replace(FITNESS, remove_flagged=()))

    assert found.empty


def test_a_picture_without_a_colour_class_is_not_judged_by_it() -> None:
    assert unfit(pictures({**SOUND, "colour": ""})).empty


def test_no_removals_are_a_table_without_rows() -> None:
    table = removed_table(pictures({}), removals([], [], []))

    assert list(table.columns) == list(REMOVED.columns)
    assert len(table) == 0


def test_what_went_keeps_its_group_where_that_is_known() -> None:
    rows = pictures({}, {}).assign(group_id=["g1", "g2"])

    table = removed_table(rows, removals([1], "near_duplicate", RULE))

    assert table[["uri", "group_id"]].to_numpy().tolist() == [["b", "g2"]]
