"""tools.data_health: what became of the data is told picture by picture where it can be."""

import pandas as pd
import pytest

from tools.data_health import (
    changes_of_counts,
    changes_of_pictures,
    judge_classes,
    judge_health,
    judge_leak_search,
)
from tools.gate_rules import HealthRules
from tools.revisions import Metrics

RULES = HealthRules(removed_share=0.2, lost_share=0.1, lost_class_share=0.25, smallest_class=20)
SOUND = {
    "download": {"files": 1000},
    "clean": {"kept": 900, "removed": 100},
    "split": {"leaks": 0, "smallest_train_class": 20, "test": 90},
}


def pictures(**labels: str) -> pd.DataFrame:
    return pd.DataFrame({"image_id": list(labels), "label": list(labels.values())})


def counts(**kept: int) -> pd.DataFrame:
    return pd.DataFrame({"label": list(kept), "kept": list(kept.values())})


def test_what_became_of_each_class_is_counted() -> None:
    base = pictures(a="cup", b="cup", c="cup", d="cup", e="bowl")
    head = pictures(a="cup", b="bowl", c="tree", e="bowl", new="cup")

    found = changes_of_pictures(base, head)

    assert found.to_dict("records") == [
        {"label": "bowl", "had": 1, "still": 1, "fate": ""},
        {
            "label": "cup",
            "had": 4,
            "still": 1,
            "fate": "1 missing, 1 labelled bowl now, 1 labelled tree now",
        },
    ]


def test_two_classes_that_swap_their_labels_are_seen_in_the_pictures_alone() -> None:
    base, head = pictures(a="cup", b="bowl"), pictures(a="bowl", b="cup")

    assert (changes_of_pictures(base, head)["still"] == 0).all()
    assert (changes_of_counts(counts(cup=1, bowl=1), counts(cup=1, bowl=1))["still"] == 1).all()


def test_a_copy_that_is_put_back_changes_nothing() -> None:
    base = pictures(a="cup", b="cup")
    head = pd.concat([base, base], ignore_index=True)

    assert changes_of_pictures(base, head)["still"].tolist() == [2]
    assert changes_of_pictures(head, base)["had"].tolist() == [2]


def test_counts_tell_of_a_class_that_shrank_or_is_gone() -> None:
    found = changes_of_counts(counts(cup=10, bowl=5, none=0), counts(cup=12, tree=9))

    assert found[["label", "had", "still"]].to_numpy().tolist() == [["cup", 10, 10], ["bowl", 5, 0]]


def test_a_class_that_lost_too_much_is_named_with_what_became_of_it() -> None:
    changes = pd.DataFrame(
        {"label": ["cup", "bowl"], "had": [100, 100], "still": [70, 75], "fate": ["30 missing", ""]}
    )

    (found,) = judge_classes(0.25, changes)

    assert found.outcome == "regression"
    assert found.sentence == (
        "class cup lost 30 of the 100 pictures that it has in the base (30 missing): 30.0%, "
        "at most 25.0% is allowed"
    )


def test_where_no_class_lost_too_much_the_worst_is_shown() -> None:
    changes = changes_of_counts(counts(cup=100, bowl=100), counts(cup=90, bowl=80))

    (found,) = judge_classes(0.25, changes)

    assert (found.name, found.outcome, found.sentence) == ("pictures of bowl", "ok", "")


def test_sound_data_pass_with_and_without_a_base() -> None:
    sound = Metrics(SOUND, {})

    assert {verdict.outcome for verdict in judge_health(RULES, sound, sound)} == {"ok"}
    assert {verdict.outcome for verdict in judge_health(RULES, None, sound)} == {"ok"}


@pytest.mark.parametrize("stage", SOUND)
def test_a_stage_without_metrics_never_passes(stage: str) -> None:
    head = Metrics({name: held for name, held in SOUND.items() if name != stage}, {})

    outcomes = {verdict.outcome for verdict in judge_health(RULES, Metrics(SOUND, {}), head)}

    assert outcomes == {"ok", "not comparable"}


@pytest.mark.parametrize(
    ("key", "old", "new", "looser"),
    [
        ("hash_radius", 10, 8, True),
        ("hash_radius", 10, 12, False),
        ("neighbours", 3, 0, True),
        ("neighbours", 3, 5, False),
        ("mirrored", True, False, True),
        ("mirrored", False, True, False),
        ("mirrored", True, True, False),
        ("rotations", True, False, True),
        ("rotations", False, True, False),
        ("rotations", True, None, True),
        ("rotations", None, True, False),
        ("group_similarity", 0.72, 0.8, True),
        ("group_similarity", 0.72, 0.7, False),
        ("group_similarity", 0.72, None, True),
        ("group_similarity", 0.72, 0.72, False),
        # These decide what becomes of what was found.
        ("remove_similarity", 0.85, 0.9, False),
        ("largest_group", 0.05, 0.5, False),
    ],
)
def test_a_looser_search_for_leaks_is_no_proof(
    key: str, old: float, new: float | None, looser: bool
) -> None:
    found = judge_leak_search({"clean": {key: old}}, {"clean": {key: new}})

    assert [verdict.outcome for verdict in found] == ["regression"] * looser
    if looser:
        assert found[0].sentence.endswith(f"clean.{key} went from {old} to {new}")
