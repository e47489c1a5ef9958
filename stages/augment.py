"""Decodes and resizes every image once; balances train, and only train, with children.

Reads:  data/split.parquet, data/raw, data/value_ranges.json
Writes: data/dataset/{train,val,test}.npy, data/dataset/{index.parquet,preprocessing.json},
        metrics/augment.json,
        metrics/plots/balance.csv
"""

import json
import math
from collections.abc import Mapping
from functools import partial
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.arrays import Batch, create_array, write_batch
from stages.lib.augmentation import build_policy, require_same_form
from stages.lib.dataset import DATASET, INDEX_FILE, array_file, is_leaky
from stages.lib.errors import run_stage
from stages.lib.files import replacing, require_space
from stages.lib.images import Colour, Fit, Interpolation, Preprocessing, save_preprocessing
from stages.lib.imbalance import imbalance
from stages.lib.metrics import write_metrics, write_plot
from stages.lib.parallel import ParallelParams, map_in_order
from stages.lib.params import STRICT, load_params
from stages.lib.progress import summarise
from stages.lib.seeds import derive_seed
from stages.lib.table import INDEX, SPLIT, SPLITS, read_table, write_table
from stages.lib.value_ranges import read_value_ranges

# A file with more rows is decoded again for each so many; a worker has them at a stretch.
BATCH_ROWS = 64
Side = Annotated[int, Field(ge=8, le=2048)]


@dataclass(frozen=True, config=STRICT)
class Params:
    """The augment section of params.yaml."""

    seed: int
    height: Side
    width: Side
    fit: Fit
    interpolation: Interpolation
    colour: Colour
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
    """Return the index, but for its checksums: every image once, and children of those in train up
    to the target.

    Children are dealt out evenly: no parent has two more than another of its class. Which parents
    get one more is drawn by the seed, as is, with `larger_classes: cap`, which images of a too
    large class are used.
    """
    train = split[split["split"] == "train"].sort_values("uri")
    train = train.assign(occurrence=train.groupby("image_id").cumcount())
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
    index = index.assign(row=index.groupby("split").cumcount())
    return index.drop(columns=["child", "occurrence"])


def _whole(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(parent_id="", augment_seed=0, child=-1)


def _children(rows: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Return so many children, whose seeds are their own even where a file's bytes stand under
    several uris: there the occurrence has a say.
    """
    parents = rows.iloc[np.arange(count) % len(rows)]
    numbers = np.arange(count) // len(rows)
    of_each = zip(parents["image_id"], numbers.tolist(), parents["occurrence"], strict=True)
    seeds = [
        derive_seed(seed, image_id, number, *([occurrence] if occurrence else []))
        for image_id, number, occurrence in of_each
    ]
    # An empty list would turn the whole column into floats, which cannot hold 63 bits.
    exact = np.array(seeds, np.int64)
    return parents.assign(parent_id=parents["image_id"], augment_seed=exact, child=numbers)


def plan_batches(
    index: pd.DataFrame, places: Mapping[str, tuple[Path, int]], row_bytes: int
) -> list[Batch]:
    """Return what is to be written, in the order of the index; a file of many children makes
    several batches, so that no worker gets far more to do than another.

    places: split to its array file and where the rows begin in it.
    """
    part = index.groupby(["split", "uri"]).cumcount() // BATCH_ROWS
    columns = (index["split"], index["uri"], part, index["row"], index["augment_seed"])
    rows = zip(*(column.tolist() for column in columns), strict=True)
    batches = []
    for (split, uri, _), group in groupby(rows, key=itemgetter(0, 1, 2)):
        of_group = list(group)
        array, begin = places[split]
        seeds = tuple(seed for *_, seed in of_group)
        batches.append(Batch(uri, seeds, str(array), begin + of_group[0][3] * row_bytes))
    return batches


def write_arrays(
    folder: Path,
    index: pd.DataFrame,
    how: Preprocessing,
    transforms: list[dict[str, Any]],
    parallel: ParallelParams,
) -> pd.DataFrame:
    """Write the pictures of each split into its array file, row by row as the index says; return
    the index with the rows' checksums.
    """
    places = {}
    for split in sorted(SPLITS):
        array = folder.resolve() / array_file(split).name
        shape = (int((index["split"] == split).sum()), *how.shape)
        places[split] = (array, create_array(array, shape))
    batches = plan_batches(index, places, math.prod(how.shape))
    write = partial(write_batch, how=how, transforms=json.dumps(transforms), project=Path.cwd())
    checksums = chain.from_iterable(map_in_order(write, batches, parallel, "augment", "images"))
    return index.assign(crc32=np.fromiter(checksums, np.uint32, len(index)))


def balance_table(index: pd.DataFrame) -> pd.DataFrame:
    """Return what train holds per class: columns label, originals, children."""
    train = index[index["split"] == "train"]
    kinds = np.where(train["parent_id"] == "", "originals", "children")
    counts = pd.crosstab(train["label"], kinds).reindex(
        columns=["originals", "children"], fill_value=0
    )
    return counts.reset_index()


def balance_metrics(split: pd.DataFrame, index: pd.DataFrame) -> dict[str, float]:
    """Return the counts, and how unequal the classes of train are now and were before.

    split, index: what was to be balanced, and what came of it.
    """
    before, now = (
        rows.loc[rows["split"] == "train", "label"].value_counts() for rows in (split, index)
    )
    return {
        **{name: int((index["split"] == name).sum()) for name in SPLITS},
        "children": int((index["parent_id"] != "").sum()),
        "smallest_train_class": int(now.min()),
        "largest_train_class": int(now.max()),
        **imbalance(now),
        **{f"{name}_before": value for name, value in imbalance(before).items()},
    }


def main() -> None:
    """Make the arrays that training, evaluation and export read."""
    params = load_params(Params, "augment")
    parallel = load_params(ParallelParams, "parallel")
    size, resize = (params.height, params.width), (params.fit, params.interpolation)
    how = Preprocessing(*size, *resize, params.colour, read_value_ranges())
    build_policy(params.transforms)  # refuses a wrong policy before any work, as does the next
    require_same_form(params.transforms, how.shape)
    split = read_table(Path("data/split.parquet"), SPLIT)
    index = plan_rows(split, params)
    require_space(DATASET.parent, len(index) * math.prod(how.shape))
    with replacing(DATASET) as folder:
        folder.mkdir()
        index = write_arrays(folder, index, how, params.transforms, parallel)
        write_table(folder / INDEX_FILE.name, index, INDEX)
        save_preprocessing(how, folder)
    leaky = is_leaky(index)
    metrics = balance_metrics(split, index)
    write_metrics("augment", {**metrics, "height": how.height, "width": how.width}, leaky)
    write_plot("balance", balance_table(index))
    least, most = metrics["smallest_train_class"], metrics["largest_train_class"]
    each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    summarise(
        "augment",
        f"train {metrics['train']:,} ({metrics['children']:,} of them augmented, {each} a class), "
        f"val {metrics['val']:,}, test {metrics['test']:,} at {how.width}×{how.height}",
        leaky,
    )


if __name__ == "__main__":
    run_stage("augment", main)
