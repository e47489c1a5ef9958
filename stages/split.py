"""Divides the images into train, val and test, by class and never through a group; checks it.

Reads:  data/clean.parquet, data/duplicates.csv, data/removed.csv, data/scan.parquet
Writes: data/split.parquet, metrics/split.json, metrics/plots/split.csv
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.errors import InputError, run_stage
from stages.lib.hashing import fingerprint
from stages.lib.imbalance import imbalance
from stages.lib.metrics import write_metrics, write_plot
from stages.lib.params import STRICT, load_params
from stages.lib.progress import summarise
from stages.lib.stratify import Part, deal_out
from stages.lib.table import (
    CLEAN,
    DUPLICATES,
    REMOVED,
    SCAN,
    SPLIT,
    SPLITS,
    read_table,
    write_table,
)

Share = Annotated[float, Field(gt=0, lt=1)]
NO_FOLD = -1
NAMED = 5  # small classes named in the summary
# What clean leaves out because of another picture; a split by file, the usual one, has it all.
BECAUSE_OF_ANOTHER = ("exact_duplicate", "near_duplicate", "beside_official_set", "label_conflict")


@dataclass(frozen=True, config=STRICT)
class Params:
    """The split section of params.yaml."""

    seed: int
    unit: Literal["group", "image"]
    val: Share
    test: Share
    n_folds: Annotated[int, Field(ge=0)]
    fold: Annotated[int, Field(ge=0)]
    small_classes: Literal["error", "train"]


def require_shares(params: Params) -> None:
    """Raise InputError for folds that do not exist, and where nothing is left for train."""
    if params.n_folds == 1 or params.fold >= max(params.n_folds, 1):
        raise InputError(
            "split.n_folds must be 0 (no folds) or at least 2, and split.fold less than that, got "
            f"n_folds {params.n_folds} and fold {params.fold}"
        )
    test, name = (1 / params.n_folds, "1/n_folds") if params.n_folds else (params.test, "test")
    if params.val + test >= 1:
        raise InputError(
            f"split.val + split.{name} must leave something for train, got {params.val} + {test:g}"
        )


def assign_splits(rows: pd.DataFrame, params: Params) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns split and fold for every row, and the classes that are all in train.

    rows: columns uri, label, group_id, official_split. Official val and test sets stay what they
    are; of the others each class gives its shares, in whole groups, see `deal_out`. The order of
    the rows has no say. With folds, test is one of n_folds parts, the same whichever is chosen;
    where test is official, val is that part.
    Raises InputError for a class that cannot be on every side, unless small_classes allows it.
    """
    if params.unit == "image":
        rows = rows.assign(group_id=rows["uri"])
    fixed = rows["official_split"].where(rows["official_split"].isin(("val", "test")), "")
    official = set(fixed) - {""}
    free = rows[fixed == ""]
    _require_train(rows, free)
    deal = _deal_folds if params.n_folds else _deal_shares
    dealt, fold, small = deal(free, official, params)
    sides = fixed.where(fixed != "", dealt.reindex(rows.index))
    for name in SPLITS:
        if not (sides == name).any():
            raise InputError(
                f"nothing is left for {name}: every class is too small to be divided, so all of it "
                "is in train; add pictures, or ask for fewer folds (split.n_folds)"
            )
    folds = fold.reindex(rows.index, fill_value=NO_FOLD)
    return pd.DataFrame({"split": sides, "fold": folds}), small


def _require_train(rows: pd.DataFrame, free: pd.DataFrame) -> None:
    unseen = sorted(set(rows["label"]) - set(free["label"]))
    if unseen:
        raise InputError(
            f"class {unseen[0]!r} has pictures in an official val or test set alone, none to train "
            "on; add some, or leave the class out with download.exclude"
        )


