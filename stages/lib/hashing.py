"""Content hashes and perceptual hashes (the one place where imagehash enters)."""

import hashlib
from collections.abc import Iterable

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

BITS_OF_A_PICTURE = 32  # pHash compares 64 numbers with their median: exactly half are above it


def sha256_hex(data: bytes) -> str:
    """Return the image_id of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def perceptual_hash(grey: NDArray[np.uint8]) -> int:
    """Return the 64 bits of `imagehash.phash` of a grey picture (height, width), as an unsigned
    integer.

    The bits are those of the library, read row by row, the first one highest, so that
    `f"{value:016x}" == str(imagehash.phash(image))`.
    """
    bits = imagehash.phash(Image.fromarray(grey)).hash
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


def is_flat(phash: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell which hashes belong to flat pictures, whose bits are noise and must match nothing."""
    flat: NDArray[np.bool_] = np.bitwise_count(phash) != BITS_OF_A_PICTURE
    return flat


def fingerprint(parts: Iterable[str]) -> str:
    """Return 16 hex digits that identify a set of texts, whatever their order."""
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:16]
