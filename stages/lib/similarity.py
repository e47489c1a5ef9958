"""Says what the search for duplicates found: pairs, its precision, the largest group."""

from typing import Any

import numpy as np
import pandas as pd

from stages.lib.duplicate_health import FEW_CONTROLS, is_large_group

SHOWN = 12  # images of the largest group
WIDE = 0.5  # an interval of a share this wide says next to nothing


def name_pair(
    level: str, exact: bool, mirrored: bool, labels: tuple[str, str], copies_group: bool
) -> str:
    """Return what a pair is, in words.

    level: of data/duplicates.csv. exact: equal bytes. labels: of the two images, as corrected.
    copies_group: clean.near_duplicates is group, so that copies have the level group as well.
    """
    if level == "look_alike":
        return "look-alikes, not tied"
    one_scene = level == "group"
    kind = "copy or same scene" if copies_group else "same scene"
    if labels[0] != labels[1]:
        copies = "exact copies" if exact else "mirrored copies" if mirrored else "copies"
        if not one_scene:
            return f"{copies} under two labels (conflict)"
        return f"{kind}{', mirrored,' if mirrored else ''} under two labels"
    if one_scene:
        return f"{kind}, mirrored" if mirrored else kind
    return "exact copy" if exact else "mirrored copy" if mirrored else "copy"


def pair_details(duplicates: pd.DataFrame) -> dict[frozenset[str], float]:
    """Return the detail of each pair of uris, in either order."""
    ends = zip(duplicates["left_uri"], duplicates["right_uri"], strict=True)
    return {
        frozenset(both): float(one) for both, one in zip(ends, duplicates["detail"], strict=True)
    }


def name_ties(
    clusters: pd.DataFrame, duplicates: pd.DataFrame, labels: pd.Series, copies_group: bool
) -> dict[tuple[str, str], str]:
    """Return by left and right uri what the weakest tie of each cluster is, see `name_pair`.

    labels: by uri.
    """
    ends = ["left_uri", "right_uri"]
    weakest = clusters[["weakest_left_uri", "weakest_right_uri"]].set_axis(ends, axis="columns")
    ties = duplicates.merge(weakest.drop_duplicates(), on=ends)
    return {
        (tie.left_uri, tie.right_uri): name_pair(
            tie.level,
            tie.left_id == tie.right_id,
            tie.mirrored,
            (labels[tie.left_uri], labels[tie.right_uri]),
            copies_group,
        )
        for tie in ties.itertuples()
    }


def similarity_facts(metrics: dict[str, Any], duplicates: pd.DataFrame) -> dict[str, Any]:
    """Return what a reader must know of the pairs.

    removed: images that went as copies. group_pairs, look_alike_pairs. precision: None where the
    labels allow no estimate. wide: its interval says next to nothing. controls: look-alikes that it
    is measured by, 0 where the classes' own shares were taken.

    metrics: of clean; duplicates: data/duplicates.csv.
    """
    controls = metrics["look_alike_pairs"]
    facts: dict[str, Any] = {
        "removed": metrics["exact_duplicates"] + metrics["near_duplicates"],
        "group_pairs": int((duplicates["level"] == "group").sum()),
        "look_alike_pairs": controls,
        "precision": None,
        "controls": controls if controls >= FEW_CONTROLS else 0,
    }
    if "pair_precision" in metrics:
        low, high = metrics["pair_precision_low"], metrics["pair_precision_high"]
        facts |= {"precision": metrics["pair_precision"], "low": low, "high": high}
        facts["wide"] = high - low >= WIDE
    return facts


def largest_group(
    metrics: dict[str, Any], kept: pd.DataFrame, limit: float
) -> dict[str, Any] | None:
    """Return the kept images of the largest group; None where each image is a group of its own.

    images: how many. share: of all kept. labels: with counts. shown: uri and label of the first
    SHOWN, of each label in turn. large: whether it is one to warn of.

    metrics: of clean; kept: data/clean.parquet; limit: clean.largest_group.
    """
    if metrics["largest_group"] < 2:
        return None
    group = kept[kept["group_id"] == kept["group_id"].value_counts().index[0]]
    turn = group.sort_values("uri").groupby("label").cumcount()
    order = group.assign(turn=turn).sort_values(["turn", "label", "uri"])
    return {
        "images": len(group),
        "share": metrics["largest_group_share"],
        "labels": group["label"].value_counts().sort_index().to_dict(),
        "shown": order[["uri", "label"]].head(SHOWN),
        "large": is_large_group(metrics, limit),
    }


def check_pairs(
    metrics: dict[str, Any], duplicates: pd.DataFrame
) -> list[tuple[str, int, str, int]]:
    """Return counts of pairs as (metric, its value, data/duplicates.csv, what that says).

    Equal bytes are rows of the table, but no pairs of the metrics.
    """
    alike = duplicates["level"] == "look_alike"
    tied = ~alike & (np.asarray(duplicates["left_id"]) != np.asarray(duplicates["right_id"]))
    table = "data/duplicates.csv"
    return [
        ("clean.pairs", metrics["pairs"], table, int(tied.sum())),
        ("clean.look_alike_pairs", metrics["look_alike_pairs"], table, int(alike.sum())),
    ]
