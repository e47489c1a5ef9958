"""Compares two images part by part at up to 128 x 128 pixels: alignment and local correlation.

The thumbnail of 32 x 32 pixels proposes; what it cannot show (a finger, a word, a missing piece) is
looked at here. `scan` keeps a detail image of every file, so nothing is opened again.
"""

from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from numba import njit
from numpy.typing import NDArray

from stages.lib.images import THUMBNAIL_SIDE, Picture

DETAIL_SIDE = 128  # pixels: a detail image is squeezed to no more than this each way
DETAIL_QUALITY = 95  # of the JPEG that holds it: 3 to 6 KB for a photograph
MIRRORED = 4  # added to the number of quarter turns, as in `registration`

# Four band-passes, each the difference of two Gaussian blurs (deviations in pixels at 128): from
# texture to shapes. A copy loses the finest first; another exposure differs in the coarse ones too.
DEVIATIONS = (0.6, 1.2, 2.4, 4.8, 9.6)
COARSE = 4.8  # deviation of the blur in which tones are compared
BANDS = len(DEVIATIONS) - 1
ALIGN_SIDES = (64, 128)  # coarse to fine
ALIGN_STEPS, ALIGN_CHANGE = 12, 1e-3
MARGIN = 10  # pixels of the rim that are not compared: frames, rotated corners, band-pass borders
LEAST_OVERLAP = 0.25  # of the image
CELL, STEP = 16, 8  # pixels of a cell in which the images must agree, and between two cells
GAP = np.ones((1, 3), np.uint8)
STRIP = 4  # cells: a quarter of a side, in which captions and frames lie
TEXTURE = 2.0  # variance of a band in a cell below which there is nothing to compare (of 255²)
NOISE = 1.0  # variance that compression leaves; kept out of the ratio of two small numbers
# Correlation of a cell with texture below which its content differs: at least, or so much less than
# the others.
DISAGREES, FALLS_BEHIND = 0.4, 0.3
LARGEST_REGION = 0.45  # share of the cells with texture that captions and frames may cover
SMALL_SIDE = 40  # pixels: below, the thumbnail holds all there is
WELL_LAID, QUARTER = 0.8, DETAIL_SIDE // 4  # median over the cells; pixels
FULL_SIDE = 72  # pixels: of a smaller image, texture at 128 is what interpolation made up
# Standard deviation of chroma, of 255: below the first an image has no color to compare, below the
# second not enough to correlate.
LEAST_CHROMA, CLEAR_CHROMA = 1.5, 4.0


class Agreement(NamedTuple):
    """How two aligned detail images agree.

    side: pixels of the shorter side of the smaller one. correlation: of the BANDS bands, inside the
    margin and without what differs at the edge, -1 to 1. energy: log of the ratio of the standard
    deviations of each band, right to left, after contrast. weakest: the smaller standard deviation
    of each band, of 255. low, median: the 10 % quantile and the median over the cells of the band
    that is compared locally. differing: share of cells with texture that disagree. inside: the same
    for those that no caption, frame or rotated corner explains. color:
    correlation of chroma; 1 where one has no color. color_error: the largest difference of chroma
    between two cells, of 255, after contrast and cast. tone: what remains between the two at
    coarse scale, of 255, root mean square over luma and chroma, nothing corrected.
    """

    side: int
    correlation: NDArray[np.float64]
    energy: NDArray[np.float64]
    weakest: NDArray[np.float64]
    low: float
    median: float
    differing: float
    inside: float
    color: float
    color_error: float
    tone: float


# Of images that could not be laid over each other; a side of 0: there is no detail to compare.
NO_AGREEMENT = Agreement(
    0, np.zeros(BANDS), np.zeros(BANDS), np.zeros(BANDS), 0.0, 0.0, 1.0, 1.0, 0.0, 255.0, 255.0
)


class _Detail(NamedTuple):
    """A detail image made ready: luma, Cb and Cr (3, 128, 128), and its shorter side in pixels.

    leveled: luma without its slow changes, at each of ALIGN_SIDES.
    """

    planes: NDArray[np.float32]
    side: int
    leveled: list[NDArray[np.float32]]


