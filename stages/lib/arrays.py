"""Array files: made at their full size first, then written row by row by any process."""

import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stages.lib.augmentation import augment_picture, policy_from_json
from stages.lib.images import Preprocessing, prepare_picture


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are made of one file and lie side by side in an array file.

    seeds: one per row, 0 for the picture itself. array: the array file. start: where in it the
    first row begins, in bytes.
    """

    uri: str
    seeds: tuple[int, ...]
    array: str
    start: int


def create_array(path: Path, shape: tuple[int, ...]) -> int:
    """Make a .npy file of uint8 zeros, which take no space yet; return where its rows begin.

    The rows are then written as plain bytes and not through a map: pages of a map count as memory
    of the process, and on a full disk writing to them ends it.
    """
    form = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, form)
        start = stream.tell()
        stream.truncate(start + math.prod(shape))
    return start


def write_batch(
    batch: Batch, how: Preprocessing, transforms: str, project: Path
) -> tuple[int, ...]:
    """Write a batch's rows in their place; return the crc32 of each.

    transforms: the policy as JSON. project: the folder that uris are relative to. One row is in
    memory at a time, however many there are.
    """
    Image.MAX_IMAGE_PIXELS = None  # scan has refused what is too large, by its own budget
    picture = prepare_picture((project / batch.uri).read_bytes(), how)
    policy = policy_from_json(transforms)
    checksums = []
    with Path(batch.array).open("r+b") as stream:
        stream.seek(batch.start)
        for seed in batch.seeds:
            row = augment_picture(policy, picture, seed) if seed else picture
            pixels = np.ascontiguousarray(row).data
            stream.write(pixels)
            checksums.append(zlib.crc32(pixels))
    return tuple(checksums)
