"""What the search for duplicates says about itself: its largest group, its precision, its excesses.

Nothing here changes a decision. It names what a person should look at before trusting the split.
"""

from typing import Any

import numpy as np
import pandas as pd

from stages.lib.intervals import wilson

SIMILAR = ("near_duplicate", "beside_official_set")
LOST_SHARE = 0.1  # of a class, gone for similarity: more is a matter for a person
LEAST_LOST = 10  # images: a tenth of a tiny class is one image
FEW_CONTROLS = 30  # look-alikes by which chance is read; with fewer, the classes' own shares
LEAST_PRECISION = 0.9
MANY_LABELS = 3


def duplicate_metrics(
    kept: pd.DataFrame, pairs: pd.DataFrame, labels: pd.Series, groups: pd.Series, cut: int
) -> dict[str, Any]:
    """Return counts of pairs, the largest group, and the precision that the labels allow to see.

    kept: rows that stay, with label and group_id. pairs: left, right (positions in `labels` and
    `groups`), level. cut: ties too weak to join two groups.
    """
    found = pairs[pairs["level"] != "look_alike"]
    sizes = kept["group_id"].value_counts()
    largest = kept[kept["group_id"] == sizes.index[0]] if len(sizes) else kept
    metrics: dict[str, Any] = {
        "pairs": len(found),
        "look_alike_pairs": len(pairs) - len(found),
        "largest_group": len(largest),
        "largest_group_share": round(len(largest) / max(len(kept), 1), 4),
        "largest_group_labels": int(largest["label"].nunique()),
        "ties_not_joined": cut,
    }
    return metrics | _precision(pairs, labels, groups)


def _precision(pairs: pd.DataFrame, labels: pd.Series, groups: pd.Series) -> dict[str, Any]:
    """Return which share of the pairs is right, judged by how often they cross labels.

    A true pair hardly ever crosses labels; a false one does as often as look-alikes do. So the
    share of crossing pairs over that of the look-alikes is the share of false ones (target and
    decoy, as in Elias & Gygi 2007). The interval is Wilson's, each group counting once.
    """
    names = labels.to_numpy(object)
    crosses = names[pairs["left"]] != names[pairs["right"]]
    alike = (pairs["level"] == "look_alike").to_numpy()
    found = int((~alike).sum())
    if alike.sum() >= FEW_CONTROLS:
        chance = float(crosses[alike].mean())
    else:
        chance = 1 - float((labels.value_counts(normalize=True) ** 2).sum())
    if not found or chance <= 0:
        return {}
    crossing = int(crosses[~alike].sum())
    trials = int(groups.iloc[pairs.loc[~alike, "left"]].nunique())
    share = crossing / found
    low, high = wilson(round(share * trials), trials, 0.95)
    return {
        "pairs_across_labels": crossing,
        "pair_precision": round(max(1 - share / chance, 0.0), 4),
        "pair_precision_low": round(max(1 - high / chance, 0.0), 4),
        "pair_precision_high": round(min(max(1 - low / chance, 0.0), 1.0), 4),
    }


def warnings(
    metrics: dict[str, Any],
    scan: pd.DataFrame,
    kept: pd.DataFrame,
    removed: pd.DataFrame,
    largest_group: float,
) -> list[str]:
    """Return in sentences what is out of the ordinary, and which key changes it.

    scan: with the labels as corrected. largest_group: share of the kept images from which on the
    largest group is named.
    """
    return [
        *_of_largest_group(metrics, kept, largest_group),
        *_of_precision(metrics),
        *_of_lost_classes(scan, removed),
        *_of_conflicts(scan, removed),
        *_of_look_alikes(metrics),
    ]


def is_large_group(metrics: dict[str, Any], limit: float) -> bool:
    """Tell whether the largest group is one to warn of: more than `limit` (a share) of the kept
    images, or under many labels.
    """
    if metrics["largest_group"] < MANY_LABELS:
        return False
    large = metrics["largest_group_share"] > limit
    return bool(large or metrics["largest_group_labels"] >= MANY_LABELS)


