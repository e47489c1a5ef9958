"""Finds pictures that show the same: hashes and descriptors propose pairs, pixels decide."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.fft import dctn

from stages.lib.hamming import Hashes, hamming_join
from stages.lib.hashing import is_flat
from stages.lib.images import THUMBNAIL_SIDE
from stages.lib.neighbours import descriptors, nearest_neighbours
from stages.lib.registration import (
    COARSE_SIMILARITY,
    MIRRORED,
    band_passed,
    coarse_similarity,
    registered_similarity,
)
from stages.lib.thumbnails import Thumbnails
from stages.lib.verification import Read, Verifier

Positions = NDArray[np.int64]
Proposals = NDArray[np.int64]  # (pairs, 3): left, right, how the right one is turned

PAIR_COLUMNS = (
    "left", "right", "similarity", "mirrored", "rotation", "distance", "level", "detail",
    "background",
)  # fmt: skip
PART = 50_000  # pictures described at a time: the intermediate arrays are larger than the result
# Of the pairs of CIFAR-10 whose hashes differ in at most 4 bits, 94 % are duplicates by their
# pixels alone; of those at 6 bits 72 %, at 10 bits 10 %.
CLOSE_HASH, HASH_SHARE = 4, 0.3


@dataclass(frozen=True)
class SearchParams:
    """What is looked for.

    hash_radius: perceptual hashes at most so many bits apart propose a pair. neighbours: so do the
    nearest of each image by color descriptor. mirrored: mirror images are copies too. rotations:
    quarter turns are tried as well. remove_similarity, group_similarity: of the thumbnails, 0 to 1,
    from which on a pair may be a copy, or show the same scene.
    """

    hash_radius: int
    neighbours: int
    mirrored: bool
    rotations: bool
    remove_similarity: float
    group_similarity: float


def find_duplicates(
    rows: pd.DataFrame, thumbnails: Thumbnails, read_details: Read, search: SearchParams
) -> pd.DataFrame:
    """Return the pairs that resemble each other, each with its level, among distinct images.

    Hashes and descriptors propose; thumbnails are laid over each other; what is left is compared in
    detail and with the background of the set, see `verification`.

    Parameters
    ----------
    rows : columns image_id (each once), phash, phash_mirrored, and thumbnail, the row of
        `thumbnails` and of the detail images. The order of the rows does not affect the result.
    thumbnails : (any, THUMBNAIL_BYTES) uint8.
    read_details : returns the detail images (JPEG bytes) of some row numbers.

    Returns
    -------
    Columns PAIR_COLUMNS; left < right are positions in `rows`.
    """
    proposed = Proposer(rows, thumbnails, search)
    found = proposed.registered(proposed.by_hash(), proposed.by_neighbors())
    verifier = Verifier(thumbnails, proposed.bands, proposed.descriptors, proposed.at, read_details)
    judged = verifier.levels(
        found["left"].to_numpy(np.int64),
        found["right"].to_numpy(np.int64),
        found["turn"].to_numpy(np.int64),
        found["similarity"].to_numpy(np.float64),
        search.remove_similarity,
        search.group_similarity,
    )
    left, right, turn = (judged[name].to_numpy(np.int64) for name in ("left", "right", "turn"))
    one, other = proposed.position[left], proposed.position[right]
    mirrored, rotation = turn >= MIRRORED, turn % MIRRORED * 90
    # Turning the right one like the left is turning the left one back like the right.
    swapped = (one > other) & ~mirrored
    pairs = pd.DataFrame(
        {
            "left": np.minimum(one, other),
            "right": np.maximum(one, other),
            "similarity": judged["similarity"].to_numpy(),
            "mirrored": mirrored,
            "rotation": np.where(swapped, -rotation % 360, rotation),
            "distance": proposed.distances(left, right, turn),
            **{name: judged[name].to_numpy() for name in ("level", "detail", "background")},
        },
        columns=list(PAIR_COLUMNS),
    )
    pairs = pairs.sort_values(["left", "right", "similarity"], ascending=[True, True, False])
    return pairs.drop_duplicates(["left", "right"]).reset_index(drop=True)


class Proposer:
    """Proposes pairs among images of distinct bytes, and lays their thumbnails over each other."""

    def __init__(self, rows: pd.DataFrame, thumbnails: Thumbnails, search: SearchParams) -> None:
        self.search = search
        # In the order of the ids, so that ties fall the same way whatever the order of the rows.
        self.position = np.argsort(rows["image_id"].to_numpy(), kind="stable").astype(np.int64)
        self.thumbnails = thumbnails
        self.at = rows["thumbnail"].to_numpy(np.int64)[self.position]
        self.hashes = {
            turn: rows[column].to_numpy(np.uint64)[self.position]
            for turn, column in ((0, "phash"), (MIRRORED, "phash_mirrored"))
        }
        self.bands = band_passed(thumbnails)
        self.descriptors = np.concatenate([descriptors(thumbnails[part]) for part in self._parts()])
        quarters = range(4) if search.rotations else (0,)
        mirrors = (0, MIRRORED) if search.mirrored else (0,)
        self.turns = tuple(quarter + mirror for mirror in mirrors for quarter in quarters)

    def _parts(self) -> list[Positions]:
        """Return the rows of the thumbnails in parts: what is computed from them is larger."""
        return [self.at[at : at + PART] for at in range(0, max(len(self.at), 1), PART)]

    def by_hash(self) -> Proposals:
        """Return the pairs whose perceptual hashes lie within the radius, turned or not."""
        radius = self.search.hash_radius
        # The scan's hashes tell of no quarter turns, so those are sought among others of their own.
        turned = self._hashes_of_thumbnails() if self.search.rotations else self.hashes
        found = []
        for turn in self.turns:
            hashes = self.hashes if turn in self.hashes else turned
            mirrored = hashes.get(MIRRORED, hashes[0])
            textured = np.flatnonzero(~is_flat(hashes[0]) & ~is_flat(mirrored))
            pairs = hamming_join(hashes[turn][textured], hashes[0][textured], radius)
            found.append(_proposals(textured[pairs[:, 0]], textured[pairs[:, 1]], turn))
        return np.concatenate(found)

    def by_neighbors(self) -> Proposals:
        """Return the pairs of each image and its nearest by color layout, turned or not."""
        everything = np.arange(len(self.at))
        found = []
        for turn in self.turns:
            nearest = nearest_neighbours(
                self.descriptors, turn, everything, everything, self.search.neighbours
            )
            query, place = np.nonzero(nearest >= 0)
            found.append(_proposals(query, nearest[query, place], turn))
        return np.concatenate(found)

    def registered(self, *proposals: Proposals) -> pd.DataFrame:
        """Return the pairs whose thumbnails agree: left, right, turn, similarity, distance.

        Of a pair proposed in several turns, the one that agrees best.
        """
        proposed = np.unique(np.concatenate(proposals), axis=0)
        proposed = proposed[np.lexsort((proposed[:, 0], proposed[:, 2], proposed[:, 1]))]
        columns = np.ascontiguousarray(proposed.T)
        likely = coarse_similarity(self.bands, self.at[columns[0]], self.at[columns[1]], columns[2])
        left, right, turn = columns[:, likely >= COARSE_SIMILARITY]
        similarity, _ = registered_similarity(
            self.thumbnails, self.bands, self.at[left], self.at[right], turn
        )
        distance = self.distances(left, right, turn)
        # A hash that all but agrees is evidence of its own, where compression or noise has spoilt
        # the detail: it closes a part of the gap to 1.
        agrees = (distance <= CLOSE_HASH) & (similarity > 0) & (turn % MIRRORED == 0)
        similarity = np.where(agrees, similarity + HASH_SHARE * (1 - similarity), similarity)
        pairs = pd.DataFrame(
            {
                "left": left,
                "right": right,
                "turn": turn,
                "similarity": np.minimum(similarity.astype(np.float64).round(4), 1.0),
                "distance": distance,
            }
        )
        pairs = pairs[pairs["similarity"] >= self.search.group_similarity]
        pairs = pairs.sort_values(
            ["left", "right", "similarity", "turn"], ascending=[True, True, False, True]
        )
        return pairs.drop_duplicates(["left", "right"]).reset_index(drop=True)

    def _hashes_of_thumbnails(self) -> dict[int, Hashes]:
        """Return perceptual hashes of the thumbnails' luma, turned in each way.

        The definition of imagehash.phash: the low 8 × 8 cosine coefficients against their median.
        Turning a picture swaps and negates coefficients, so it need not be decoded again.
        """
        low = np.concatenate([_low_spectrum(self.thumbnails[part]) for part in self._parts()])
        odd = np.where(np.arange(8) % 2, -1, 1).astype(np.float32)
        found = {}
        for turn in self.turns:
            spectrum = low * odd if turn >= MIRRORED else low
            for _ in range(turn % 4):  # a quarter turn transposes, then flips top and bottom
                spectrum = spectrum.transpose(0, 2, 1) * odd[:, None]
            flat = spectrum.reshape(len(spectrum), 64)
            bits = flat > np.median(flat, axis=1, keepdims=True)
            found[turn] = np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)
        return found

    def distances(self, left: Positions, right: Positions, turn: Positions) -> NDArray[np.int64]:
        """Return in how many bits the hashes differ, that of the right one mirrored where it is."""
        other = np.where(turn >= MIRRORED, self.hashes[MIRRORED][right], self.hashes[0][right])
        return np.asarray(np.bitwise_count(self.hashes[0][left] ^ other), np.int64)


def _proposals(turned: Positions, straight: Positions, turn: int) -> Proposals:
    """Return the pairs, each once, with the smaller position on the left.

    turned: the pictures that look like `straight` after `turn`; the column says how the right one
    is turned to look like the left one.
    """
    # A mirroring undoes itself, whatever the quarter turns after it; a mere turn is turned back.
    back = turn if turn >= MIRRORED else -turn % 4
    swap = turned > straight
    pairs = np.stack(
        [
            np.where(swap, straight, turned),
            np.where(swap, turned, straight),
            np.where(swap, turn, back),
        ],
        axis=1,
    )
    found: Proposals = np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
    return found


def _low_spectrum(thumbnails: Thumbnails) -> NDArray[np.float32]:
    luma = thumbnails[:, : THUMBNAIL_SIDE**2].reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    low: NDArray[np.float32] = dctn(luma.astype(np.float32), axes=(1, 2))[:, :8, :8]
    return low
