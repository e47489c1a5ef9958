"""The same picture under two labels: whom quarantine takes, and how a majority is counted."""

from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.lib.clusters import first_of_equal_bytes
from stages.lib.conflicts import name_winners, settle
from stages.lib.errors import InputError
from stages.lib.overrides import Overrides
from stages.lib.policy import removed_table

NOTHING = Overrides(frozenset(), frozenset(), {}, frozenset())
LETTERS = "abcdefgh"


def pictures(*labels: str, **columns: list[Any]) -> pd.DataFrame:
    """Return rows a, b, c … with these labels; their image_ids are the capitals."""
    names = list(LETTERS[: len(labels)])
    usual = {"official_split": "", "width": 64, "height": 48, "format": "jpeg", "bytes": 1000}
    rows = pd.DataFrame({"uri": names, "image_id": [name.upper() for name in names], **usual})
    return rows.assign(label=list(labels), **columns)


def all_alike(rows: pd.DataFrame, similarity: float = 0.97) -> pd.DataFrame:
    """Return every pair of different pictures among the rows."""
    first = np.unique(first_of_equal_bytes(rows["image_id"])).tolist()
    pairs = [(one, other, similarity) for one in first for other in first if one < other]
    return duplicates(*pairs)


def duplicates(*pairs: tuple[int, int, float]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["left", "right", "similarity"])


def deciding(keep: str = "", relabelled: str = "") -> Overrides:
    return Overrides(frozenset(keep), frozenset(), dict.fromkeys(relabelled, "x"), frozenset())


def settled(
    rows: pd.DataFrame,
    policy: Any,
    pairs: pd.DataFrame | None = None,
    overrides: Overrides = NOTHING,
) -> pd.DataFrame:
    """Return the rows of data/removed.csv that the policy makes, by uri."""
    pairs = all_alike(rows) if pairs is None else pairs
    picture = first_of_equal_bytes(rows["image_id"])
    found = settle(rows, picture, pairs, overrides, policy)
    gone = np.concatenate([found.quarantined["at"], found.losers["at"]])
    named = name_winners(rows, found, pairs, overrides, gone)
    tables = [removed_table(rows, table) for table in (found.quarantined, named)]
    return pd.concat(tables, ignore_index=True).sort_values("uri", ignore_index=True)


def gone(*args: Any, **options: Any) -> str:
    return "".join(settled(*args, **options)["uri"])


# --- Quarantine -----------------------------------------------------------------------------------


def test_a_label_conflict_quarantines_both_and_names_the_other_label() -> None:
    found = settled(pictures("cat", "dog"), "quarantine")

    rule = "clean.label_conflicts = quarantine: also labelled "
    assert found.to_dict("list") == {
        "uri": ["a", "b"],
        "image_id": ["A", "B"],
        "label": ["cat", "dog"],
        "action": ["quarantine", "quarantine"],
        "reason": ["label_conflict", "label_conflict"],
        "kept_uri": ["b", "a"],
        "kept_image_id": ["B", "A"],
        "similarity": [0.97, 0.97],
        "rule": [f"{rule}'dog'", f"{rule}'cat'"],
        "group_id": ["", ""],
    }


def test_the_most_similar_picture_of_another_label_is_named() -> None:
    rows = pictures("cat", "dog", "owl")

    found = settled(rows, "quarantine", duplicates((0, 1, 0.96), (0, 2, 0.98), (1, 2, 0.97)))

    assert found["kept_uri"].tolist() == ["c", "c", "a"]
    assert found["similarity"].tolist() == [0.98, 0.97, 0.98]


def test_equal_bytes_under_two_labels_are_a_conflict_without_any_pair() -> None:
    rows = pictures("cat", "dog", "cat", "cat", image_id=list("AAAB"))

    found = settled(rows, "quarantine", duplicates())

    assert found[["uri", "kept_uri", "similarity"]].to_numpy().tolist() == [
        ["a", "b", 1.0],
        ["b", "a", 1.0],
        ["c", "b", 1.0],
    ]


def test_only_the_two_that_contradict_each_other_are_quarantined() -> None:
    chain = duplicates((0, 1, 0.96), (1, 2, 0.96), (2, 3, 0.96))

    assert gone(pictures("cat", "cat", "dog", "dog"), "quarantine", chain) == "bc"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("test", "train", "b"),
        ("test", "", "b"),
        ("test", "val", "b"),
        ("val", "train", "b"),
        ("test", "test", ""),
        ("val", "val", ""),
        ("", "train", "ab"),
    ],
)
@pytest.mark.parametrize("policy", ["quarantine", "majority"])
def test_in_a_conflict_official_pictures_stay(
    policy: str, first: str, second: str, expected: str
) -> None:
    assert gone(pictures("cat", "dog", official_split=[first, second]), policy) == expected


