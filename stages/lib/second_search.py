"""Looks for near-duplicates of test images in train and val, in another way than `clean` did.

Here the features of the trained model propose pairs, among the arrays that it was trained on;
pixels decide, as there. What the hashes and color descriptors of `clean` propose is not used.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.lib.detail import FULL_SIDE, SMALL_SIDE, encode_detail
from stages.lib.framing import without_frame
from stages.lib.images import THUMBNAIL_BYTES, Picture, thumbnail
from stages.lib.neighbours import descriptors
from stages.lib.overrides import Overrides, drop_pairs_told_apart
from stages.lib.progress import track
from stages.lib.registration import (
    COARSE_SIMILARITY,
    MIRRORED,
    band_passed,
    coarse_similarity,
    registered_similarity,
)
from stages.lib.table import ACROSS
from stages.lib.thumbnails import Thumbnails
from stages.lib.verification import Comparison, Verifier

Rows = NDArray[np.int64]

PROPOSED = 3  # nearest images in each other split that are compared with a test image
# The defaults of clean.remove_similarity and clean.group_similarity. They are constants here: a
# `clean` that is set to find less must not make this search find less.
REMOVE_SIMILARITY, GROUP_SIMILARITY = 0.85, 0.72
# An array smaller than FULL_SIDE has lost the fine detail that distinguishes look-alikes, so the
# rest must agree better: in nearly every cell that has texture, and in the compared band. Of 1,402
# images of six sets with one known change each (JPEG, scale, crop, brightness, mirror, rotation,
# blur) at 64 x 64 pixels, 99 % are found, of 1,500 at 32 x 32 (CIFAR-10) 80 %; of the 149 most
# similar pairs of 247,011 drawn ones, 0.
LARGEST_DIFFERING, LEAST_DETAIL = 0.05, 0.95


class Side(NamedTuple):
    """One split: its images, (any, height, width, 1 or 3) uint8, and its rows of `table.INDEX`."""

    images: NDArray[np.uint8]
    index: pd.DataFrame


def find_across(
    test: Side,
    others: Sequence[Side],
    nearest: Sequence[Rows],
    not_comparable: frozenset[str],
    overrides: Overrides,
) -> pd.DataFrame:
    """Return the near-duplicates between test and the other splits.

    Parameters
    ----------
    test : the images that the figure is taken on.
    others : the splits to compare with, augmented images included.
    nearest : for each of them the rows of its originals that are proposed to each test image,
        (test images, any); -1: none.
    not_comparable : uris of images in which no search can see anything. They are left out.
    overrides : pairs that a person declared different are left out as well.

    Returns
    -------
    Columns of `table.ACROSS`, each pair once.
    """
    arrays = _Arrays([test, *others], not_comparable)
    ends = [arrays.pairs(number, rows) for number, rows in enumerate(nearest, start=1)]
    found = _confirmed(arrays, np.unique(np.concatenate(ends), axis=0))
    found = drop_pairs_told_apart(found, arrays.rows["image_id"], overrides)
    return _named(arrays.rows, found)


class _Arrays:
    """The comparable originals of several splits in one order: by image id, then uri."""

    def __init__(self, sides: Sequence[Side], not_comparable: frozenset[str]) -> None:
        self.sides = sides
        rows = pd.concat(
            [
                side.index[side.index["parent_id"] == ""].assign(side=number)
                for number, side in enumerate(sides)
            ]
        )
        rows = rows[~rows["uri"].isin(not_comparable)]
        self.rows = rows.sort_values(["image_id", "uri"], ignore_index=True)
        self.position = [np.full(len(side.index), -1, np.int64) for side in sides]
        for number, places in enumerate(self.position):
            here = np.flatnonzero(self.rows["side"] == number)
            places[self.rows["row"].to_numpy()[here]] = here

    def pairs(self, number: int, nearest: Rows) -> Rows:
        """Return the pairs (any, 2), smaller position first, of test and what is nearest to it."""
        test, place = np.nonzero(nearest >= 0)
        ends = np.stack(
            [self.position[0][test], self.position[number][nearest[test, place]]], axis=1
        )
        found: Rows = np.sort(ends[(ends >= 0).all(axis=1)], axis=1)
        return found

    def image(self, position: int) -> Picture:
        """Return the RGB pixels of an image without a plain frame."""
        side, row = self.rows["side"].iat[position], self.rows["row"].iat[position]
        pixels = np.asarray(self.sides[side].images[row])
        if pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        return np.ascontiguousarray(without_frame(pixels))

    def thumbnails(self) -> Thumbnails:
        """Return the thumbnails of all images."""
        found = np.empty((len(self.rows), THUMBNAIL_BYTES), np.uint8)
        positions = range(len(found))
        for at in track(positions, len(found), "evaluate: thumbnails", "images"):
            found[at] = thumbnail(self.image(at))
        return found

    def details(self, positions: Sequence[int]) -> dict[int, bytes]:
        """Return the detail images (JPEG bytes) of some positions."""
        return {at: encode_detail(self.image(at)) for at in positions}


def _confirmed(arrays: _Arrays, ends: Rows) -> pd.DataFrame:
    """Return the pairs that pixels confirm: left, right, turn, similarity, detail, background,
    level.
    """
    thumbnails = arrays.thumbnails()
    bands = band_passed(thumbnails)
    found = _registered(thumbnails, bands, ends)
    verifier = Verifier(
        thumbnails, bands, descriptors(thumbnails), np.arange(len(thumbnails)), arrays.details
    )
    same = _shows_the_same(verifier.compare(*_columns(found)))
    # All of them, not only those that agree, tell whether the set is one of look-alikes. Comparing
    # with the background takes longest, so it is left out where nothing agrees.
    asked = found if same.any() else found[same]
    levels = verifier.levels(*_columns(asked), REMOVE_SIMILARITY, GROUP_SIMILARITY)
    judged = levels.loc[: len(asked) - 1, ["level", "detail", "background"]]
    confirmed = pd.concat([asked, judged], axis=1)[same[: len(asked)]]
    return confirmed[confirmed["level"] != "look_alike"].reset_index(drop=True)


def _columns(found: pd.DataFrame) -> tuple[Rows, Rows, Rows, NDArray[np.float64]]:
    left, right, turn = (found[name].to_numpy(np.int64) for name in ("left", "right", "turn"))
    return left, right, turn, found["similarity"].to_numpy(np.float64)


def _shows_the_same(pairs: Comparison) -> NDArray[np.bool_]:
    """Tell which pairs agree as one scene or one exposure does, by what such small images show."""
    same = pairs.shows_one_scene(GROUP_SIMILARITY) | pairs.shows_one_exposure(REMOVE_SIMILARITY)
    detailed = (pairs.side < SMALL_SIDE) | (1 - pairs.difference >= LEAST_DETAIL)
    found: NDArray[np.bool_] = same & (
        (pairs.side >= FULL_SIDE) | (detailed & (pairs.differing <= LARGEST_DIFFERING))
    )
    return found


def _registered(thumbnails: Thumbnails, bands: NDArray[np.float32], ends: Rows) -> pd.DataFrame:
    """Return the pairs whose thumbnails agree, straight or mirrored, whichever agrees better."""
    left, right = (np.tile(side, 2) for side in ends.T)
    turn = np.repeat([0, MIRRORED], len(ends))
    likely = coarse_similarity(bands, left, right, turn) >= COARSE_SIMILARITY
    left, right, turn = left[likely], right[likely], turn[likely]
    similarity, _ = registered_similarity(thumbnails, bands, left, right, turn)
    found = pd.DataFrame({"left": left, "right": right, "turn": turn, "similarity": similarity})
    found = found.assign(similarity=np.minimum(found["similarity"].astype(np.float64).round(4), 1))
    found = found[found["similarity"] >= GROUP_SIMILARITY]
    found = found.sort_values(
        ["left", "right", "similarity", "turn"], ascending=[True, True, False, True]
    )
    return found.drop_duplicates(["left", "right"]).reset_index(drop=True)


def _named(rows: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Return confirmed pairs with the names of both images, the test image first."""
    of_test = (rows["side"] == 0).to_numpy()
    left, right = (found[side].to_numpy(np.int64) for side in ("left", "right"))
    test, other = (
        rows.iloc[np.where(of_test[left], *ends)].reset_index(drop=True)
        for ends in ((left, right), (right, left))
    )
    return pd.DataFrame(
        {
            "test_uri": test["uri"],
            "other_uri": other["uri"],
            "other_split": other["split"],
            "test_id": test["image_id"],
            "other_id": other["image_id"],
            "test_label": test["label"],
            "other_label": other["label"],
            "mirrored": found["turn"] >= MIRRORED,
            **{name: found[name] for name in ("similarity", "detail", "background", "level")},
        }
    )[list(ACROSS.columns)]
