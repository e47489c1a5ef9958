"""Ties what shows the same scene into clusters, and names the evidence that each one rests on."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from stages.lib.table import CLUSTERS, DUPLICATES

Positions = NDArray[np.int64]
# A weak tie joins a group of MANY only together with others, and two groups of MANY only if half of
# the smaller one is tied. Between few images one tie is enough, up to a group of LARGE.
MANY, LARGE = 4, 16
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
    """Return every tie between rows: left < right (positions), similarity and whether it is strong.

    picture: `first_of_equal_bytes`; pairs: verified pairs of images (left, right, similarity,
    level), of which look-alikes are no ties and copies are strong ones. Equal bytes are tied to
    their first row (similarity 1), frames to the first one of their clip within their class
    (CERTAIN); both are strong.
    """
    pairs = pairs[pairs["level"] != "look_alike"]
    copies = np.flatnonzero(picture != np.arange(len(picture)))
    clips = rows[["label", "clip"]].reset_index(drop=True)
    clips = clips[clips["clip"] != ""]
    first = clips.index.to_series().groupby([clips["label"], clips["clip"]]).transform("min")
    frames = clips.index[first.to_numpy() != clips.index.to_numpy()].to_numpy(np.int64)
    parts = (
        (pairs["left"], pairs["right"], pairs["similarity"], pairs["level"] == "remove"),
        (picture[copies], copies, np.ones(len(copies)), np.ones(len(copies), bool)),
        (first.loc[frames], frames, np.full(len(frames), CERTAIN), np.ones(len(frames), bool)),
    )
    columns = (np.concatenate([np.asarray(part[at]) for part in parts]) for at in range(4))
    left, right, similarity, strong = columns
    return pd.DataFrame(
        {
            "left": left.astype(np.int64),
            "right": right.astype(np.int64),
            "similarity": similarity.astype(np.float64),
            "strong": strong.astype(bool),
        }
    )


def connect(count: int, ties: pd.DataFrame) -> Positions:
    """Return for each of `count` rows the number of the cluster that its ties put it in."""
    ones = np.ones(len(ties), np.int8)
    graph = coo_array((ones, (ties["left"], ties["right"])), shape=(count, count))
    clusters: Positions = connected_components(graph, directed=False)[1].astype(np.int64)
    return clusters


def join_groups(picture: Positions, ties: pd.DataFrame) -> Positions:
    """Return for each row the number of its group.

    picture: `first_of_equal_bytes`; rows of equal bytes count once, because only the first of them
    has ties of its own. Strong ties always join. A weak one joins two groups only as far as MANY
    and LARGE allow, the strongest first, so that a chain of weak ties does not swallow the set: a
    group holds to its core.
    """
    strong = ties["strong"].to_numpy(bool)
    count = len(picture)
    groups = connect(count, ties[strong])
    weak = ties[~strong].sort_values(
        ["similarity", "left", "right"], ascending=[False, True, True], kind="stable"
    )
    ends = groups[weak[["left", "right"]].to_numpy(np.int64)]
    distinct = groups[picture == np.arange(count)]
    sizes = dict(enumerate(np.bincount(distinct, minlength=count).tolist()))
    between: dict[int, dict[int, int]] = {}
    for one, other in ends.tolist():
        if one != other:
            for near, far in ((one, other), (other, one)):
                held = between.setdefault(near, {})
                held[far] = held.get(far, 0) + 1
    leader = {int(number): int(number) for number in np.unique(ends)}

    def lead(number: int) -> int:
        while leader[number] != number:
            leader[number] = leader[leader[number]]
            number = leader[number]
        return number

    changed = True
    while changed:
        changed = False
        for one, other in ends.tolist():
            small, large = sorted((lead(one), lead(other)), key=lambda at: (sizes[at], at))
            if small == large or between[small][large] < _ties_needed(sizes[small], sizes[large]):
                continue
            leader[small] = large
            sizes[large] += sizes[small]
            for far, number in between.pop(small).items():
                del between[far][small]
                if far != large:
                    between[far][large] = between[far].get(large, 0) + number
                    between[large][far] = between[far][large]
            changed = True
    joined = np.array([lead(number) if number in leader else number for number in range(count)])
    found: Positions = joined[groups].astype(np.int64)
    return found


def _ties_needed(small: int, large: int) -> int:
    if small >= MANY:
        return -(-small // 2)
    return 2 if large >= LARGE else 1


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


def duplicates_table(rows: pd.DataFrame, picture: Positions, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return data/duplicates.csv: every pair that was judged, and each exact copy beside the first.

    pairs: columns left, right (positions), similarity, mirrored, rotation, distance, level, detail,
    background.
    """
    copies = np.flatnonzero(picture != np.arange(len(picture)))
    equal: dict[str, Any] = {"similarity": 1.0, "mirrored": False, "rotation": 0, "distance": 0}
    equal |= {"level": "remove", "detail": 1.0, "background": 0.0}
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
        "detail": found["detail"].to_numpy(np.float64),
        "background": found["background"].to_numpy(np.float64),
        "level": found["level"].to_numpy(object),
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
    numbers = pd.factorize(group_id)[0]
    within = ties[numbers[ties["left"]] == numbers[ties["right"]]]
    needed = spanning_forest(len(rows), within)
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