@pytest.mark.parametrize("policy", ["quarantine", "majority"])
def test_in_a_conflict_a_wanted_picture_stays(policy: str) -> None:
    assert gone(pictures("cat", "dog"), policy, overrides=deciding(keep="A")) == "b"


@pytest.mark.parametrize("policy", ["quarantine", "majority"])
def test_the_same_bytes_cannot_be_wanted_under_two_labels(policy: str) -> None:
    rows = pictures("cat", "dog", image_id=["A", "A"])

    with pytest.raises(
        InputError, match="keep of A names the same bytes under two labels, a and b"
    ):
        settled(rows, policy, overrides=deciding(keep="A"))


@pytest.mark.parametrize("policy", ["quarantine", "majority", "keep"])
def test_equal_labels_are_no_conflict(policy: str) -> None:
    assert gone(pictures("cat", "cat", "cat"), policy) == ""


def test_the_policy_keep_takes_nobody() -> None:
    assert gone(pictures("cat", "dog", "cat"), "keep") == ""


# --- Majority -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(["cat", "cat", "dog"])))
def test_the_label_of_most_pictures_wins_in_any_order(order: tuple[str, ...]) -> None:
    found = settled(pictures(*order), "majority")

    assert found["uri"].tolist() == [LETTERS[order.index("dog")]]
    row = found.iloc[0]
    assert (row["action"], row["reason"]) == ("remove", "label_conflict")
    assert row["rule"] == "clean.label_conflicts = majority: 'cat' has 2 of 3 votes"
    assert row["kept_uri"] == LETTERS[order.index("cat")]
    assert row["kept_image_id"] == row["kept_uri"].upper()
    assert row["similarity"] == 0.97


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["cat", "dog"], "ab"),
        (["cat", "cat", "dog", "dog"], "abcd"),
        (["cat", "cat", "dog", "owl"], "abcd"),  # two of four are no majority
        (["cat", "cat", "cat", "dog", "owl"], "de"),
    ],
)
def test_without_a_strict_majority_the_conflict_is_quarantined(
    labels: list[str], expected: str
) -> None:
    found = settled(pictures(*labels), "majority")

    assert "".join(found["uri"]) == expected
    tie = len(expected) == len(labels)
    assert set(found["action"]) == {"quarantine" if tie else "remove"}


def test_byte_copies_do_not_stuff_the_ballot() -> None:
    stuffed = pictures("dog", "cat", "cat", "dog", "dog", image_id=list("ABCAA"))

    assert gone(stuffed, "majority") == "ade"


def test_bytes_under_two_labels_vote_for_both() -> None:
    alone = pictures("cat", "dog", image_id=list("AA"))
    backed = pictures("cat", "dog", "cat", image_id=list("AAB"))

    assert gone(alone, "majority") == "ab"
    assert gone(backed, "majority") == "b"


def test_a_chain_is_one_cluster_and_its_far_end_names_who_is_worth_most() -> None:
    rows = pictures("cat", "cat", "dog", "dog", "cat", width=[64, 99, 64, 64, 64])
    chain = duplicates((0, 1, 0.96), (1, 2, 0.97), (2, 3, 0.98), (0, 4, 0.99))

    found = settled(rows, "majority", chain)

    assert found[["uri", "kept_uri"]].to_numpy().tolist() == [["c", "b"], ["d", "b"]]
    assert found["similarity"].tolist()[0] == 0.97
    assert np.isnan(found["similarity"].tolist()[1])


def test_clusters_vote_apart() -> None:
    rows = pictures("cat", "cat", "dog", "dog", "dog", "cat")
    pairs = duplicates(*[(0, 1, 0.96), (0, 2, 0.96), (3, 4, 0.96), (4, 5, 0.96)])

    assert gone(rows, "majority", pairs) == "cf"


@pytest.mark.parametrize("decided", [{"keep": "A"}, {"relabelled": "A"}])
def test_what_a_person_decided_outweighs_any_number(decided: dict[str, str]) -> None:
    rows = pictures("dog", "cat", "cat", "cat")

    assert gone(rows, "majority", overrides=deciding(**decided)) == "bcd"


def test_an_official_test_picture_outweighs_any_number() -> None:
    rows = pictures("dog", "cat", "cat", "cat", official_split=["test", "", "train", "val"])

    assert gone(rows, "majority") == "bcd"


def test_official_test_pictures_stay_even_when_outvoted_among_themselves() -> None:
    rows = pictures("dog", "cat", "cat", "dog", official_split=["test", "test", "test", ""])

    assert gone(rows, "majority") == "d"
