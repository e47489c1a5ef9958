"""The arrays that models learn from: one memory-mapped file per split, and their index."""

import math
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.lib.errors import InputError
from stages.lib.table import INDEX, read_table

DATASET = Path("data/dataset")
INDEX_FILE = DATASET / "index.parquet"


def array_file(split: str) -> Path:
    """Return where the pictures of a split lie: uint8, (images, height, width, channels)."""
    return DATASET / f"{split}.npy"


def load_split(split: str, verify: bool = True) -> tuple[NDArray[np.uint8], pd.DataFrame]:
    """Return a split's pictures, mapped rather than loaded, and its index rows in the same order.

    verify: hold every picture's bytes against the checksum in the index first.
    Raises InputError where the two do not belong together.
    """
    index = read_table(INDEX_FILE, INDEX)
    index = index[index["split"] == split].sort_values("row").reset_index(drop=True)
    try:
        pictures = np.load(array_file(split), mmap_mode="r")
    except (FileNotFoundError, EOFError, ValueError) as error:
        raise InputError(
            f"{array_file(split)} cannot be read ({error}); run `dvc repro -f augment`"
        ) from error
    if len(pictures) != len(index) or pictures.dtype != np.uint8 or pictures.ndim != 4:
        raise InputError(
            f"{array_file(split)} must hold {len(index)} pictures of uint8 as {INDEX_FILE} says, "
            f"got {pictures.dtype} {pictures.shape}; run `dvc repro -f augment`"
        )
    if verify:
        _verify_rows(array_file(split), pictures, index)
    return pictures, index


def _verify_rows(path: Path, pictures: NDArray[np.uint8], index: pd.DataFrame) -> None:
    """Raise InputError for the first row whose bytes are not those that were written.

    The rows are read one by one, past the map, whose pages would all stay in memory.
    """
    row = bytearray(math.prod(pictures.shape[1:]))
    with path.open("rb") as stream:
        stream.seek(path.stat().st_size - len(row) * len(index))
        for number, expected in enumerate(index["crc32"]):
            stream.readinto(row)
            if zlib.crc32(row) != expected:
                raise InputError(
                    f"{path} is damaged: row {number} ({index['uri'].iloc[number]}) is not what "
                    f"{INDEX_FILE} says; run `dvc repro -f augment`"
                )


def is_leaky(table: pd.DataFrame) -> bool:
    """Tell whether a split or an index was divided by image and not by group, so that no figure
    from there on can be trusted.
    """
    return bool((table["unit"] == "image").any())


def class_names(index: pd.DataFrame) -> list[str]:
    """Return the labels in the order of the model's outputs: sorted."""
    return sorted(index["label"].unique())


def class_numbers(index: pd.DataFrame, names: list[str]) -> NDArray[np.int64]:
    """Return each row's class as its position in `names`.

    Raises InputError for a label that is not there.
    """
    unknown = sorted(set(index["label"]) - set(names))
    if unknown:
        raise InputError(
            f"label {unknown[0]!r} is unknown to the model, which knows {', '.join(names)}"
        )
    position = {name: number for number, name in enumerate(names)}
    return np.array([position[label] for label in index["label"]], np.int64)
