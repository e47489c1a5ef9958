"""Decides what stays from the scan's table alone, and ties what shows the same scene together.

Reads:  data/scan.parquet, data/raw_truth.csv, overrides.csv
Writes: data/clean.parquet, data/removed.csv, data/duplicates.csv, data/clusters.csv,
        metrics/clean.json, metrics/plots/classes.csv, metrics/plots/removed.csv,
        metrics/plots/flags.csv
"""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib import clusters, conflicts, content, masks, policy, quality
from stages.lib.duplicate_health import duplicate_metrics
from stages.lib.duplicate_health import warnings as duplicate_warnings
from stages.lib.duplicates import SearchParams, find_duplicates
from stages.lib.errors import InputError, run_stage
from stages.lib.metrics import write_metrics, write_plot
from stages.lib.overrides import (
    Overrides,
    drop_pairs_told_apart,
    idle_overrides,
    read_overrides,
    relabel,
)
from stages.lib.params import STRICT, load_params
from stages.lib.progress import summarise
from stages.lib.table import (
    CLEAN,
    CLUSTERS,
    DUPLICATES,
    RAW_TRUTH,
    REMOVED,
    read_table,
    write_table,
)
from stages.lib.tally import class_counts, clean_metrics, require_every_class, summary
from stages.lib.thumbnails import Thumbnails, read_details, read_scan
from stages.lib.truth import planted_metrics
from stages.lib.verification import Read


@dataclass(frozen=True, config=STRICT)
class Params(policy.Fitness):
    """The clean section of params.yaml; its first keys, what a picture must be, are Fitness's."""

    hash_radius: Annotated[int, Field(ge=0, le=16)]
    neighbours: Annotated[int, Field(ge=0, le=20)]
    mirrored: bool
    rotations: bool
    remove_similarity: Annotated[float, Field(gt=0, le=1)]
    group_similarity: Annotated[float, Field(gt=0, le=1)]
    near_duplicates: Literal["remove", "group"]
    largest_group: Annotated[float, Field(gt=0, le=1)]
    label_conflicts: Literal["quarantine", "majority", "keep"]

    @property
    def search(self) -> SearchParams:
        """What duplicates are looked for."""
        return SearchParams(
            hash_radius=self.hash_radius,
            neighbours=self.neighbours,
            mirrored=self.mirrored,
            rotations=self.rotations,
            remove_similarity=self.remove_similarity,
            group_similarity=self.group_similarity,
        )


class Decision(NamedTuple):
    """The tables that clean writes."""

    kept: pd.DataFrame
    removed: pd.DataFrame
    duplicates: pd.DataFrame
    clusters: pd.DataFrame
    metrics: dict[str, Any]


def decide(
    scan: pd.DataFrame,
    thumbnails: Thumbnails,
    read_details: Read,
    overrides: Overrides,
    params: Params,
) -> Decision:
    """Return what stays, what goes and why, and what resembles what.

    scan: its column thumbnail is the row of `thumbnails`, see `read_scan`, and the number by which
    `read_details` returns the detail image. Every row of the scan is kept or removed, once. The
    order of the rows does not affect the result.
    """
    rows = relabel(scan, overrides).sort_values("uri", ignore_index=True)
    measured = quality.measure_quality(rows)
    raised = quality.raise_flags(measured, params.flags)
    empty = find_empty(rows, thumbnails)
    unusable = policy.find_unusable(rows, overrides, params, measured, raised, empty)
    useless = policy.removed_table(rows, unusable)
    marks = pd.concat([raised, empty != ""], axis="columns")
    comparable = content.is_comparable(rows, thumbnails)
    rows = rows.assign(flags=quality.flag_text(marks), comparable=comparable)
    rows = rows.drop(index=unusable["at"])
    rows = rows.reset_index(drop=True)
    picture = clusters.first_of_equal_bytes(rows["image_id"])
    first = np.flatnonzero(picture == np.arange(len(rows)))
    pairs = find_duplicates(rows.iloc[first], thumbnails, read_details, params.search)
    pairs = pairs.assign(**{side: first[pairs[side]] for side in ("left", "right")})
    pairs = drop_pairs_told_apart(pairs, rows["image_id"], overrides)
    pairs = only_group(pairs, rows["label"], params.near_duplicates)
    rows = rows.drop(columns="thumbnail")
    ties = clusters.all_ties(rows, picture, pairs)
    groups = clusters.join_groups(picture, ties)
    gone = choose_removals(rows, picture, pairs, groups, overrides, params)
    rows = rows.assign(group_id=rows["image_id"].groupby(groups).transform("min").str[:16])
    kept = rows.drop(index=gone["at"]).reset_index(drop=True)
    removed = pd.concat([useless, policy.removed_table(rows, gone)], ignore_index=True)
    cut = int((groups[ties["left"]] != groups[ties["right"]]).sum())
    return Decision(
        kept,
        removed,
        clusters.duplicates_table(rows, picture, pairs),
        clusters.clusters_table(rows, ties, rows["group_id"], gone["at"].to_numpy()),
        duplicate_metrics(kept, pairs, rows["label"], rows["group_id"], cut),
    )


