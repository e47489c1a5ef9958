"""Decides what a pair is: copies of one exposure, one scene taken twice, or two things of a kind.

Each candidate is looked at again in detail, part by part, and then compared with what unrelated
images of the same data set reach: what the set shares is no evidence.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.lib.clusters import connect
from stages.lib.detail import (
    BANDS,
    NO_AGREEMENT,
    SMALL_SIDE,
    Agreement,
    compare_details,
    detail_side,
    local_band,
)
from stages.lib.neighbours import Descriptors, nearest_neighbours
from stages.lib.progress import track
from stages.lib.registration import coarse_similarity, registered_similarity
from stages.lib.thumbnails import Thumbnails

Indices = NDArray[np.int64]
Read = Callable[[Sequence[int]], dict[int, bytes]]

# Another exposure of the same scene: what of the detail must agree. Read off 12 sets of look-alikes
# and planted copies, see benchmarks/README.md.
SCENE_DETAIL = 0.68  # correlation in the finest band that both images hold
SCENE_BLURRED = 0.75  # the same where one is blurred and only a coarser band is left
SCENE_FINE = 0.3  # correlation of the band below it, where neither has lost that
STRONG_FINE, SCENE_STRONG = 8.0, 0.74  # of a drawing, whose detail no noise can hide
SCENE_LOW = 0.0  # 10 % quantile over the cells: more than a tenth that disagrees is another thing
SCENE_COLOR = 0.5
# The same exposure: nothing but compression, scaling, noise and tone may differ. Another exposure
# in the same place differs in shapes and shading: in the coarse bands, which copying leaves alone.
# Most copies keep their tone as well, which no second exposure does: they may lose more detail.
COPY_DETAIL = (0.95, 0.9975, 0.999)  # of the compared band, the next, and the coarsest
COPY_FINE, COPY_NOISE = 0.96, 0.4
SMALL_COPY = 0.93  # similarity below which a small image is no certain copy anyway
SAME_TONE = 2.5  # of 255
SAME_TONE_DETAIL = (0.95, 0.995, 0.999)
SAME_TONE_FINE, SAME_TONE_NOISE, SAME_TONE_INSIDE = 0.8, 0.7, 0.01
COPY_COLOR = 0.8
COPY_COLOR_ERROR = 12.0  # of 255, of any cell
LOST_BAND, LOST_FINE = 0.6, 0.35  # log ratio of energies from which a band is lost by one of two
FINE_NOISE = 1.0  # standard deviation, of 255, below which a band holds nothing
# Sharp agreement nearly everywhere, but other content inside: a form filled in otherwise, another
# card of the suit, a missing piece.
SHARP, CONTENT, ONE_CONTENT, CONTENT_SLOPE = 0.98, 0.03, 0.93, 0.4

# The background: how well unrelated images of the set agree with this one.
SAMPLE = 64  # images of the set, the same for all
NEIGHBORS = 24  # of each image by color layout
CROWD = 6  # so many others that agree as well make it no evidence
MET_DIFFERENCE = 0.15  # up to which a neighbor that nothing proposed counts as a pair
ONE_SCENE_SHARE = 0.0125  # of the set, that may show one scene
# Clusters of copies are no copies but one kind of thing, photographed again from a fixed place,
# where they hold more of the set each and more together, and so many of their pairs agree (a clip
# is a chain); or, from a few images on, where they look like more than such a share of the others.
LARGE_SHARE, ONE_KIND_SHARE, DENSE = 0.2, 0.25, 0.8
FEW_COPIES, KIND_SHARE, ALONE = 3, 0.05, 0.5
RATIO = 0.25  # a pair must differ by less than this share of what the crowd differs by
NO_CROWD = 0.6  # a crowd that differs by more resembles neither of the two
LEAST_DIFFERENCE = 5e-4  # differences below this are rounding
# Share of all images, and their number, from which on the set is one of look-alikes.
CROWDED_SHARE, LEAST_CROWDED = 0.05, 4
# Among look-alikes an equal shape says little: light and color must be the same as well, or the
# pair stand out so much the more. In order: a difference of the crowd; of 255; instead of RATIO.
CROWDED, CROWDED_TONE, OTHER_TONE_RATIO = 0.3, 2.5, 0.06
CHUNK = 16  # pairs that a thread compares in detail at a time
LEAST_COARSE, LEAST_RESEMBLANCE = 0.55, 0.5  # what resembles less is no part of a crowd


@dataclass(frozen=True)
class Comparison:
    """Verified pairs: positions, turns, similarity of the thumbnails, and agreements in detail.

    left, right, turn: (pairs,) int64. similarity: (pairs,). side, low, median, differing, inside,
    color, color_error, tone: (pairs,); correlation, energy, weakest: (pairs, BANDS), as in
    `detail.Agreement`.
    """

    left: Indices
    right: Indices
    turn: Indices
    similarity: NDArray[np.float64]
    side: NDArray[np.int64]
    correlation: NDArray[np.float64]
    energy: NDArray[np.float64]
    weakest: NDArray[np.float64]
    low: NDArray[np.float64]
    median: NDArray[np.float64]
    differing: NDArray[np.float64]
    inside: NDArray[np.float64]
    color: NDArray[np.float64]
    color_error: NDArray[np.float64]
    tone: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.left)

    def rows(self, chosen: NDArray[np.bool_]) -> "Comparison":
        """Return some of the pairs."""
        return Comparison(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def joined(self, other: "Comparison") -> "Comparison":
        """Return these pairs and, after them, the other's."""
        names = [field.name for field in fields(self)]
        both = ((getattr(self, name), getattr(other, name)) for name in names)
        return Comparison(*(np.concatenate(columns) for columns in both))

    @cached_property
    def small(self) -> NDArray[np.bool_]:
        """Tell which pairs hold no more detail than their thumbnails."""
        return self.side < SMALL_SIDE

    @cached_property
    def lost(self) -> NDArray[np.bool_]:
        """Tell in which pairs one has lost the detail that the other still holds."""
        return np.abs(self._of(self.energy, self._local)) > LOST_BAND

    @cached_property
    def band(self) -> Indices:
        """Return the band in which each pair is compared."""
        return np.minimum(self._local + self.lost, BANDS - 1)

    @cached_property
    def difference(self) -> NDArray[np.float64]:
        """Return what is left of 1 in the compared band, 0 for equal images."""
        return self.difference_in(self.band)

    def difference_in(self, band: Indices | int) -> NDArray[np.float64]:
        """Return 1 less the correlation in a band; of small images, less the similarity."""
        bands = np.broadcast_to(np.asarray(band), len(self))
        return np.where(self.small, 1 - self.similarity, 1 - self._of(self.correlation, bands))

    def shows_one_scene(self, group_similarity: float) -> NDArray[np.bool_]:
        """Tell which pairs agree in detail as two exposures of one scene do."""
        detail = self._of(self.correlation, self.band)
        enough = np.where(self.lost, detail >= SCENE_BLURRED, detail >= SCENE_DETAIL)
        strong = self._of(self.weakest, self._fine) >= STRONG_FINE
        least = np.where(strong, SCENE_STRONG, SCENE_FINE)
        fine = self._of(self.correlation, self._fine) >= least
        fine |= self._fine_lost(FINE_NOISE)
        overall = self.correlation[:, 1:].mean(axis=1)
        torn = overall < ONE_CONTENT + CONTENT_SLOPE * self.inside
        content = (self.median >= SHARP) & (self.inside >= CONTENT) & torn
        local: NDArray[np.bool_] = self.lost | ((self.low >= SCENE_LOW) & ~content)
        large = enough & fine & local & (self.color >= SCENE_COLOR)
        return (self.small | large) & (self.similarity >= group_similarity)

    def shows_one_exposure(self, remove_similarity: float) -> NDArray[np.bool_]:
        """Tell which pairs agree in every part as copies of one file do."""
        levels = [
            self._of(self.correlation, np.minimum(band, BANDS - 1))
            for band in (self._local, self._local + 1, np.full(len(self), BANDS - 1))
        ]
        kept_tone = self.tone <= SAME_TONE
        enough = np.where(kept_tone[:, None], SAME_TONE_DETAIL, COPY_DETAIL)
        same = (np.stack(levels, axis=1) >= enough).all(axis=1)
        least = np.where(kept_tone, SAME_TONE_FINE, COPY_FINE)
        fine = self._of(self.correlation, self._fine) >= least
        fine |= np.where(kept_tone, self._fine_lost(SAME_TONE_NOISE), self._fine_lost(COPY_NOISE))
        apart = np.where(kept_tone, SAME_TONE_INSIDE, 0)
        whole = same & fine & ~self.lost & (self.inside <= apart) & (self.color >= COPY_COLOR)
        whole &= self.color_error <= COPY_COLOR_ERROR
        found: NDArray[np.bool_] = whole & (self.similarity >= remove_similarity)
        return found

    @property
    def _local(self) -> Indices:
        return np.array([local_band(side) for side in self.side], np.int64)

    @property
    def _fine(self) -> Indices:
        return self._local - 1

    def _fine_lost(self, noise: float) -> NDArray[np.bool_]:
        """Tell in which pairs the finest detail is too weak, or weaker in one, to be compared."""
        uneven = np.abs(self._of(self.energy, self._fine)) > LOST_FINE
        empty: NDArray[np.bool_] = self._of(self.weakest, self._fine) < noise
        return uneven | empty

    def _of(self, table: NDArray[np.float64], band: Indices) -> NDArray[np.float64]:
        return table[np.arange(len(self)), band]


