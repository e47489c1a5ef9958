"""Pictures for the report: chosen without a person's hand, shrunk, and embedded in the page as data URIs."""

import base64
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from stages.lib.decoding import READABLE, STRICT_FRAMES, frame_marker, true_format
from stages.lib.images import Picture, read_picture

SIDE = 128  # pixels of an embedded picture's longer side
QUALITY = 80  # of WebP
PIXELATED = 64  # a picture no larger is enlarged without smoothing, as smoothing would hide what it holds

# How many of a reason are shown in each round until the page is full. Near duplicates and conflicts of labels are
# judgements, which a person must check; the rest are facts.
TURNS = {"near_duplicate": 3, "label_conflict": 2}


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


def make_tile(pixels: Picture, side: int = SIDE) -> Tile:
    """Return pixels (height, width, 3) as a tile whose sides are at most `side`, proportions kept."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "WEBP", quality=QUALITY, method=4)
    text = base64.b64encode(data.getvalue()).decode("ascii")
    return Tile(f"data:image/webp;base64,{text}", image.width, image.height)


def file_tile(uri: str, side: int = SIDE) -> Tile | None:
    """Return a file's picture as a tile; None where it cannot be shown."""
    try:
        pixels = _decode(Path(uri).read_bytes(), side)
        return None if pixels is None else make_tile(pixels, side)
    except Exception:  # the page shows files known to be broken, on which decoders raise anything
        return None


def choose_removed(removed: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Return at most `limit` rows of data/removed.csv, spread over the reasons by TURNS, the least similar first.

    Adds `of`, how many of the reason there are to choose from. A conflict is two rows, one for each picture;
    one of them stands for both.
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


def choose_families(
    train: pd.DataFrame, samples: int, children: int, classes: int
) -> dict[str, list[tuple[int, list[int]]]]:
    """Return per class some originals, each a row of train.npy with the rows of its first children.

    train: the index of train. Classes with the most children come first, at most `classes` of them. Within a class
    originals with children are preferred; their order is that of the image_id, a hash, so no hand chose them.
    """
    is_child = (train["parent_id"] != "").to_numpy()
    gained = train["label"][is_child].value_counts()
    labels = sorted(train["label"].unique(), key=lambda label: (-int(gained.get(label, 0)), label))[:classes]
    of_parent = train[is_child].groupby("uri")["row"].apply(lambda rows: sorted(rows)[:children])
    originals = train[~is_child & train["label"].isin(labels).to_numpy()]
    originals = originals.assign(childless=~originals["uri"].isin(of_parent.index))
    chosen = originals.sort_values(["childless", "image_id", "uri"]).groupby("label").head(samples)
    families: dict[str, list[tuple[int, list[int]]]] = {label: [] for label in labels}
    for row in chosen.itertuples():
        families[str(row.label)].append((int(row.row), list(of_parent.get(row.uri, []))))  # type: ignore[call-overload]
    return families


def array_tiles(pictures: NDArray[np.uint8], rows: list[int]) -> list[Tile]:
    """Return rows of an array of pictures (images, height, width, 3) as tiles."""
    return [make_tile(np.asarray(pictures[row])) for row in rows]


def _decode(data: bytes, side: int) -> Picture | None:
    kind = true_format(data)
    if kind not in READABLE:
        return None
    if kind == "jpeg" and frame_marker(data) not in STRICT_FRAMES:
        return None  # could crash the decoder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_picture(data, side)
