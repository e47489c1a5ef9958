"""Finds pictures that show the same: perceptual hashes propose pairs, pixels decide."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.lib.hashing import is_flat
from stages.lib.images import THUMBNAIL_SIDE, Picture, correlation
from stages.lib.progress import track

Hashes = NDArray[np.uint64]
BLOCK_CELLS = 1 << 19  # pairs compared at a time: 4 MB of 64-bit differences, which fit a cache

PAIR_COLUMNS = ("left", "right", "distance", "mirrored", "similarity")


def hamming_pairs(queries: Hashes, hashes: Hashes, radius: int) -> NDArray[np.int64]:
    """Return every (i, j) with i < j whose hashes `queries[i]` and `hashes[j]` differ in at most
    `radius` bits.

    Exact: all pairs are compared, none is missed. Shape (pairs, 2), sorted.
    """
    blocks = list(_blocks(len(queries)))
    found = [
        _block_pairs(queries, hashes, radius, block)
        for block in track(blocks, len(blocks), "compare hashes", "blocks")
    ]
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def _blocks(count: int) -> Iterator[slice]:
    rows = max(BLOCK_CELLS // max(count, 1), 1)
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


def _block_pairs(queries: Hashes, hashes: Hashes, radius: int, block: slice) -> NDArray[np.int64]:
    differing = np.bitwise_count(queries[block, None] ^ hashes[None, block.start :])
    left, right = np.nonzero(differing <= radius)
    upper = left < right
    return np.stack([left[upper] + block.start, right[upper] + block.start], axis=1)


def propose_pairs(rows: pd.DataFrame, radius: int) -> pd.DataFrame:
    """Return the pairs of rows whose perceptual hashes lie within the radius, mirrored or not.

    rows: columns phash and phash_mirrored. Flat pictures match nothing. left < right are positions
    in `rows`.
    """
    phash = rows["phash"].to_numpy(np.uint64)
    mirror = rows["phash_mirrored"].to_numpy(np.uint64)
    textured = np.flatnonzero(~(is_flat(phash) | is_flat(mirror)))
    frames = []
    # A hash compares with the median, so that of the left one mirrored and that of the right one
    # mirrored may differ by some bits: both ways are asked, lest the order of the rows have a say.
    for mirrored, queries, hashes in (
        (False, phash, phash),
        (True, mirror, phash),
        (True, phash, mirror),
    ):
        pairs = textured[hamming_pairs(queries[textured], hashes[textured], radius)]
        frames.append(
            pd.DataFrame(
                {
                    "left": pairs[:, 0],
                    "right": pairs[:, 1],
                    "distance": np.bitwise_count(queries[pairs[:, 0]] ^ hashes[pairs[:, 1]]),
                    "mirrored": mirrored,
                }
            )
        )
    proposed = pd.concat(frames, ignore_index=True).sort_values("distance", kind="stable")
    return proposed.drop_duplicates(["left", "right", "mirrored"]).reset_index(drop=True)


def verify_pairs(rows: pd.DataFrame, proposed: pd.DataFrame, similarity: float) -> pd.DataFrame:
    """Return the proposed pairs whose thumbnails correlate at least by `similarity`, each pair
    once.

    A pair proposed both straight and mirrored is listed with the better of the two.
    """
    thumbnails = rows["thumbnail"].to_numpy()
    values = [
        correlation(_picture(thumbnails[left]), _picture(thumbnails[right], mirrored))
        for left, right, mirrored in track(
            zip(proposed["left"], proposed["right"], proposed["mirrored"], strict=True),
            len(proposed),
            "compare pixels",
            "pairs",
        )
    ]
    pairs = proposed.assign(similarity=np.array(values, np.float64))
    pairs = pairs[pairs["similarity"] >= similarity]
    pairs = pairs.sort_values(["left", "right", "similarity"], ascending=[True, True, False])
    return pairs.drop_duplicates(["left", "right"]).reset_index(drop=True)[list(PAIR_COLUMNS)]


def find_duplicates(rows: pd.DataFrame, radius: int, similarity: float) -> pd.DataFrame:
    """Return the verified pairs of duplicates, equal bytes included (distance 0, similarity 1).

    rows: columns image_id, phash, phash_mirrored, thumbnail. The result has the columns
    PAIR_COLUMNS; left < right are positions in `rows`.
    """
    first = rows.reset_index(drop=True)
    equal = _equal_bytes(first["image_id"])
    # Equal bytes need no proof: only one of each is compared with the others, and stands for all of
    # them.
    single = np.flatnonzero(~first["image_id"].duplicated())
    verified = verify_pairs(
        first.iloc[single].reset_index(drop=True),
        propose_pairs(first.iloc[single], radius),
        similarity,
    )
    verified = verified.assign(
        left=single[verified["left"].to_numpy(np.int64)],
        right=single[verified["right"].to_numpy(np.int64)],
    )
    copies = _repeat_for_copies(verified, first["image_id"])
    pairs = pd.concat([equal, copies], ignore_index=True)
    # Where one of the two is empty, its columns have no type of their own to give.
    pairs = pairs.astype({"left": np.int64, "right": np.int64, "similarity": np.float64})
    return pairs.sort_values(["left", "right"]).reset_index(drop=True)


def _equal_bytes(image_ids: pd.Series) -> pd.DataFrame:
    frame = pd.DataFrame({"image_id": image_ids, "at": np.arange(len(image_ids))})
    frame = frame[frame["image_id"].duplicated(keep=False)]
    pairs = frame.merge(frame, on="image_id", suffixes=("_left", "_right"))
    pairs = pairs[pairs["at_left"] < pairs["at_right"]]
    return pd.DataFrame(
        {
            "left": pairs["at_left"],
            "right": pairs["at_right"],
            "distance": 0,
            "mirrored": False,
            "similarity": 1.0,
        }
    )


def _repeat_for_copies(pairs: pd.DataFrame, image_ids: pd.Series) -> pd.DataFrame:
    """Say of every copy what was found for the one row that stood for its bytes."""
    where = pd.DataFrame({"image_id": image_ids, "at": np.arange(len(image_ids))})
    pairs = pairs.assign(
        left_id=image_ids.to_numpy()[pairs["left"].to_numpy(np.int64)],
        right_id=image_ids.to_numpy()[pairs["right"].to_numpy(np.int64)],
    )
    pairs = pairs.merge(where.rename(columns={"image_id": "left_id", "at": "one"}), on="left_id")
    pairs = pairs.merge(
        where.rename(columns={"image_id": "right_id", "at": "other"}), on="right_id"
    )
    low, high = pairs[["one", "other"]].min(axis=1), pairs[["one", "other"]].max(axis=1)
    return pairs.assign(left=low, right=high)[list(PAIR_COLUMNS)]


def connected_groups(
    count: int, left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Return for each of `count` rows the number of the group that the given edges tie it to."""
    ones = np.ones(len(left), np.int8)
    graph = coo_array((ones, (left, right)), shape=(count, count))
    groups: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return groups


def _picture(thumbnail: bytes, mirrored: bool = False) -> Picture:
    picture = np.frombuffer(thumbnail, np.uint8).reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.ascontiguousarray(picture[:, ::-1]) if mirrored else picture