class Verifier:
    """Compares pairs of one data set in detail, and with the set's background.

    thumbnails, bands: by row number. descriptors, at: by position, where `at` is the row number of
    each image. read: returns the detail images (JPEG bytes) of some row numbers. Positions are in
    the order of the image ids, so that the sample of the set does not depend on that of the rows.
    """

    def __init__(
        self,
        thumbnails: Thumbnails,
        bands: NDArray[np.float32],
        descriptors: Descriptors,
        at: Indices,
        read: Read,
    ) -> None:
        self.thumbnails = thumbnails
        self.bands = bands
        self.descriptors = descriptors
        self.at = at
        self.read = read

    def levels(
        self,
        left: Indices,
        right: Indices,
        turn: Indices,
        similarity: NDArray[np.float64],
        remove_similarity: float,
        group_similarity: float,
    ) -> pd.DataFrame:
        """Return for each pair its level (remove, group or look_alike), detail and background.

        left < right, turn, similarity: as proposed and registered. The rows are these pairs in
        their order, then what was found on the way: neighbors of paired images that resemble them.
        Columns left, right, turn, similarity; detail: correlation of the compared band, 0 to 1;
        background: the same for the crowd of look-alikes, 0 where there is none.
        """
        pairs = self.compare(left, right, turn, similarity)
        copy = pairs.shows_one_exposure(remove_similarity)
        scene = pairs.shows_one_scene(group_similarity) | copy
        crowd = np.ones(len(pairs))
        if scene.any():
            around = self._around(pairs, np.unique(np.concatenate([left[scene], right[scene]])))
            met = around.difference <= MET_DIFFERENCE
            pairs = pairs.joined(around.rows(met & (around.similarity >= group_similarity)))
            copy = pairs.shows_one_exposure(remove_similarity)
            scene = pairs.shows_one_scene(group_similarity) | copy
            same = copy & (pairs.tone <= SAME_TONE)
            crowd = _background(pairs, around, scene, same, len(self.at))
            scene &= pairs.difference <= _limit(crowd, pairs.tone)
            copy &= scene
        level = np.where(copy, "remove", np.where(scene, "group", "look_alike"))
        return pd.DataFrame(
            {
                "left": pairs.left,
                "right": pairs.right,
                "turn": pairs.turn,
                "similarity": pairs.similarity.round(4),
                "level": level,
                "detail": np.clip(1 - pairs.difference, 0, 1).round(4),
                "background": np.clip(1 - crowd, 0, 1).round(4),
            }
        )

    def compare(
        self, left: Indices, right: Indices, turn: Indices, similarity: NDArray[np.float64] | None
    ) -> Comparison:
        """Return how pairs agree in detail; similarity: None to take that of the thumbnails."""
        registered, warps = registered_similarity(
            self.thumbnails, self.bands, self.at[left], self.at[right], turn
        )
        known = registered if similarity is None else similarity
        close = np.flatnonzero(warps.any(axis=(1, 2)) & (known >= LEAST_RESEMBLANCE))
        ends = self.at[left], self.at[right]
        details = self.read(np.unique([side[close] for side in ends]).tolist())

        def agreement(pair: int) -> Agreement:
            one, other = (details[int(side[pair])] for side in ends)
            if not one or not other:
                return NO_AGREEMENT
            side = min(detail_side(one), detail_side(other))
            if side < SMALL_SIDE and (similarity is None or known[pair] < SMALL_COPY):
                return NO_AGREEMENT._replace(side=side)  # the thumbnail decides, and says no copy
            return compare_details(one, other, int(turn[pair]), warps[pair], similarity is not None)

        found = [NO_AGREEMENT] * len(left)
        parts = [close[at : at + CHUNK].tolist() for at in range(0, len(close), CHUNK)]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            jobs = threads.map(lambda part: [(pair, agreement(pair)) for pair in part], parts)
            for part in track(jobs, len(parts), "compare in detail", "chunks"):
                for pair, one in part:
                    found[pair] = one
        columns = {
            name: np.array([one[at] for one in found]).reshape(len(found), *shape)
            for at, (name, shape) in enumerate(
                (name, (BANDS,) if name in ("correlation", "energy", "weakest") else ())
                for name in Agreement._fields
            )
        }
        return Comparison(left, right, turn, np.asarray(known, np.float64), **columns)

    def _around(self, pairs: Comparison, images: Indices) -> Comparison:
        """Return the comparison of images with their neighbors and with a sample of the set."""
        everything = np.arange(len(self.at))
        count = min(NEIGHBORS, len(everything))
        near = nearest_neighbours(self.descriptors, 0, images, everything, count)
        picked = np.linspace(0, len(everything) - 1, min(SAMPLE, len(everything))).astype(np.int64)
        one = np.concatenate([np.repeat(images, near.shape[1]), np.repeat(images, len(picked))])
        other = np.concatenate([near.ravel(), np.tile(picked, len(images))])
        there = (other >= 0) & (one != other)
        ends = np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1)[there]
        known = np.stack([pairs.left, pairs.right], axis=1)[pairs.turn == 0]
        ends = _without(np.unique(ends, axis=0), known)
        ends = ends[np.lexsort((ends[:, 0], ends[:, 1]))]
        left, right = np.ascontiguousarray(ends[:, 0]), np.ascontiguousarray(ends[:, 1])
        turn = np.zeros(len(ends), np.int64)
        alike = coarse_similarity(self.bands, self.at[left], self.at[right], turn)
        close = alike >= LEAST_COARSE
        return self.compare(left[close], right[close], turn[close], None)