def _of_largest_group(metrics: dict[str, Any], kept: pd.DataFrame, limit: float) -> list[str]:
    size, share = metrics["largest_group"], metrics["largest_group_share"]
    labels = metrics["largest_group_labels"]
    if not is_large_group(metrics, limit):
        return []
    example = kept.loc[kept["group_id"] == kept["group_id"].value_counts().index[0], "uri"]
    return [
        f"the largest group holds {size:,} of {len(kept):,} images ({share:.1%}) under {labels} "
        f"label{'s' if labels > 1 else ''}, e.g. {example.iloc[0]} and {example.iloc[-1]}; a group "
        "is never divided, so all of it lies on one side of the split and the test set is drawn "
        "from the rest. `make review` shows its weakest tie; if it ties different things, raise "
        "clean.group_similarity or write not_duplicate lines to overrides.csv"
    ]


def _of_precision(metrics: dict[str, Any]) -> list[str]:
    high = metrics.get("pair_precision_high", 1.0)
    if high >= LEAST_PRECISION:
        return []
    return [
        f"of the {metrics['pairs']:,} pairs found {metrics['pairs_across_labels']:,} cross labels: "
        f"judged by that, only {metrics['pair_precision']:.0%} are right "
        f"({metrics['pair_precision_low']:.0%} to {high:.0%}), or the labels are not; look at them "
        "with `make review`, and raise clean.group_similarity if they are different things"
    ]


def _of_lost_classes(scan: pd.DataFrame, removed: pd.DataFrame) -> list[str]:
    gone = removed[removed["reason"].isin(SIMILAR)]
    sentences = []
    totals = scan["label"].value_counts()
    for label, count in gone["label"].value_counts().sort_index().items():
        if count >= LEAST_LOST and count > LOST_SHARE * totals[label]:
            pair = gone[gone["label"] == label].sort_values(["similarity", "uri"]).iloc[0]
            instead = f" for {pair.kept_uri}" if pair.kept_uri else ""
            sentences.append(
                f"{count:,} of {totals[label]:,} images of {label!r} were left out as copies, e.g. "
                f"{pair.uri}{instead}; to keep them all, on one side of the split, set "
                "clean.near_duplicates: group"
            )
    return sentences


def _of_conflicts(scan: pd.DataFrame, removed: pd.DataFrame) -> list[str]:
    conflict = removed[(removed["reason"] == "label_conflict") & (removed["kept_uri"] != "")]
    if conflict.empty:
        return []
    label_of = scan.drop_duplicates("uri").set_index("uri")["label"]
    other = label_of.reindex(conflict["kept_uri"]).to_numpy(object)
    sides = conflict.assign(
        one=np.minimum(conflict["label"].to_numpy(object), other),
        two=np.maximum(conflict["label"].to_numpy(object), other),
    )
    totals = scan["label"].value_counts()
    sentences = []
    for (one, two), rows in sides.groupby(["one", "two"]):
        smaller = min(totals[one], totals[two])
        if len(rows) >= LEAST_LOST and len(rows) > LOST_SHARE * smaller:
            pair = rows.sort_values(["similarity", "uri"]).iloc[0]
            sentences.append(
                f"{len(rows):,} images are copies of each other under {one!r} and {two!r}, e.g. "
                f"{pair.uri} and {pair.kept_uri}; where the class is not what tells two images "
                "apart, nothing is wrong with the files: to keep them, set "
                "clean.label_conflicts: keep, or merge the classes with download.class_names"
            )
    return sentences


def _of_look_alikes(metrics: dict[str, Any]) -> list[str]:
    alike = metrics["look_alike_pairs"]
    if alike < FEW_CONTROLS or alike <= metrics["pairs"]:
        return []
    return [
        f"{alike:,} pairs resemble each other no more than this data set's unrelated images do, so "
        "they were not tied; if your images are frames of clips, shots of one object or several "
        "of one person, name what belongs together with download.clip_pattern"
    ]
