"""Decodes and resizes every image once; balances train, and only train, with children.

Reads:  data/split.parquet, data/raw
Writes: data/dataset/{train,val,test}.npy, data/dataset/{index.parquet,preprocessing.json},
        metrics/augment.json,
        metrics/plots/balance.csv
"""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.augmentation import augment_picture, build_policy, policy_from_json
from stages.lib.dataset import DATASET, INDEX_FILE, array_file
from stages.lib.errors import InputError, run_stage
from stages.lib.files import replacing, require_space
from stages.lib.images import Fit, Preprocessing, prepare_picture, save_preprocessing
from stages.lib.metrics import write_metrics, write_plot
from stages.lib.parallel import ParallelParams, map_in_order
from stages.lib.params import STRICT, load_params
from stages.lib.progress import summarise
from stages.lib.seeds import derive_seed
from stages.lib.table import INDEX, SPLIT, SPLITS, read_table, write_table

Side = Annotated[int, Field(ge=8, le=2048)]


@dataclass(frozen=True, config=STRICT)
class Params:
    """The augment section of params.yaml."""

    seed: int
    height: Side
    width: Side
    fit: Fit
    target_per_class: Annotated[int, Field(ge=1)] | Literal["max", "median", "none"]
    larger_classes: Literal["keep", "cap"]
    transforms: list[dict[str, Any]]


def target_size(sizes: pd.Series, target: int | str) -> int:
    """Return how many training images each class is to have; 0 where nothing is to be balanced."""
    if target == "none":
        return 0
    if isinstance(target, int):
        return target
    return int(sizes.max() if target == "max" else round(sizes.median()))


def plan_rows(split: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Return the index: every image once, and children of those in train up to the target.

    Children are dealt out evenly: no parent has two more than another of its class. Which parents
    get one more is drawn by the seed, as is, with `larger_classes: cap`, which images of a too
    large class are used.
    """
    train = split[split["split"] == "train"]
    target = target_size(train["label"].value_counts(), params.target_per_class)
    parts = [_whole(split[split["split"] != "train"])]
    for _, rows in train.groupby("label", sort=True):
        draw = [derive_seed(params.seed, image_id) for image_id in rows["image_id"]]
        rows = rows.assign(draw=draw).sort_values(["draw", "uri"]).drop(columns="draw")
        if target and params.larger_classes == "cap":
            rows = rows.iloc[:target]
        parts += [_whole(rows), _children(rows, max(target - len(rows), 0), params.seed)]
    index = pd.concat(parts, ignore_index=True)
    index = index.sort_values(["split", "uri", "child"]).reset_index(drop=True)
    return index.assign(row=index.groupby("split").cumcount()).drop(columns="child")


def _whole(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(parent_id="", augment_seed=0, child=-1)


def _children(rows: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    parents = rows.iloc[np.arange(count) % len(rows)]
    numbers = np.arange(count) // len(rows)
    ids = list(zip(parents["image_id"], numbers, strict=True))
    seeds = [derive_seed(seed, image_id, int(number)) for image_id, number in ids]
    return parents.assign(parent_id=parents["image_id"], augment_seed=seeds, child=numbers)


def group_by_file(index: pd.DataFrame) -> list[tuple[str, tuple[int, ...]]]:
    """Return per file, in the order of the rows, its uri and seeds: 0 is the image itself."""
    jobs = index.groupby(["split", "uri"], sort=False)["augment_seed"]
    return [(str(uri), tuple(map(int, seeds))) for (_, uri), seeds in jobs]


def make_rows(
    job: tuple[str, tuple[int, ...]], how: Preprocessing, transforms: str
) -> NDArray[np.uint8]:
    """Return one file's picture and its children, (rows, height, width, 3).

    job: as of `group_by_file`. transforms: the policy as JSON.
    """
    uri, seeds = job
    Image.MAX_IMAGE_PIXELS = None  # scan has refused what is too large, by its own budget
    picture = prepare_picture(Path(uri).read_bytes(), how)
    rows = [
        augment_picture(policy_from_json(transforms), picture, seed) if seed else picture
        for seed in seeds
    ]
    for child in rows:
        if (child.shape, child.dtype) != (picture.shape, picture.dtype):
            raise InputError(
                f"augment.transforms must keep pictures {picture.dtype} {picture.shape}, got "
                f"{child.dtype} {child.shape}; leave out what crops, resizes or normalises"
            )
    return np.stack(rows)


def write_arrays(
    folder: Path, index: pd.DataFrame, rows: Iterable[NDArray[np.uint8]], how: Preprocessing
) -> None:
    """Write the pictures of each split, in the order of the index, into memory-mapped arrays."""
    sizes = index["split"].value_counts()
    blocks = iter(rows)
    for split in sorted(SPLITS):
        shape = (int(sizes.get(split, 0)), how.height, how.width, 3)
        array = np.lib.format.open_memmap(
            folder / array_file(split).name, mode="w+", dtype=np.uint8, shape=shape
        )
        done = 0
        while done < len(array):
            block = next(blocks)
            array[done : done + len(block)] = block
            done += len(block)
        array.flush()


def balance_table(index: pd.DataFrame) -> pd.DataFrame:
    """Return what train holds per class: columns label, originals, children."""
    train = index[index["split"] == "train"]
    kinds = np.where(train["parent_id"] == "", "originals", "children")
    counts = pd.crosstab(train["label"], kinds).reindex(
        columns=["originals", "children"], fill_value=0
    )
    return counts.reset_index()


def main() -> None:
    """Make the arrays that training, evaluation and export read."""
    params = load_params(Params, "augment")
    parallel = load_params(ParallelParams, "parallel")
    build_policy(params.transforms)  # refuses a wrong policy before any work
    how = Preprocessing(params.height, params.width, params.fit)
    index = plan_rows(read_table(Path("data/split.parquet"), SPLIT), params)
    job = partial(make_rows, how=how, transforms=json.dumps(params.transforms))
    require_space(DATASET.parent, len(index) * how.height * how.width * 3)
    with replacing(DATASET) as folder:
        folder.mkdir()
        rows = map_in_order(job, group_by_file(index), parallel, "augment", "files")
        write_arrays(folder, index, rows, how)
        write_table(folder / INDEX_FILE.name, index, INDEX)
        save_preprocessing(how, folder)
    balance = balance_table(index)
    totals = (balance["originals"] + balance["children"]).sort_values()
    sizes = {name: int((index["split"] == name).sum()) for name in SPLITS}
    children = int(balance["children"].sum())
    write_metrics(
        "augment",
        {
            **sizes,
            "children": children,
            "height": params.height,
            "width": params.width,
            "smallest_train_class": int(totals.iloc[0]),
            "largest_train_class": int(totals.iloc[-1]),
        },
    )
    write_plot("balance", balance)
    least, most = totals.iloc[0], totals.iloc[-1]
    each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    summarise(
        "augment",
        f"train {sizes['train']:,} ({children:,} of them augmented, {each} a class), "
        f"val {sizes['val']:,}, test {sizes['test']:,} at {params.width}×{params.height}",
    )


if __name__ == "__main__":
    run_stage("augment", main)
