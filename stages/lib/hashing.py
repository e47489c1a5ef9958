"""Content hashes and perceptual hashes (the one place where imagehash enters)."""

import hashlib
from collections.abc import Iterable

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.lib.resampling import resize_to_square

BITS_OF_A_PICTURE = 32  # pHash compares 64 numbers with their median: exactly half are above it
HASHED_SIDE = 32  # pixels; the library resizes every picture to this square first
WAVES = 8  # of its cosine transform (type II) the library keeps the lowest 8 x 8
COSINES = 2 * np.cos(
    np.pi * np.outer(np.arange(WAVES), 2 * np.arange(HASHED_SIDE) + 1) / (2 * HASHED_SIDE)
)
MIRROR_SIGNS = np.where(np.arange(WAVES) % 2, -1.0, 1.0)
ROUNDING = 1e-6  # of values up to about 10^6, computed to 10^-9


def sha256_hex(data: bytes) -> str:
    """Return the image_id of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def perceptual_hash(grey: NDArray[np.uint8]) -> int:
    """Return the 64 bits of `imagehash.phash` of a grey picture (height, width), as an unsigned
    integer.

    The bits are those of the library, read row by row, the first one highest, so that
    `f"{value:016x}" == str(imagehash.phash(image))`.
    """
    return perceptual_hashes(grey)[0]


def perceptual_hashes(grey: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the perceptual hash of a grey picture and that of its mirror image.

    Both come from one resize and one cosine transform, in which a mirror image only changes the
    sign of every other column. Where a value comes so close to the median that rounding decides
    (flat or symmetric pictures), the library itself is asked.
    """
    small = resize_to_square(grey, HASHED_SIDE)
    waves = COSINES @ small @ COSINES.T
    straight, mirrored = _above_median(waves), _above_median(waves * MIRROR_SIGNS)
    if straight is None:
        straight = imagehash.phash(Image.fromarray(small)).hash
    if mirrored is None:
        mirrored = imagehash.phash(Image.fromarray(small[:, ::-1])).hash
    return _as_number(straight), _as_number(mirrored)


def _above_median(waves: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    ordered = np.sort(waves, axis=None)
    below, above = ordered[BITS_OF_A_PICTURE - 1 : BITS_OF_A_PICTURE + 1]
    if above - below < ROUNDING:
        return None
    bits: NDArray[np.bool_] = waves > (below + above) / 2
    return bits


def _as_number(bits: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def is_flat(phash: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell which hashes belong to flat pictures, whose bits are noise and must match nothing."""
    flat: NDArray[np.bool_] = np.bitwise_count(phash) != BITS_OF_A_PICTURE
    return flat


def fingerprint(parts: Iterable[str]) -> str:
    """Return 16 hex digits that identify a set of texts, whatever their order."""
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:16]
