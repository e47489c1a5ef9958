"""Arrays of two classes that a net tells apart at once, as augment would leave them."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.dataset import DATASET
from stages.lib.table import INDEX, write_table

SHAPE = (16, 16, 3)
Pair = tuple[np.ndarray, np.ndarray]

# Much that a resumed run must remember: dropout, transforms, a running average.
MANY_OPTIONS: dict[str, Any] = {
    "options": {"width": 8, "dropout": 0.3},
    "epochs": 5,
    "batch_size": 16,
    "average": 0.9,
    "transforms": {
        "horizontal_flip": True,
        "shift": 0.1,
        "rotation": 10.0,
        "shear": 0.0,
        "zoom": 0.0,
        "cutout": 0.2,
        "brightness": 0.0,
        "contrast": 0.0,
    },
}


def bright_and_dark(count: int, seed: int, shape: tuple[int, int, int] = SHAPE) -> Pair:
    """Return pictures of two classes that a net tells apart at once: dark and bright noise."""
    classes = np.arange(count) % 2
    noise = np.random.default_rng(seed).integers(0, 128, (count, *shape))
    return (noise + 127 * classes[:, None, None, None]).astype(np.uint8), classes


def write_arrays(folder: Path) -> None:
    """Write data/dataset of a project: 96 pictures to learn from, 32 to judge by, 16 to test on."""
    (folder / DATASET).mkdir(parents=True)
    parts = []
    for split, count in (("train", 96), ("val", 32), ("test", 16)):
        pictures, classes = bright_and_dark(count, count)
        np.save(folder / DATASET / f"{split}.npy", pictures)
        parts.append(
            pd.DataFrame(
                {
                    "split": split,
                    "row": range(count),
                    "uri": [f"{split}/{n}" for n in range(count)],
                    "image_id": [f"{split}{n}" for n in range(count)],
                    "label": np.where(classes, "bright", "dark"),
                    "parent_id": "",
                    "augment_seed": 0,
                    "crc32": [zlib.crc32(row.tobytes()) for row in pictures],
                    "unit": "group",
                }
            )
        )
    write_table(folder / DATASET / "index.parquet", pd.concat(parts), INDEX)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return what a run leaves to the stages after it."""
    results = [
        *(folder / "models/classifier").iterdir(),
        *(folder / "metrics").rglob("history.csv"),
    ]
    return {path.name: path.read_bytes() for path in results}
