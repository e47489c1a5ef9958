"""Holds what was removed against what was planted: the demo knows every fault it drew."""

import pandas as pd

from stages.lib.decoding import REASONS

DUPLICATE_REASONS = ("exact_duplicate", "near_duplicate", "label_conflict")
PLANTED = {
    "corrupt": ("truncated", "zeroed", "empty", "html"),
    "exact_copies": ("exact_copy",),
    "near_copies": ("reencoded", "resized", "brightened_shifted", "mirrored"),
    "label_conflicts": ("other_label",),
}


def planted_metrics(
    truth: pd.DataFrame, removed: pd.DataFrame, kept: pd.DataFrame
) -> dict[str, int]:
    """Return how many planted faults were found, and how many sound pictures went by mistake.

    truth, removed, kept: the tables data/raw_truth.csv, data/removed.csv and data/clean.parquet. A
    near copy is found where one of the two was removed, or both share a group: then they cannot lie
    on two sides of the split. The result is empty where nothing was planted, as in any data but the
    demo.
    """
    if truth.empty:
        return {}
    damaged = set(removed.loc[removed["reason"].isin(REASONS), "uri"])
    repeated = set(removed.loc[removed["reason"].isin(DUPLICATE_REASONS), "uri"])
    metrics = {}
    for name, faults in PLANTED.items():
        rows = truth[truth["fault"].isin(faults)]
        if name == "corrupt":
            found = rows["uri"].isin(damaged)
        else:
            found = rows["uri"].isin(repeated) | rows["original_uri"].isin(repeated)
        if name == "near_copies":
            found |= _share_group(rows, removed, kept)
        metrics[f"planted_{name}"] = len(rows)
        metrics[f"planted_{name}_found"] = int(found.sum())
    corrupt = set(truth.loc[truth["fault"].isin(PLANTED["corrupt"]), "uri"])
    copies = truth[truth["original_uri"] != ""]
    involved = set(copies["uri"]) | set(copies["original_uri"])
    metrics["sound_removed_as_corrupt"] = len(damaged - corrupt)
    metrics["sound_removed_as_duplicate"] = len(repeated - involved)
    return metrics


def _share_group(rows: pd.DataFrame, removed: pd.DataFrame, kept: pd.DataFrame) -> pd.Series:
    """Tell which copies lie in the group of their original; what was unusable has no group."""
    named = pd.concat([table[["uri", "group_id"]] for table in (removed, kept)])
    groups = named[named["group_id"] != ""].set_index("uri")["group_id"]
    copy, original = (rows[column].map(groups) for column in ("uri", "original_uri"))
    shared: pd.Series = copy.notna() & (copy == original)
    return shared
