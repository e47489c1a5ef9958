"""Divides the images into train, val and test, by class and never through a group; proves it.

Reads:  data/clean.parquet, data/scan.parquet (thumbnails), overrides.csv
Writes: data/split.parquet, metrics/split.json, metrics/plots/split.csv
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib import clusters
from stages.lib.duplicates import DuplicateSearch, Search
from stages.lib.errors import InputError, run_stage
from stages.lib.hashing import fingerprint
from stages.lib.metrics import write_metrics, write_plot
from stages.lib.overrides import Overrides, drop_pairs_told_apart, read_overrides
from stages.lib.params import STRICT, load_params
from stages.lib.progress import summarise
from stages.lib.seeds import derive_seed
from stages.lib.table import CLEAN, SPLIT, SPLITS, read_table, write_table
from stages.lib.thumbnails import Thumbnails, read_scan

Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, config=STRICT)
class Params:
    """The split section of params.yaml."""

    seed: int
    val: Share
    test: Share
    leak_radius: Annotated[int, Field(ge=0, le=16)]
    leak_neighbours: Annotated[int, Field(ge=0, le=20)]
    leak_similarity: Annotated[float, Field(gt=0, le=1)]


def fractions(official: set[str], params: Params) -> dict[str, float]:
    """Return the shares of train, val and test among the images that no official split places."""
    wanted = {"val": params.val, "test": params.test}
    shares = {name: 0.0 if name in official else share for name, share in wanted.items()}
    return {"train": 1 - sum(shares.values()), **shares}


def assign_splits(rows: pd.DataFrame, params: Params) -> pd.Series:
    """Return train, val or test for every row; official val and test sets stay what they are.

    Groups go, the largest first and equal ones in a seeded order, to the split whose share of the
    group's classes is furthest from its target, so every class ends within one group of it. The
    order of the rows has no say.
    Raises InputError for a class with fewer groups than there are splits to fill.
    """
    fixed = rows["official_split"].where(rows["official_split"].isin(("val", "test")), "")
    shares = fractions(set(fixed) - {""}, params)
    needed = [name for name in SPLITS if shares[name] > 0]
    free = rows[fixed == ""]
    table = pd.crosstab(free["group_id"], free["label"])
    table = table.reindex(columns=sorted(rows["label"].unique()), fill_value=0)
    _require_groups(table, needed)
    order = sorted(
        table.index, key=lambda group: (-table.loc[group].sum(), derive_seed(params.seed, group))
    )
    counts = table.loc[order].to_numpy()
    chosen = _fill(counts, np.array([shares[name] for name in needed]))
    _require_every_class(counts, chosen, list(table.columns), needed)
    placed = dict(zip(order, (needed[at] for at in chosen), strict=True))
    return fixed.where(fixed != "", rows["group_id"].map(placed))


def _require_groups(table: pd.DataFrame, needed: list[str]) -> None:
    groups = (table > 0).sum()
    small = groups[groups < len(needed)]
    if len(small):
        listing = ", ".join(f"{label!r} has {count}" for label, count in small.items())
        raise InputError(
            f"every class needs at least {len(needed)} different pictures, one each for "
            f"{', '.join(needed)}: {listing} after cleaning (duplicates count once, see "
            "data/removed.csv); "
            "add pictures, or leave the class out with download.exclude"
        )


def _fill(counts: NDArray[np.int64], shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each group (a row of class counts) the number of its split."""
    open_places = np.outer(counts.sum(axis=0), shares)
    chosen = np.zeros(len(counts), np.int64)
    for group, count in enumerate(counts):
        chosen[group] = int(np.argmax(count @ open_places))
        open_places[:, chosen[group]] -= count
    for label in range(counts.shape[1]):
        _give_every_split_one(counts, chosen, label, len(shares))
    return chosen


def _give_every_split_one(
    counts: NDArray[np.int64], chosen: NDArray[np.int64], label: int, splits: int
) -> None:
    """Move the smallest groups of a class, in place, until each split has one of that class."""
    members = [int(group) for group in np.flatnonzero(counts[:, label])]
    for split in range(splits):
        if (chosen[members] == split).any():
            continue
        spare = [group for group in members if not _is_needed(counts, chosen, group)]
        if spare:
            held = np.bincount(chosen[spare], minlength=splits)
            giver = int(np.argmax(held))
            smallest = [group for group in spare if chosen[group] == giver][-1]
            chosen[smallest] = split


