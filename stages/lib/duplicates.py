"""Finds pictures that show the same: hashes and descriptors propose pairs, pixels decide."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.fft import dctn

from stages.lib.hamming import Hashes, hamming_join
from stages.lib.hashing import is_flat
from stages.lib.images import THUMBNAIL_SIDE
from stages.lib.neighbours import descriptors, is_exact, nearest_neighbours
from stages.lib.progress import track
from stages.lib.registration import (
    COARSE_SIMILARITY,
    MIRRORED,
    band_passed,
    coarse_similarity,
    registered_similarity,
)
from stages.lib.thumbnails import Thumbnails

T = TypeVar("T")
Positions = NDArray[np.int64]
Proposals = NDArray[np.int64]  # (pairs, 3): left, right, how the right one is turned

PAIR_COLUMNS = ("left", "right", "similarity", "mirrored", "rotation", "distance")
PART = 50_000  # pictures described at a time: the intermediate arrays are larger than the result
# Of the pairs of CIFAR-10 whose hashes differ in at most 4 bits, 94 % are duplicates by their
# pixels alone; of those at 6 bits 72 %, at 10 bits 10 %.
CLOSE_HASH, HASH_SHARE = 4, 0.3
COARSE_CHUNK, FINE_CHUNK = 8192, 256


@dataclass(frozen=True)
class Search:
    """What is looked for.

    hash_radius: perceptual hashes at most so many bits apart propose a pair. neighbours: so do the
    nearest of each picture by colour descriptor. rotations: quarter turns are tried as well.
    similarity: from which on a pair is a duplicate, 0 to 1.
    """

    hash_radius: int
    neighbours: int
    rotations: bool
    similarity: float


class DuplicateSearch:
    """Verified pairs of duplicates among pictures of distinct bytes, also after some are gone.

    rows: columns image_id (each once), phash, phash_mirrored, and thumbnail, the row of the array
    `thumbnails`, (any, THUMBNAIL_BYTES) uint8. `pairs` has the columns PAIR_COLUMNS; left < right
    are positions in `rows`. The order of the rows has no say.
    """

    def __init__(self, rows: pd.DataFrame, thumbnails: Thumbnails, search: Search) -> None:
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
        self.turns = tuple(range(8)) if search.rotations else (0, MIRRORED)
        self.nearest: dict[int, Positions] = {}
        self.exact = False  # whether these are the true nearest
        self.here = np.ones(len(rows), bool)  # and among which
        self.verified = _no_pairs()
        self._compare(self._by_hash())
        self.look_again(np.ones(len(rows), bool))

    @property
    def pairs(self) -> pd.DataFrame:
        """All pairs found so far."""
        one = self.position[self.verified["left"]]
        other = self.position[self.verified["right"]]
        found = self.verified.assign(left=np.minimum(one, other), right=np.maximum(one, other))
        # Turning the right one like the left is turning the left one back like the right.
        swapped = (one > other) & ~found["mirrored"]
        found["rotation"] = found["rotation"].where(~swapped, -found["rotation"] % 360)
        return found.sort_values(["left", "right"], ignore_index=True)

    def look_again(self, present: NDArray[np.bool_]) -> bool:
        """Search among the rows that are present; tell whether that found pairs, or better turns.

        A picture whose neighbours have gone is given its next ones, so that what stays has been
        searched as if the others had never been.
        """
        before, here = self.verified, present[self.position]
        for turn in self.turns:
            self._compare(self._by_neighbours(turn, here))
        self.exact, self.here = is_exact(int(here.sum())), here
        return not self.verified.equals(before)

    def _parts(self) -> list[Positions]:
        """Return the rows of the thumbnails in parts: what is computed from them is larger."""
        return [self.at[at : at + PART] for at in range(0, max(len(self.at), 1), PART)]

    def _by_hash(self) -> Proposals:
        """Return the pairs whose perceptual hashes lie within the radius, turned or not."""
        radius = self.search.hash_radius
        # The scan's hashes tell of no quarter turns, so those are sought among others of their own.
        turned = self._hashes_of_thumbnails() if self.search.rotations else self.hashes
        found = []
        for turn in self.turns:
            hashes = self.hashes if turn in self.hashes else turned
            textured = np.flatnonzero(~is_flat(hashes[0]) & ~is_flat(hashes[MIRRORED]))
            pairs = hamming_join(hashes[turn][textured], hashes[0][textured], radius)
            found.append(_proposals(textured[pairs[:, 0]], textured[pairs[:, 1]], turn))
        return np.concatenate(found)

    def _by_neighbours(self, turn: int, here: NDArray[np.bool_]) -> Proposals:
        """Return the nearest of each picture that is here, where that is not known yet."""
        known = self.nearest.get(turn)
        exact = is_exact(int(here.sum()))
        back = here & ~self.here
        if known is None or not (exact and self.exact):
            known, asked = np.full((len(here), self.search.neighbours), -1, np.int64), here
            back[:] = False
        else:
            gone = (known >= 0) & ~here[known]
            asked = here & gone.any(axis=1)
        self.nearest[turn] = known.copy()
        self.nearest[turn][asked] = found = self._nearest_of(turn, asked, here)
        # Those that come back are offered to all; with them or without, the others' lists hold.
        offered = self._nearest_of(turn, here, back)
        return np.concatenate([_listed(asked, found, turn), _listed(here, offered, turn)])

    def _nearest_of(
        self, turn: int, queries: NDArray[np.bool_], candidates: NDArray[np.bool_]
    ) -> Positions:
        return nearest_neighbours(
            self.descriptors,
            turn,
            np.flatnonzero(queries),
            np.flatnonzero(candidates),
            self.search.neighbours,
        )

    def _compare(self, proposed: Proposals) -> None:
        """Judge the proposed pairs in their pixels, and remember those that are duplicates."""
        proposed = proposed[np.lexsort((proposed[:, 0], proposed[:, 2], proposed[:, 1]))]
        likely = _in_threads(
            lambda part: part[
                coarse_similarity(self.bands, self.at[part[:, 0]], self.at[part[:, 1]], part[:, 2])
                >= COARSE_SIMILARITY
            ],
            [proposed[at : at + COARSE_CHUNK] for at in range(0, len(proposed), COARSE_CHUNK)],
            "compare coarsely",
        )
        close = np.concatenate(likely) if likely else proposed
        values = _in_threads(
            lambda part: registered_similarity(
                self.thumbnails, self.bands, self.at[part[:, 0]], self.at[part[:, 1]], part[:, 2]
            ),
            [close[at : at + FINE_CHUNK] for at in range(0, len(close), FINE_CHUNK)],
            "compare pixels",
        )
        similarity = np.concatenate(values) if values else np.empty(0, np.float32)
        left, right, turn = close.T
        distance = self._distances(left, right, turn)
        # A hash that all but agrees is evidence of its own, where compression or noise has spoilt
        # the detail: it closes a part of the gap to 1.
        agrees = (distance <= CLOSE_HASH) & (similarity > 0) & (turn % MIRRORED == 0)
        similarity = np.where(agrees, similarity + HASH_SHARE * (1 - similarity), similarity)
        pairs = pd.DataFrame(
            {
                "left": left,
                "right": right,
                "similarity": np.minimum(similarity.astype(np.float64).round(4), 1.0),
                "mirrored": turn >= MIRRORED,
                "rotation": turn % MIRRORED * 90,
                "distance": distance,
            }
        )
        pairs = pairs[pairs["similarity"] >= self.search.similarity]
        self.verified = _best_of_each(pd.concat([self.verified, pairs]))

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

    def _distances(self, left: Positions, right: Positions, turn: Positions) -> NDArray[np.int64]:
        """Return in how many bits the hashes differ, that of the right one mirrored where it is."""
        other = np.where(turn >= MIRRORED, self.hashes[MIRRORED][right], self.hashes[0][right])
        return np.asarray(np.bitwise_count(self.hashes[0][left] ^ other), np.int64)


def _listed(queries: NDArray[np.bool_], nearest: Positions, turn: int) -> Proposals:
    """Return as proposals what `nearest` lists for each of the queries."""
    query, place = np.nonzero(nearest >= 0)
    return _proposals(np.flatnonzero(queries)[query], nearest[query, place], turn)


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


def _best_of_each(pairs: pd.DataFrame) -> pd.DataFrame:
    order = ["left", "right", "similarity", "mirrored", "rotation"]
    pairs = pairs.sort_values(order, ascending=[True, True, False, True, True], kind="stable")
    return pairs.drop_duplicates(["left", "right"]).reset_index(drop=True)


def _no_pairs() -> pd.DataFrame:
    kinds = (np.int64, np.int64, np.float64, np.bool_, np.int64, np.int64)
    return pd.DataFrame(
        {name: np.empty(0, kind) for name, kind in zip(PAIR_COLUMNS, kinds, strict=True)}
    )


def _low_spectrum(thumbnails: Thumbnails) -> NDArray[np.float32]:
    luma = thumbnails[:, : THUMBNAIL_SIDE**2].reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    low: NDArray[np.float32] = dctn(luma.astype(np.float32), axes=(1, 2))[:, :8, :8]
    return low


def _in_threads(
    function: Callable[[Proposals], T], parts: list[Proposals], description: str
) -> list[T]:
    """Return function(part) of each, in order; the compiled kernels run side by side."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(track(threads.map(function, parts), len(parts), description, "chunks"))