def only_group(
    pairs: pd.DataFrame, labels: pd.Series, near_duplicates: Literal["remove", "group"]
) -> pd.DataFrame:
    """Return the pairs, with level group for copies of which both images may stay.

    Those are all copies where the user wants it so; else mirror images under two labels: left and
    right may be what the classes mean. Equal bytes are no pairs here: of those one stays anyway.
    """
    names = labels.to_numpy(object)
    across = pairs["mirrored"].to_numpy(bool) & (names[pairs["left"]] != names[pairs["right"]])
    spared = (pairs["level"] == "remove") & (across | (near_duplicates == "group"))
    return pairs.assign(level=pairs["level"].mask(spared, "group"))


def find_empty(rows: pd.DataFrame, thumbnails: Thumbnails) -> pd.DataFrame:
    """Return the evidence, "" without any, that a row is a mask or shows a single color: columns
    mask and single_color.
    """
    photograph = pd.Series(masks.find_masks(rows, thumbnails), rows.index, dtype="str")
    bits = "entropy " + rows["entropy"].abs().map("{:.2f}".format).astype("str") + " of 8 bits"
    of_mask = "few gray levels (" + bits + ") beside " + photograph
    single = content.is_single_color(rows, thumbnails)
    return pd.DataFrame(
        {
            "mask": of_mask.where(photograph != "", ""),
            "single_color": ("one color, or all but one (" + bits + ")").where(single, ""),
        }
    )


def choose_removals(
    rows: pd.DataFrame,
    picture: clusters.Positions,
    pairs: pd.DataFrame,
    groups: clusters.Positions,
    overrides: Overrides,
    params: Params,
) -> pd.DataFrame:
    """Return as removals the pictures that go because of others: conflicts of labels first, then
    what is a duplicate of a kept one, then what only resembles an official set.
    """
    close = pairs[pairs["level"] == "remove"]
    rule = f"clean.remove_similarity = {params.remove_similarity}, and equal in detail"
    settled = conflicts.settle(rows, picture, close, overrides, params.label_conflicts)
    before = np.concatenate([settled.quarantined["at"], settled.losers["at"]])
    copies = policy.choose_kept(rows, picture, close, overrides, before, rule)
    before = np.concatenate([before, copies["at"]])
    beside = policy.beside_official_set(rows, groups, before)
    gone = np.concatenate([before, beside["at"]])
    outvoted = conflicts.name_winners(rows, settled, close, overrides, gone)
    return pd.concat([settled.quarantined, outvoted, copies, beside], ignore_index=True)


def main() -> None:
    """Decide what stays, write it down and say why the rest went."""
    params = load_params(Params, "clean")
    if params.group_similarity > params.remove_similarity:
        raise InputError(
            "clean.group_similarity must be at most clean.remove_similarity "
            f"({params.remove_similarity}), got {params.group_similarity}"
        )
    scan, thumbnails = read_scan()
    truth = read_table(Path("data/raw_truth.csv"), RAW_TRUTH)
    overrides = read_overrides()
    for sentence in idle_overrides(scan, overrides):
        print(f"clean: overrides.csv: {sentence}")
    kept, removed, duplicates, tied, about = decide(
        scan, thumbnails, read_details, overrides, params
    )
    require_every_class(scan, kept, removed)
    write_table(Path("data/clean.parquet"), kept, CLEAN)
    write_table(Path("data/removed.csv"), removed, REMOVED)
    write_table(Path("data/duplicates.csv"), duplicates, DUPLICATES)
    write_table(Path("data/clusters.csv"), tied, CLUSTERS)
    counts = clean_metrics(kept, removed) | about
    photograph = masks.find_masks(scan, thumbnails)
    of_masks = masks.sentences(scan, photograph, removed, params.masks)
    labeled = relabel(scan, overrides)
    of_pairs = duplicate_warnings(counts, labeled, kept, removed, params.largest_group)
    for sentence in (*of_masks, *quality.flag_warnings(counts), *of_pairs):
        print(f"clean: warning: {sentence}")
    write_metrics("clean", counts | planted_metrics(truth, removed, kept))
    write_plot("classes", class_counts(scan, kept))
    reasons = removed["reason"].value_counts().sort_index()
    write_plot("removed", reasons.rename_axis("reason").reset_index(name="images"))
    write_plot("flags", quality.flag_counts(kept["flags"]))
    summarise("clean", summary(counts))


if __name__ == "__main__":
    run_stage("clean", main)
