"""Decisions made by a person, bound to a picture's content and not to its name."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib.errors import InputError

OVERRIDES_FILE = Path("overrides.csv")
COLUMNS = ("image_id", "action", "value", "note")
ACTIONS = ("keep", "drop", "relabel", "not_duplicate")


@dataclass(frozen=True)
class Overrides:
    """keep, drop: image ids. relabel: image id to label. not_duplicate: pairs of image ids, smaller
    first.
    """

    keep: frozenset[str]
    drop: frozenset[str]
    relabel: dict[str, str]
    not_duplicate: frozenset[tuple[str, str]]


def read_overrides(path: Path = OVERRIDES_FILE) -> Overrides:
    """Return the decisions; raises InputError naming the line for anything that is not
    understood.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
        # A line is a comment or none: a label may hold a # of its own.
        text = "".join(line for line in lines if not line.startswith("#"))
        rows = pd.read_csv(io.StringIO(text), dtype="str", keep_default_na=False)
    except (
        FileNotFoundError,
        UnicodeDecodeError,
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
    ) as error:
        raise InputError(
            f"{path} cannot be read ({error}); it needs at least the line {','.join(COLUMNS)}"
        ) from error
    if tuple(rows.columns) != COLUMNS:
        raise InputError(
            f"{path}: the columns must be {','.join(COLUMNS)}, got {','.join(rows.columns)}"
        )
    for number, row in enumerate(rows.itertuples(index=False), start=1):
        _check_row(f"{path}: row {number}", str(row.image_id), str(row.action), str(row.value))
    chosen = {action: rows[rows["action"] == action] for action in ACTIONS}
    both = set(chosen["keep"]["image_id"]) & set(chosen["drop"]["image_id"])
    if both:
        raise InputError(
            f"{path}: {sorted(both)[0]} is to be both kept and dropped; remove one row"
        )
    relabel = chosen["relabel"]
    repeated = relabel.loc[relabel["image_id"].duplicated(), "image_id"]
    if len(repeated):
        raise InputError(f"{path}: {repeated.iloc[0]} is relabelled twice; remove one row")
    apart = chosen["not_duplicate"]
    pairs = zip(apart["image_id"], apart["value"], strict=True)
    return Overrides(
        keep=frozenset(chosen["keep"]["image_id"]),
        drop=frozenset(chosen["drop"]["image_id"]),
        relabel=dict(zip(relabel["image_id"], relabel["value"], strict=True)),
        not_duplicate=frozenset((min(pair), max(pair)) for pair in pairs),
    )


def relabel(rows: pd.DataFrame, overrides: Overrides) -> pd.DataFrame:
    """Return the rows with the labels that a person corrected.

    Raises InputError for a label that no class has.
    """
    labels = rows["image_id"].map(overrides.relabel).astype("str")
    corrected = labels.notna()
    known = set(rows["label"].unique())
    for label in labels[corrected].unique():
        if label not in known:
            raise InputError(
                f"overrides.csv: relabel to {label!r}, which is no class; the classes are "
                f"{', '.join(sorted(known))}"
            )
    return rows.assign(label=labels.where(corrected, rows["label"]))


def idle_overrides(rows: pd.DataFrame, overrides: Overrides) -> list[str]:
    """Return a sentence for every decision of a person that changes nothing."""
    named = overrides.keep | overrides.drop | set(overrides.relabel)
    named |= {image_id for pair in overrides.not_duplicate for image_id in pair}
    meant = rows[rows["image_id"].isin(named)]
    absent = sorted(named - set(meant["image_id"]))
    sentences = [f"no picture of this data set has the image_id {image_id}" for image_id in absent]
    broken = meant[meant["image_id"].isin(overrides.keep)]
    broken = broken[broken["verdict"].isin(("corrupt", "unsupported"))]
    return sentences + [
        f"keep has no effect on {row.uri}: it cannot be decoded ({row.reason})"
        for row in broken.itertuples()
    ]


def drop_pairs_told_apart(
    pairs: pd.DataFrame, image_ids: pd.Series, overrides: Overrides
) -> pd.DataFrame:
    """Return the pairs of duplicates (positions left, right) that no person declared different."""
    if not overrides.not_duplicate:
        return pairs.reset_index(drop=True)
    ids = image_ids.to_numpy(dtype=object)
    left, right = ids[pairs["left"]], ids[pairs["right"]]
    named = pd.MultiIndex.from_arrays([np.minimum(left, right), np.maximum(left, right)])
    told = named.isin(list(overrides.not_duplicate))
    return pairs[~told].reset_index(drop=True)


def _check_row(where: str, image_id: str, action: str, value: str) -> None:
    if action not in ACTIONS:
        raise InputError(f"{where}: action must be one of {', '.join(ACTIONS)}, got {action!r}")
    if not _is_id(image_id):
        raise InputError(
            f"{where}: image_id must be 64 hex digits (see data/removed.csv), got {image_id!r}"
        )
    if action == "relabel" and not value:
        raise InputError(f"{where}: relabel needs the new label in the column value")
    if action == "not_duplicate" and not _is_id(value):
        raise InputError(
            f"{where}: not_duplicate needs the other picture's image_id as value, got {value!r}"
        )
    if action == "not_duplicate" and value == image_id:
        raise InputError(
            f"{where}: not_duplicate names one picture twice; equal bytes are always duplicates"
        )


def _is_id(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
