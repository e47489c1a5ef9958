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


def planted_metrics(truth: pd.DataFrame, removed: pd.DataFrame) -> dict[str, int]:
    """Return how many planted faults were found, and how many sound pictures went by mistake.

    truth: the table data/raw_truth.csv; removed: the table data/removed.csv. The result is empty
    where nothing was planted, as in any data but the demo.
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
        metrics[f"planted_{name}"] = len(rows)
        metrics[f"planted_{name}_found"] = int(found.sum())
    corrupt = set(truth.loc[truth["fault"].isin(PLANTED["corrupt"]), "uri"])
    copies = truth[truth["original_uri"] != ""]
    involved = set(copies["uri"]) | set(copies["original_uri"])
    metrics["sound_removed_as_corrupt"] = len(damaged - corrupt)
    metrics["sound_removed_as_duplicate"] = len(repeated - involved)
    return metrics
