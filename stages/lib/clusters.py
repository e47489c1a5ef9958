"""Ties what shows the same scene into clusters, and names the evidence that each one rests on."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from stages.lib.table import CLUSTERS, DUPLICATES

Positions = NDArray[np.int64]
CERTAIN = 2.0  # stands for the similarity of two frames of one clip, which pixels need not prove


def first_of_equal_bytes(image_ids: pd.Series) -> Positions:
    """Return for each row the position of the first row with its bytes: the picture's number.

    Everything that is found out about a picture is found out for that one row, so a thousand copies
    cost a thousand rows and not half a million pairs.
    """
    codes, _ = pd.factorize(image_ids)
    _, first = np.unique(codes, return_index=True)
    numbers: Positions = first.astype(np.int64)[codes]
    return numbers


def all_ties(rows: pd.DataFrame, picture: Positions, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return every tie between rows: columns left < right (positions) and similarity.

    picture: `first_of_equal_bytes`; pairs: verified pairs of pictures (left, right, similarity).
    Copies are tied to their first row (similarity 1), frames to the first one of their clip within
    their class (CERTAIN).
    """
    copies = np.flatnonzero(picture != np.arange(len(picture)))
    clips = rows[["label", "clip"]].reset_index(drop=True)
    clips = clips[clips["clip"] != ""]
    first = clips.index.to_series().groupby([clips["label"], clips["clip"]]).transform("min")
    frames = clips.index[first.to_numpy() != clips.index.to_numpy()].to_numpy(np.int64)
    parts = (
        (pairs["left"], pairs["right"], pairs["similarity"]),
        (picture[copies], copies, np.ones(len(copies))),
        (first.loc[frames], frames, np.full(len(frames), CERTAIN)),
    )
    columns = (np.concatenate([np.asarray(part[at]) for part in parts]) for at in range(3))
    left, right, similarity = columns
    return pd.DataFrame(
        {
            "left": left.astype(np.int64),
            "right": right.astype(np.int64),
            "similarity": similarity.astype(np.float64),
        }
    )


def connect(count: int, ties: pd.DataFrame) -> Positions:
    """Return for each of `count` rows the number of the cluster that its ties put it in."""
    ones = np.ones(len(ties), np.int8)
    graph = coo_array((ones, (ties["left"], ties["right"])), shape=(count, count))
    clusters: Positions = connected_components(graph, directed=False)[1].astype(np.int64)
    return clusters


def spanning_forest(count: int, ties: pd.DataFrame) -> pd.DataFrame:
    """Return the ties of a maximum spanning forest: the strongest ones that still connect all.

    Its smallest tie is the weakest that any cluster needs: without it the cluster falls in two, or
    rests on something weaker.
    """
    strongest = ties.sort_values(["left", "right", "similarity"], ascending=[True, True, False])
    strongest = strongest.drop_duplicates(["left", "right"])
    # A weight of zero would be no edge at all.
    weights = 1 + CERTAIN - strongest["similarity"].to_numpy()
    graph = coo_array((weights, (strongest["left"], strongest["right"])), shape=(count, count))
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    left, right = tree.coords
    edges = pd.DataFrame({"left": left, "right": right}).astype(np.int64)
    return edges.merge(strongest, on=["left", "right"])


def duplicates_table(
    rows: pd.DataFrame, picture: Positions, pairs: pd.DataFrame, remove_similarity: float
) -> pd.DataFrame:
    """Return data/duplicates.csv: every verified pair of pictures, and each copy beside the first.

    pairs: columns left, right (positions), similarity, mirrored, rotation, distance.
    """
    copies = np.flatnonzero(picture != np.arange(len(picture)))
    equal = {"similarity": 1.0, "mirrored": False, "rotation": 0, "distance": 0}
    equal_pairs = pd.DataFrame({"left": picture[copies], "right": copies, **equal})
    columns = ["left", "right", *equal]
    found = pd.concat([pairs[columns], equal_pairs[columns]]) if len(pairs) else equal_pairs
    left, right = (rows.iloc[found[side].to_numpy(np.int64)] for side in ("left", "right"))
    table = {
        "left_uri": left["uri"].to_numpy(),
        "right_uri": right["uri"].to_numpy(),
        "left_id": left["image_id"].to_numpy(),
        "right_id": right["image_id"].to_numpy(),
        "similarity": found["similarity"].to_numpy(),
        "mirrored": found["mirrored"].to_numpy(bool),
        "rotation": found["rotation"].to_numpy(np.int64),
        "distance": found["distance"].to_numpy(np.int64),
        "level": np.where(found["similarity"] >= remove_similarity, "remove", "group"),
    }
    return pd.DataFrame(table, columns=list(DUPLICATES.columns))


def clusters_table(
    rows: pd.DataFrame, ties: pd.DataFrame, group_id: pd.Series, gone: Positions
) -> pd.DataFrame:
    """Return data/clusters.csv: the clusters of two pictures or more and their weakest tie.

    rows: all that could be read; gone: the positions of those left out. A cluster that frames of a
    clip alone hold together has no weakest tie.
    """
    members = pd.DataFrame(
        {
            "group_id": group_id.to_numpy(),
            "label": rows["label"].to_numpy(),
            "kept": ~np.isin(np.arange(len(rows)), gone),
        }
    )
    members = members[members["group_id"].duplicated(keep=False)]
    groups = members.groupby("group_id")
    named = members.drop_duplicates(["group_id", "label"]).sort_values("label")
    several = named["group_id"].duplicated(keep=False)  # few: most clusters have one label
    labels = pd.concat(
        [
            named[~several].set_index("group_id")["label"],
            named[several].groupby("group_id")["label"].agg("|".join),
        ]
    )
    table = pd.DataFrame({"images": groups.size(), "kept": groups["kept"].sum(), "labels": labels})
    weakest = _weakest(rows, ties, group_id)
    table = table.join(weakest).rename_axis("group_id").reset_index()
    uris = {side: table[side].fillna("") for side in ("weakest_left_uri", "weakest_right_uri")}
    return table.assign(**uris)[list(CLUSTERS.columns)]


def _weakest(rows: pd.DataFrame, ties: pd.DataFrame, group_id: pd.Series) -> pd.DataFrame:
    needed = spanning_forest(len(rows), ties)
    needed = needed[needed["similarity"] < CERTAIN].sort_values(["similarity", "left", "right"])
    groups = group_id.to_numpy()[needed["left"]]
    needed = needed.assign(group_id=groups).drop_duplicates("group_id")
    uris = rows["uri"].to_numpy()
    return pd.DataFrame(
        {
            "weakest_left_uri": uris[needed["left"]],
            "weakest_right_uri": uris[needed["right"]],
            "weakest_similarity": needed["similarity"].to_numpy(),
        },
        index=pd.Index(needed["group_id"].to_numpy(), name="group_id"),
    )
