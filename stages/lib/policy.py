"""Decides which pictures stay: which of several duplicates, and what a label conflict costs."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.lib.errors import InputError
from stages.lib.overrides import Overrides
from stages.lib.table import REMOVED

LOSSLESS = ("png", "bmp", "tiff", "gif")
OFFICIAL_RANK = {"test": 0, "val": 1, "train": 2, "": 2}
# The rank of what may be removed; official test and validation sets stay as they were published.
FREE = 2


@dataclass(frozen=True)
class Removal:
    """One picture left out, as a row of data/removed.csv."""

    uri: str
    image_id: str
    label: str
    action: Literal["remove", "quarantine"]
    reason: str
    kept_uri: str
    similarity: float
    rule: str


def removed_table(removals: list[Removal]) -> pd.DataFrame:
    """Return the removals as a table, also where there are none."""
    return pd.DataFrame([vars(removal) for removal in removals], columns=list(REMOVED.columns))


def preference(rows: pd.DataFrame, overrides: Overrides) -> list[int]:
    """Return positions in `rows`, the picture most worth keeping first.

    Official test before validation before the rest, then what a person wants kept, then most
    pixels, lossless before lossy, most bytes, and the path as the last word: the order never
    depends on that of the rows.
    """
    order = pd.DataFrame(
        {
            "rank": rows["official_split"].map(OFFICIAL_RANK),
            "wanted": ~rows["image_id"].isin(overrides.keep),
            "pixels": -rows["width"].astype("int64") * rows["height"],
            "lossy": ~rows["format"].isin(LOSSLESS),
            "bytes": -rows["bytes"],
            "uri": rows["uri"],
        }
    ).reset_index(drop=True)
    return [int(at) for at in order.sort_values(list(order.columns)).index]


def settle_conflicts(
    rows: pd.DataFrame, pairs: pd.DataFrame, overrides: Overrides
) -> dict[int, Removal]:
    """Return, by position, the pictures whose duplicate bears another label.

    Neither label can be trusted then. But a picture of a lower official rank yields to one of a
    higher, and any to one that a person wants kept. pairs: duplicates by position (left, right,
    similarity), already at the level of removal.
    Raises InputError where a person wants the same bytes kept under two labels.
    """
    labels, ranks = rows["label"].to_numpy(), rows["official_split"].map(OFFICIAL_RANK).to_numpy()
    wanted = rows["image_id"].isin(overrides.keep).to_numpy()
    found: dict[int, Removal] = {}
    order = pairs.sort_values(["similarity", "left", "right"], ascending=[False, True, True])
    for pair in order.itertuples():
        left, right = int(pair.left), int(pair.right)
        if labels[left] == labels[right]:
            continue
        if wanted[left] and rows["image_id"].iloc[left] == rows["image_id"].iloc[right]:
            raise InputError(
                f"overrides.csv: keep of {rows['image_id'].iloc[left]} names the same bytes under "
                f"two labels, {rows['uri'].iloc[left]} and {rows['uri'].iloc[right]}; say which "
                "label is right with relabel instead"
            )
        for at, other in ((left, right), (right, left)):
            if at in found or wanted[at] or (ranks[at] < FREE and ranks[at] <= ranks[other]):
                continue
            text = f"clean.label_conflicts = quarantine: also labelled {labels[other]!r}"
            found[at] = _removal(rows, at, other, "label_conflict", float(pair.similarity), text)
    return found


def choose_kept(
    rows: pd.DataFrame, pairs: pd.DataFrame, overrides: Overrides, gone: set[int], rule: str
) -> dict[int, Removal]:
    """Return, by position, the pictures that are left out because a duplicate of theirs is kept.

    Goes through the pictures in the order of preference and leaves one out only if it is itself a
    duplicate of one already kept; a chain of ever less similar pictures thus never loses its far
    end.
    """
    ranks = rows["official_split"].map(OFFICIAL_RANK).to_numpy()
    labels, ids = rows["label"].to_numpy(), rows["image_id"].to_numpy()
    wanted = rows["image_id"].isin(overrides.keep).to_numpy()
    near: dict[int, list[tuple[int, float]]] = {}
    for pair in pairs.itertuples():
        left, right, value = int(pair.left), int(pair.right), float(pair.similarity)
        if labels[left] == labels[right] and left not in gone and right not in gone:
            near.setdefault(left, []).append((right, value))
            near.setdefault(right, []).append((left, value))
    found: dict[int, Removal] = {}
    kept: dict[int, int] = {}  # position to its place in the order of preference
    for place, at in enumerate(preference(rows, overrides)):
        rivals = [
            (value, -kept[other], other)
            for other, value in near.get(at, [])
            if other in kept and (ranks[at] == FREE or ranks[other] < ranks[at])
        ]
        twins = [rival for rival in rivals if ids[rival[2]] == ids[at]]
        if not twins and (wanted[at] or not rivals):
            kept[at] = place
            continue
        value, _, other = max(twins or rivals)
        reason = "exact_duplicate" if twins else "near_duplicate"
        text = "equal sha256" if twins else rule
        found[at] = _removal(rows, at, other, reason, value, text)
    return found


def beside_official_set(rows: pd.DataFrame, groups: NDArray[np.int32]) -> set[int]:
    """Return the positions of pictures whose group holds one of a higher official rank.

    A group is never divided, and an official set stays whole; so the others of its group are left
    out.
    """
    ranks = rows["official_split"].map(OFFICIAL_RANK).reset_index(drop=True)
    highest = ranks.groupby(groups).transform("min")
    return {int(at) for at in np.flatnonzero((highest < ranks).to_numpy())}


def _removal(
    rows: pd.DataFrame, at: int, other: int, reason: str, similarity: float, rule: str
) -> Removal:
    row = rows.iloc[at]
    return Removal(
        uri=row["uri"],
        image_id=row["image_id"],
        label=row["label"],
        action="quarantine" if reason == "label_conflict" else "remove",
        reason=reason,
        kept_uri=rows["uri"].iloc[other],
        similarity=similarity,
        rule=rule,
    )