def encode_detail(pixels: Picture) -> bytes:
    """Return RGB pixels (height, width, 3) squeezed to at most DETAIL_SIDE each way, as a JPEG.

    Sides that are shorter stay as they are: enlarging adds nothing.
    """
    height, width = pixels.shape[:2]
    size = (min(width, DETAIL_SIDE), min(height, DETAIL_SIDE))
    if size != (width, height):
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=DETAIL_QUALITY, colorsubsampling="420"
    )
    return data


def detail_side(data: bytes) -> int:
    """Return the shorter side of a detail image, read from its header."""
    height, width = simplejpeg.decode_jpeg_header(data)[:2]
    return min(int(height), int(width))


def compare_details(
    left: bytes, right: bytes, turn: int, warp: NDArray[np.float32], thorough: bool = True
) -> Agreement:
    """Return how two detail images agree once the right one is laid over the left one.

    turn: quarter turns of the right one, plus MIRRORED. warp: the affine map that
    `registered_similarity` found between their thumbnails; it is refined here by maximising the
    correlation (ECC; Evangelidis & Psarakis 2008). thorough: where that fails it is tried again
    without a strip that a caption may fill, and without what differs at the edge.
    """
    one, other = _prepared(left, 0), _prepared(right, turn)
    bands = _bands(one.planes[0])
    everywhere = np.full(one.planes[0].shape, 255, np.uint8)
    start = _scaled(warp)
    if min(one.side, other.side) < SMALL_SIDE:  # the thumbnails hold all there is, and are laid
        return _agree(one, bands, other, start)[0]
    place = _refine(one, other, start, everywhere)
    found, differing = _agree(one, bands, other, place)
    if not thorough:
        return found
    if found.median < WELL_LAID:
        # A caption or frame pulls the alignment: try without the upper or the lower quarter.
        for part in (slice(0, QUARTER), slice(-QUARTER, None)):
            mask = everywhere.copy()
            mask[part] = 0
            trial = _refine(one, other, start, mask)
            better, differs = _agree(one, bands, other, trial)
            if better.median > found.median:
                found, differing, place = better, differs, trial
    if 0 < found.differing - found.inside <= LARGEST_REGION:
        place = _refine(one, other, place, 255 - differing)
        better, _ = _agree(one, bands, other, place)
        found = max(found, better, key=lambda agreement: agreement.median)
    return found


