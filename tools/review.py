"""Shows the judged pairs and their clusters, the most doubtful first, and collects what a person
decides: `python -m tools.review [--level L] [--limit N] [--flags] [--output FILE]`.

Reads:  data/duplicates.csv, data/clusters.csv, data/removed.csv, data/clean.parquet,
        data/scan.parquet, data/raw, params.yaml (its section clean), overrides.csv
Writes: report/review.html, one page without anything from elsewhere
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from stages.clean import Params
from stages.lib.errors import InputError, run_stage
from stages.lib.overrides import read_overrides
from stages.lib.params import load_params
from stages.lib.progress import summarise, track
from stages.lib.report_pictures import file_tile
from stages.lib.similarity import name_pair
from stages.lib.table import (
    CLEAN,
    CLUSTERS,
    DUPLICATES,
    REMOVED,
    SCAN,
    read_table,
)
from tools.doubt import doubt, is_exact, needed_detail
from tools.pages import decision_content, write_page
from tools.review_clusters import (
    Rows,
    Tiles,
    choose_clusters,
    choose_members,
    cluster_rows,
    image_row,
)

SIDE, STRIP_SIDE = 192, 112  # pixels of an embedded image's longer side, in a pair and in a strip
SECTIONS = {"copies": "remove", "scenes": "group", "look_alikes": "look_alike"}


def image_outcomes(scan: pd.DataFrame, kept: pd.DataFrame, removed: pd.DataFrame) -> pd.DataFrame:
    """Return by uri what became of each image.

    Columns: image_id, label (as corrected), width, height, flags, gone, reason, rule, group_id.
    """
    columns = ["uri", "label", "flags", "gone", "reason", "rule", "group_id"]
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


def describe_pairs(duplicates: pd.DataFrame, images: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Return the pairs with doubt, needed (detail), exact, conflict (tied under two labels), group
    (that both are in, "" where they are not tied) and kind, in words.
    """
    exact = is_exact(duplicates)
    left, right = (images.loc[duplicates[f"{side}_uri"]] for side in ("left", "right"))
    labels = list(zip(left["label"], right["label"], strict=True))
    tied = (duplicates["level"] != "look_alike").to_numpy()
    one_group = left["group_id"].to_numpy(object) == right["group_id"].to_numpy(object)
    copies_group = params.near_duplicates == "group"
    about = zip(duplicates["level"], exact, duplicates["mirrored"], labels, strict=True)
    return duplicates.assign(
        doubt=doubt(duplicates, params.remove_similarity, params.group_similarity),
        needed=needed_detail(duplicates),
        exact=exact,
        conflict=tied & np.array([one != other for one, other in labels], bool),
        group=np.where(tied & one_group, left["group_id"].to_numpy(object), ""),
        kind=[name_pair(*pair, copies_group) for pair in about],
    )


def choose_pairs(pairs: pd.DataFrame, level: str) -> dict[str, pd.DataFrame]:
    """Return the pairs of each section, the most doubtful first: conflicts, then by level.

    pairs: of `describe_pairs`. level: remove, group, look_alike or all. A tied pair under two
    labels is among the conflicts only. Sections that `level` does not ask for are left out.
    """
    wanted = pairs if level == "all" else pairs[pairs["level"] == level]
    wanted = wanted.sort_values(["doubt", "left_uri", "right_uri"], ascending=[False, True, True])
    sections = {"conflicts": wanted[wanted["conflict"]]} if level != "look_alike" else {}
    for name, own in SECTIONS.items():
        if level in ("all", own):
            sections[name] = wanted[(wanted["level"] == own) & ~wanted["conflict"]]
    return sections


def count_words(name: str, section: pd.DataFrame, limit: int) -> str:
    """Return how many of a section's pairs are shown, and what the others are."""
    total, rest = len(section), len(section[limit:])
    if not rest:
        return "All are shown." if total > 1 else ""
    exact = int(section["exact"][limit:].sum())
    other = f"the {rest:,} others are" if rest > 1 else "the other one is"
    nearest = "a tie" if name == "look_alikes" else "their limit"
    what = f"less doubtful: further from {nearest}"
    if exact == rest:
        what = "exact copies" if exact > 1 else "an exact copy"
    elif exact:
        what = (
            f"exact copies ({exact:,}) or less doubtful ({rest - exact:,}), further from {nearest}"
        )
    return f"{limit:,} of {total:,} pairs shown, {other} {what} (--limit shows more)."


