"""Asks of each picture what a model thinks that was fitted without it: from a cross-validation, or
by one anew on features that stay as they are.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.lib.dataset import class_numbers, load_split
from stages.lib.errors import InputError
from stages.lib.table import SPLITS, read_table
from tools.crossval import FOLDER, POOLED

FOLDS = 5
SEED = 0
BATCH = 64
STRENGTH = 0.1  # C of the regression: features are many, and a wrong label should not be learned
MOST_STEPS = 500


@dataclass(frozen=True)
class OutOfFold:
    """What models think of pictures that they have not seen.

    rows: uri, image_id and label of each. names: the classes in the order of the probabilities,
    (images, classes). how: where they come from, for people.
    """

    rows: pd.DataFrame
    names: list[str]
    probabilities: NDArray[np.float32]
    how: str


def from_crossval(split: pd.DataFrame, folder: Path = FOLDER) -> OutOfFold:
    """Return the answers of the cross-validation in `folder`.

    split: data/split.parquet. Raises InputError where there is none, and where it is of other
    pictures or labels than the workspace has.
    """
    if not (folder / "crossval.json").is_file():
        raise InputError(
            f"{folder} holds no cross-validation: run `python -m tools.crossval`, or take "
            "--source features"
        )
    content = json.loads((folder / "crossval.json").read_text(encoding="utf-8"))
    pooled = read_table(folder / "predictions.parquet", POOLED)
    mine = split.set_index("uri")
    known = pooled["uri"].isin(mine.index)
    here = mine.reindex(pooled["uri"])
    same = (
        known
        & (pooled[["image_id", "label"]].to_numpy() == here[["image_id", "label"]])
        .all(axis=1)
        .to_numpy()
    )
    if not same.all():
        raise InputError(
            f"{folder} is of other data: {pooled.loc[~same, 'uri'].iloc[0]} is not in the "
            "workspace under that label; run `python -m tools.crossval` again"
        )
    probabilities = np.stack(pooled["probabilities"].to_list()).astype(np.float32)
    how = f"a cross-validation over {len(content['folds'])} folds"
    return OutOfFold(pooled[["uri", "image_id", "label"]], content["labels"], probabilities, how)


def from_features(split: pd.DataFrame, backbone: str, weights: str) -> OutOfFold:
    """Return the answers of logistic regressions on frozen features, fitted fold by fold.

    split: data/split.parquet, whose groups are never divided. backbone: a network of
    keras.applications, "" for the trained classifier up to its last layer; weights: of the
    backbone, imagenet or a file. Augmented children have no say.
    """
    parts = [load_split(side) for side in SPLITS]
    originals = [np.flatnonzero(index["parent_id"] == "") for _, index in parts]
    rows = pd.concat(
        [index.iloc[chosen] for (_, index), chosen in zip(parts, originals, strict=True)],
        ignore_index=True,
    )
    names = sorted(rows["label"].unique())
    pictures = [(array, chosen) for (array, _), chosen in zip(parts, originals, strict=True)]
    features = _features(pictures, len(names), backbone, weights)
    groups = rows["uri"].map(split.set_index("uri")["group_id"]).to_numpy()
    labels = class_numbers(rows, names)
    print(f"audit: fits regressions on the features of {len(labels):,} pictures", flush=True)
    probabilities = fold_by_fold(features, labels, groups)
    seen_by = f"{backbone} ({weights})" if backbone else "the trained classifier"
    how = f"logistic regressions on the features of {seen_by}, over {FOLDS} folds"
    return OutOfFold(rows[["uri", "image_id", "label"]], names, probabilities, how)


def fold_by_fold(
    features: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.object_]
) -> NDArray[np.float32]:
    """Return (images, classes): each row's probabilities by a regression on the other folds.

    features: (images, channels). groups: rows of one are in one fold. Raises InputError for a
    class with a single group, which cannot be learned without its own pictures.
    """
    per_class = pd.DataFrame({"label": labels, "group": groups}).groupby("label")["group"].nunique()
    if per_class.min() < 2:
        raise InputError(
            f"class number {per_class.idxmin()} has one group of pictures alone, at least 2 are "
            "needed; add pictures, or leave the class out with download.exclude"
        )
    folds = StratifiedGroupKFold(min(FOLDS, int(per_class.min())), shuffle=True, random_state=SEED)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=MOST_STEPS))
    found = cross_val_predict(
        model, features, labels, groups=groups, cv=folds, method="predict_proba"
    )
    probabilities: NDArray[np.float32] = np.asarray(found, np.float32)
    return probabilities


def _features(
    pictures: list[tuple[NDArray[np.uint8], NDArray[np.int64]]],
    num_classes: int,
    backbone: str,
    weights: str,
) -> NDArray[np.float32]:
    """Return (images, channels) of the chosen rows of each array, one after another."""
    # TensorFlow takes seconds to load, and an audit of a cross-validation does without it.
    from stages.lib.classifier import Classifier, load_classifier, predict
    from stages.lib.features import last_dense
    from stages.lib.keras_runtime import keras
    from stages.lib.models.transfer import features, transfer

    if backbone:
        shape = pictures[0][0].shape[1:]
        model = features(transfer(shape, num_classes, backbone=backbone, weights=weights))
    else:
        trained = load_classifier().model
        model = keras.Model(trained.input, last_dense(trained).input)
    seer = Classifier(model, [])
    return np.concatenate(
        [predict(seer, array[chosen], BATCH, "audit") for array, chosen in pictures]
    )
