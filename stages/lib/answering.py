"""Puts pictures to a classifier: its answers, its mistakes, and what is like them in train."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.lib.classification import Probabilities
from stages.lib.classifier import Classifier
from stages.lib.dataset import class_numbers, load_split
from stages.lib.features import Features, Rows, batches, nearest
from stages.lib.grad_cam import paint_answers

SMALLEST_PROBABILITY = 1e-7  # as Keras clips before the logarithm


class Neighbors(NamedTuple):
    """The images of a split that are nearest to the test images, by the model's features.

    images, index: the split's, as `load_split` gives them. rows: (test images, count), nearest
    first, -1 where there are fewer; only originals. similarity: cosine, same shape. accuracy: on
    the split's originals.
    """

    images: NDArray[np.uint8]
    index: pd.DataFrame
    rows: Rows
    similarity: NDArray[np.float32]
    accuracy: float


def score_test(
    classifier: Classifier, pictures: NDArray[np.uint8], batch_size: int
) -> tuple[Probabilities, Features]:
    """Return the probabilities and the features of all pictures, from one pass."""
    rows = np.arange(len(pictures))
    passed = batches(classifier.model, pictures, rows, batch_size, "evaluate")
    _, features, probabilities = zip(*passed, strict=True)
    return np.concatenate(probabilities), np.concatenate(features)


def nearest_in(
    split: str, classifier: Classifier, features: Features, batch_size: int, count: int
) -> Neighbors:
    """Return the originals of a split that are nearest to the test images.

    features: of the test images. count: how many are wanted of each.
    """
    # train has compared the arrays with their checksums.
    pictures, index = load_split(split, verify=False)
    originals = np.flatnonzero(index["parent_id"] == "")
    truth = class_numbers(index, classifier.class_names)
    right = 0

    def candidates() -> Iterator[tuple[Rows, Features]]:
        nonlocal right
        passed = batches(classifier.model, pictures, originals, batch_size, f"evaluate: {split}")
        for rows, features, probabilities in passed:
            right += int((probabilities.argmax(axis=1) == truth[rows]).sum())
            yield rows, features

    rows, similarity = nearest(features, candidates(), count)
    return Neighbors(pictures, index, rows, similarity, right / len(originals))


def nearest_table(train: Neighbors, wrong: NDArray[np.bool_]) -> pd.DataFrame:
    """Return for each mistake the training image nearest to it: uri, label and similarity.

    wrong: which test images are mistakes.
    """
    chosen = train.index.iloc[train.rows[wrong, 0]].reset_index(drop=True)
    return pd.DataFrame(
        {
            "nearest_uri": chosen["uri"],
            "nearest_label": chosen["label"],
            "nearest_similarity": train.similarity[wrong, 0],
        }
    )


def predictions_table(
    index: pd.DataFrame, probabilities: Probabilities, names: list[str]
) -> pd.DataFrame:
    """Return one row per test image; loss is −log p(label).

    probabilities: (images, classes), rows as in `index`, columns as in `names`.
    """
    truth = class_numbers(index, names)
    best = probabilities.argmax(axis=1)
    rows = np.arange(len(index))
    of_truth = np.clip(probabilities[rows, truth], SMALLEST_PROBABILITY, 1)
    return index[["uri", "image_id", "label"]].assign(
        predicted=np.array(names)[best],
        confidence=probabilities[rows, best],
        loss=-np.log(of_truth),
        correct=best == truth,
        probabilities=list(probabilities),
    )


def mistakes_table(predictions: pd.DataFrame, neighbours: pd.DataFrame | None) -> pd.DataFrame:
    """Return every mistake, the one with the highest loss first, beside its nearest training image.

    neighbours: a row for each mistake, in the order of `predictions`; None where none was sought.
    """
    wrong = predictions[~predictions["correct"]].reset_index(drop=True)
    blank = {"nearest_uri": "", "nearest_label": "", "nearest_similarity": np.nan}
    rows = wrong.assign(**blank) if neighbours is None else pd.concat([wrong, neighbours], axis=1)
    rows = rows.sort_values(["loss", "uri"], ascending=[False, True]).reset_index(drop=True)
    return rows.assign(rank=np.arange(1, len(rows) + 1), of_label=np.exp(-rows["loss"]))


def look_closer(
    classifier: Classifier, pictures: NDArray[np.uint8], index: pd.DataFrame, worst: pd.DataFrame
) -> NDArray[np.uint8]:
    """Return test pictures painted with what spoke for the answer, one for each of the worst."""
    rows = index.set_index("uri").loc[worst["uri"], "row"].to_numpy()
    answers = class_numbers(worst.assign(label=worst["predicted"]), classifier.class_names)
    painted = paint_answers(classifier.model, np.asarray(pictures[rows]), answers)
    if len(painted) < len(worst):
        print(f"evaluate: {classifier.model.name} has no last map of places for Grad-CAM to show")
    return painted