def _deal_shares(
    free: pd.DataFrame, official: set[str], params: Params
) -> tuple[pd.Series, pd.Series, list[str]]:
    wanted = {"val": params.val, "test": params.test}
    held_out = [Part(name, share) for name, share in wanted.items() if name not in official]
    train = Part("train", 1 - sum(part.share for part in held_out))
    spared_to = "train" if params.small_classes == "train" else None
    dealt, small = deal_out(free, [train, *held_out], params.seed, spared_to)
    return dealt, pd.Series(NO_FOLD, free.index), small


def _deal_folds(
    free: pd.DataFrame, official: set[str], params: Params
) -> tuple[pd.Series, pd.Series, list[str]]:
    rotated = "val" if "test" in official else "test"
    if rotated in official:
        raise InputError(
            "split.n_folds needs something to divide, but both val and test are official sets; set "
            "it to 0"
        )
    share = 1 / params.n_folds
    numbers = {f"fold {number}": number for number in range(params.n_folds)}
    spared_to = "none" if params.small_classes == "train" else None
    names, small = deal_out(free, [Part(name, share) for name in numbers], params.seed, spared_to)
    fold = names.map(numbers | {"none": NO_FOLD})
    rest = free[~fold.isin((params.fold, NO_FOLD))]
    dealt = fold.map({params.fold: rotated})
    if {"val", "test"} - official - {rotated}:
        val = params.val / (1 - share)
        sides = [Part("train", 1 - val), Part("val", val)]
        within, _ = deal_out(rest, sides, params.seed, "train")
        dealt = dealt.fillna(within.reindex(free.index))
    return dealt.fillna("train"), fold, small


def restore_duplicates(
    rows: pd.DataFrame, scan: pd.DataFrame, removed: pd.DataFrame
) -> pd.DataFrame:
    """Return the kept rows and those that clean left out because of another picture.

    rows: of data/clean.parquet; scan: of data/scan.parquet; removed: data/removed.csv.
    """
    back = removed.loc[removed["reason"].isin(BECAUSE_OF_ANOTHER), ["uri", "label", "group_id"]]
    back = back.merge(scan.drop(columns="label"), on="uri", validate="one_to_one")
    together = pd.concat([rows, back], ignore_index=True)
    return together[rows.columns].sort_values("uri", ignore_index=True)


