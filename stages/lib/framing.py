"""Plain frames and letterbox bars around a picture, which say nothing about what it shows."""

import numpy as np
from numpy.typing import NDArray

from stages.lib.images import Picture, share_near

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
    top, bottom = _bars(picture)
    left, right = _bars(picture.swapaxes(0, 1)[:, top : len(picture) - bottom])
    return picture[top : len(picture) - bottom, left : picture.shape[1] - right]


def _bars(picture: Picture) -> tuple[int, int]:
    """Return how many lines of one colour bar the first and last side; 0, 0 unless both do."""
    for line in (picture[0, ::3, 1], picture[-1, ::3, 1]):
        if int(line.max()) - int(line.min()) > 4 * TOLERANCE:  # most pictures, quickly
            return 0, 0
    colour = picture[0].mean(axis=0)
    widest = max(int(WIDEST * len(picture)), 1)
    first, last = (
        _width(share_near(side, colour, TOLERANCE))
        for side in (picture[:widest], picture[: -widest - 1 : -1])
    )
    return (first, last) if first and last else (0, 0)


def _width(near: NDArray[np.float64]) -> int:
    """Return how many lines from the first on are plain, 0 unless they end in a straight edge.

    near: the share of each line's pixels that have the frame's colour.
    """
    width = int(np.argmin(np.append(near >= PLAIN_SHARE, False)))
    # Shrinking a picture mixes the line at the edge from both sides, so the edge may come one
    # later.
    for edge in range(width, min(width + 2, len(near))):
        if width and near[edge] <= 1 - EDGE_SHARE:
            return edge
    return 0