def pair_rows(
    pairs: pd.DataFrame, images: pd.DataFrame, tiles: Tiles, clusters: pd.DataFrame
) -> Rows:
    """Return the pairs with both images' outcomes and tiles, and the cluster that each one holds
    together.
    """
    ends = zip(clusters["weakest_left_uri"], clusters["weakest_right_uri"], strict=True)
    holds = dict(zip(ends, clusters["images"], strict=True))
    rows = []
    for pair in pairs.to_dict("records"):
        uris = (pair["left_uri"], pair["right_uri"])
        both = [image_row(uri, images, tiles) for uri in uris]
        # Judged otherwise in another run, the pair is to be seen again.
        seen = " ".join((pair["level"], *sorted((pair["left_id"], pair["right_id"]))))
        rows.append({**pair, "both": both, "holds": holds.get(uris, 0), "seen": seen})
    return rows


def choose_flagged(images: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Return the flagged images that were kept, those with the most flags first."""
    flagged = images[images["flags"].fillna("") != ""].reset_index()
    flagged = flagged.assign(count=flagged["flags"].str.count(" "), of=len(flagged))
    order = flagged.sort_values(["count", "flags", "uri"], ascending=[False, True, True])
    return order.head(limit)


def make_tiles(uris: set[str], side: int) -> Tiles:
    """Return each file's image, shrunk; None where it cannot be shown."""
    shown = track(sorted(uris), len(uris), "review", "images")
    return {uri: file_tile(uri, side) for uri in shown}


def read_arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tools.review", description="Review pairs.")
    parser.add_argument("--level", choices=(*SECTIONS.values(), "all"), default="all")
    parser.add_argument("--limit", type=int, default=100, help="pairs or clusters a section (100)")
    parser.add_argument("--flags", action="store_true", help="also show flagged images")
    parser.add_argument("--output", type=Path, default=Path("report/review.html"))
    return parser.parse_args()


def main() -> None:
    """Gather pairs and clusters and write the page."""
    wanted = read_arguments()
    if wanted.limit < 1:
        raise InputError(f"--limit must be at least 1, got {wanted.limit}")
    duplicates = read_table(Path("data/duplicates.csv"), DUPLICATES)
    params = load_params(Params, "clean")
    clusters = read_table(Path("data/clusters.csv"), CLUSTERS)
    removed = read_table(Path("data/removed.csv"), REMOVED)
    kept = read_table(Path("data/clean.parquet"), CLEAN.only("uri", "label", "flags", "group_id"))
    size = SCAN.only("uri", "image_id", "width", "height")
    images = image_outcomes(read_table(Path("data/scan.parquet"), size), kept, removed)
    pairs = describe_pairs(duplicates, images, params)
    sections = choose_pairs(pairs, wanted.level)
    shown = pd.concat([section.head(wanted.limit) for section in sections.values()])
    large = choose_clusters(clusters, pairs, images)
    members = choose_members(large.head(wanted.limit), images)
    flagged = choose_flagged(images, wanted.limit if wanted.flags else 0)
    tiles = make_tiles({*shown["left_uri"], *shown["right_uri"], *flagged["uri"]}, SIDE)
    strips = make_tiles({uri for uris in members.values() for uri in uris}, STRIP_SIDE)
    write_page(
        wanted.output,
        "review.html",
        clusters=cluster_rows(large.head(wanted.limit), pairs, images, members, strips),
        cluster_count=len(large),
        sections={
            name: {
                "pairs": pair_rows(section.head(wanted.limit), images, tiles, clusters),
                "total": len(section),
                "count": count_words(name, section, wanted.limit),
            }
            for name, section in sections.items()
        },
        flagged=[
            {**row, "image": image_row(row["uri"], images, tiles)}
            for row in flagged.to_dict("records")
        ],
        with_flags=wanted.flags,
        labels=sorted(images["label"].unique()),
        level=wanted.level,
        levels=pairs["level"].value_counts().to_dict(),
        least={
            "remove": params.remove_similarity,
            "group": params.group_similarity,
            "look_alike": params.group_similarity,
        },
        copies_group=params.near_duplicates == "group",
        **decision_content("review", images["image_id"], read_overrides()),
    )
    summarise(
        "review",
        f"{wanted.output}: {len(shown):,} of {len(duplicates):,} pairs and {len(members):,} of "
        f"{len(large):,} clusters, the most doubtful first; open it in a browser",
    )


if __name__ == "__main__":
    run_stage("review", main)
