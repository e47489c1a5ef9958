"""Shows pairs that resemble each other side by side, the weakest evidence first, and collects what
a person decides: `python -m tools.review [--level L] [--limit N] [--flags] [--output FILE]`.

Reads:  data/duplicates.csv, data/clusters.csv, data/removed.csv, data/clean.parquet,
        data/scan.parquet, data/raw
Writes: report/review.html, one page without anything from elsewhere
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from stages.lib.errors import InputError, run_stage
from stages.lib.progress import summarise, track
from stages.lib.report_pictures import Tile, file_tile
from stages.lib.table import (
    CLEAN,
    CLUSTERS,
    DUPLICATES,
    REMOVED,
    SCAN,
    read_table,
)
from tools.pages import write_page

SIDE = 192  # pixels of an embedded picture's longer side

Rows = list[dict[str, Any]]


def fates(scan: pd.DataFrame, kept: pd.DataFrame, removed: pd.DataFrame) -> pd.DataFrame:
    """Return by uri what became of each picture.

    Columns: image_id, label (as corrected), width, height, flags, gone, reason, rule.
    """
    columns = ["uri", "label", "flags", "gone", "reason", "rule"]
    stayed = kept.assign(gone=False, reason="", rule="")[columns]
    went = removed.assign(gone=True, flags="")[columns]
    table = scan[["uri", "image_id", "width", "height"]].merge(
        pd.concat([stayed, went], ignore_index=True), on="uri", how="left"
    )
    unknown = table["gone"].isna()
    if unknown.any():
        raise InputError(
            f"{table.loc[unknown, 'uri'].iloc[0]} is in data/scan.parquet, but clean neither kept "
            "nor removed it: they are from different runs; run `dvc repro`"
        )
    return table.set_index("uri")


def choose_pairs(
    duplicates: pd.DataFrame, labels: pd.Series, level: str, limit: int
) -> dict[str, pd.DataFrame]:
    """Return the pairs to show, the least similar first: under two labels, and under one.

    labels: by uri. level: remove, group or all. limit: of either kind. Adds `of`, how many of the
    kind there are to choose from.
    """
    chosen = duplicates if level == "all" else duplicates[duplicates["level"] == level]
    chosen = chosen.sort_values(["similarity", "left_uri", "right_uri"])
    left, right = (labels.loc[chosen[f"{side}_uri"]].to_numpy(object) for side in ("left", "right"))
    kinds = {"conflicts": chosen[left != right], "alike": chosen[left == right]}
    return {name: pairs.assign(of=len(pairs)).head(limit) for name, pairs in kinds.items()}


def choose_flagged(pictures: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Return the flagged pictures that were kept, those with the most flags first."""
    flagged = pictures[pictures["flags"].fillna("") != ""].reset_index()
    flagged = flagged.assign(count=flagged["flags"].str.count(" "), of=len(flagged))
    order = flagged.sort_values(["count", "flags", "uri"], ascending=[False, True, True])
    return order.head(limit)


def pair_rows(
    pairs: pd.DataFrame, pictures: pd.DataFrame, tiles: dict[str, Tile | None], needed: Rows
) -> Rows:
    """Return the pairs with both pictures' fates and tiles, and the cluster each one is needed for.

    needed: rows of data/clusters.csv.
    """
    holds = {(row["weakest_left_uri"], row["weakest_right_uri"]): row for row in needed}
    rows = []
    for pair in pairs.to_dict("records"):
        uris = (pair["left_uri"], pair["right_uri"])
        both = [picture_row(uri, pictures, tiles) for uri in uris]
        rows.append({**pair, "pictures": both, "holds": holds.get(uris)})
    return rows


def picture_row(uri: str, pictures: pd.DataFrame, tiles: dict[str, Tile | None]) -> dict[str, Any]:
    """Return one picture's fate and tile."""
    return {"uri": uri, **pictures.loc[uri].to_dict(), "tile": tiles[uri]}


def make_tiles(uris: list[str]) -> dict[str, Tile | None]:
    """Return each file's picture, shrunk; None where it cannot be shown."""
    shown = track(uris, len(uris), "review", "pictures")
    return {uri: file_tile(uri, SIDE) for uri in shown}


def read_arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tools.review", description="Review pairs.")
    parser.add_argument("--level", choices=("group", "remove", "all"), default="all")
    parser.add_argument("--limit", type=int, default=100, help="pairs of either kind (100)")
    parser.add_argument("--flags", action="store_true", help="also show flagged pictures")
    parser.add_argument("--output", type=Path, default=Path("report/review.html"))
    return parser.parse_args()


def main() -> None:
    """Gather the pairs and write the page."""
    wanted = read_arguments()
    if wanted.limit < 1:
        raise InputError(f"--limit must be at least 1, got {wanted.limit}")
    duplicates = read_table(Path("data/duplicates.csv"), DUPLICATES)
    clusters = read_table(Path("data/clusters.csv"), CLUSTERS)
    removed = read_table(Path("data/removed.csv"), REMOVED)
    kept = read_table(Path("data/clean.parquet"), CLEAN.only("uri", "label", "flags"))
    size = SCAN.only("uri", "image_id", "width", "height")
    pictures = fates(read_table(Path("data/scan.parquet"), size), kept, removed)
    pairs = choose_pairs(duplicates, pictures["label"], wanted.level, wanted.limit)
    flagged = choose_flagged(pictures, wanted.limit if wanted.flags else 0)
    uris = pd.concat(
        [
            *(both[f"{side}_uri"] for both in pairs.values() for side in ("left", "right")),
            flagged["uri"],
        ]
    )
    tiles = make_tiles(sorted(uris.unique()))
    needed = clusters.to_dict("records")
    write_page(
        wanted.output,
        "review.html",
        sections={name: pair_rows(both, pictures, tiles, needed) for name, both in pairs.items()},
        flagged=[
            {**row, "picture": picture_row(row["uri"], pictures, tiles)}
            for row in flagged.to_dict("records")
        ],
        with_flags=wanted.flags,
        labels=sorted(pictures["label"].unique()),
        level=wanted.level,
        total=len(duplicates),
    )
    count = sum(len(both) for both in pairs.values())
    summarise(
        "review", f"{wanted.output}: {count:,} of {len(duplicates):,} pairs; open it in a browser"
    )


if __name__ == "__main__":
    run_stage("review", main)
