"""Counts what cleaning kept and left out: the metrics, the closing line, the classes."""

from typing import Any

import pandas as pd

from stages.lib.decoding import REASONS
from stages.lib.errors import InputError
from stages.lib.quality import FLAGS, flag_counts, formats_of_flags, widespread_flags

# Reasons that have a metric of their own, by the metric's name.
COUNTED = {
    "exact_duplicates": "exact_duplicate",
    "near_duplicates": "near_duplicate",
    "label_conflicts": "label_conflict",
    "too_small": "too_small",
    "masks": "mask",
    "single_color": "single_color",
    "unwanted_format": "unwanted_format",
    "unwanted_colour": "unwanted_colour",
    "dropped": "dropped",
    "beside_official_set": "beside_official_set",
}


def require_every_class(scan: pd.DataFrame, kept: pd.DataFrame, removed: pd.DataFrame) -> None:
    """Raise InputError for a class of which nothing stays."""
    for label in sorted(set(scan["label"].unique()) - set(kept["label"].unique())):
        reasons = removed.loc[removed["label"] == label, "reason"].value_counts()
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        raise InputError(
            f"class {label!r} keeps no image ({counts}); mend its files, decide in overrides.csv, "
            f"or leave the class out with download.exclude"
        )


def clean_metrics(kept: pd.DataFrame, removed: pd.DataFrame) -> dict[str, int]:
    """Return how many stay, how many of these are flagged, and how many went for which reason."""
    reasons = removed["reason"].value_counts()
    unsupported = removed["rule"].str.startswith("scan: unsupported")
    flags = flag_counts(kept["flags"])
    marks = kept["flags"].str.split(" ").explode().value_counts()
    kept_empty = {name: int(marks.get(COUNTED[name], 0)) for name in ("masks", "single_color")}
    by_flag = {f"flag_{row.flag}": int(row.images) for row in flags.itertuples()}
    widespread = widespread_flags({"kept": len(kept), **by_flag})
    return {
        "kept": len(kept),
        "removed": len(removed),
        "corrupt": int((removed["reason"].isin(REASONS) & ~unsupported).sum()),
        "unsupported": int(unsupported.sum()),
        **{name: int(reasons.get(reason, 0)) for name, reason in COUNTED.items()},
        **{f"kept_{name}": count for name, count in kept_empty.items()},
        "removed_flagged": int(removed["reason"].isin(FLAGS).sum()),
        "groups": int(kept["group_id"].nunique()),
        "flagged": int((kept["flags"] != "").sum()),
        **by_flag,
        "widespread_flags": len(widespread),
        **formats_of_flags(kept, widespread),
        "not_comparable": int((~kept["comparable"]).sum()),
    }


def summary(counts: dict[str, Any]) -> str:
    """Return in one line how many stay, what the others were and how large the largest group is.

    counts: of `clean_metrics` and, for the group, of `duplicate_metrics`.
    """
    parts = {
        "corrupt": counts["corrupt"],
        "unsupported": counts["unsupported"],
        "of an unwanted format": counts["unwanted_format"],
        "of unwanted colours": counts["unwanted_colour"],
        "masks": counts["masks"],
        "of a single color": counts["single_color"],
        "duplicates": counts["exact_duplicates"] + counts["near_duplicates"],
        "in conflict over their label": counts["label_conflicts"],
        "too small": counts["too_small"],
        "removed for a flag": counts["removed_flagged"],
        "dropped by hand": counts["dropped"],
        "too like the official test set": counts["beside_official_set"],
    }
    listing = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)
    total = counts["kept"] + counts["removed"]
    flagged = f"; {counts['flagged']:,} kept but flagged" if counts["flagged"] else ""
    blind = counts["not_comparable"]
    unseen = f"; {blind:,} kept but not comparable: too flat, dark or small" if blind else ""
    return (
        f"kept {counts['kept']:,} of {total:,}: {listing or 'nothing to remove'}"
        f"{_largest_group(counts)}{flagged}{unseen}"
    )


def _largest_group(counts: dict[str, Any]) -> str:
    size, labels = counts.get("largest_group", 0), counts.get("largest_group_labels", 0)
    if size < 2:
        return ""
    named = f"{labels} label{'s' if labels > 1 else ''}"
    return f"; largest group {size:,} images ({counts['largest_group_share']:.1%}, {named})"


def class_counts(scan: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Return files and kept images per class: columns label, files, kept."""
    files = scan["label"].value_counts().sort_index()
    counts = {
        "files": files,
        "kept": kept["label"].value_counts().reindex(files.index, fill_value=0),
    }
    return pd.DataFrame(counts).rename_axis("label").reset_index()