def find_leaks(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the groups that lie on more than one side of the split: columns group_id, left, right.

    left, right: uris of two images of the group on two sides. The groups are those that clean made
    once, so this is arithmetic; `evaluate` looks for what they miss by another way.
    """
    first = rows.sort_values("uri").drop_duplicates(["group_id", "split"])
    divided = first[first["group_id"].duplicated(keep=False)]
    ends = divided.groupby("group_id")["uri"].agg(left="first", right="last")
    return ends.reset_index()


def count_leaking_pairs(rows: pd.DataFrame) -> int:
    """Return how many pairs of images of one group lie on two sides."""
    sizes = pd.crosstab(rows["group_id"], rows["split"]).to_numpy(np.int64)
    total = sizes.sum(axis=1)
    return int(((total**2 - (sizes**2).sum(axis=1)) // 2).sum())


def count_ties_across(rows: pd.DataFrame, duplicates: pd.DataFrame) -> int:
    """Return how many pairs that resemble each other clean did not join, and lie on two sides.

    duplicates: data/duplicates.csv.
    """
    named = rows.set_index("uri")[["split", "group_id"]]
    found = duplicates[duplicates["level"] != "look_alike"]
    ends = [
        named.reindex(found[f"{side}_uri"]).reset_index(drop=True) for side in ("left", "right")
    ]
    left, right = ends
    there = left["split"].notna() & right["split"].notna()
    apart = (left["split"] != right["split"]) & (left["group_id"] != right["group_id"])
    return int((there & apart).sum())


def raise_on_leaks(leaks: pd.DataFrame) -> None:
    """Raise InputError naming the first group that lies on two sides."""
    if len(leaks):
        first = leaks.iloc[0]
        raise InputError(
            f"{len(leaks)} groups lie on two sides of the split, first {first['group_id']} with "
            f"{first['left']} and {first['right']}; an official split of the source divides them: "
            "data/clean.parquet is not of this run, run `dvc repro`"
        )


def count_leaked_test_images(rows: pd.DataFrame) -> int:
    """Return how many test images have one of their group in train."""
    trained = rows.loc[rows["split"] == "train", "group_id"]
    return int(((rows["split"] == "test") & rows["group_id"].isin(trained)).sum())


def split_metrics(
    rows: pd.DataFrame, ties_across: int, small: list[str], params: Params
) -> dict[str, Any]:
    """Return sizes, balance and leaks; of folds and leaky splits what belongs to them alone."""
    test = rows[rows["split"] == "test"]
    trained = rows.loc[rows["split"] == "train", "label"].value_counts()
    metrics = {
        **{name: int((rows["split"] == name).sum()) for name in SPLITS},
        "leaks": count_leaking_pairs(rows),
        "ties_across": ties_across,
        "small_classes": len(small),
        "smallest_train_class": int(trained.min()),
        "largest_train_class": int(trained.max()),
        **imbalance(trained),
        "test_fingerprint": fingerprint(test["image_id"] + "/" + test["label"]),
    }
    if params.n_folds:
        metrics |= {"n_folds": params.n_folds, "fold": params.fold}
    if params.unit == "image":
        metrics["leaked_test_images"] = count_leaked_test_images(rows)
    return metrics


def summary(metrics: dict[str, Any], small: list[str], params: Params) -> str:
    """Return in one line the sizes, and what a reader must know of them."""
    sizes = ", ".join(f"{name} {metrics[name]:,}" for name in SPLITS)
    fold = f"fold {params.fold + 1} of {params.n_folds} (split.fold: {params.fold}): "
    parts = [f"{fold}{sizes}" if params.n_folds else sizes]
    if small:
        listing = ", ".join(repr(label) for label in small[:NAMED])
        more = f" and {len(small) - NAMED} more" if len(small) > NAMED else ""
        parts.append(f"all of {listing}{more} in train, too few to divide")
    leaks = metrics["leaks"]
    parts.append(f"{leaks:,} leaking pairs" if leaks else "no group on two sides")
    if metrics["ties_across"]:
        parts.append(f"{metrics['ties_across']:,} weak ties across, not joined by clean")
    return "; ".join(parts)


def main() -> None:
    """Divide the images, check the groups, and stop the pipeline on one that is divided."""
    params = load_params(Params, "split")
    require_shares(params)
    leaky = params.unit == "image"
    rows = read_table(Path("data/clean.parquet"), CLEAN)
    if leaky:
        scan = read_table(Path("data/scan.parquet"), SCAN.without_columns("thumbnail", "detail"))
        rows = restore_duplicates(rows, scan, read_table(Path("data/removed.csv"), REMOVED))
    sides, small = assign_splits(rows, params)
    rows = rows.assign(**sides, unit=params.unit)
    duplicates = read_table(Path("data/duplicates.csv"), DUPLICATES)
    metrics = split_metrics(rows, count_ties_across(rows, duplicates), small, params)
    if leaky:
        print(
            "split: WARNING: split.unit is image, the leaky way: "
            f"{metrics['leaked_test_images']:,} of {metrics['test']:,} test images show the same "
            "as one in train, so no figure of this run says what the model can do"
        )
    else:
        raise_on_leaks(find_leaks(rows))
    write_table(Path("data/split.parquet"), rows, SPLIT)
    write_metrics("split", metrics, leaky)
    counts = pd.crosstab(rows["label"], rows["split"]).reindex(columns=list(SPLITS), fill_value=0)
    write_plot("split", counts.reset_index().melt("label", var_name="split", value_name="images"))
    summarise("split", summary(metrics, small, params))


if __name__ == "__main__":
    run_stage("split", main)
