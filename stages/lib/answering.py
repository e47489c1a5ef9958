"""Puts pictures to a classifier: its answers, its mistakes, and what is like them in train."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.lib.classification import Classes, Probabilities
from stages.lib.classifier import Classifier
from stages.lib.dataset import class_numbers, load_split
from stages.lib.features import Features, Rows, batches, nearest
from stages.lib.grad_cam import paint_answers

SMALLEST_PROBABILITY = 1e-7  # as Keras clips before the logarithm


def score_test(
    classifier: Classifier, pictures: NDArray[np.uint8], truth: Classes, batch_size: int
) -> tuple[Probabilities, Features]:
    """Return the probabilities of all pictures, and the features of those taken for another class.

    The two come from one pass, in which the features of the right answers are let go again.
    """
    found, wrong = [], []
    rows = np.arange(len(pictures))
    for here, features, given in batches(classifier.model, pictures, rows, batch_size, "evaluate"):
        found.append(given)
        wrong.append(features[given.argmax(axis=1) != truth[here]])
    return np.concatenate(found), np.concatenate(wrong)


def compare_with_train(
    classifier: Classifier, mistakes: Features, batch_size: int
) -> tuple[float, pd.DataFrame]:
    """Return the accuracy on the originals of train, and per mistake the one that is nearest to it
    in the model's features: its uri, its label and the similarity.
    """
    pictures, index = load_split("train", verify=False)  # train has held it against its checksums
    originals = np.flatnonzero(index["parent_id"] == "")
    truth = class_numbers(index, classifier.class_names)
    right = 0

    def candidates() -> Iterator[tuple[Rows, Features]]:
        nonlocal right
        passed = batches(classifier.model, pictures, originals, batch_size, "evaluate: train")
        for rows, features, probabilities in passed:
            right += int((probabilities.argmax(axis=1) == truth[rows]).sum())
            yield rows, features

    rows, similarity = nearest(mistakes, candidates())
    columns = {"nearest_uri": index["uri"], "nearest_label": index["label"]}
    chosen = pd.DataFrame({name: column.to_numpy()[rows] for name, column in columns.items()})
    return right / len(originals), chosen.assign(nearest_similarity=similarity)


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
