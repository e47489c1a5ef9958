"""Settles the same picture under two labels: by quarantine, or by a majority of pictures."""

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from stages.lib.clusters import Positions, connect
from stages.lib.errors import InputError
from stages.lib.overrides import Overrides
from stages.lib.policy import FREE, NOBODY, official_ranks, preference, removals

# What rows of a picture have in common when a conflict is judged: one of them stands for all.
ALIKE = ["picture", "label", "rank"]


class Settlement(NamedTuple):
    """What became of the conflicts: removals by quarantine, and rows that a majority overrules."""

    contested: pd.DataFrame
    quarantined: pd.DataFrame
    losers: pd.DataFrame


def settle(
    rows: pd.DataFrame,
    picture: Positions,
    pairs: pd.DataFrame,
    overrides: Overrides,
    policy: Literal["quarantine", "majority", "keep"],
) -> Settlement:
    """Return what the policy does with pictures that stand under two labels.

    picture: `first_of_equal_bytes`; pairs: of pictures (left, right, similarity), at the level of
    removal. A cluster is what such pairs tie together. Where no label has a majority in it, its
    conflicts are quarantined.
    Raises InputError where a person wants the same bytes kept under two labels.
    """
    contested = contested_rows(rows, picture, pairs, overrides)
    if policy == "keep":
        contested = contested.head(0)
    _refuse_one_picture_twice(rows, contested)
    votes = hold_votes(contested)
    if policy == "quarantine":
        votes = votes.head(0)
    undecided = contested[~contested["cluster"].isin(votes.index)]
    return Settlement(contested, quarantine(undecided, pairs), outvoted(contested, votes))


def contested_rows(
    rows: pd.DataFrame, picture: Positions, pairs: pd.DataFrame, overrides: Overrides
) -> pd.DataFrame:
    """Return the rows in whose cluster there are two labels or more.

    Columns: at (position), picture, cluster, label, rank, wanted (a person wants it kept), decided
    (wanted, or relabelled by a person).
    """
    clusters = connect(len(rows), pairs)[picture]
    held = pd.DataFrame({"cluster": clusters, "label": rows["label"].to_numpy()})
    labels = held.drop_duplicates()["cluster"].value_counts()
    at = np.flatnonzero(np.isin(clusters, labels.index[labels > 1]))
    few = rows.iloc[at]
    wanted = few["image_id"].isin(overrides.keep).to_numpy()
    return pd.DataFrame(
        {
            "at": at,
            "picture": picture[at],
            "cluster": clusters[at],
            "label": few["label"].to_numpy(object),
            "rank": official_ranks(few),
            "wanted": wanted,
            "decided": wanted | few["image_id"].isin(overrides.relabel).to_numpy(),
        }
    )


def _refuse_one_picture_twice(rows: pd.DataFrame, contested: pd.DataFrame) -> None:
    wanted = contested[contested["wanted"]].drop_duplicates(["picture", "label"])
    twice = wanted[wanted["picture"].duplicated(keep=False)]
    if len(twice):
        one, other = rows.iloc[twice.sort_values(["picture", "at"])["at"].iloc[:2]].itertuples()
        raise InputError(
            f"overrides.csv: keep of {one.image_id} names the same bytes under two labels, "
            f"{one.uri} and {other.uri}; say which label is right with relabel instead"
        )


