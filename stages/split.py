"""Divides the images into train, val and test, by class and never through a group; proves it.

Reads:  data/clean.parquet, data/scan.parquet (thumbnails), data/removed.csv, overrides.csv
Writes: data/split.parquet, metrics/split.json, metrics/plots/split.csv
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib import clusters
from stages.lib.duplicates import DuplicateSearch, Search
from stages.lib.errors import InputError, run_stage
from stages.lib.hashing import fingerprint
from stages.lib.imbalance import imbalance
from stages.lib.metrics import write_metrics, write_plot
from stages.lib.overrides import Overrides, drop_pairs_told_apart, read_overrides
from stages.lib.params import STRICT, load_params
from stages.lib.progress import summarise
from stages.lib.stratify import Part, deal_out
from stages.lib.table import CLEAN, REMOVED, SPLIT, SPLITS, read_table, write_table
from stages.lib.thumbnails import Thumbnails, read_scan

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
    leak_radius: Annotated[int, Field(ge=0, le=16)]
    leak_neighbours: Annotated[int, Field(ge=0, le=20)]
    leak_similarity: Annotated[float, Field(gt=0, le=1)]


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


def add_duplicates_back(
    rows: pd.DataFrame, scan: pd.DataFrame, removed: pd.DataFrame
) -> pd.DataFrame:
    """Return the kept rows and those that clean left out because of another picture.

    rows: of data/clean.parquet; scan: of data/scan.parquet; removed: data/removed.csv.
    """
    back = removed.loc[removed["reason"].isin(BECAUSE_OF_ANOTHER), ["uri", "label", "group_id"]]
    back = back.merge(scan.drop(columns="label"), on="uri", validate="one_to_one")
    together = pd.concat([rows, back], ignore_index=True)
    return together[rows.columns].sort_values("uri", ignore_index=True)


def find_leaks(
    rows: pd.DataFrame, thumbnails: Thumbnails, overrides: Overrides, params: Params
) -> pd.DataFrame:
    """Return the pairs of images on two sides of the split that show the same.

    rows: with a column thumbnail, the row of `thumbnails`. The columns are left, right (uris),
    similarity, and scene, which joins the pairs of all that show the same. The search is made anew
    in the pixels, mirrored ones included, so it does not rest on the groups that it is to check.
    """
    rows = rows.reset_index(drop=True)
    picture = clusters.first_of_equal_bytes(rows["image_id"])
    first = np.flatnonzero(picture == np.arange(len(rows)))
    how = Search(params.leak_radius, params.leak_neighbours, False, params.leak_similarity)
    found = DuplicateSearch(rows.iloc[first], thumbnails, how).pairs
    found = found.assign(left=first[found["left"]], right=first[found["right"]])
    pairs = clusters.all_ties(rows, picture, found)
    pairs = drop_pairs_told_apart(pairs, rows["image_id"], overrides)
    ties = pd.concat([pairs, _group_ties(rows["group_id"])], ignore_index=True)
    ties = ties.drop_duplicates(["left", "right"])
    scene = clusters.connect(len(rows), ties)
    side, uri = rows["split"].to_numpy(), rows["uri"].to_numpy()
    ties = ties[side[ties["left"]] != side[ties["right"]]]
    return pd.DataFrame(
        {
            "left": uri[ties["left"]],
            "right": uri[ties["right"]],
            "similarity": ties["similarity"].clip(upper=1).to_numpy(),
            "scene": scene[ties["left"]],
        }
    )


def _group_ties(group_id: pd.Series) -> pd.DataFrame:
    """Return a tie from each row to the next one of its group: clean holds them for the same."""
    order = np.argsort(group_id.to_numpy(), kind="stable")
    ordered = group_id.to_numpy()[order]
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    return pd.DataFrame({"left": order[same], "right": order[same + 1], "similarity": 1.0})


def refuse_leaks(leaks: pd.DataFrame) -> None:
    """Raise InputError naming the first pair where there is any leak."""
    if len(leaks):
        worst = leaks.sort_values("similarity", ascending=False).iloc[0]
        raise InputError(
            f"{len(leaks)} pairs of pictures that show the same lie on two sides of the split, "
            f"first {worst['left']} and {worst['right']} (similarity {worst['similarity']:.3f}); "
            "set clean.hash_radius, clean.neighbours and clean.group_similarity at least as "
            "strict as split.leak_radius, leak_neighbours and leak_similarity, or declare the "
            "pair not_duplicate in overrides.csv"
        )


def leaked_images(rows: pd.DataFrame, leaks: pd.DataFrame) -> int:
    """Return how many test images show the same as a train image.

    rows: columns uri and split; leaks: of `find_leaks`.
    """
    sides = rows.set_index("uri")["split"]
    ends = leaks.melt("scene", ["left", "right"], value_name="uri").drop_duplicates("uri")
    ends = ends.assign(split=sides.loc[ends["uri"]].to_numpy())
    trained = ends.loc[ends["split"] == "train", "scene"]
    return int(((ends["split"] == "test") & ends["scene"].isin(trained)).sum())


def split_metrics(
    rows: pd.DataFrame, leaks: pd.DataFrame, small: list[str], params: Params
) -> dict[str, Any]:
    """Return sizes, balance and leaks; of folds and leaky splits what belongs to them alone."""
    test = rows[rows["split"] == "test"]
    trained = rows.loc[rows["split"] == "train", "label"].value_counts()
    metrics = {
        **{name: int((rows["split"] == name).sum()) for name in SPLITS},
        "leaks": len(leaks),
        "small_classes": len(small),
        "smallest_train_class": int(trained.min()),
        "largest_train_class": int(trained.max()),
        **imbalance(trained),
        "test_fingerprint": fingerprint(test["image_id"] + "/" + test["label"]),
    }
    if params.n_folds:
        metrics |= {"n_folds": params.n_folds, "fold": params.fold}
    if params.unit == "image":
        metrics["leaked_test_images"] = leaked_images(rows, leaks)
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
    return "; ".join([*parts, f"{metrics['leaks']:,} leaks"])


def main() -> None:
    """Divide the images, look for leaks, and stop the pipeline on one."""
    params = load_params(Params, "split")
    require_shares(params)
    leaky = params.unit == "image"
    rows = read_table(Path("data/clean.parquet"), CLEAN)
    scan, thumbnails = read_scan()
    if leaky:
        rows = add_duplicates_back(rows, scan, read_table(Path("data/removed.csv"), REMOVED))
    sides, small = assign_splits(rows, params)
    rows = rows.assign(**sides, unit=params.unit)
    pictures = rows.merge(scan[["uri", "thumbnail"]], on="uri", validate="one_to_one")
    leaks = find_leaks(pictures, thumbnails, read_overrides(), params)
    metrics = split_metrics(rows, leaks, small, params)
    if leaky:
        print(
            "split: WARNING: split.unit is image, the leaky way: "
            f"{metrics['leaked_test_images']:,} of {metrics['test']:,} test pictures show the same "
            "as one in train, so no figure of this run says what the model can do"
        )
    else:
        refuse_leaks(leaks)
    write_table(Path("data/split.parquet"), rows, SPLIT)
    write_metrics("split", metrics, leaky)
    counts = pd.crosstab(rows["label"], rows["split"]).reindex(columns=list(SPLITS), fill_value=0)
    write_plot("split", counts.reset_index().melt("label", var_name="split", value_name="images"))
    summarise("split", summary(metrics, small, params))


if __name__ == "__main__":
    run_stage("split", main)