def _without(pairs: Indices, others: Indices) -> Indices:
    """Return the rows of `pairs` that are not among `others`."""
    width = int(max(pairs.max(initial=0), others.max(initial=0))) + 1
    keys = pairs[:, 0] * width + pairs[:, 1]
    kept: Indices = pairs[~np.isin(keys, others[:, 0] * width + others[:, 1])]
    return kept


def _limit(crowd: NDArray[np.float64], tone: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return up to which difference a pair stands out from its crowd."""
    other = (crowd <= CROWDED) & (tone > CROWDED_TONE)
    limit = np.where(other, OTHER_TONE_RATIO * crowd, RATIO * crowd)
    return np.where(crowd < NO_CROWD, limit, np.inf)


def _background(
    pairs: Comparison,
    around: Comparison,
    scene: NDArray[np.bool_],
    copy: NDArray[np.bool_],
    count: int,
) -> NDArray[np.float64]:
    """Return for each pair by how much the crowd of look-alikes around it differs, 1: no crowd.

    Copies of one exposure count once. Where hardly any image has a crowd around it, the few that do
    are one scene seen many times; else the set is one of look-alikes.
    """
    copies = pd.DataFrame({"left": pairs.left[copy], "right": pairs.right[copy]})
    own = connect(count, copies)
    # But what resembles more outside than inside is no set of copies: it is one kind of thing.
    one, other = own[pairs.left[scene]], own[pairs.right[scene]]
    inside = np.bincount(one[one == other], minlength=count)
    ends = np.concatenate([one[one != other], other[one != other]])
    is_kind = np.bincount(ends, minlength=count) > inside
    again = _photographed_again(pairs, around, own, inside)
    one_kind = again[own].mean() > ONE_KIND_SHARE
    of_kind = (again[own[pairs.left]] & again[own[pairs.right]]) | one_kind
    own = np.where((is_kind | again | one_kind)[own], count + np.arange(count), own)
    crowd = _nth_difference(pairs, around, CROWD, own)
    if of_kind.any():  # the others of a few are fewer than a crowd
        nearer = _nth_difference(pairs.rows(of_kind), around.joined(pairs), FEW_COPIES - 1, own)
        crowd[of_kind] = np.minimum(crowd[of_kind], nearer)
    if not one_kind:  # so small a difference is no more than rounding
        crowd = np.maximum(crowd, LEAST_DIFFERENCE / RATIO)
    most = min(max(CROWD, round(ONE_SCENE_SHARE * count)), NEIGHBORS)
    if most > CROWD:
        # A few that resemble each other, and nothing else does: one scene taken often.
        alone = _nth_difference(pairs, around, most, own) >= NO_CROWD
        crowd[alone] = NO_CROWD - LEAST_DIFFERENCE
    alike = (crowd < 1 - SCENE_DETAIL) & (pairs.difference < 1 - SCENE_DETAIL)
    ends = np.concatenate([pairs.left[alike], pairs.right[alike]])
    if len(np.unique(own[ends])) > max(CROWDED_SHARE * len(np.unique(own)), LEAST_CROWDED):
        return crowd
    return np.ones(len(pairs))


def _photographed_again(
    pairs: Comparison, around: Comparison, own: Indices, inside: Indices
) -> NDArray[np.bool_]:
    """Tell which clusters of copies are the same kind of thing, photographed from a fixed place.

    own: the cluster of each image. inside: how many pairs each cluster has. They hold much of the
    set and each resembles each, or what is not in them looks like them: copies stand alone.
    """
    count = len(own)
    sizes = np.bincount(own, minlength=count)
    several = sizes > max(FEW_COPIES, KIND_SHARE * count)
    many = (sizes > max(CROWD, LARGE_SHARE * count)) & (inside > DENSE * sizes * (sizes - 1) / 2)
    held = sizes[many].sum() > ONE_KIND_SHARE * count
    one, other, difference = (
        np.concatenate([getattr(pairs, name), getattr(around, name)])
        for name in ("left", "right", "difference")
    )
    outside = (difference < 1 - SCENE_DETAIL) & (own[one] != own[other])
    ends = np.concatenate([one[outside], other[outside]])
    resembled = np.bincount(own[ends], minlength=count) / np.maximum(sizes, 1)
    alone = resembled <= ALONE * np.minimum(count - sizes, SAMPLE)
    found: NDArray[np.bool_] = (many & held) | (several & ~alone)
    return found


def _nth_difference(
    pairs: Comparison,
    around: Comparison,
    rank: int,
    own: Indices,
) -> NDArray[np.float64]:
    """Return for each pair the `rank`-th smallest difference from either of the two to others.

    own: a number for each image; images of one number count once, and those of the pair itself do
    not count. 1 where there are not so many.
    """
    result = np.ones(len(pairs))
    ends = [(one.left, one.right) for one in (pairs, around)]
    for band in np.unique(pairs.band):
        asked = np.flatnonzero(pairs.band == band)
        values = np.concatenate([one.difference_in(int(band)) for one in (pairs, around)])
        table = pd.DataFrame(
            {
                "image": np.concatenate([a for a, _ in ends] + [b for _, b in ends]),
                "other": np.concatenate([b for _, b in ends] + [a for a, _ in ends]),
                "difference": np.concatenate([values, values]),
            }
        )
        table = table.assign(own=own[table["other"].to_numpy()])
        table = table[table["own"] != own[table["image"].to_numpy()]]
        table = table.sort_values(["image", "difference", "own"], kind="stable")
        table = table.drop_duplicates(["image", "own"])
        if not len(table):
            continue
        place = table.groupby("image").cumcount().to_numpy()
        table, place = table[place <= rank], place[place <= rank]
        images, row = np.unique(table["image"], return_inverse=True)
        owners = np.full((len(images), rank + 1), -1, np.int64)
        nearest = np.ones((len(images), rank + 1))
        owners[row, place], nearest[row, place] = table["own"], table["difference"]
        for one, other in ((pairs.left, pairs.right), (pairs.right, pairs.left)):
            at = np.searchsorted(images, one[asked]).clip(max=len(images) - 1)
            known = images[at] == one[asked]
            # Of the nearest of one, the other of the pair may be one that does not count.
            counted = (owners[at, :rank] != own[other[asked]][:, None]).all(axis=1)
            found = np.where(known, nearest[at, np.where(counted, rank - 1, rank)], 1)
            result[asked] = np.minimum(result[asked], found)
    return result
