"""Chooses the clusters that a person should look at, and says what refusing one of them means."""

from itertools import combinations
from typing import Any

import pandas as pd

from stages.lib.hashing import fingerprint
from stages.lib.report_pictures import Tile

STRIP = 24  # images of a cluster that its strip shows
WHOLE = 64  # images: a larger cluster is refused by its ties, not by all its pairs

Rows = list[dict[str, Any]]
Tiles = dict[str, Tile | None]


def choose_clusters(
    clusters: pd.DataFrame, pairs: pd.DataFrame, images: pd.DataFrame
) -> pd.DataFrame:
    """Return the clusters of three images or more: those under several labels first, then those
    with the most doubtful weakest tie.

    clusters: data/clusters.csv. pairs: left_uri, right_uri and doubt. images: by uri, with group_id
    and label.
    """
    large = clusters[clusters["images"] > 2]
    ends = pd.MultiIndex.from_frame(large[["weakest_left_uri", "weakest_right_uri"]])
    doubts = pairs.set_index(["left_uri", "right_uri"])["doubt"].reindex(ends).fillna(0)
    several = images.groupby("group_id")["label"].nunique().reindex(large["group_id"]) > 1
    large = large.assign(doubt=doubts.to_numpy(), several=several.to_numpy())
    order = ["several", "doubt", "images", "group_id"]
    return large.sort_values(order, ascending=[False, False, False, True])


def choose_members(clusters: pd.DataFrame, images: pd.DataFrame) -> dict[str, list[str]]:
    """Return by group_id the uris that a strip shows: the ends of the weakest tie first, then one
    of each content and label, then the others; at most STRIP.
    """
    members = dict(list(images[images["group_id"].isin(clusters["group_id"])].groupby("group_id")))
    chosen = {}
    for row in clusters.itertuples():
        ends = [uri for uri in (row.weakest_left_uri, row.weakest_right_uri) if uri]
        others = members[row.group_id].drop(index=ends).sort_index()
        repeated = others.duplicated(["image_id", "label"])
        uris = [*ends, *others.index[~repeated], *others.index[repeated]]
        chosen[str(row.group_id)] = uris[:STRIP]
    return chosen


def refused_pairs(ids: list[str], ties: pd.DataFrame) -> list[tuple[int, int]]:
    """Return the pairs of `ids` (positions) that refusing their whole cluster parts.

    All pairs, so that another run ties none of them; of more than WHOLE images only those that are
    tied now. ties: left_id and right_id of the cluster's pairs.
    """
    if len(ids) <= WHOLE:
        return list(combinations(range(len(ids)), 2))
    at = {image_id: number for number, image_id in enumerate(ids)}
    ends = zip(ties["left_id"].map(at), ties["right_id"].map(at), strict=True)
    return sorted({(min(both), max(both)) for both in ends if both[0] != both[1]})


def cluster_rows(
    clusters: pd.DataFrame,
    pairs: pd.DataFrame,
    images: pd.DataFrame,
    chosen: dict[str, list[str]],
    tiles: Tiles,
) -> Rows:
    """Return the clusters with their strips, labels, weakest tie and what refusing them parts.

    pairs: of `describe_pairs`, with group. chosen: of `choose_members`. A cluster that frames of
    one clip hold together has no tie, and cannot be refused.
    """
    members = dict(list(images[images["group_id"].isin(chosen)].groupby("group_id")))
    ties = dict(list(pairs[pairs["group"].isin(chosen)].groupby("group")))
    by_uri = pairs.set_index(["left_uri", "right_uri"])
    rows = []
    for row in clusters.to_dict("records"):
        name, ends = row["group_id"], (row["weakest_left_uri"], row["weakest_right_uri"])
        ids = sorted(members[name]["image_id"].unique())
        parted = refused_pairs(ids, ties.get(name, pairs[:0])) if ends[0] else []
        rows.append(
            {
                **row,
                "shown": [
                    {**image_row(uri, images, tiles), "end": uri in ends} for uri in chosen[name]
                ],
                "labels": members[name]["label"].value_counts().sort_index().to_dict(),
                "tie": by_uri.loc[ends].to_dict() if ends[0] else None,
                "ids": ids,
                "lines": len(parted),
                "ties": [] if len(ids) <= WHOLE else parted,
                "seen": fingerprint(ids),
            }
        )
    return rows


def image_row(uri: str, images: pd.DataFrame, tiles: Tiles) -> dict[str, Any]:
    """Return one image's outcome and tile."""
    return {"uri": uri, **images.loc[uri].to_dict(), "tile": tiles[uri]}
