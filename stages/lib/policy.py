"""Decides which pictures stay: what is fit for use, and which of several duplicates is kept."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.clusters import Positions
from stages.lib.overrides import Overrides
from stages.lib.params import STRICT
from stages.lib.quality import Flag, FlagLimits, flag_rule
from stages.lib.table import REMOVED
from stages.lib.value_ranges import MIN_LEVELS

LOSSLESS = ("png", "bmp", "tiff", "gif")
OFFICIAL_RANK = {"test": 0, "val": 1, "train": 2, "": 2}
# The rank of what may be removed; official test and validation sets stay as they were published.
FREE = 2

# What is left out of a table: one row each, with its position there and that of the picture kept
# instead (NOBODY where there is none).
REMOVAL_TYPES = {
    "at": "int64",
    "action": "str",
    "reason": "str",
    "kept_at": "int64",
    "similarity": "float64",
    "rule": "str",
}
NOBODY = -1
# What a person can do about a reason of scan.
REMEDIES = {
    "too_few_levels": f": fewer than {MIN_LEVELS} gray levels in the range of scan.value_ranges; "
    "write the range that matters there, as {uint16: [0, 4095]}"
}
Words: TypeAlias = str | pd.Series  # one text for all, or one for each row


Format = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "heif", "jpeg2000"]
Colour = Literal["grey", "pseudo_grey", "colour", "palette", "alpha", "cmyk", "16bit"]
Treatment = Literal["quarantine", "drop", "keep"]


@dataclass(frozen=True, config=STRICT)
class Fitness:
    """What a picture must be to stay; the names are those of the section clean of params.yaml."""

    keep_suspect: tuple[Literal["missing_eoi", "damaged"], ...]
    formats: tuple[Format, ...]
    colours: tuple[Colour, ...]
    min_side: Annotated[int, Field(ge=1)]
    masks: Treatment
    single_color: Treatment
    flags: FlagLimits
    remove_flagged: tuple[Flag, ...]


def removals(
    at: Positions | Sequence[int],
    reason: str | Sequence[str] | NDArray[np.str_],
    rule: str | Sequence[str] | NDArray[np.str_],
    *,
    action: str = "remove",
    kept_at: Positions | Sequence[int] | int = NOBODY,
    similarity: NDArray[np.float64] | Sequence[float] | float = np.nan,
) -> pd.DataFrame:
    """Return a table of removals, whose columns and types are REMOVAL_TYPES."""
    columns = {
        "at": np.asarray(at, np.int64),
        "action": action,
        "reason": reason,
        "kept_at": kept_at,
        "similarity": similarity,
        "rule": rule,
    }
    return pd.DataFrame(columns).astype(REMOVAL_TYPES)


def removed_table(rows: pd.DataFrame, gone: pd.DataFrame) -> pd.DataFrame:
    """Return what went, by position in `rows`, as data/removed.csv has it.

    rows: with a column group_id where groups are known.
    """
    left_out = rows.iloc[gone["at"].to_numpy()]
    instead = gone["kept_at"].to_numpy()
    known = instead != NOBODY
    kept = {"kept_uri": "uri", "kept_image_id": "image_id"}
    named = {name: np.full(len(gone), "", object) for name in kept}
    for name, column in kept.items():
        named[name][known] = rows[column].to_numpy(object)[instead[known]]
    table = {
        **{name: left_out[name].to_numpy(object) for name in ("uri", "image_id", "label")},
        "group_id": left_out["group_id"].to_numpy(object) if "group_id" in left_out else "",
        **{name: gone[name].to_numpy() for name in ("action", "reason", "similarity", "rule")},
        **named,
    }
    return pd.DataFrame(table, columns=list(REMOVED.columns))


def find_unusable(
    rows: pd.DataFrame,
    overrides: Overrides,
    fitness: Fitness,
    measured: pd.DataFrame,
    raised: pd.DataFrame,
    empty: pd.DataFrame,
) -> pd.DataFrame:
    """Return as removals what a person dropped, what cannot be decoded and what the policy bars.

    measured, raised: what `quality` says of each row. empty: the evidence, "" without any, that a
    row is a mask or shows a single color (columns mask, single_color). Where several reasons hold,
    the first in the order of this function is given. A picture that a person wants kept stays
    against any policy, but not if it cannot be decoded.
    """
    verdict, reason = rows["verdict"], rows["reason"].astype("str")
    free = ~rows["image_id"].isin(overrides.keep)
    suspect = (verdict == "suspect") & ~reason.isin(fitness.keep_suspect) & free
    colour = rows["colour"]
    side = np.minimum(rows["width"], rows["height"])
    listing = {
        name: f"[{', '.join(getattr(fitness, name))}]"
        for name in ("keep_suspect", "formats", "colours")
    }
    not_kept = f"scan: suspect, not in clean.keep_suspect {listing['keep_suspect']}"
    cases = [
        (rows["image_id"].isin(overrides.drop), "dropped", "overrides.csv"),
        (
            verdict.isin(("corrupt", "unsupported")),
            reason,
            "scan: " + verdict.astype("str") + reason.map(REMEDIES).fillna(""),
        ),
        (suspect, reason, not_kept),
        (
            ~rows["format"].isin(fitness.formats) & free,
            "unwanted_format",
            rows["format"].astype("str") + f" is not in clean.formats {listing['formats']}",
        ),
        (
            ~colour.isin(fitness.colours) & (colour != "") & free,
            "unwanted_colour",
            colour.astype("str") + f" is not in clean.colours {listing['colours']}",
        ),
        ((side < fitness.min_side) & free, "too_small", f"clean.min_side = {fitness.min_side}"),
    ]
    treatments: dict[str, Treatment] = {
        "mask": fitness.masks,
        "single_color": fitness.single_color,
    }
    cases += [
        ((empty[reason] != "") & free, reason, empty[reason])
        for reason, treatment in treatments.items()
        if treatment != "keep"
    ]
    cases += [
        (raised[flag] & free, flag, flag_rule(flag, fitness.flags, measured[flag]))
        for flag in sorted(fitness.remove_flagged)
    ]
    found = _first_of(cases, len(rows))
    quarantined = [name for name, treatment in treatments.items() if treatment == "quarantine"]
    action = found["action"].mask(found["reason"].isin(quarantined), "quarantine")
    return found.assign(action=action)


def _first_of(cases: list[tuple[pd.Series, Words, Words]], count: int) -> pd.DataFrame:
    left = np.ones(count, bool)
    found = [removals([], [], [])]
    for holds, reason, rule in cases:
        here = np.flatnonzero(holds.to_numpy() & left)
        left[here] = False
        words = [
            text if isinstance(text, str) else text.loc[holds.index[here]].to_numpy(object)
            for text in (reason, rule)
        ]
        found.append(removals(here, *words))
    return pd.concat(found, ignore_index=True)


def preference(rows: pd.DataFrame, overrides: Overrides) -> Positions:
    """Return positions in `rows`, the picture most worth keeping first.

    Official test before validation before the rest, then what a person wants kept, then most
    pixels, lossless before lossy, most bytes, and the path as the last word: the order never
    depends on that of the rows.
    """
    order = pd.DataFrame(
        {
            "rank": official_ranks(rows),
            "wanted": ~rows["image_id"].isin(overrides.keep).to_numpy(),
            "pixels": -rows["width"].to_numpy(np.int64) * rows["height"].to_numpy(np.int64),
            "lossy": ~rows["format"].isin(LOSSLESS).to_numpy(),
            "bytes": -rows["bytes"].to_numpy(np.int64),
            "uri": rows["uri"].to_numpy(object),
        }
    )
    places: Positions = order.sort_values(list(order.columns)).index.to_numpy(np.int64)
    return places


def official_ranks(rows: pd.DataFrame) -> Positions:
    """Return OFFICIAL_RANK of each row."""
    ranks: Positions = rows["official_split"].map(OFFICIAL_RANK).to_numpy(np.int64)
    return ranks


def choose_kept(
    rows: pd.DataFrame,
    picture: Positions,
    pairs: pd.DataFrame,
    overrides: Overrides,
    gone: Positions,
    rule: str,
) -> pd.DataFrame:
    """Return as removals the pictures that are left out because a duplicate of theirs is kept.

    picture: `first_of_equal_bytes`; pairs: of pictures, at the level of removal; gone: positions of
    those that went before, which remove nothing.
    """
    remain = np.ones(len(rows), bool)
    remain[gone] = False
    repeated = np.bincount(picture[remain], minlength=len(rows)) > 1
    repeated[pairs[["left", "right"]].to_numpy(np.int64).ravel()] = True
    contested = np.flatnonzero(remain & repeated[picture])
    found = _yield_to_kept(rows.iloc[contested], picture[contested], pairs, overrides)
    twins = found["twin"].to_numpy(bool)
    return removals(
        contested[found["at"].to_numpy(np.int64)],
        np.where(twins, "exact_duplicate", "near_duplicate"),
        np.where(twins, "equal sha256", rule),
        kept_at=contested[found["kept_at"].to_numpy(np.int64)],
        similarity=found["similarity"].to_numpy(np.float64),
    )


def _yield_to_kept(
    rows: pd.DataFrame, picture: Positions, pairs: pd.DataFrame, overrides: Overrides
) -> pd.DataFrame:
    """Go through the rows in the order of preference; leave one out only if it is itself a
    duplicate of one already kept. A chain of ever less similar pictures never loses its far end.
    """
    near: dict[int, list[tuple[int, float]]] = {}
    for left, right, value in zip(pairs["left"], pairs["right"], pairs["similarity"], strict=True):
        near.setdefault(left, []).append((right, value))
        near.setdefault(right, []).append((left, value))
    ranks, labels = official_ranks(rows), rows["label"].to_numpy(object)
    wanted = rows["image_id"].isin(overrides.keep).to_numpy()
    # Of each picture under each label the first one kept, which is the one that all others prefer.
    kept: dict[tuple[int, str], tuple[int, int]] = {}
    found: list[tuple[int, int, float, bool]] = []
    for place, at in enumerate(preference(rows, overrides).tolist()):
        own, label, rank = int(picture[at]), labels[at], ranks[at]
        twin = [(1.0, *kept[own, label])] if (own, label) in kept else []
        others = [(value, *kept[n, label]) for n, value in near.get(own, []) if (n, label) in kept]
        twin, others = (
            [rival for rival in rivals if rank == FREE or ranks[rival[2]] < rank]
            for rivals in (twin, others)
        )
        if not twin and (wanted[at] or not others):
            kept.setdefault((own, label), (-place, at))
            continue
        value, _, other = max(twin or others)
        found.append((at, other, value, bool(twin)))
    return pd.DataFrame(found, columns=["at", "kept_at", "similarity", "twin"])


def beside_official_set(rows: pd.DataFrame, clusters: Positions, gone: Positions) -> pd.DataFrame:
    """Return as removals the pictures whose cluster holds one of a higher official rank.

    A group is never divided, and an official set stays whole; so the others of its group are left
    out.
    """
    ranks = pd.Series(official_ranks(rows))
    beside = np.flatnonzero(ranks.groupby(clusters).transform("min") < ranks)
    text = "a group is never divided, an official test set stays whole"
    return removals(np.setdiff1d(beside, gone), "beside_official_set", text)
