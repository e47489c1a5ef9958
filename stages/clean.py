"""Decides what stays from the scan's table alone, and ties what shows the same scene together.

Reads:  data/scan.parquet, data/raw_truth.csv, overrides.csv
Writes: data/clean.parquet, data/removed.csv, metrics/clean.json, metrics/plots/classes.csv,
        metrics/plots/removed.csv
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.decoding import REASONS
from stages.lib.duplicates import connected_groups, find_duplicates
from stages.lib.errors import InputError, run_stage
from stages.lib.metrics import write_metrics, write_plot
from stages.lib.overrides import Overrides, drop_pairs_told_apart, read_overrides
from stages.lib.params import STRICT, load_params
from stages.lib.policy import (
    Removal,
    beside_official_set,
    choose_kept,
    removed_table,
    settle_conflicts,
)
from stages.lib.progress import summarise
from stages.lib.table import CLEAN, RAW_TRUTH, REMOVED, SCAN, read_table, write_table
from stages.lib.truth import planted_metrics


@dataclass(frozen=True, config=STRICT)
class Params:
    """The clean section of params.yaml."""

    keep_suspect: tuple[Literal["missing_eoi", "damaged"], ...]
    min_side: Annotated[int, Field(ge=1)]
    hash_radius: Annotated[int, Field(ge=0, le=16)]
    remove_similarity: Annotated[float, Field(gt=0, le=1)]
    group_similarity: Annotated[float, Field(gt=0, le=1)]
    label_conflicts: Literal["quarantine", "keep"]


def relabel(scan: pd.DataFrame, overrides: Overrides) -> pd.DataFrame:
    """Return the rows with the labels that a person corrected.

    Raises InputError for a label that no class has.
    """
    known, present = set(scan["label"]), set(scan["image_id"])
    for image_id, label in overrides.relabel.items():
        if image_id in present and label not in known:
            raise InputError(
                f"overrides.csv: relabel to {label!r}, which is no class; the classes are "
                f"{', '.join(sorted(known))}"
            )
    labels = [
        overrides.relabel.get(image_id, label)
        for image_id, label in zip(scan["image_id"], scan["label"], strict=True)
    ]
    return scan.assign(label=pd.Series(labels, index=scan.index, dtype="str"))


def idle_overrides(scan: pd.DataFrame, overrides: Overrides) -> list[str]:
    """Return a sentence for every decision of a person that changes nothing."""
    named = overrides.keep | overrides.drop | set(overrides.relabel)
    named |= {image_id for pair in overrides.not_duplicate for image_id in pair}
    absent = sorted(named - set(scan["image_id"]))
    sentences = [f"no picture of this data set has the image_id {image_id}" for image_id in absent]
    broken = scan[scan["image_id"].isin(overrides.keep)]
    broken = broken[broken["verdict"].isin(("corrupt", "unsupported"))]
    sentences += [
        f"keep has no effect on {row.uri}: it cannot be decoded ({row.reason})"
        for row in broken.itertuples()
    ]
    return sentences


def find_unusable(rows: pd.DataFrame, overrides: Overrides, params: Params) -> list[Removal]:
    """Return what a person dropped, what cannot be decoded in full and what is too small."""
    removals = []
    for row in rows.itertuples():
        wanted = row.image_id in overrides.keep
        if row.image_id in overrides.drop:
            reason, rule = "dropped", "overrides.csv"
        elif row.verdict in ("corrupt", "unsupported"):
            reason, rule = str(row.reason), f"scan: {row.verdict}"
        elif row.verdict == "suspect" and row.reason not in params.keep_suspect and not wanted:
            reason, rule = (
                str(row.reason),
                f"scan: suspect, not in clean.keep_suspect [{', '.join(params.keep_suspect)}]",
            )
        elif min(row.width, row.height) < params.min_side and not wanted:
            reason, rule = "too_small", f"clean.min_side = {params.min_side}"
        else:
            continue
        removals.append(
            Removal(
                str(row.uri), str(row.image_id), str(row.label), "remove", reason, "", np.nan, rule
            )
        )
    return removals


def decide(
    scan: pd.DataFrame, overrides: Overrides, params: Params
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows that stay, with group_id, and the removals: together they are all rows."""
    rows = relabel(scan, overrides)
    removals = find_unusable(rows, overrides, params)
    unusable = {removal.uri for removal in removals}
    rows = rows[~rows["uri"].isin(unusable)].reset_index(drop=True)
    level = min(params.remove_similarity, params.group_similarity)
    pairs = find_duplicates(rows, params.hash_radius, level)
    pairs = drop_pairs_told_apart(pairs, rows["image_id"], overrides)
    close = pairs[pairs["similarity"] >= params.remove_similarity]
    gone: dict[int, Removal] = {}
    if params.label_conflicts == "quarantine":
        gone = settle_conflicts(rows, close, overrides)
    rule = f"clean.remove_similarity = {params.remove_similarity}"
    gone |= choose_kept(rows, close, overrides, set(gone), rule)
    groups = _groups(rows, pairs)
    for at in beside_official_set(rows, groups) - set(gone):
        row = rows.iloc[at]
        text = "a group is never divided, an official test set stays whole"
        gone[at] = Removal(
            row["uri"],
            row["image_id"],
            row["label"],
            "remove",
            "beside_official_set",
            "",
            np.nan,
            text,
        )
    group_id = rows["image_id"].groupby(groups).transform("min").str[:16]
    kept = rows.assign(group_id=group_id).drop(index=list(gone)).reset_index(drop=True)
    return kept, removed_table([*removals, *gone.values()])


