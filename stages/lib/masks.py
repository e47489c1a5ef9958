"""Recognizes masks: files of few gray levels that stand beside the photograph they belong to."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.lib.content import is_readable
from stages.lib.images import THUMBNAIL_SIDE
from stages.lib.policy import LOSSLESS
from stages.lib.thumbnails import Thumbnails

# Bits of entropy of the gray values. The 1,344 masks of magnetic tiles have at most 1.44, their
# photographs at least 4.91; a mask of eight classes of equal area has 3.
MOST_ENTROPY = 3.0
LEAST_MORE_ENTROPY = 1.5  # bits that the photograph has more than its mask
# Mean difference of luma, of 255: a drawing saved as PNG and as JPEG differs by less.
LEAST_DIFFERENCE = 10.0
PROPORTIONS = 0.02  # by which the sides of a mask and its photograph may differ in proportion
LEAST_MASKS = 5  # fewer pairs may have met by chance

# Whether it lies in another folder than the mask, the folders, and the name without its suffix.
Key: TypeAlias = tuple[bool | str, ...]

# How folders and files of masks are called, besides the names of their photographs.
WORDS = (
    r"masks?|segmentations?|segmented|segs?|labels?|annotations?|trimaps?|mattes?|gts?|"
    r"ground[ _-]?truths?|segmentationclass|segmentationobject"
)
FOLDER = re.compile(rf"(.*[ _-])?({WORDS})([ _-].*)?", re.IGNORECASE)
STEM = re.compile(
    rf"(?:(?:{WORDS})[ _-]+)?(?P<stem>.+?)(?:[ _-]+(?:{WORDS})(?:[ _-]*\d+)?)?", re.IGNORECASE
)


def find_masks(rows: pd.DataFrame, thumbnails: Thumbnails) -> NDArray[np.object_]:
    """Return for each row the uri of the photograph that it is a mask of, "" where it is none.

    A mask is stored without loss, holds few gray levels and has the proportions of a photograph
    with far more of them, whose path is its own: `cat/7.jpg` and `cat/7.png`, or, where a word says
    so, `cat/7_mask.png`, `masks/cat/7.png` beside `images/cat/7.jpg`.

    Parameters
    ----------
    rows : DataFrame
        Rows of the scan's table; `thumbnail` is the row of `thumbnails`.
    thumbnails : ndarray of uint8, shape (any, THUMBNAIL_BYTES)

    Returns
    -------
    ndarray of str, shape (len(rows),)
        All "" where there are fewer than LEAST_MASKS.
    """
    found = np.full(len(rows), "", object)
    few_levels = is_readable(rows) & (rows["entropy"] <= MOST_ENTROPY).to_numpy()
    masks = np.flatnonzero(few_levels & rows["format"].isin(LOSSLESS).to_numpy())
    if len(masks) < LEAST_MASKS:
        return found
    uris = rows["uri"].to_numpy(object)
    keys = [(at, key) for at in masks.tolist() for key in _keys_of_mask(PurePosixPath(uris[at]))]
    photographs = _by_key(uris, np.flatnonzero(is_readable(rows)), {key for _, key in keys})
    pairs = np.array(
        [(at, other) for at, key in keys for other in photographs.get(key, ())], np.int64
    ).reshape(-1, 2)
    pairs = pairs[_belong_together(rows, thumbnails, pairs)]
    # Of several photographs the first by name.
    for at, other in sorted(pairs.tolist(), key=lambda pair: str(uris[pair[1]]), reverse=True):
        found[at] = uris[other]
    few = np.count_nonzero(found) < LEAST_MASKS
    return np.full(len(rows), "", object) if few else found


def sentences(
    scan: pd.DataFrame, photograph: NDArray[np.object_], removed: pd.DataFrame, policy: str
) -> list[str]:
    """Return what clean says of masks, in one sentence where there are any: how many, an example,
    and what to write.

    Parameters
    ----------
    scan : DataFrame
        Rows of the scan's table.
    photograph : ndarray of str, shape (len(scan),)
        What `find_masks` returns of them.
    removed : DataFrame
        data/removed.csv: masks that went for another reason are not counted.
    policy : {"quarantine", "drop", "keep"}
        Of clean.masks.
    """
    of_another = scan["uri"].isin(removed.loc[removed["reason"] != "mask", "uri"])
    counted = (photograph != "") & ~of_another
    if not counted.any():
        return []
    masks = scan[counted].assign(photograph=photograph[counted]).sort_values("uri")
    first = masks.iloc[0]
    done = {"quarantine": "quarantined", "drop": "removed", "keep": "kept"}[policy]
    return [
        f"{len(masks):,} masks {done} (clean.masks: {policy}): few gray levels, each beside its "
        f"photograph, as {first['uri']} beside {first['photograph']}; "
        + _cure(masks, scan[is_readable(scan) & (photograph == "")])
    ]


def _cure(masks: pd.DataFrame, others: pd.DataFrame) -> str:
    """Return what to write so that no mask comes in: the formats or the folders that have none."""
    formats, labels = (sorted(set(others[name])) for name in ("format", "label"))
    if formats and not set(masks["format"]) & set(formats):
        return f"to leave them out by their format write clean.formats: [{', '.join(formats)}]"
    if not set(masks["label"]) & set(labels):
        folders = ", ".join(sorted(set(masks["label"])))
        return f"to leave out their folders write download.exclude: [{folders}]"
    return "clean.masks says what becomes of them"


def _keys_of_mask(path: PurePosixPath) -> Iterator[Key]:
    """Yield where a mask's photograph may lie: in its folder, or in one that no word of masks
    names.
    """
    named = STEM.fullmatch(path.stem)
    folders = path.parts[:-1]
    of_images = tuple(part for part in folders if not FOLDER.fullmatch(part))
    for stem in dict.fromkeys((path.stem, named["stem"] if named else path.stem)):
        yield False, *folders, stem
        if of_images != folders:
            yield True, *of_images, stem


def _keys_of_photograph(path: PurePosixPath) -> Iterator[Key]:
    """Yield the places at which a mask may look for a photograph: those of masks lie in `masks`,
    those of photographs often in `images`.
    """
    folders, stem = path.parts[:-1], path.stem
    yield False, *folders, stem
    yield True, *folders, stem
    for at, part in enumerate(folders):
        if not FOLDER.fullmatch(part):
            yield True, *folders[:at], *folders[at + 1 :], stem


def _by_key(
    uris: NDArray[np.object_], at: NDArray[np.int64], wanted: set[Key]
) -> dict[Key, list[int]]:
    """Return the positions of the images that each of the wanted keys may mean."""
    stems = {key[-1] for key in wanted}
    found: dict[Key, list[int]] = {}
    for position in at.tolist():
        path = PurePosixPath(uris[position])
        if path.stem in stems:
            for key in set(_keys_of_photograph(path)) & wanted:
                found.setdefault(key, []).append(position)
    return found


def _belong_together(
    rows: pd.DataFrame, thumbnails: Thumbnails, pairs: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which pairs (mask, photograph) are what their names say, by their measures."""
    entropy = rows["entropy"].to_numpy(np.float64)[pairs]
    sides = np.sort(rows[["width", "height"]].to_numpy(np.int64)[pairs], axis=2)
    across = sides[:, 0, 0] * sides[:, 1, 1], sides[:, 0, 1] * sides[:, 1, 0]
    at = rows["thumbnail"].to_numpy(np.int64)[pairs]
    luma = thumbnails[:, : THUMBNAIL_SIDE**2]
    difference = [np.abs(luma[one].astype(int) - luma[other]).mean() for one, other in at]
    return np.asarray(
        (entropy[:, 1] - entropy[:, 0] >= LEAST_MORE_ENTROPY)
        & (np.abs(across[0] - across[1]) <= PROPORTIONS * np.maximum(*across))
        & (np.array(difference) > LEAST_DIFFERENCE),
        bool,
    )
