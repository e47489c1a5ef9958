"""Sets training files beside what preprocessing made of them, the most telling ones first."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.lib.report_pictures import PIXELATED, Rows, make_tile, stored_tile
from stages.lib.seeds import derive_seed

SAMPLES = 12
BEFORE, AFTER = 192, 256  # pixels of the longer side; few arrays hold larger pictures
FACTS = ["uri", "format", "width", "height", "colour", "orientation"]  # of data/clean.parquet
TURNED = "turned in the file"
KINDS = {
    "cmyk": "CMYK",
    "16bit": "16 bits a channel",
    "alpha": "alpha channel",
    "palette": "palette",
    "grey": "grey",
}


def traits(pictures: pd.DataFrame) -> pd.DataFrame:
    """Return how much of each telling trait a picture has: a column each, 0 for none.

    pictures: columns width, height, colour, orientation. A size or shape that all have alike tells
    nothing.
    """
    area = pictures["width"] * pictures["height"]
    sides = pictures[["width", "height"]]
    shape = sides.max(axis=1) / sides.min(axis=1)
    columns = {
        "the largest": area * (area.nunique() > 1),
        "the most oblong": shape * (shape.nunique() > 1),
        TURNED: (pictures["orientation"] != 1).astype(int),
    }
    kinds = {words: (pictures["colour"] == kind).astype(int) for kind, words in KINDS.items()}
    return pd.DataFrame(columns | kinds)


def choose_samples(pictures: pd.DataFrame, limit: int = SAMPLES) -> pd.DataFrame:
    """Return at most `limit` pictures with the reason of the choice in a column `why`.

    pictures: columns uri, image_id, label and those of `traits`. First one for each trait, of a
    class not shown yet where there is one; then one at random for each class not shown yet. Equal
    ones are told apart by a seed, so the order of the rows has no say.
    """
    draws = [derive_seed(0, "before_after", image_id) for image_id in pictures["image_id"]]
    rows = pictures.assign(draw=draws).sort_values(["draw", "uri"], ignore_index=True)
    why: dict[int, str] = {}
    for trait, strength in traits(rows).items():
        strongest = strength[(strength > 0) & (strength == strength.max())].index
        if len(strongest) and not set(strongest) & set(why):
            shown = rows["label"].isin(rows.loc[list(why), "label"])
            why[min(strongest, key=lambda at: (shown[at], at))] = str(trait)
    for at in rows.drop_duplicates("label").index:
        if rows.at[at, "label"] not in set(rows.loc[list(why), "label"]):
            why[at] = "drawn at random"
    chosen = list(why)[:limit]
    return rows.loc[chosen].assign(why=[why[at] for at in chosen]).drop(columns="draw")


def before_after_rows(kept: pd.DataFrame, pictures: NDArray[np.uint8], index: pd.DataFrame) -> Rows:
    """Return chosen training pictures with their facts, the file's tile and the model's.

    kept: data/clean.parquet. pictures, index: the train split, (images, height, width, channels)
    and its rows in the same order. Files that a leaky split put back are not chosen.
    """
    originals = index.loc[index["parent_id"] == "", ["uri", "image_id", "label", "row"]]
    chosen = choose_samples(originals.merge(kept[FACTS], on="uri", validate="one_to_one"))
    rows: Rows = chosen.to_dict("records")
    for row in rows:
        seen = pictures[row["row"]]
        row["before"] = stored_tile(row["uri"], BEFORE)
        row["after"] = make_tile(seen, AFTER, lossless=max(seen.shape) <= PIXELATED)
        if row["orientation"] > 4:  # EXIF 5 to 8 swap the sides; the table has the upright ones
            row["width"], row["height"] = row["height"], row["width"]
    return rows