def _groups(rows: pd.DataFrame, pairs: pd.DataFrame) -> NDArray[np.int32]:
    """Number the groups: verified duplicates and frames of one clip belong together."""
    clips = rows.loc[rows["clip"] != "", ["label", "clip"]]
    first = clips.groupby(["label", "clip"])["clip"].transform(lambda clip: clip.index[0])
    left = np.concatenate([pairs["left"].to_numpy(np.int64), clips.index.to_numpy(np.int64)])
    right = np.concatenate([pairs["right"].to_numpy(np.int64), first.to_numpy(np.int64)])
    return connected_groups(len(rows), left, right)


def require_every_class(scan: pd.DataFrame, kept: pd.DataFrame, removed: pd.DataFrame) -> None:
    """Raise InputError for a class of which nothing stays."""
    for label in sorted(set(scan["label"]) - set(kept["label"])):
        reasons = removed.loc[removed["label"] == label, "reason"].value_counts()
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        raise InputError(
            f"class {label!r} keeps no image ({counts}); mend its files, decide in overrides.csv, "
            f"or leave the class out with download.exclude"
        )


def clean_metrics(kept: pd.DataFrame, removed: pd.DataFrame) -> dict[str, int]:
    """Return how many stay and how many went for which kind of reason."""
    reasons = removed["reason"].value_counts()
    unsupported = removed["rule"].str.endswith("unsupported")
    return {
        "kept": len(kept),
        "removed": len(removed),
        "corrupt": int((removed["reason"].isin(REASONS) & ~unsupported).sum()),
        "unsupported": int(unsupported.sum()),
        "exact_duplicates": int(reasons.get("exact_duplicate", 0)),
        "near_duplicates": int(reasons.get("near_duplicate", 0)),
        "label_conflicts": int(reasons.get("label_conflict", 0)),
        "too_small": int(reasons.get("too_small", 0)),
        "dropped": int(reasons.get("dropped", 0)),
        "beside_official_set": int(reasons.get("beside_official_set", 0)),
        "groups": int(kept["group_id"].nunique()),
    }


def summary(counts: dict[str, int]) -> str:
    """Return in one line how many stay and what the others were."""
    parts = {
        "corrupt": counts["corrupt"],
        "unsupported": counts["unsupported"],
        "duplicates": counts["exact_duplicates"] + counts["near_duplicates"],
        "in conflict over their label": counts["label_conflicts"],
        "too small": counts["too_small"],
        "dropped by hand": counts["dropped"],
        "too like the official test set": counts["beside_official_set"],
    }
    listing = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)
    total = counts["kept"] + counts["removed"]
    return f"kept {counts['kept']:,} of {total:,}: {listing or 'nothing to remove'}"


def class_counts(scan: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Return files and kept images per class: columns label, files, kept."""
    files = scan["label"].value_counts().sort_index()
    counts = {
        "files": files,
        "kept": kept["label"].value_counts().reindex(files.index, fill_value=0),
    }
    return pd.DataFrame(counts).rename_axis("label").reset_index()


def main() -> None:
    """Decide what stays, write it down and say why the rest went."""
    params = load_params(Params, "clean")
    if params.group_similarity > params.remove_similarity:
        raise InputError(
            "clean.group_similarity must be at most clean.remove_similarity "
            f"({params.remove_similarity}), got {params.group_similarity}"
        )
    scan = read_table(Path("data/scan.parquet"), SCAN)
    truth = read_table(Path("data/raw_truth.csv"), RAW_TRUTH)
    overrides = read_overrides()
    for sentence in idle_overrides(scan, overrides):
        print(f"clean: overrides.csv: {sentence}")
    kept, removed = decide(scan, overrides, params)
    require_every_class(scan, kept, removed)
    write_table(Path("data/clean.parquet"), kept, CLEAN)
    write_table(Path("data/removed.csv"), removed, REMOVED)
    counts = clean_metrics(kept, removed)
    write_metrics("clean", counts | planted_metrics(truth, removed))
    write_plot("classes", class_counts(scan, kept))
    reasons = removed["reason"].value_counts().sort_index()
    write_plot("removed", reasons.rename_axis("reason").reset_index(name="images"))
    summarise("clean", summary(counts))


if __name__ == "__main__":
    run_stage("clean", main)
