"""The arrays that models learn from: one memory-mapped file per split, and their index."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.lib.errors import InputError
from stages.lib.table import INDEX, read_table

DATASET = Path("data/dataset")
INDEX_FILE = DATASET / "index.parquet"


def array_file(split: str) -> Path:
    """Return where the pictures of a split lie: uint8, (images, height, width, 3), RGB."""
    return DATASET / f"{split}.npy"


def load_split(split: str) -> tuple[NDArray[np.uint8], pd.DataFrame]:
    """Return a split's pictures, mapped rather than loaded, and its index rows in the same order.

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
    return pictures, index


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
