"""Plain frames and letterbox bars around a picture, which say nothing about what it shows."""

import numpy as np
from numpy.typing import NDArray

from stages.lib.images import Picture, is_near, shares_of_lines

TOLERANCE = 16  # of 255, in any channel: what lossy compression leaves of a plain colour
PLAIN_SHARE = 0.97  # of a line's pixels that must have the frame's colour
EDGE_SHARE = 0.5  # of the first line inside that must not: else it is a plain background
WIDEST = 0.3  # of a side: a frame is never wider


def without_frame(picture: Picture) -> Picture:
    """Return the part of an RGB picture (height, width, 3) inside a plain frame or between bars.

    Bars of one colour lie on two opposite sides, or on all four, and end in a straight edge: where
    a thing stands before a plain background, nothing is cut. A picture without them is returned as
    it is.
    """
    # Whatever the bars, two opposite corners lie in them.
    colour = picture[0, 0].astype(np.float64)
    if np.abs(picture[-1, -1] - colour).max() > TOLERANCE:
        return picture
    near = is_near(picture, colour, TOLERANCE)
    top, bottom = _bars(shares_of_lines(near, axis=1))
    left, right = _bars(shares_of_lines(near[top : len(near) - bottom], axis=0))
    return picture[top : len(picture) - bottom, left : picture.shape[1] - right]


def _bars(near: NDArray[np.float64]) -> tuple[int, int]:
    """Return how many lines the bars at both ends have; 0, 0 unless there are two.

    near: the share of each line's pixels that have the frame's colour.
    """
    if min(near[0], near[-1]) < PLAIN_SHARE:
        return 0, 0
    widest = int(WIDEST * len(near))
    first, last = _width(near[:widest]), _width(near[::-1][:widest])
    return (first, last) if first and last else (0, 0)


def _width(near: NDArray[np.float64]) -> int:
    """Return how many lines from the first on are plain, 0 unless they end in a straight edge."""
    width = int(np.argmin(np.append(near >= PLAIN_SHARE, False)))
    # Shrinking a picture mixes the line at the edge from both sides: the edge may come one later.
    for edge in range(width, min(width + 2, len(near))):
        if width and near[edge] <= 1 - EDGE_SHARE:
            return edge
    return 0
