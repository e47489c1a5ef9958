"""Pillow's LANCZOS resize to a small square, bit for bit, with its weights remembered.

Pillow computes two sines for every weight of every picture, which takes longer than to apply them;
the pictures of a data set come in few sizes. Products of 22-bit weights and 8-bit values are exact
in float64, so nothing is rounded but where Pillow rounds.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

REACH = 3.0  # of the filter, in pixels of the smaller picture
ONE = float(1 << 22)  # Pillow's weights are whole numbers of this unit
LONGEST = 512  # larger pictures take a while anyway, and their weights much memory

Grey = NDArray[np.uint8]


def resize_to_square(grey: Grey, side: int) -> Grey:
    """Return `Image.fromarray(grey).resize((side, side), LANCZOS)` as an array."""
    if min(grey.shape) >= side and max(grey.shape) <= LONGEST and _agrees(side):
        return _by_weights(grey, side)
    return _by_pillow(grey, side)


def _by_pillow(grey: Grey, side: int) -> Grey:
    image = Image.fromarray(np.ascontiguousarray(grey))
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))


def _by_weights(grey: Grey, side: int) -> Grey:
    height, width = grey.shape
    rows, columns = _weights(width, side).T, _weights(height, side)
    if height + side > 2 * width:  # Pillow's order, in which it has less to compute
        values = _rounded(_rounded(columns @ grey.astype(np.float64)) @ rows)
    else:
        values = _rounded(columns @ _rounded(grey.astype(np.float64) @ rows))
    return values.astype(np.uint8)


def _rounded(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    sums *= 1 / ONE
    sums += 0.5
    np.floor(sums, out=sums)
    np.maximum(sums, 0, out=sums)
    return np.minimum(sums, 255, out=sums)


@lru_cache(maxsize=512)
def _weights(length: int, side: int) -> NDArray[np.float64]:
    """Return the weight of each of `length` values in each of `side`, (side, length), times ONE."""
    if length == side:
        return np.eye(side) * ONE  # Pillow leaves out what would change nothing
    weights = np.zeros((side, length))
    step = length / side
    stretch = max(step, 1.0)
    for place in range(side):
        centre = (place + 0.5) * step
        first = max(int(centre - REACH * stretch + 0.5), 0)
        last = min(int(centre + REACH * stretch + 0.5), length)
        # Divided as Pillow divides: times the inverse would be another last bit.
        inverse = 1.0 / stretch
        values = [_lanczos((at - centre + 0.5) * inverse) for at in range(first, last)]
        total = _sum_in_order(values)
        for at, value in enumerate(values, start=first):
            share = value / total * ONE
            weights[place, at] = int(share + math.copysign(0.5, share))
    return weights


def _sum_in_order(values: list[float]) -> float:
    """Return the plain sum; since Python 3.12, `sum` compensates for rounding, which Pillow does
    not.
    """
    total = 0.0
    for value in values:
        total += value
    return total


def _lanczos(at: float) -> float:
    return _sinc(at) * _sinc(at / REACH) if -REACH <= at < REACH else 0.0


def _sinc(at: float) -> float:
    return math.sin(at * math.pi) / (at * math.pi) if at else 1.0


@lru_cache
def _agrees(side: int) -> bool:
    """Tell whether this Pillow resizes as the one did that this module was written against."""
    random = np.random.default_rng(0)
    sizes = ((96, 128), (168, 100), (169, 100), (64, 48), (65, 48))
    pictures = [random.integers(0, 256, size, dtype=np.uint8) for size in sizes]
    return all(np.array_equal(_by_pillow(grey, side), _by_weights(grey, side)) for grey in pictures)