def _is_needed(counts: NDArray[np.int64], chosen: NDArray[np.int64], group: int) -> bool:
    """Tell whether a group is its split's only one of any of its classes."""
    holders = (counts[chosen == chosen[group]] > 0).sum(axis=0)
    return bool((holders[counts[group] > 0] == 1).any())


def _require_every_class(
    counts: NDArray[np.int64], chosen: NDArray[np.int64], labels: list[str], needed: list[str]
) -> None:
    """Raise InputError for a class that groups of several classes keep out of a split."""
    for split, name in enumerate(needed):
        absent = np.flatnonzero(counts[chosen == split].sum(axis=0) == 0)
        if len(absent):
            raise InputError(
                f"class {labels[absent[0]]!r} finds no place in {name}: too many of its pictures "
                "are tied to pictures of other classes; set clean.label_conflicts to quarantine, "
                "or add pictures"
            )


def find_leaks(
    rows: pd.DataFrame, thumbnails: Thumbnails, overrides: Overrides, params: Params
) -> pd.DataFrame:
    """Return the pairs of images on two sides of the split that show the same.

    rows: with a column thumbnail, the row of `thumbnails`. The columns are left, right (uris) and
    similarity. The search is made anew in the pixels, mirrored ones included, so it does not
    rest on the groups that it is to check.
    """
    rows = rows.reset_index(drop=True)
    picture = clusters.first_of_equal_bytes(rows["image_id"])
    first = np.flatnonzero(picture == np.arange(len(rows)))
    how = Search(params.leak_radius, params.leak_neighbours, False, params.leak_similarity)
    found = DuplicateSearch(rows.iloc[first], thumbnails, how).pairs
    found = found.assign(left=first[found["left"]], right=first[found["right"]])
    pairs = clusters.all_ties(rows, picture, found)
    pairs = drop_pairs_told_apart(pairs, rows["image_id"], overrides)
    side, uri, group = (rows[name].to_numpy() for name in ("split", "uri", "group_id"))
    left, right = pairs["left"].to_numpy(np.int64), pairs["right"].to_numpy(np.int64)
    found = pd.DataFrame(
        {
            "left": uri[left],
            "right": uri[right],
            "similarity": pairs["similarity"].clip(upper=1).to_numpy(),
        }
    )[side[left] != side[right]]
    sides = pd.DataFrame({"group": group, "side": side, "uri": uri}).drop_duplicates(
        ["group", "side"]
    )
    torn = sides[sides["group"].duplicated(keep=False)].groupby("group")["uri"]
    divided = pd.DataFrame({"left": torn.first(), "right": torn.last(), "similarity": 1.0})
    return pd.concat([found, divided], ignore_index=True)


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


def main() -> None:
    """Divide the images, look for leaks, and stop the pipeline on one."""
    params = load_params(Params, "split")
    if params.val + params.test >= 1:
        raise InputError(
            "split.val + split.test must leave something for train, got "
            f"{params.val} + {params.test}"
        )
    rows = read_table(Path("data/clean.parquet"), CLEAN)
    rows = rows.assign(split=assign_splits(rows, params))
    scan, thumbnails = read_scan()
    pictures = rows.merge(scan[["uri", "thumbnail"]], on="uri", validate="one_to_one")
    leaks = find_leaks(pictures, thumbnails, read_overrides(), params)
    refuse_leaks(leaks)
    write_table(Path("data/split.parquet"), rows, SPLIT)
    sizes = {name: int((rows["split"] == name).sum()) for name in SPLITS}
    counts = pd.crosstab(rows["label"], rows["split"]).reindex(columns=list(SPLITS), fill_value=0)
    test = rows[rows["split"] == "test"]
    write_metrics(
        "split",
        {
            **sizes,
            "leaks": len(leaks),
            "smallest_train_class": int(counts["train"].min()),
            "largest_train_class": int(counts["train"].max()),
            "test_fingerprint": fingerprint(test["image_id"] + "/" + test["label"]),
        },
    )
    write_plot("split", counts.reset_index().melt("label", var_name="split", value_name="images"))
    summarise(
        "split",
        f"train {sizes['train']:,}, val {sizes['val']:,}, test {sizes['test']:,}; {len(leaks)} "
        "leaks",
    )


if __name__ == "__main__":
    run_stage("split", main)
