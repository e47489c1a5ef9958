"""Do two thumbnails show the same shot? Lays one over the other and correlates detail and colour.

A pair is first compared coarsely (band-passed luma at 16 × 16, three scales, shifts); what
resembles is registered by an affine map and only then judged. The kernels are compiled, because a
data set proposes many pairs: hundreds of thousands for 60,000 pictures. They stand in one file,
because the compiler's cache notices a change in the file of a kernel, not in those that it calls.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stages.lib.images import CHROMA_SIDE, THUMBNAIL_SIDE
from stages.lib.progress import track
from stages.lib.thumbnails import Thumbnails

T = TypeVar("T")
Positions = NDArray[np.int64]
Turns = NDArray[np.int64]
Similarities = NDArray[np.float32]
Warps = NDArray[np.float32]  # (pairs, 2, 3): affine, from left to right, pixels about the center

SIDE, HALF = THUMBNAIL_SIDE, THUMBNAIL_SIDE // 2
MIRRORED = 4  # added to the number of quarter turns

# Two pictures whose band-passed luma correlates less than this at 16 × 16 hardly ever reach a
# duplicate's similarity: of 3,420 verified pairs of CIFAR-10, 99.0 % lie above it, of the nearest
# neighbours that are no duplicates 4 %.
COARSE_SIMILARITY = 0.55
COARSE_SCALES = (0.87, 1.0, 1.15)
COARSE_SHIFT, COARSE_CORE = 2, 12
LEAST_PLACED = 0.55  # the same at 32 × 32, where the pair is placed: below, no registration helps
FINE_SCALES = (0.935, 1.0, 1.07)
FINE_SHIFT, FINE_CORE = 2, 22
STEPS = 15  # of registration; it usually settles within ten
CORE_MARGIN = 3  # pixels of the border that registration ignores, since a shift moves them out

# What is compared: fine detail (luma less a blur of this deviation, in thumbnail pixels), a small
# share of the coarse luma, and colour. Chosen on pairs judged by eye, see benchmarks/README.md.
DETAIL_DEVIATION = 1.0
LOW_SHARE = 0.1
BAND_DEVIATION = 2.5  # of the band-pass that finds the place
FLAT_DETAIL = 1.5  # deviation of the detail, of 255, below which it is noise: matches nothing
GREY_CHROMA = 2.0  # deviation of the chroma below which a picture has no colour to compare
# Colour counts as its contrast does, but at most half as much as detail: saturated pictures of two
# things would else correlate by their colour alone.
LARGEST_COLOUR_SHARE = 0.5
# A caption or a mended corner must not hide a copy: leaving out any quarter of the picture counts
# as well, at a price.
PART_PENALTY = 0.05
# Where the share of detail in one picture is so many times that in the other, that one has lost it:
# then coarser detail is compared, at a price.
BLUNT_RATIO = 3.0
BLUNT_PENALTY = 0.08
HOPELESS = 0.25  # luma that agrees no better is not followed up in colour and parts
LEAST_OVERLAP = 0.5
LARGEST_STRETCH = 1.6  # of one axis against the other
COARSE_CHUNK, FINE_CHUNK = 8192, 256  # pairs that a thread compares at a time


def _gauss(deviation: float, radius: int) -> NDArray[np.float32]:
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * deviation**2))
    return np.asarray(weights / weights.sum(), np.float32)


def _zoom(scale: float) -> NDArray[np.float32]:
    """Return the weights of linear interpolation about the centre: one row per sample."""
    middle = (HALF - 1) / 2
    at = np.clip((np.arange(HALF) - middle) / scale + middle, 0, HALF - 1)
    return np.asarray(np.maximum(1 - np.abs(at[:, None] - np.arange(HALF)), 0), np.float32)


_HALF_BAND = _gauss(BAND_DEVIATION / 2, 3)
_BAND = _gauss(BAND_DEVIATION, 6)
_DETAIL = _gauss(DETAIL_DEVIATION, 3)
_SOFT = _gauss(0.8, 2)
# First and last row and column: of the whole, and of it without its bottom, top, right, left.
_WINDOWS = np.array(
    [
        (0, SIDE, 0, SIDE),
        (0, 3 * SIDE // 4, 0, SIDE),
        (SIDE // 4, SIDE, 0, SIDE),
        (0, SIDE, 0, 3 * SIDE // 4),
        (0, SIDE, SIDE // 4, SIDE),
    ]
)
_COARSE_SCALES = np.array(COARSE_SCALES, np.float32)
_COARSE_ZOOMS = np.stack([_zoom(scale) for scale in COARSE_SCALES])
_FINE_SCALES = np.array(FINE_SCALES, np.float32)


def band_passed(thumbnails: Thumbnails) -> NDArray[np.float32]:
    """Return the luma of each thumbnail at 16 × 16 without its coarse light and shade."""
    return np.asarray(_band_passed(thumbnails, _HALF_BAND), np.float32)


def coarse_similarity(
    bands: NDArray[np.float32], left: Positions, right: Positions, turns: Turns
) -> Similarities:
    """Return for each pair the best correlation of `bands` over small shifts and scales, 0 to 1.

    turns: how the right one is turned before: quarter turns, plus MIRRORED. Fastest where equal
    `right` and `turns` follow each other.
    """

    def compare(part: slice) -> Similarities:
        return np.asarray(
            _coarse(bands, left[part], right[part], turns[part], _COARSE_ZOOMS)[0], np.float32
        )

    found = _in_threads(compare, len(left), COARSE_CHUNK, "compare coarsely")
    return np.concatenate([np.empty(0, np.float32), *found])


def registered_similarity(
    thumbnails: Thumbnails,
    bands: NDArray[np.float32],
    left: Positions,
    right: Positions,
    turns: Turns,
) -> tuple[Similarities, Warps]:
    """Return for each pair the correlation of detail and colour after registration, −1 to 1, and
    the affine map that was found (zeros where there is none).

    The right picture, turned as `turns` says, is laid over the left one by the affine map that
    brings them closest (Gauss-Newton on the correlation, inverse compositional; after Evangelidis &
    Psarakis 2008 and Baker & Matthews 2004). Flat pictures, and maps that no copy needs, give 0.
    """

    def compare(part: slice) -> tuple[Similarities, Warps]:
        similarity, warps = _registered(
            thumbnails, bands, left[part], right[part], turns[part],
            _COARSE_ZOOMS, _COARSE_SCALES, _FINE_SCALES, _BAND, _DETAIL, _SOFT,
        )  # fmt: skip
        return np.asarray(similarity, np.float32), np.asarray(warps, np.float32)

    found = _in_threads(compare, len(left), FINE_CHUNK, "compare pixels")
    return (
        np.concatenate([np.empty(0, np.float32), *(one for one, _ in found)]),
        np.concatenate([np.empty((0, 2, 3), np.float32), *(warps for _, warps in found)]),
    )


def _in_threads(function: Callable[[slice], T], count: int, size: int, description: str) -> list[T]:
    """Return function(part) for parts of so many pairs, in order; kernels run side by side."""
    parts = [slice(at, at + size) for at in range(0, count, size)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(track(threads.map(function, parts), len(parts), description, "chunks"))


@njit(nogil=True, cache=True, fastmath=True)
def _less_blur(source, kernel, rows, out):  # type: ignore[no-untyped-def]
    """Write source less its Gaussian blur to out; the border is reflected."""
    side, radius = source.shape[0], len(kernel) // 2
    for y in range(side):
        rows[y, :] = 0
        for tap in range(-radius, radius + 1):
            at = y + tap
            at = -at if at < 0 else (2 * side - 2 - at if at >= side else at)
            weight = kernel[tap + radius]
            for x in range(side):
                rows[y, x] += weight * source[at, x]
    for y in range(side):
        for x in range(side):
            total = np.float32(0)
            for tap in range(-radius, radius + 1):
                at = x + tap
                at = -at if at < 0 else (2 * side - 2 - at if at >= side else at)
                total += kernel[tap + radius] * rows[y, at]
            out[y, x] = source[y, x] - total


@njit(nogil=True, cache=True)
def _band_passed(thumbnails, kernel):  # type: ignore[no-untyped-def]
    count = len(thumbnails)
    bands = np.empty((count, HALF, HALF), np.float32)
    small = np.empty((HALF, HALF), np.float32)
    rows = np.empty((HALF, HALF), np.float32)
    for i in range(count):
        thumbnail = thumbnails[i]
        for y in range(HALF):
            for x in range(HALF):
                at = 2 * SIDE * y + 2 * x
                total = (
                    np.int64(thumbnail[at])
                    + np.int64(thumbnail[at + 1])
                    + np.int64(thumbnail[at + SIDE])
                    + np.int64(thumbnail[at + SIDE + 1])
                )
                small[y, x] = np.float32(total) / np.float32(4)
        _less_blur(small, kernel, rows, bands[i])
    return bands


@njit(nogil=True, cache=True)
def _turned(source, turn, out):  # type: ignore[no-untyped-def]
    """Write a square picture to out, mirrored and then turned by quarters anticlockwise."""
    side = source.shape[0]
    quarter, mirrored = turn % 4, turn >= 4
    for y in range(side):
        for x in range(side):
            if quarter == 0:
                v, u = y, x
            elif quarter == 1:
                v, u = x, side - 1 - y
            elif quarter == 2:
                v, u = side - 1 - y, side - 1 - x
            else:
                v, u = side - 1 - x, y
            if mirrored:
                u = side - 1 - u
            out[y, x] = source[v, u]


@njit(nogil=True, cache=True, fastmath=True)
def _zoomed(source, pixels, side, out):  # type: ignore[no-untyped-def]
    """Write side × side samples to out, `pixels` of the source apart, about its centre."""
    last = source.shape[0] - 1
    centre, middle = np.float32(last) / 2, np.float32(side - 1) / 2
    top = np.float32(last)
    for y in range(side):
        v = min(max((y - middle) * pixels + centre, np.float32(0)), top)
        row = min(int(v), last - 1)
        down = v - row
        for x in range(side):
            u = min(max((x - middle) * pixels + centre, np.float32(0)), top)
            column = min(int(u), last - 1)
            across = u - column
            above = source[row, column] * (1 - across) + source[row, column + 1] * across
            below = source[row + 1, column] * (1 - across) + source[row + 1, column + 1] * across
            out[y, x] = above * (1 - down) + below * down


@njit(nogil=True, cache=True, fastmath=True)
def _integrals(picture, side, sums, squares):  # type: ignore[no-untyped-def]
    sums[0, :] = 0
    squares[0, :] = 0
    for y in range(side):
        total, square = np.float32(0), np.float32(0)
        sums[y + 1, 0] = 0
        squares[y + 1, 0] = 0
        for x in range(side):
            total += picture[y, x]
            square += picture[y, x] * picture[y, x]
            sums[y + 1, x + 1] = sums[y, x + 1] + total
            squares[y + 1, x + 1] = squares[y, x + 1] + square


@njit(nogil=True, cache=True, fastmath=True)
def _template(picture, core, out):  # type: ignore[no-untyped-def]
    """Write the zero-mean core of a picture to out, whose further columns stay 0.

    Return its energy.
    """
    start = (picture.shape[0] - core) // 2
    mean = np.float32(0)
    for y in range(core):
        for x in range(core):
            mean += picture[start + y, start + x]
    mean /= core * core
    energy = np.float32(0)
    for y in range(core):
        for x in range(core):
            value = picture[start + y, start + x] - mean
            out[y, x] = value
            energy += value * value
    return energy


@njit(nogil=True, cache=True, fastmath=True)
def _slide(template, energy, core, width, picture, sums, squares, shifts):  # type: ignore[no-untyped-def]
    """Return the highest squared correlation of the template over the picture, and where."""
    best, best_y, best_x = np.float32(0), 0, 0
    columns = np.empty(width, np.float32)
    area = np.float32(core * core)
    for dy in range(shifts):
        for dx in range(shifts):
            # Column by column, so that the processor sums a whole row at once.
            for x in range(width):
                columns[x] = template[0, x] * picture[dy, dx + x]
            for y in range(1, core):
                for x in range(width):
                    columns[x] += template[y, x] * picture[dy + y, dx + x]
            product = np.float32(0)
            for x in range(width):
                product += columns[x]
            if product <= 0:
                continue
            total = (
                sums[dy + core, dx + core] - sums[dy, dx + core]
                - sums[dy + core, dx] + sums[dy, dx]
            )  # fmt: skip
            square = (
                squares[dy + core, dx + core] - squares[dy, dx + core]
                - squares[dy + core, dx] + squares[dy, dx]
            )  # fmt: skip
            spread = (square - total * total / area) * energy
            if spread > 1:
                value = product * product / spread
                if value > best:
                    best, best_y, best_x = value, dy, dx
    return best, best_y, best_x


@njit(nogil=True, cache=True, fastmath=True)
def _zoomed_by(zoom, across, source, rows, out):  # type: ignore[no-untyped-def]
    """Write zoom · source · across to out: `_zoomed` with its weights as a matrix, for speed."""
    side = len(zoom)
    for y in range(side):
        rows[y, :] = 0
        for v in range(side):
            weight = zoom[y, v]
            if weight != 0:
                for x in range(side):
                    rows[y, x] += weight * source[v, x]
    for y in range(side):
        out[y, :side] = 0
        for u in range(side):
            value = rows[y, u]
            for x in range(side):
                out[y, x] += value * across[u, x]


@njit(nogil=True, cache=True, fastmath=True)
def _coarse(bands, left, right, turns, zooms):  # type: ignore[no-untyped-def]
    """Return for each pair the best correlation, and at which scale and shift it was found."""
    count, levels = len(left), len(zooms)
    shifts = 2 * COARSE_SHIFT + 1
    turned = np.empty((HALF, HALF), np.float32)
    rows = np.empty((HALF, HALF), np.float32)
    transposed = np.ascontiguousarray(zooms.transpose(0, 2, 1))
    zoomed = np.zeros((levels, HALF + 1, HALF + 8), np.float32)
    sums = np.empty((levels, HALF + 1, HALF + 1), np.float32)
    squares = np.empty((levels, HALF + 1, HALF + 1), np.float32)
    template = np.zeros((COARSE_CORE, 16), np.float32)
    values = np.empty(count, np.float32)
    places = np.empty((count, 3), np.int64)
    last_right, last_turn = -1, -1
    for k in range(count):
        if right[k] != last_right or turns[k] != last_turn:
            last_right, last_turn = right[k], turns[k]
            _turned(bands[last_right], last_turn, turned)
            for level in range(levels):
                _zoomed_by(zooms[level], transposed[level], turned, rows, zoomed[level])
                _integrals(zoomed[level], HALF, sums[level], squares[level])
        energy = _template(bands[left[k]], COARSE_CORE, template)
        best = np.float32(0)
        for level in range(levels):
            value, y, x = _slide(
                template, energy, COARSE_CORE, 16,
                zoomed[level], sums[level], squares[level], shifts,
            )  # fmt: skip
            if value > best:
                best = value
                places[k, 0], places[k, 1], places[k, 2] = level, y, x
        values[k] = math.sqrt(best)
    return values, places


@njit(nogil=True, cache=True)
def _luma(thumbnail, turn, spare, out):  # type: ignore[no-untyped-def]
    """Write the turned luma to out."""
    for y in range(SIDE):
        for x in range(SIDE):
            spare[y, x] = thumbnail[SIDE * y + x]
    _turned(spare, turn, out)


@njit(nogil=True, cache=True)
def _chroma(thumbnail, plane, turn, small, spare, out):  # type: ignore[no-untyped-def]
    """Write a turned chroma plane (0: Cb, 1: Cr) to out at the size of luma, zero is neutral."""
    start = SIDE * SIDE + plane * CHROMA_SIDE * CHROMA_SIDE
    for y in range(CHROMA_SIDE):
        for x in range(CHROMA_SIDE):
            small[y, x] = np.float32(thumbnail[start + CHROMA_SIDE * y + x]) - np.float32(128)
    _zoomed(small, np.float32(CHROMA_SIDE) / np.float32(SIDE), SIDE, spare)
    _turned(spare, turn, out)


@njit(nogil=True, cache=True, fastmath=True)
def _sample(source, v, u):  # type: ignore[no-untyped-def]
    top = np.float32(SIDE - 1)
    v = min(max(v, np.float32(0)), top)
    u = min(max(u, np.float32(0)), top)
    row, column = min(int(v), SIDE - 2), min(int(u), SIDE - 2)
    down, across = v - row, u - column
    above = source[row, column] * (1 - across) + source[row, column + 1] * across
    below = source[row + 1, column] * (1 - across) + source[row + 1, column + 1] * across
    return above * (1 - down) + below * down


@njit(nogil=True, cache=True, fastmath=True)
def _place(left_band, right_band, scale, shift_y, shift_x, scales, work):  # type: ignore[no-untyped-def]
    """Return where the coarse place is best refined: scale and shift in pixels of the left."""
    template, zoomed, sums, squares = work
    room = SIDE + 8
    energy = _template(left_band, FINE_CORE, template)
    best, best_scale, best_y, best_x = np.float32(0), scale, np.float32(0), np.float32(0)
    start = (SIDE - FINE_CORE) // 2
    shifts = 2 * FINE_SHIFT + 1
    for level in range(len(scales)):
        here = scale * scales[level]
        _zoomed(right_band, np.float32(1) / here, room, zoomed)
        _integrals(zoomed, room, sums, squares)
        # In zoomed pixels the core would start at `start + 4` if there were no shift at all.
        top = min(max(start + 4 + shift_y - FINE_SHIFT, 0), room - FINE_CORE - shifts + 1)
        side = min(max(start + 4 + shift_x - FINE_SHIFT, 0), room - FINE_CORE - shifts + 1)
        value, y, x = _slide(
            template, energy, FINE_CORE, FINE_CORE,
            zoomed[top:, side:], sums[top:, side:], squares[top:, side:], shifts,
        )  # fmt: skip
        if value > best:
            best, best_scale = value, here
            best_y = np.float32(top + y - start - 4)
            best_x = np.float32(side + x - start - 4)
    return best, best_scale, best_y, best_x


@njit(nogil=True, cache=True, fastmath=True)
def _align(left, right, warp, slopes, residual):  # type: ignore[no-untyped-def]
    """Improve the affine `warp` (2 × 3, left to right coordinates about the centre) in place."""
    low, high = CORE_MARGIN, SIDE - CORE_MARGIN
    centre = np.float32(SIDE - 1) / 2
    area = (high - low) * (high - low)
    mean = np.float32(0)
    for y in range(low, high):
        for x in range(low, high):
            mean += left[y, x]
    mean /= area
    energy = np.float32(0)
    for y in range(low, high):
        for x in range(low, high):
            energy += (left[y, x] - mean) ** 2
    norm = np.float32(1) / np.float32(math.sqrt(energy + np.float32(1e-6)))
    # Steepest-descent pictures of the normalised left one, without what brightness and contrast
    # explain.
    means, along = np.zeros(6, np.float32), np.zeros(6, np.float32)
    at = 0
    for y in range(low, high):
        for x in range(low, high):
            across = (left[y, x + 1] - left[y, x - 1]) * np.float32(0.5) * norm
            down = (left[y + 1, x] - left[y - 1, x]) * np.float32(0.5) * norm
            v, u = (y - centre) / centre, (x - centre) / centre
            slopes[0, at], slopes[1, at], slopes[2, at] = across * u, across * v, across
            slopes[3, at], slopes[4, at], slopes[5, at] = down * u, down * v, down
            at += 1
    for n in range(6):
        total = np.float32(0)
        for at in range(area):
            total += slopes[n, at]
        means[n] = total / area
    at = 0
    for y in range(low, high):
        for x in range(low, high):
            value = (left[y, x] - mean) * norm
            for n in range(6):
                slopes[n, at] -= means[n]
                along[n] += slopes[n, at] * value
            at += 1
    at = 0
    for y in range(low, high):
        for x in range(low, high):
            value = (left[y, x] - mean) * norm
            for n in range(6):
                slopes[n, at] -= along[n] * value
            at += 1
    hessian = np.zeros((6, 6), np.float64)
    for n in range(6):
        for m in range(n + 1):
            total = np.float32(0)
            for at in range(area):
                total += slopes[n, at] * slopes[m, at]
            hessian[n, m] = hessian[m, n] = total
        hessian[n, n] = hessian[n, n] * 1.001 + 1e-7
    inverse = np.linalg.inv(hessian)
    change = np.zeros(6, np.float64)
    pull = np.zeros(6, np.float64)
    for _ in range(STEPS):
        at = 0
        total, square = np.float32(0), np.float32(0)
        for y in range(low, high):
            for x in range(low, high):
                v, u = y - centre, x - centre
                value = _sample(
                    right,
                    warp[1, 0] * u + warp[1, 1] * v + warp[1, 2] + centre,
                    warp[0, 0] * u + warp[0, 1] * v + warp[0, 2] + centre,
                )
                residual[at] = value
                total += value
                square += value * value
                at += 1
        average = total / area
        gain = np.float32(1) / np.float32(
            math.sqrt(max(square - total * average, np.float32(1e-3)))
        )
        for at in range(area):
            residual[at] = (residual[at] - average) * gain
        for n in range(6):
            product = np.float32(0)
            for at in range(area):
                product += slopes[n, at] * residual[at]
            pull[n] = product
        for n in range(6):
            change[n] = 0.0
            for m in range(6):
                change[n] += inverse[n, m] * pull[m]
        # Compose the warp with the inverse of the change; slopes used coordinates of −1 to 1.
        a, b, tx = 1 + change[0] / centre, change[1] / centre, change[2]
        c, d, ty = change[3] / centre, 1 + change[4] / centre, change[5]
        det = a * d - b * c
        if not 0.3 < det < 3:
            return False
        ia, ib, ic, id_ = d / det, -b / det, -c / det, a / det
        ix, iy = -(ia * tx + ib * ty), -(ic * tx + id_ * ty)
        w00, w01, w02 = warp[0, 0], warp[0, 1], warp[0, 2]
        w10, w11, w12 = warp[1, 0], warp[1, 1], warp[1, 2]
        warp[0, 0], warp[0, 1] = w00 * ia + w01 * ic, w00 * ib + w01 * id_
        warp[1, 0], warp[1, 1] = w10 * ia + w11 * ic, w10 * ib + w11 * id_
        warp[0, 2] = w00 * ix + w01 * iy + w02
        warp[1, 2] = w10 * ix + w11 * iy + w12
        if (
            abs(tx) + abs(ty) + abs(change[0]) + abs(change[1]) + abs(change[3]) + abs(change[4])
            < 0.01
        ):
            break
    return True


@njit(nogil=True, cache=True, fastmath=True)
def _is_plausible(warp):  # type: ignore[no-untyped-def]
    """Tell whether a copy could need this map: no mirror, no shear, no far shift."""
    a, b, c, d = warp[0, 0], warp[0, 1], warp[1, 0], warp[1, 1]
    det = a * d - b * c
    if not 0.4 < det < 2.5:
        return False
    square = a * a + b * b + c * c + d * d
    spread = math.sqrt(max(square * square - 4 * det * det, 0.0))
    if square - spread <= 0 or (square + spread) / (square - spread) > LARGEST_STRETCH**2:
        return False
    return max(abs(warp[0, 2]), abs(warp[1, 2])) < 6


@njit(nogil=True, cache=True, fastmath=True)
def _moments(one, other, one_low, other_low, share, inside, window):  # type: ignore[no-untyped-def]
    """Return covariance and both variances, times the count, of detail plus a share of the rest."""
    count = a = b = ab = aa = bb = np.float32(0)
    for y in range(window[0], window[1]):
        for x in range(window[2], window[3]):
            weight = inside[y, x]
            p = one[y, x] + share * one_low[y, x]
            q = other[y, x] + share * other_low[y, x]
            count += weight
            a += weight * p
            b += weight * q
            ab += weight * p * q
            aa += weight * p * p
            bb += weight * q * q
    count = max(count, np.float32(1))
    return ab - a * b / count, aa - a * a / count, bb - b * b / count, count


@njit(nogil=True, cache=True, fastmath=True)
def _agreement(luma, blue, red, moved, fine, inside, window):  # type: ignore[no-untyped-def]
    """Return the correlation of detail and colour within a window, 0 where there is no detail.

    Colour weighs as much as its contrast says, but at most LARGEST_COLOUR_SHARE of the detail.
    """
    none = np.float32(0)
    _, one, other, count = _moments(fine[0], fine[1], luma, moved[0], none, inside, window)
    if min(one, other) < FLAT_DETAIL**2 * count:
        return none
    share = np.float32(LOW_SHARE)
    product, one, other, _ = _moments(fine[0], fine[1], luma, moved[0], share, inside, window)
    weight = math.sqrt(one * other)
    blues = _moments(blue, moved[1], blue, moved[1], none, inside, window)
    reds = _moments(red, moved[2], red, moved[2], none, inside, window)
    one, other = blues[1] + reds[1], blues[2] + reds[2]
    if min(one, other) <= GREY_CHROMA**2 * count:
        return product / weight
    contrast = math.sqrt(one * other)
    colour = min(contrast, LARGEST_COLOUR_SHARE * weight)
    return (product + colour * (blues[0] + reds[0]) / contrast) / (weight + colour)


@njit(nogil=True, cache=True, fastmath=True)
def _is_one_blunt(luma, moved, fine, inside):  # type: ignore[no-untyped-def]
    """Tell whether one of the two has lost its fine detail, as a small or blurred copy has."""
    none, whole = np.float32(0), _WINDOWS[0]
    _, one, other, count = _moments(fine[0], fine[1], luma, moved, none, inside, whole)
    if max(one, other) < FLAT_DETAIL**2 * count:
        return False  # neither ever had any
    _, one_all, other_all, _ = _moments(luma, moved, luma, moved, none, inside, whole)
    ratio = one * other_all / max(other * one_all, np.float32(1e-6))
    return ratio > BLUNT_RATIO or ratio < 1 / BLUNT_RATIO


@njit(nogil=True, cache=True, fastmath=True)
def _registered(  # type: ignore[no-untyped-def]
    thumbnails, bands, left, right, turns,
    coarse_zooms, coarse_scales, fine_scales, band, detail, soft,
):  # fmt: skip
    count = len(left)
    out = np.zeros(count, np.float32)
    warps = np.zeros((count, 2, 3), np.float32)
    shape = (SIDE, SIDE)
    spare, rows = np.empty(shape, np.float32), np.empty(shape, np.float32)
    small = np.empty((CHROMA_SIDE, CHROMA_SIDE), np.float32)
    luma = np.empty((2, SIDE, SIDE), np.float32)
    blue = np.empty((2, SIDE, SIDE), np.float32)
    red = np.empty((2, SIDE, SIDE), np.float32)
    light = np.empty((2, SIDE, SIDE), np.float32)
    fine = np.empty((2, SIDE, SIDE), np.float32)
    moved = np.empty((3, SIDE, SIDE), np.float32)
    inside = np.empty(shape, np.float32)
    room = SIDE + 8
    work = (
        np.zeros((FINE_CORE, FINE_CORE), np.float32),
        np.empty((room, room), np.float32),
        np.empty((room + 1, room + 1), np.float32),
        np.empty((room + 1, room + 1), np.float32),
    )
    area = (SIDE - 2 * CORE_MARGIN) ** 2
    slopes, residual = np.empty((6, area), np.float32), np.empty(area, np.float32)
    warp = np.empty((2, 3), np.float64)
    centre = np.float32(SIDE - 1) / 2
    values, places = _coarse(bands, left, right, turns, coarse_zooms)
    for k in range(count):
        if values[k] <= 0:
            continue
        for side in range(2):
            which, turn = (left[k], 0) if side == 0 else (right[k], turns[k])
            _luma(thumbnails[which], turn, spare, luma[side])
            _less_blur(luma[side], band, rows, fine[side])
        scale = coarse_scales[places[k, 0]]
        # Half-size shifts, seen in the zoomed picture.
        start = (HALF - COARSE_CORE) // 2
        found, scale, shift_y, shift_x = _place(
            fine[0], fine[1], scale, 2 * (places[k, 1] - start), 2 * (places[k, 2] - start),
            fine_scales, work,
        )  # fmt: skip
        if found < LEAST_PLACED**2:
            continue
        warp[0, 0] = warp[1, 1] = 1 / scale
        warp[0, 1] = warp[1, 0] = 0
        warp[0, 2], warp[1, 2] = shift_x / scale, shift_y / scale
        for side in range(2):
            _less_blur(luma[side], soft, rows, spare)
            for y in range(SIDE):
                for x in range(SIDE):
                    light[side, y, x] = luma[side, y, x] - spare[y, x]
        if not _align(light[0], light[1], warp, slopes, residual) or not _is_plausible(warp):
            continue
        overlap = np.float32(0)
        for y in range(SIDE):
            for x in range(SIDE):
                v, u = y - centre, x - centre
                row = np.float32(warp[1, 0] * u + warp[1, 1] * v + warp[1, 2]) + centre
                column = np.float32(warp[0, 0] * u + warp[0, 1] * v + warp[0, 2]) + centre
                within = -0.5 <= row <= SIDE - 0.5 and -0.5 <= column <= SIDE - 0.5
                inside[y, x] = 1 if within else 0
                overlap += inside[y, x]
                moved[0, y, x] = _sample(luma[1], row, column)
        if overlap < LEAST_OVERLAP * SIDE * SIDE:
            continue
        _less_blur(luma[0], detail, rows, fine[0])
        _less_blur(moved[0], detail, rows, fine[1])
        penalty = np.float32(0)
        if _is_one_blunt(luma[0], moved[0], fine, inside):
            # What is left to compare: coarser detail, which is less to go by.
            penalty = np.float32(BLUNT_PENALTY)
            for side in range(2):
                _less_blur(luma[0] if side == 0 else moved[0], band, rows, spare)
                for y in range(SIDE):
                    for x in range(SIDE):
                        fine[side, y, x] = spare[y, x] - fine[side, y, x]
        product, one, other, _ = _moments(
            fine[0], fine[1], luma[0], moved[0], np.float32(LOW_SHARE), inside, _WINDOWS[0]
        )
        if product < HOPELESS * math.sqrt(one * other):
            continue
        for side in range(2):
            which, turn = (left[k], 0) if side == 0 else (right[k], turns[k])
            _chroma(thumbnails[which], 0, turn, small, spare, blue[side])
            _chroma(thumbnails[which], 1, turn, small, spare, red[side])
        for y in range(SIDE):
            for x in range(SIDE):
                v, u = y - centre, x - centre
                row = np.float32(warp[1, 0] * u + warp[1, 1] * v + warp[1, 2]) + centre
                column = np.float32(warp[0, 0] * u + warp[0, 1] * v + warp[0, 2]) + centre
                moved[1, y, x] = _sample(blue[1], row, column)
                moved[2, y, x] = _sample(red[1], row, column)
        best = _agreement(luma[0], blue[0], red[0], moved, fine, inside, _WINDOWS[0])
        for part in range(1, len(_WINDOWS)):
            value = _agreement(luma[0], blue[0], red[0], moved, fine, inside, _WINDOWS[part])
            best = max(best, value - PART_PENALTY)
        out[k] = max(best - penalty, np.float32(0)) if best > 0 else best
        warps[k] = warp
    return out, warps
