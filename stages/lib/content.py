"""Tells whether an image shows anything at all, and enough of it to be compared with others."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.lib.hashing import is_flat
from stages.lib.images import CHROMA_SIDE, THUMBNAIL_SIDE
from stages.lib.neighbours import descriptors
from stages.lib.registration import DETAIL_DEVIATION, FLAT_DETAIL
from stages.lib.thumbnails import Thumbnails

Mask = NDArray[np.bool_]
PART = 8192  # thumbnails measured at a time: as floats they take four times the memory

# A claim about data, chosen on six sets: 67,486 photographs and drawings, and 1,344 masks. The
# values of a photograph's thumbnail span at least 38 of 255; 956 masks are black and span 0, the
# others 3 (a mark, see below), 9, 44 and more. A faint shape of 8 levels spans 8.
PLAIN_SPAN = 3
# Noise over one color, as a sensor or a JPEG encoder makes it, spans more in a small image, but it
# differs from cell to cell: most of its deviation is fine detail, and no cell stands out.
NOISE_SPAN = 20
NOISE_DETAIL = 0.5  # share of the thumbnail's deviation; light, fog and shapes reach 0.3
NOISE_OUTLIER = 10  # deviations; 1,024 values of white noise span 6 to 8
GRAY_LEVELS = 10  # of 255: what 94 % of the pixels lie within
# White noise of deviation s has an entropy of log2(s * sqrt(2 pi e)) bits and a variance of the
# Laplacian of 20 s^2, which is 1.17 * 4^entropy. Three times as much is a mark: text, a line. On a
# plain ground, which has no entropy, the smallest of marks remain: one pixel among 300,000.
MARK_SHARPNESS, LEAST_SHARPNESS = 3.5, 0.5

# Shorter side in pixels. Of 196 photographs reduced to it, so many are found again after another
# JPEG compression: 77 % at 6, 96 % at 8, 98 % at 10, 99 % at 12, 99.5 % at 16.
COMPARABLE_SIDE = 12


def is_single_color(rows: pd.DataFrame, thumbnails: Thumbnails) -> Mask:
    """Return which images show one color, or all but one: nothing that a label could mean.

    It is judged at the size of scan's measures (shorter side at most 128 pixels), where a dot of
    some pixels in a large image is gone, and a regular pattern of single pixels is one gray.

    Parameters
    ----------
    rows : DataFrame
        Rows of the scan's table; `thumbnail` is the row of `thumbnails`.
    thumbnails : ndarray of uint8, shape (any, THUMBNAIL_BYTES)

    Returns
    -------
    ndarray of bool, shape (len(rows),)
        False for what could not be read.
    """
    levels = 255 * (rows["brightness_high"] - rows["brightness_low"]).to_numpy(np.float64)
    likely = is_readable(rows) & (levels.round() <= GRAY_LEVELS)
    few = rows[likely]
    entropy, sharpness = (few[name].to_numpy(np.float64) for name in ("entropy", "sharpness"))
    found = np.zeros(len(rows), bool)
    found[likely] = sharpness <= MARK_SHARPNESS * (4**entropy - 1) + LEAST_SHARPNESS
    for part in _parts(np.flatnonzero(found)):
        found[part] = _is_plain(thumbnails[rows["thumbnail"].to_numpy(np.int64)[part]])
    return found


def is_comparable(rows: pd.DataFrame, thumbnails: Thumbnails) -> Mask:
    """Return in which images the search for near-duplicates can see anything.

    Below a fine detail of FLAT_DETAIL no pair of images is a near-duplicate, whatever they show: of
    copies of photographs without contrast, 0 % are found below 1.2, 96 % from 1.5 on. An image
    whose hash and descriptor are both flat is proposed to no other. Exact copies are found always.

    Parameters
    ----------
    rows : DataFrame
        Rows of the scan's table; `thumbnail` is the row of `thumbnails`.
    thumbnails : ndarray of uint8, shape (any, THUMBNAIL_BYTES)

    Returns
    -------
    ndarray of bool, shape (len(rows),)
        False for what could not be read.
    """
    at = rows["thumbnail"].to_numpy(np.int64)
    large = rows[["width", "height"]].min(axis="columns").to_numpy() >= COMPARABLE_SIDE
    hashes = [rows[name].to_numpy(np.uint64) for name in ("phash", "phash_mirrored")]
    flat = is_flat(hashes[0]) | is_flat(hashes[1])
    found: Mask = is_readable(rows) & large
    for part in _parts(np.flatnonzero(found)):
        found[part] = fine_detail(thumbnails[at[part]]) >= FLAT_DETAIL
    for part in _parts(np.flatnonzero(found & flat)):
        found[part] = descriptors(thumbnails[at[part]]).any(axis=1)
    return found


def fine_detail(thumbnails: Thumbnails) -> NDArray[np.float32]:
    """Return the deviation, of 255, of each thumbnail's luma less its blur: what registration
    compares.
    """
    luma = _luma(thumbnails)
    blur = gaussian_filter(luma, (0, DETAIL_DEVIATION, DETAIL_DEVIATION), mode="mirror", truncate=3)
    return np.asarray((luma - blur).std(axis=(1, 2)), np.float32)


def is_readable(rows: pd.DataFrame) -> Mask:
    """Return which rows of the scan hold the measures of an image."""
    return np.asarray(~rows["verdict"].isin(("corrupt", "unsupported")), bool)


def _is_plain(thumbnails: Thumbnails) -> Mask:
    luma = _luma(thumbnails)
    chroma = thumbnails[:, THUMBNAIL_SIDE**2 :].reshape(-1, 2, CHROMA_SIDE**2)
    span = np.ptp(luma, axis=(1, 2))
    widest = np.maximum(span, np.ptp(chroma, axis=2).max(axis=1))
    deviation = luma.std(axis=(1, 2))
    even = fine_detail(thumbnails) >= NOISE_DETAIL * deviation
    noise = even & (span <= NOISE_OUTLIER * deviation) & (widest <= NOISE_SPAN)
    return np.asarray((widest <= PLAIN_SPAN) | noise, bool)


def _luma(thumbnails: Thumbnails) -> NDArray[np.float32]:
    luma = thumbnails[:, : THUMBNAIL_SIDE**2].reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return luma.astype(np.float32)


def _parts(at: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [at[start : start + PART] for start in range(0, len(at), PART)]
