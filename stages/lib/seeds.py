"""Seeds derived per item, so that no result depends on order or on the number of workers."""

import hashlib

import numpy as np


def derive_seed(seed: int, *parts: str | int) -> int:
    """Return a 63-bit seed for one item, e.g. `derive_seed(seed, image_id, k)`.

    Equal inputs give equal seeds on every machine; Python's own `hash` is salted per process and
    would not.
    """
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng_for(seed: int, *parts: str | int) -> np.random.Generator:
    """Return a generator seeded by `derive_seed`."""
    return np.random.default_rng(derive_seed(seed, *parts))
