"""Follows each class from its files to what training sees, and tells how unequal classes are."""

from typing import Any

import pandas as pd

from stages.lib.imbalance import imbalance
from stages.lib.table import SPLITS

# The stations of a class's way; `balanced` is train as training sees it, children included.
STATIONS = ("files", "kept", *SPLITS, "balanced")
CLASSES_DRAWN = 24  # beyond this only the largest and the smallest are


def class_ways(
    files: pd.DataFrame, classes: pd.DataFrame, split: pd.DataFrame, balance: pd.DataFrame
) -> pd.DataFrame:
    """Return one row per class, the largest first: label, STATIONS, originals and children.

    files, classes, split, balance: the tables of these names in metrics/plots. A class that one of
    them lacks, as one that only a relabelled picture has, counts 0 there.
    """
    by_split = split.pivot(index="label", columns="split", values="images")
    parts = [
        files.groupby("label")["images"].sum().rename("files"),
        classes.set_index("label")["kept"],
        by_split.reindex(columns=list(SPLITS)),
        balance.set_index("label")[["originals", "children"]],
    ]
    ways = pd.concat(parts, axis=1).fillna(0).astype("int64").rename_axis("label").reset_index()
    ways = ways.assign(balanced=ways["originals"] + ways["children"])
    return ways.sort_values(["files", "label"], ascending=[False, True], ignore_index=True)


def station_rows(ways: pd.DataFrame) -> list[dict[str, Any]]:
    """Return for each station the pictures, the sizes of its classes and their imbalance.

    ways: of `class_ways`. A class without a picture counts in none of them but `absent`.
    """
    rows = []
    for station in STATIONS:
        sizes = ways[station]
        present = sizes[sizes > 0]
        if len(present):
            row = {"station": station, "pictures": int(sizes.sum())}
            row |= {"largest": int(present.max()), "smallest": int(present.min())}
            row |= {"absent": len(sizes) - len(present)}
            rows.append({**row, **imbalance(present)})
    return rows


def largest_and_smallest(ways: pd.DataFrame, limit: int = CLASSES_DRAWN) -> dict[str, Any]:
    """Return the classes to draw: all as `largest`, or of more than `limit` both ends.

    ways: of `class_ways`, so the largest come first. full: the most pictures of any class at any
    station, which fills a bar.
    """
    rows = ways.to_dict("records")
    few = len(rows) <= limit
    ahead, behind = (len(rows), 0) if few else (limit - limit // 2, limit // 2)
    return {
        "largest": rows[:ahead],
        "smallest": rows[len(rows) - behind :],
        "full": int(ways[["files", "balanced"]].max().max()),
    }
