"""The search says how precise it is, and every warning stands under its condition alone."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.lib.duplicate_health import (
    FEW_CONTROLS,
    LEAST_LOST,
    duplicate_metrics,
    warnings,
)
from stages.lib.intervals import wilson

PAIRS = {"left": "int64", "right": "int64", "level": "object"}


def images(**counts: int) -> pd.DataFrame:
    """Return so many rows of each label, each a group of its own."""
    rows = [(f"{label}/{at:04}", label) for label, count in counts.items() for at in range(count)]
    frame = pd.DataFrame(rows, columns=["uri", "label"])
    return frame.assign(group_id=frame["uri"])


def grouped(kept: pd.DataFrame, *sizes: int) -> pd.DataFrame:
    """Return the rows with their first ones in groups of these sizes."""
    names = np.repeat([f"group {at}" for at in range(len(sizes))], sizes)
    group_id = kept["group_id"].to_numpy(object).copy()
    group_id[: len(names)] = names
    return kept.assign(group_id=group_id)


def pairs_of(*pairs: tuple[int, int, str]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=list(PAIRS)).astype(PAIRS)


def metrics_of(rows: pd.DataFrame, pairs: pd.DataFrame, cut: int = 0) -> dict[str, Any]:
    """Return the metrics where everything was kept."""
    return duplicate_metrics(rows, pairs, rows["label"], rows["group_id"], cut)


# --- Counts -------------------------------------------------------------------------------------


def test_pairs_and_look_alikes_are_counted_apart() -> None:
    rows = images(cat=6)
    pairs = pairs_of((0, 1, "remove"), (1, 2, "group"), (3, 4, "look_alike"))

    found = metrics_of(rows, pairs, cut=3)

    assert (found["pairs"], found["look_alike_pairs"], found["ties_not_joined"]) == (2, 1, 3)


def test_the_largest_group_is_measured_among_what_was_kept() -> None:
    rows = grouped(images(cat=4, dog=6), 2, 5)

    found = metrics_of(rows, pairs_of())
    without = duplicate_metrics(rows.head(3), pairs_of(), rows["label"], rows["group_id"], 0)

    assert (found["largest_group"], found["largest_group_labels"]) == (5, 2)
    assert found["largest_group_share"] == 0.5
    assert (without["largest_group"], without["largest_group_share"]) == (2, 0.6667)
    assert without["largest_group_labels"] == 1


def test_a_set_of_which_nothing_stays_has_no_largest_group() -> None:
    nothing = images(cat=0)

    found = metrics_of(nothing, pairs_of())

    assert (found["largest_group"], found["largest_group_share"]) == (0, 0.0)
    assert "pair_precision" not in found


# --- Precision ----------------------------------------------------------------------------------


def constructed(right: int, wrong: int, controls: int, crossing: float) -> dict[str, Any]:
    """Return the metrics of pairs, each a group of its own, of two labels of equal size.

    right: pairs of one scene; wrong: pairs of unrelated images, a half of which cross labels.
    controls: look-alikes, of which the share `crossing` does.
    """
    count = right + wrong + controls
    one = np.full(count, "cat", object)
    other = one.copy()
    other[right : right + wrong : 2] = "dog"
    other[right + wrong : right + wrong + round(controls * crossing)] = "dog"
    rows = pd.DataFrame({"label": np.stack([one, other], axis=1).ravel()})
    rows = rows.assign(uri=rows.index.astype(str), group_id=(rows.index // 2).astype(str))
    level = ["group"] * (right + wrong) + ["look_alike"] * controls
    pairs = pd.DataFrame({"left": np.arange(count) * 2, "right": np.arange(count) * 2 + 1})
    return metrics_of(rows, pairs.assign(level=level))


@pytest.mark.parametrize(
    ("right", "wrong", "precision"), [(400, 0, 1.0), (300, 100, 0.75), (100, 300, 0.25), (0, 40, 0)]
)
def test_the_share_of_right_pairs_is_read_off_those_that_cross_labels(
    right: int, wrong: int, precision: float
) -> None:
    found = constructed(right, wrong, 100, 0.5)

    assert found["pairs_across_labels"] == wrong // 2
    assert found["pair_precision"] == precision
    low, high = wilson(wrong // 2, right + wrong, 0.95)
    assert found["pair_precision_low"] == round(max(1 - 2 * high, 0), 4)
    assert found["pair_precision_high"] == round(1 - 2 * low, 4)
    assert found["pair_precision_low"] <= precision <= found["pair_precision_high"]


def test_of_pairs_that_cross_more_often_than_chance_none_is_right() -> None:
    found = constructed(0, 100, 100, 0.25)

    assert found["pair_precision"] == found["pair_precision_low"] == 0.0
    assert 0 <= found["pair_precision_high"] <= 1


def test_look_alikes_that_keep_to_their_class_make_the_same_pairs_less_precise() -> None:
    # Most classes look like themselves: a false pair crosses labels less often than chance.
    at_random, within_classes = (constructed(300, 100, 100, share) for share in (0.5, 0.25))

    assert at_random["pair_precision"] == 0.75
    assert within_classes["pair_precision"] == 0.5


@pytest.mark.parametrize(("controls", "chance"), [(FEW_CONTROLS - 1, 0.5), (FEW_CONTROLS, 0.2)])
def test_with_few_look_alikes_chance_is_that_of_the_sizes_of_the_classes(
    controls: int, chance: float
) -> None:
    rows = images(cat=500, dog=500)
    right = [(at, at + 1, "group") for at in range(180)]
    wrong = [(at, 500 + at, "group") for at in range(180, 200)]
    alike = [(at, at + (500 if at % 5 == 0 else 1), "look_alike") for at in range(controls)]

    found = metrics_of(rows, pairs_of(*right, *wrong, *alike))

    assert found["pair_precision"] == 1 - 0.1 / chance


def test_the_pairs_of_one_group_count_once_in_the_interval() -> None:
    apart = images(cat=200, dog=200)
    wrong = [(at, 200 + at, "group") for at in range(10)]
    right = [(at, at + 1, "group") for at in range(10, 190)]
    together = grouped(apart, 100)

    many, few = (metrics_of(rows, pairs_of(*wrong, *right)) for rows in (apart, together))

    assert many["pair_precision"] == few["pair_precision"]
    assert few["pair_precision_low"] < many["pair_precision_low"]
    assert few["pair_precision_high"] > many["pair_precision_high"]


@pytest.mark.parametrize(
    ("rows", "pairs"),
    [
        (images(cat=9), pairs_of((0, 1, "group"))),
        (images(cat=5, dog=5), pairs_of((0, 1, "look_alike"))),
        (images(cat=5, dog=5), pairs_of()),
    ],
    ids=["one class", "look-alikes alone", "no pairs"],
)
def test_where_labels_say_nothing_no_precision_is_claimed(
    rows: pd.DataFrame, pairs: pd.DataFrame
) -> None:
    assert not {name for name in metrics_of(rows, pairs) if "precision" in name or "cross" in name}


# --- Warnings -----------------------------------------------------------------------------------

USUAL = {
    "pairs": 40,
    "look_alike_pairs": 10,
    "largest_group": 2,
    "largest_group_share": 0.02,
    "largest_group_labels": 1,
    "ties_not_joined": 0,
    "pairs_across_labels": 1,
    "pair_precision": 0.95,
    "pair_precision_low": 0.9,
    "pair_precision_high": 0.99,
}
NOTHING_REMOVED = pd.DataFrame(columns=["uri", "label", "reason", "kept_uri", "similarity"])
SCAN = images(cat=100, dog=200)


def removed_rows(
    uris: list[str], reason: str, kept_uris: list[str] | None = None, similarity: float = 0.9
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "uri": uris,
            "label": [uri.split("/")[0] for uri in uris],
            "reason": reason,
            "kept_uri": kept_uris or [""] * len(uris),
            "similarity": similarity,
        }
    )


def warned(
    metrics: dict[str, Any] | None = None,
    removed: pd.DataFrame = NOTHING_REMOVED,
    kept: pd.DataFrame = SCAN,
    scan: pd.DataFrame = SCAN,
    largest_group: float = 0.05,
) -> list[str]:
    return warnings({**USUAL, **(metrics or {})}, scan, kept, removed, largest_group)


def test_of_an_ordinary_set_nothing_is_said() -> None:
    assert warned() == []


@pytest.mark.parametrize(
    ("size", "labels", "limit", "said"),
    [
        (16, 1, 0.05, True),
        (15, 1, 0.05, False),  # 15 of 300 is the limit, not above it
        (16, 1, 0.06, False),
        (15, 2, 0.05, False),
        (3, 3, 0.05, True),
        (2, 1, 0.001, False),  # a pair is no group to worry about
    ],
)
def test_a_large_group_and_one_under_many_labels_are_named(
    size: int, labels: int, limit: float, said: bool
) -> None:
    kept = images(cat=298, dog=1, owl=1)
    if labels > 1:  # one of the first is of each other label
        order = [*range(size - labels + 1), *range(301 - labels, 300)]
        kept = pd.concat([kept.iloc[order], kept.drop(index=order)], ignore_index=True)
    kept = grouped(kept, size)
    found = metrics_of(kept, pairs_of())
    assert (found["largest_group"], found["largest_group_labels"]) == (size, labels)

    sentences = warnings(USUAL | found, kept, kept, NOTHING_REMOVED, limit)

    assert len(sentences) == said
    if said:
        plural = "s" if labels > 1 else ""
        share = f"{size / 300:.1%}"
        start = (
            f"the largest group holds {size} of 300 images ({share}) under {labels} label{plural}"
        )
        first, last = kept["uri"].iloc[[0, size - 1]]
        assert sentences[0].startswith(f"{start}, e.g. {first} and {last};")
        assert "clean.group_similarity" in sentences[0]


@pytest.mark.parametrize(("high", "said"), [(0.89, True), (0.9, False), (1.0, False)])
def test_pairs_that_may_be_as_precise_as_asked_for_are_no_warning(high: float, said: bool) -> None:
    found = warned({"pair_precision": 0.8, "pair_precision_low": 0.7, "pair_precision_high": high})

    assert len(found) == said
    if said:
        assert found[0].startswith("of the 40 pairs found 1 cross labels")
        assert "only 80% are right (70% to 89%)" in found[0]


def test_without_an_estimate_of_the_precision_nothing_is_said_of_it() -> None:
    metrics = {name: value for name, value in USUAL.items() if "precision" not in name}

    assert warnings(metrics, SCAN, SCAN, NOTHING_REMOVED, 0.05) == []


@pytest.mark.parametrize("reason", ["near_duplicate", "beside_official_set"])
@pytest.mark.parametrize(("label", "count", "said"), [("cat", 11, True), ("cat", 10, False)])
def test_a_class_that_lost_more_than_a_tenth_to_similarity_is_named(
    reason: str, label: str, count: int, said: bool
) -> None:
    removed = removed_rows([f"{label}/{at:04}" for at in range(count)], reason)
    removed = removed.assign(similarity=np.linspace(0.99, 0.9, count))

    found = warned(removed=removed)

    assert len(found) == said
    if said:
        assert found[0].startswith(
            "11 of 100 images of 'cat' were left out as copies, e.g. cat/0010;"
        )
        assert "clean.near_duplicates: group" in found[0]


@pytest.mark.parametrize("count", [LEAST_LOST - 1, LEAST_LOST])
def test_of_a_tiny_class_a_few_lost_images_are_not_named(count: int) -> None:
    scan = images(cat=20, dog=200)
    gone = [f"cat/{at:04}" for at in range(count)]
    removed = removed_rows(gone, "near_duplicate", ["cat/0019"] * count)

    found = warned(removed=removed, scan=scan)

    assert len(found) == (count >= LEAST_LOST)
    assert all("e.g. cat/0000 for cat/0019" in sentence for sentence in found)


def test_equal_bytes_and_damage_are_no_loss_to_similarity() -> None:
    gone = [f"cat/{at:04}" for at in range(60)]

    for reason in ("exact_duplicate", "truncated", "too_small"):
        assert warned(removed=removed_rows(gone, reason)) == []


@pytest.mark.parametrize(("count", "said"), [(5, False), (6, True)])
def test_classes_that_are_copies_of_each_other_are_named_once(count: int, said: bool) -> None:
    # Each conflict takes both images: so many pairs are twice as many rows.
    cats, dogs = ([f"{label}/{at:04}" for at in range(count)] for label in ("cat", "dog"))
    removed = pd.concat(
        [
            removed_rows(cats, "label_conflict", dogs, 0.95),
            removed_rows(dogs, "label_conflict", cats, 0.95),
        ]
    )

    found = warned(removed=removed)

    assert len(found) == said
    if said:
        assert found[0].startswith(
            "12 images are copies of each other under 'cat' and 'dog', e.g. cat/0000 and dog/0000"
        )
        assert "clean.label_conflicts: keep" in found[0]


def test_conflicts_that_are_spread_over_many_classes_are_not_named() -> None:
    scan = images(**{f"c{at}": 100 for at in range(8)})
    gone = [f"c{at}/0000" for at in range(7) for _ in range(2)]
    others = [f"c{at + 1}/0000" for at in range(7) for _ in range(2)]

    assert warned(removed=removed_rows(gone, "label_conflict", others), scan=scan) == []


def test_conflicts_without_a_partner_are_not_counted() -> None:
    gone = [f"cat/{at:04}" for at in range(50)]

    assert warned(removed=removed_rows(gone, "label_conflict")) == []


@pytest.mark.parametrize(
    ("alike", "pairs", "said"),
    [(FEW_CONTROLS, 29, True), (FEW_CONTROLS, 30, False), (FEW_CONTROLS - 1, 0, False)],
)
def test_more_look_alikes_than_pairs_ask_for_the_names_of_clips(
    alike: int, pairs: int, said: bool
) -> None:
    found = warned({"look_alike_pairs": alike, "pairs": pairs})

    assert len(found) == said
    assert all("download.clip_pattern" in sentence for sentence in found)
