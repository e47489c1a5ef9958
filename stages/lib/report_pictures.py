"""Pictures for the report: chosen by rule, shrunk, and embedded in the page as data URIs."""

import base64
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from stages.lib.formats import READABLE, jpeg_header, sample_kind, true_format
from stages.lib.images import Picture, open_picture, read_picture, to_rgb
from stages.lib.quality import BELOW, MEASURES, flag_counts, measure_quality

SIDE = 128  # pixels of an embedded picture's longer side
QUALITY = 80  # of WebP
# Smoothing a picture no larger than this while enlarging it would hide what it holds.
PIXELATED = 64

# How many of a reason are shown in each round until the page is full. Near duplicates and conflicts
# of labels are judgements, which a person must check; the rest are facts.
TURNS = {"near_duplicate": 3, "label_conflict": 2}

FLAGGED = 6  # examples of each flag
CLUSTERS = 12  # shown with their weakest tie

FAMILIES = 72  # originals shown with their children, over all classes
CLASSES_WITH_FAMILIES = 24
CHILDREN = 4  # shown per original

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Tile:
    """One embedded picture: data URI, size in pixels."""

    src: str
    width: int
    height: int

    @property
    def pixelated(self) -> bool:
        """Tell whether the page should enlarge it without smoothing."""
        return max(self.width, self.height) <= PIXELATED


def make_tile(pixels: Picture, side: int = SIDE, lossless: bool = False) -> Tile:
    """Return pixels as a tile with sides of at most `side`, proportions kept.

    pixels: (height, width, 3), or of one channel, which is grey.
    """
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    return _embed(Image.fromarray(np.ascontiguousarray(pixels)), side, lossless)


def _embed(image: Image.Image, side: int, lossless: bool = False) -> Tile:
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "WEBP", quality=QUALITY, method=4, lossless=lossless)
    text = base64.b64encode(data.getvalue()).decode("ascii")
    return Tile(f"data:image/webp;base64,{text}", image.width, image.height)


def file_tile(uri: str, side: int = SIDE) -> Tile | None:
    """Return a file's picture as the pipeline reads it; None where it cannot be shown."""
    return _tile(uri, lambda data: make_tile(read_picture(data, side), side))


def stored_tile(uri: str, side: int = SIDE) -> Tile | None:
    """Return a file's picture as it lies in the file: not turned, its transparent parts left so;
    None where it cannot be shown.
    """
    return _tile(uri, lambda data: _stored(data, side))


def _stored(data: bytes, side: int) -> Tile:
    if sample_kind(data):
        return make_tile(read_picture(data), side)
    with open_picture(data) as image:
        image.draft(None, (side, side))  # a JPEG decoder can shrink on its way
        if image.has_transparency_data:
            return _embed(image.convert("RGBA"), side)
        return make_tile(to_rgb(image), side)


def _tile(uri: str, draw: Callable[[bytes], Tile]) -> Tile | None:
    try:
        data = Path(uri).read_bytes()
        kind = true_format(data)
        if kind not in READABLE:
            return None
        if kind == "jpeg" and not jpeg_header(data).is_strictly_decodable:
            return None  # could crash the decoder
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which is no damage
            return draw(data)
    except Exception:  # the page shows files known to be broken, on which decoders raise anything
        return None


def with_tiles(rows: pd.DataFrame) -> Rows:
    """Return a table's rows, each with the picture of its own uri."""
    return [{**row, "tile": file_tile(row["uri"])} for row in rows.to_dict("records")]