def _prepared(data: bytes, turn: int) -> _Detail:
    pixels = simplejpeg.decode_jpeg(data, colorspace="RGB")
    side = min(pixels.shape[:2])
    color = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)
    size = (DETAIL_SIDE, DETAIL_SIDE)
    large = cv2.resize(color, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    if turn >= MIRRORED:
        large = large[:, ::-1]
    large = np.rot90(large, turn % MIRRORED)
    planes = np.ascontiguousarray(large.transpose(2, 0, 1))
    return _Detail(planes, side, [_leveled(planes[0], size) for size in ALIGN_SIDES])


def _scaled(warp: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a map between thumbnails, about their centers, as OpenCV wants it at DETAIL_SIDE."""
    center = np.full(2, (DETAIL_SIDE - 1) / 2)
    linear = warp[:, :2].astype(np.float64)
    shift = warp[:, 2] * (DETAIL_SIDE / THUMBNAIL_SIDE) + center - linear @ center
    return np.column_stack([linear, shift]).astype(np.float32)


def _refine(
    one: _Detail, other: _Detail, place: NDArray[np.float32], mask: NDArray[np.uint8]
) -> NDArray[np.float32]:
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ALIGN_STEPS, ALIGN_CHANGE)
    for side, first, second in zip(ALIGN_SIDES, one.leveled, other.leveled, strict=True):
        scale = side / DETAIL_SIDE
        trial = place.copy()
        trial[:, 2] *= scale
        # ECC's mask is of the image that is moved; the region is small against its margin.
        small = cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST)
        try:
            found = cv2.findTransformECC(
                first, second, trial, cv2.MOTION_AFFINE, criteria, np.asarray(small, np.uint8), 3
            )
            trial = np.asarray(found[1], np.float32)
        except cv2.error:  # it did not converge: the place stays what it was
            continue
        trial[:, 2] /= scale
        place = trial
    return place


def _leveled(plane: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    small = cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small - cv2.GaussianBlur(small, (0, 0), side / 16), np.float32)


def _bands(luma: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    soft = [cv2.GaussianBlur(luma, (0, 0), deviation) for deviation in DEVIATIONS]
    return [np.asarray(soft[at] - soft[at + 1], np.float32) for at in range(BANDS)]


def local_band(side: int) -> int:
    """Return the band whose detail an image of this side still holds."""
    return 1 if side >= FULL_SIDE else 2


def _agree(
    left: _Detail, left_bands: list[NDArray[np.float32]], right: _Detail, place: NDArray[np.float32]
) -> tuple[Agreement, NDArray[np.uint8]]:
    """Return the agreement, and a mask (255) of the cells that differ."""
    one, side = left.planes, min(left.side, right.side)
    size, flags = (DETAIL_SIDE, DETAIL_SIDE), cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    moved = np.asarray(
        [
            cv2.warpAffine(plane, place, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
            for plane in right.planes
        ],
        np.float32,
    )
    full = np.full(size, 255, np.uint8)
    covered = cv2.warpAffine(full, place, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    rim = 2 * MARGIN + 1
    covered = cv2.erode(
        covered, np.ones((rim, rim), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    nothing = np.zeros(size, np.uint8)
    if np.count_nonzero(covered) < LEAST_OVERLAP * covered.size:
        return NO_AGREEMENT._replace(side=side), nothing
    bands = list(zip(left_bands, _bands(moved[0]), strict=True))
    weight = (covered > 0).astype(np.float32)
    gain = _gain(*bands[-1], weight)
    values, texture = _cells(*bands[local_band(side)], weight, gain)
    usual = float(np.median(values[texture])) if texture.any() else 0.0
    apart = texture & (values < max(DISAGREES, usual - FALLS_BEHIND))
    edge = _at_edge(apart)
    differing, inside = (
        float(cells.sum()) / max(texture.sum(), 1) for cells in (apart, apart & ~edge)
    )
    region_mask: NDArray[np.uint8] = nothing
    if edge.any() and differing - inside <= LARGEST_REGION:
        mask = cv2.resize(edge.astype(np.uint8) * 255, size, interpolation=cv2.INTER_NEAREST)
        region_mask = np.asarray(mask, np.uint8)
        weight = weight * (region_mask == 0)
        texture = texture & ~edge
    agreeing = values[texture] if texture.any() else np.zeros(1)
    low, median = float(np.quantile(agreeing, 0.1)), float(np.median(agreeing))
    products = np.array([_moments(*pair, weight) for pair in bands])
    scale = np.sqrt(products[:, 1] * products[:, 2])
    contrast = np.log(max(products[-1, 2], 0.25) / max(products[-1, 1], 0.25))
    energy = 0.5 * (np.log((products[:, 2] + 0.1) / (products[:, 1] + 0.1)) - contrast)
    found = Agreement(
        side,
        products[:, 0] / np.maximum(scale, 1e-6),
        energy,
        np.sqrt(products[:, 1:].min(axis=1)),
        low,
        median,
        differing,
        inside,
        *_color(one[1:], moved[1:], weight),
        _tone(one, moved, weight),
    )
    return found, region_mask


def _at_edge(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the cells that a caption, a frame or a rotated corner explains.

    A connected region of them lies within an outer strip, and runs along half a side or lies in a
    corner.
    """
    side = len(cells)
    strip = np.ones(cells.shape, bool)
    strip[STRIP:-STRIP, STRIP:-STRIP] = False
    explained = np.zeros(cells.shape, bool)
    # The letters of a caption are parted by plain cells; within the strip they belong together.
    closed = cv2.morphologyEx((cells & strip).astype(np.uint8), cv2.MORPH_CLOSE, GAP)
    joined = cells | (np.asarray(closed) > 0)
    count, numbers = cv2.connectedComponents(np.asarray(joined, np.uint8), connectivity=8)
    for number in range(1, count):
        region = numbers == number
        rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
        lengths = len(rows), len(columns)
        in_corner = all(
            places.max() < STRIP or places.min() >= side - STRIP for places in (rows, columns)
        )
        if not (region & ~strip).any() and (max(lengths) >= side / 2 or in_corner):
            explained |= region & cells
    return explained


def _gain(
    one: NDArray[np.float32], other: NDArray[np.float32], weight: NDArray[np.float32]
) -> float:
    """Return the contrast of the other one relative to the first."""
    _, first, second = _moments(one, other, weight)
    return float(np.sqrt(max(second, 0.25) / max(first, 0.25)))


@njit(nogil=True, cache=True, fastmath=True)
def _moments(one, other, weight):  # type: ignore[no-untyped-def]
    """Return covariance and both variances of two planes where the weight (0 or 1) is 1."""
    total = left = right = both = lefts = rights = 0.0
    for y in range(one.shape[0]):
        for x in range(one.shape[1]):
            w = weight[y, x]
            a, b = w * one[y, x], w * other[y, x]
            total += w
            left += a
            right += b
            both += a * b
            lefts += a * a
            rights += b * b
    total = max(total, 1.0)
    left, right = left / total, right / total
    return both / total - left * right, lefts / total - left * left, rights / total - right * right


def _cell_means(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    small = cv2.boxFilter(plane, -1, (CELL, CELL), borderType=cv2.BORDER_REFLECT)
    return np.asarray(small[CELL // 2 :: STEP, CELL // 2 :: STEP], np.float32)


def _cells(
    one: NDArray[np.float32], other: NDArray[np.float32], weight: NDArray[np.float32], gain: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the correlation in each cell, and which cells inside have texture to compare."""

    # The stronger contrast is brought down to the weaker, so that noise is not made out of it.
    one, other = (one, other / gain) if gain > 1 else (one * gain, other)
    covered = _cell_means(weight)
    total = np.maximum(covered, 1e-6)
    first, second = _cell_means(one * weight) / total, _cell_means(other * weight) / total
    left = _cell_means(one * one * weight) / total - first * first
    right = _cell_means(other * other * weight) / total - second * second
    both = _cell_means(one * other * weight) / total - first * second
    values = both / np.sqrt(np.maximum(left, 0) * np.maximum(right, 0) + NOISE)
    return np.asarray(values, np.float32), (covered > 0.5) & (np.maximum(left, right) > TEXTURE)


def _color(
    one: NDArray[np.float32], other: NDArray[np.float32], weight: NDArray[np.float32]
) -> tuple[float, float]:
    """Return the correlation of chroma and its largest difference in a cell.

    1 and 0 where one of the two has no color to compare.
    """
    first = ((one - 128) * weight).ravel()
    second = ((other - 128) * weight).ravel()
    total = 2 * max(float(weight.sum()), 1.0)
    spread = [float(np.vdot(plane, plane)) / total for plane in (first, second)]
    if min(spread) < LEAST_CHROMA**2:
        return 1.0, 0.0
    plain = float(np.vdot(first, second)) / total / np.sqrt(spread[0] * spread[1])
    moments = [_moments(*planes, weight) for planes in zip(one, other, strict=True)]
    product, left, right = np.sum(moments, axis=0)
    centered = product / np.sqrt(left * right) if min(left, right) > 1 else plain
    gain = product / max(left, 1.0)
    covered = _cell_means(weight)
    ratio = np.maximum(covered, 1e-6)
    worst = 0.0
    for before, after in zip(one, other, strict=True):
        change = _cell_means((after - gain * before) * weight) / ratio
        change = change[covered > 0.5]
        if len(change):
            worst = max(worst, float(np.abs(change - np.median(change)).max()))
    clear = min(spread) >= CLEAR_CHROMA**2
    return float(max(plain, centered)) if clear else 1.0, worst


def _tone(
    one: NDArray[np.float32], other: NDArray[np.float32], weight: NDArray[np.float32]
) -> float:
    total = max(float(weight.sum()), 1.0)
    soft = [cv2.GaussianBlur(plane, (0, 0), COARSE) * weight for plane in other - one]
    return float(np.sqrt(sum(float(np.vdot(plane, plane)) for plane in soft) / total))