def quarantine(contested: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return as removals the pictures whose duplicate bears another label.

    Neither label can be trusted then. But a picture of a lower official rank yields to one of a
    higher, and any to one that a person wants kept. Each row names the most similar picture of
    another label.
    """
    crossed = _links(contested, pairs)
    crossed = crossed[crossed["label"] != crossed["label_other"]]
    stays = (crossed["rank"] < FREE) & (crossed["rank"] <= crossed["rank_other"])
    crossed = crossed[~stays & ~crossed["wanted"]]
    crossed = crossed.sort_values(["similarity", "at_other"], ascending=[False, True])
    crossed = crossed.drop_duplicates(ALIKE)
    named = [*ALIKE, "at_other", "label_other", "similarity"]
    gone = contested[["at", *ALIKE]].merge(crossed[named], on=ALIKE)
    also = gone["label_other"].map(repr).astype("str")
    return removals(
        gone["at"],
        "label_conflict",
        "clean.label_conflicts = quarantine: also labelled " + also,
        action="quarantine",
        kept_at=gone["at_other"],
        similarity=gone["similarity"],
    )


def _links(contested: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return who is a duplicate of whom, both ways: contested's columns and, with the suffix
    _other, the duplicate's. Rows that are ALIKE are listed once.
    """
    holders = contested.drop_duplicates(ALIKE)
    pictures = holders["picture"].unique()
    ways = [(pairs["left"], pairs["right"]), (pairs["right"], pairs["left"]), (pictures, pictures)]
    values = [pairs["similarity"], pairs["similarity"], np.ones(len(pictures))]
    links = pd.DataFrame(
        {
            "picture": np.concatenate([np.asarray(one, np.int64) for one, _ in ways]),
            "picture_other": np.concatenate([np.asarray(other, np.int64) for _, other in ways]),
            "similarity": np.concatenate([np.asarray(value, np.float64) for value in values]),
        }
    )
    return holders.merge(links, on="picture").merge(
        holders.add_suffix("_other"), on="picture_other"
    )


def hold_votes(contested: pd.DataFrame) -> pd.DataFrame:
    """Return the clusters in which one label has a strict majority.

    Index: cluster; columns label, votes, of. A picture has one vote for each label that it stands
    under: copies of its bytes do not stuff the ballot. Where the cluster holds pictures of an
    official set, those of the highest one vote alone; among equals, those that a person decided on.
    """
    authority = 2 * contested["rank"] + ~contested["decided"]
    highest = authority.groupby(contested["cluster"]).transform("min")
    ballots = contested[authority == highest].drop_duplicates(["cluster", "label", "picture"])
    votes = ballots.groupby(["cluster", "label"]).size().rename("votes").reset_index()
    votes = votes.assign(of=votes.groupby("cluster")["votes"].transform("sum"))
    return votes[2 * votes["votes"] > votes["of"]].set_index("cluster")


def outvoted(contested: pd.DataFrame, votes: pd.DataFrame) -> pd.DataFrame:
    """Return the contested rows that a majority overrules, with `winner`, `votes` and `of`.

    What a person decided on stays, and so does what belongs to the highest official set of its
    cluster.
    """
    winners = votes.rename(columns={"label": "winner"}).reset_index()
    judged = contested.merge(winners, on="cluster")
    highest = judged["rank"].groupby(judged["cluster"]).transform("min")
    stays = judged["decided"] | ((judged["rank"] < FREE) & (judged["rank"] == highest))
    return judged[(judged["label"] != judged["winner"]) & ~stays]


def name_winners(
    rows: pd.DataFrame,
    settled: Settlement,
    pairs: pd.DataFrame,
    overrides: Overrides,
    gone: Positions,
) -> pd.DataFrame:
    """Return the losers as removals that name a picture of the majority which stays.

    It is the most similar one among their own duplicates. A loser that only a chain ties to the
    majority names the one most worth keeping, without a similarity.
    """
    contested, losers = settled.contested, settled.losers
    standing = contested[~contested["at"].isin(gone)]
    places = np.empty(len(standing), np.int64)
    places[preference(rows.iloc[standing["at"]], overrides)] = np.arange(len(standing))
    standing = standing.assign(place=places)[["cluster", "label", "picture", "at", "place"]]
    offered = losers[["at", "picture", "cluster", "winner"]].merge(
        standing.rename(columns={"label": "winner"}),
        on=["cluster", "winner"],
        suffixes=("", "_other"),
    )
    links = _links(contested, pairs)[["picture", "picture_other", "similarity"]].drop_duplicates()
    offered = offered.merge(links, on=["picture", "picture_other"], how="left")
    best = offered.sort_values(["at", "similarity", "place"], ascending=[True, False, True])
    best = best.drop_duplicates("at").set_index("at")[["at_other", "similarity"]]
    found = losers.join(best, on="at")
    counted = found["votes"].astype("str") + " of " + found["of"].astype("str")
    winner = found["winner"].map(repr).astype("str")
    return removals(
        found["at"],
        "label_conflict",
        "clean.label_conflicts = majority: " + winner + " has " + counted + " votes",
        kept_at=found["at_other"].fillna(NOBODY),
        similarity=found["similarity"],
    )