def choose_removed(removed: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Return at most `limit` rows of data/removed.csv, spread over the reasons by TURNS.

    The least similar come first. Adds `of`, how many of the reason there are to choose from. A
    conflict of labels is two rows, one for each picture; one of them stands for both.
    """
    rows = _without_mirrored(removed).sort_values(["reason", "similarity", "uri"])
    reasons = rows.groupby("reason")["uri"]
    turns = rows["reason"].map(TURNS).fillna(1).astype(int)
    rows = rows.assign(of=reasons.transform("size"), turn=reasons.cumcount() // turns)
    chosen = rows.sort_values(["turn", "reason"], kind="stable").head(limit)
    return chosen.drop(columns="turn").sort_values(["reason", "similarity", "uri"])


def _without_mirrored(removed: pd.DataFrame) -> pd.DataFrame:
    other = removed.set_index("uri")["kept_uri"]
    answered = removed["kept_uri"].map(other).to_numpy() == removed["uri"].to_numpy()
    return removed[~(answered & (removed["kept_uri"] < removed["uri"]).to_numpy())]


def removed_groups(
    removed: pd.DataFrame, kept: pd.DataFrame, limit: int, details: dict[frozenset[str], float]
) -> Rows:
    """Return per reason how many went, and the chosen cases beside the images they resemble.

    details: by pair of uris, how well their detail agrees; None in a case that is no such pair.
    """
    chosen = choose_removed(removed, limit)
    involved = pd.concat([removed, kept])[["uri", "label"]]
    labels = involved[involved["uri"].isin(chosen["kept_uri"])].set_index("uri")["label"]
    gone = set(removed["uri"])
    cases: dict[str, Rows] = {}
    for case in with_tiles(chosen):
        other = case["kept_uri"]
        if other:
            beside = {"label": labels.get(other), "gone": other in gone, "tile": file_tile(other)}
            case |= {f"other_{name}": value for name, value in beside.items()}
            case["detail"] = details.get(frozenset((case["uri"], other)))
        cases.setdefault(case["reason"], []).append(case)
    counts = removed["reason"].value_counts()
    order = sorted(counts.index, key=lambda reason: (-counts[reason], reason))
    return [_group(reason, int(counts[reason]), cases.get(reason, [])) for reason in order]


def _group(reason: str, count: int, cases: Rows) -> dict[str, Any]:
    rules = {case["rule"] for case in cases}
    common = rules.pop() if len(rules) == 1 else ""
    return {"reason": reason, "count": count, "rule": common, "cases": cases}


def flagged_groups(kept: pd.DataFrame) -> Rows:
    """Return per flag how many kept pictures bear it, and the most extreme of them.

    kept: the table data/clean.parquet.
    """
    counts = flag_counts(kept["flags"])
    measured = measure_quality(kept)[kept["flags"] != ""]
    flagged = kept.loc[measured.index, ["uri", "label", "flags"]]
    groups: Rows = []
    for flag, count in zip(counts["flag"], counts["images"], strict=True):
        bears = np.array([flag in text.split(" ") for text in flagged["flags"]], bool)
        cases = flagged[bears].assign(value=measured.loc[bears, flag])
        cases = cases.sort_values(["value", "uri"], ascending=[flag in BELOW, True]).head(FLAGGED)
        group = {"flag": flag, "count": int(count), "measure": MEASURES[flag]}
        groups.append({**group, "cases": with_tiles(cases)})
    return sorted(groups, key=lambda group: (-int(group["count"]), str(group["flag"])))


def cluster_rows(
    clusters: pd.DataFrame, removed: pd.DataFrame, names: dict[tuple[str, str], str]
) -> Rows:
    """Return the largest clusters of data/clusters.csv with the images of their weakest tie and
    what that pair is.

    names: by left and right uri, in words.
    """
    order = clusters.sort_values(
        ["images", "weakest_similarity", "group_id"], ascending=[False, True, True]
    )
    rows: Rows = order.head(CLUSTERS).to_dict("records")
    uris = [[row["weakest_left_uri"], row["weakest_right_uri"]] for row in rows]
    gone = set(removed.loc[removed["uri"].isin(sum(uris, [])), "uri"])
    for row, tie in zip(rows, uris, strict=True):
        row["kind"] = names.get((tie[0], tie[1]), "")
        row["tie"] = [
            {"uri": uri, "gone": uri in gone, "tile": file_tile(uri)} for uri in tie if uri
        ]
    return rows


def choose_families(
    train: pd.DataFrame, samples: int, classes: int
) -> dict[str, list[tuple[int, list[int]]]]:
    """Return per class some originals, each a row of train.npy with the rows of its children.

    train: the index of train. Classes with the most children come first, at most `classes` of them.
    Within a class originals with children are preferred; they come in the order of the image_id, a
    hash, so no hand chose them.
    """
    is_child = (train["parent_id"] != "").to_numpy()
    gained = train["label"][is_child].value_counts()
    labels = sorted(train["label"].unique(), key=lambda name: (-int(gained.get(name, 0)), name))
    labels = labels[:classes]
    of_parent = train[is_child].groupby("uri")["row"].apply(sorted)
    originals = train[~is_child & train["label"].isin(labels).to_numpy()]
    originals = originals.assign(childless=~originals["uri"].isin(of_parent.index))
    originals = originals.sort_values(["childless", "image_id", "uri"])
    families: dict[str, list[tuple[int, list[int]]]] = {label: [] for label in labels}
    for row in originals.groupby("label").head(samples).itertuples():
        families[str(row.label)].append((int(row.row), list(of_parent.get(row.uri, []))))
    return families


def family_rows(
    balance: pd.DataFrame, pictures: NDArray[np.uint8], index: pd.DataFrame, samples: int
) -> Rows:
    """Return per class what train holds, with some originals beside their first CHILDREN.

    pictures, index: the train split, (images, height, width, channels) and its rows in the same
    order. A family is the original's tile, its children's, and how many more children it has.
    """
    classes = min(CLASSES_WITH_FAMILIES, FAMILIES // samples) if samples else 0
    families = {
        label: [
            {
                "original": make_tile(pictures[original]),
                "children": [make_tile(pictures[row]) for row in children[:CHILDREN]],
                "more": len(children[CHILDREN:]),
            }
            for original, children in family
        ]
        for label, family in choose_families(index, samples, classes).items()
    }
    rows = balance.sort_values(["children", "label"], ascending=[False, True]).to_dict("records")
    return [{**row, "families": families.get(row["label"], [])} for row in rows]
