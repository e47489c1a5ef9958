"""Brings base and head together on the same pictures, by asking the base's model again if need be.

Where the test sets differ, two figures say nothing about each other: the base's model then answers
the head's test pictures, without those that it knows from its own training.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.lib.errors import InputError
from stages.lib.exported import ExportedClassifier
from stages.lib.images import Picture, load_preprocessing, prepare_picture
from stages.lib.table import INDEX, PREDICTIONS, SPLIT, read_table
from tools.noise import SamePictures
from tools.revisions import Revision, fetch_output

PREDICTED = "data/predictions.parquet"
DIVIDED = "data/split.parquet"
INDEXED = "data/dataset/index.parquet"
ARRAY = "data/dataset/test.npy"
PREPARED = "data/dataset/preprocessing.json"
MODEL = "models/exported"
RAW = "data/raw"
LEAST_PICTURES = 30  # fewer say next to nothing about a difference
SMALLEST_PROBABILITY = 1e-7  # as evaluate clips before the logarithm
BATCH = 256


def of_one_test_set(base: Revision, head: Revision, folder: Path) -> SamePictures | None:
    """Return the answers of both, whose test sets are equal; None where predictions are not at
    hand.

    folder: where to put what is fetched from DVC.
    """
    paths = [
        fetch_output(side, PREDICTED, folder / name)
        for side, name in ((base, "base"), (head, "head"))
    ]
    if paths[0] is None or paths[1] is None:
        return None
    order = ["image_id", "label", "uri"]
    left, right = (
        read_table(path, PREDICTIONS).sort_values(order, ignore_index=True)
        for path in paths
        if path is not None
    )
    if list(left["image_id"]) != list(right["image_id"]):
        return None
    return SamePictures(
        labels=_texts(right["label"]),
        base=_texts(left["predicted"]),
        head=_texts(right["predicted"]),
        base_loss=left["loss"].to_numpy(np.float64),
        head_loss=right["loss"].to_numpy(np.float64),
        how=f"paired on the same {len(left):,} test pictures",
    )


def of_the_heads_test_set(base: Revision, head: Revision, folder: Path) -> SamePictures:
    """Return the answers of both to the head's test pictures that are new to the base's model.

    Left out: pictures that the base had in train or val, all that the head groups with one, and
    classes that the base does not know.
    Raises InputError where files or pictures are too few for it.
    """
    of_base = {path: _fetched(base, path, folder / "base") for path in (MODEL, DIVIDED)}
    of_head = {
        path: _fetched(head, path, folder / "head") for path in (DIVIDED, PREDICTED, INDEXED)
    }
    classifier = ExportedClassifier(of_base[MODEL])
    index = read_table(of_head[INDEXED], INDEX)
    index = index[index["split"] == "test"].sort_values("row", ignore_index=True)
    new = new_to_the_base(
        index, read_table(of_base[DIVIDED], SPLIT), read_table(of_head[DIVIDED], SPLIT)
    )
    rows = index[new & index["label"].isin(classifier.class_names)]
    if len(rows) < LEAST_PICTURES:
        raise InputError(
            f"only {len(rows)} of the head's {len(index)} test pictures are new to the base's "
            f"model, and {LEAST_PICTURES} are the least to compare on"
        )
    probabilities = _probabilities(classifier, rows, head, folder / "head")
    answers = read_table(of_head[PREDICTED], PREDICTIONS).set_index("uri").loc[rows["uri"]]
    names = np.array(classifier.class_names)
    truth = [classifier.class_names.index(label) for label in rows["label"]]
    of_truth = np.clip(probabilities[np.arange(len(rows)), truth], SMALLEST_PROBABILITY, 1)
    return SamePictures(
        labels=_texts(rows["label"]),
        base=names[probabilities.argmax(axis=1)],
        head=_texts(answers["predicted"]),
        base_loss=-np.log(of_truth.astype(np.float64)),
        head_loss=answers["loss"].to_numpy(np.float64),
        how=(
            f"the test sets differ, so the base's model answered anew: both on the {len(rows):,} "
            f"of the head's {len(index):,} test pictures that it had never seen"
        ),
    )


def new_to_the_base(
    index: pd.DataFrame, base_split: pd.DataFrame, head_split: pd.DataFrame
) -> NDArray[np.bool_]:
    """Tell which rows of the head's test set show nothing that the base learned from.

    A picture of the head counts as learned where it, or another of its group, was in train or val.
    """
    learned = set(base_split.loc[base_split["split"] != "test", "image_id"])
    groups = set(head_split.loc[head_split["image_id"].isin(learned), "group_id"])
    of_picture = head_split.set_index("uri")["group_id"]
    new: NDArray[np.bool_] = ~index["uri"].map(of_picture).isin(groups).to_numpy()
    return new


def _probabilities(
    classifier: ExportedClassifier, rows: pd.DataFrame, head: Revision, folder: Path
) -> NDArray[np.float32]:
    """Return (images, classes): from the head's arrays, or anew from its files where the base
    prepares pictures in another way.
    """
    prepared = _fetched(head, PREPARED, folder)
    if load_preprocessing(prepared.parent) == classifier.preprocessing:
        array = np.load(_fetched(head, ARRAY, folder), mmap_mode="r")
        pictures = (array[chosen] for chosen in np.array_split(rows["row"], _batches(len(rows))))
    else:
        top = _fetched(head, RAW, folder).parents[1]
        uris = np.array_split(rows["uri"], _batches(len(rows)))
        pictures = (np.stack([_prepared(classifier, top / uri) for uri in some]) for some in uris)
    return np.concatenate([classifier.predict_arrays(some) for some in pictures])


def _prepared(classifier: ExportedClassifier, path: Path) -> Picture:
    return prepare_picture(path.read_bytes(), classifier.preprocessing)


def _batches(images: int) -> int:
    return -(-images // BATCH)


def _fetched(side: Revision, path: str, folder: Path) -> Path:
    found = fetch_output(side, path, folder)
    if found is None:
        raise InputError(f"{path} of {side} is neither in DVC's cache nor in a remote")
    return found


def _texts(column: pd.Series) -> NDArray[np.str_]:
    texts: NDArray[np.str_] = column.to_numpy(np.str_)
    return texts
