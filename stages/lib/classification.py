"""Figures of answers: how often the right class is named, over all and class by class."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from stages.lib.intervals import Counts, bootstrap, wilson

Classes = NDArray[np.int64]  # (images,): positions in the sorted names
Probabilities = NDArray[np.float32]  # (images, classes)


def confusion_matrix(truth: Classes, answers: Classes, num_classes: int) -> Counts:
    """Return how many pictures of each class (row) were taken for each (column)."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(matrix, (truth, answers), 1)
    return matrix


def rank_of_truth(truth: Classes, probabilities: Probabilities) -> Classes:
    """Return how many classes come before the right one, 0 where the answer is right.

    Of equal probabilities the first class comes first, as `argmax` has it.
    """
    of_truth = probabilities[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(probabilities.shape[1]) < truth[:, None]
    before = (probabilities > of_truth) | ((probabilities == of_truth) & earlier)
    ranks: Classes = before.sum(axis=1, dtype=np.int64)
    return ranks


def top_k_table(ranks: Classes, num_classes: int, confidence: float, most: int) -> pd.DataFrame:
    """Return for k = 1, 2, … the share of pictures whose class is among the k likeliest, with its
    interval; k ends at `most`, and before it says nothing because it reaches all classes.
    """
    n, last = len(ranks), max(min(most, num_classes - 1), 1)
    right = [int((ranks < k).sum()) for k in range(1, last + 1)]
    bounds = [wilson(correct, n, confidence) for correct in right]
    return pd.DataFrame(
        {
            "k": range(1, last + 1),
            "correct": right,
            "accuracy": [correct / n for correct in right],
            "accuracy_low": [low for low, _ in bounds],
            "accuracy_high": [high for _, high in bounds],
        }
    )


def per_class_table(matrix: Counts, names: Sequence[str], confidence: float) -> pd.DataFrame:
    """Return the figures of every class that the test set has, recall with its interval.

    matrix: (classes, classes), truth by answer. A class that is never named has precision 0.
    """
    sizes, named = matrix.sum(axis=1), matrix.sum(axis=0)
    present = np.flatnonzero(sizes)
    right = np.diag(matrix)[present]
    bounds = [
        wilson(int(k), int(n), confidence) for k, n in zip(right, sizes[present], strict=True)
    ]
    return pd.DataFrame(
        {
            "label": [names[int(at)] for at in present],
            "n": sizes[present],
            "correct": right,
            "precision": right / np.maximum(named[present], 1),
            "recall": right / sizes[present],
            "recall_low": [low for low, _ in bounds],
            "recall_high": [high for _, high in bounds],
            "f1": 2 * right / (sizes + named)[present],
        }
    )


def averages(per_class: pd.DataFrame) -> dict[str, float]:
    """Return precision, recall and F1 over the classes: macro weighs every class alike, weighted
    every picture.
    """
    weights = per_class["n"] / per_class["n"].sum()
    found = {}
    for name in ("precision", "recall", "f1"):
        found[f"macro_{name}"] = float(per_class[name].mean())
        found[f"weighted_{name}"] = float((per_class[name] * weights).sum())
    return found


def macro_f1_interval(
    matrix: Counts, confidence: float, repeats: int, seed: int
) -> tuple[float, float]:
    """Return the bootstrap interval of macro F1 over resampled test pictures.

    A draw may lack a class; its mean is then over the classes that it has, as that of the test set
    is.
    """
    truth, answers = np.nonzero(matrix)
    right = truth == answers
    ones, kinds = np.ones(len(truth), np.int64), np.arange(len(truth))
    # From kinds to classes: sparse, for a thousand classes have ten thousand kinds of answers.
    shape = (len(truth), len(matrix))
    of_truth = csr_array((ones, (kinds, truth)), shape=shape)
    of_answers = csr_array((ones, (kinds, answers)), shape=shape)

    def macro_f1(counts: Counts) -> NDArray[np.float64]:
        sizes = counts @ of_truth
        f1 = 2 * ((counts * right) @ of_truth) / np.maximum(sizes + counts @ of_answers, 1)
        mean: NDArray[np.float64] = f1.sum(axis=1) / (sizes > 0).sum(axis=1)
        return mean

    return bootstrap(matrix[truth, answers], macro_f1, confidence, repeats, seed)


def capped_rows(matrix: Counts, names: Sequence[str], most: int) -> pd.DataFrame:
    """Return `actual` and `predicted`, a row per picture, for a plot that counts rows.

    Of more than `most` pictures each cell has its proportional part, rounded so that they add up
    (largest remainders first); the rarest may have none.
    """
    truth, answers = np.nonzero(matrix)
    counts = matrix[truth, answers]
    exact = counts * min(most / counts.sum(), 1.0)
    parts = np.floor(exact + 1e-9).astype(np.int64)
    missing = round(exact.sum()) - parts.sum()
    parts[np.argsort(parts - exact, kind="stable")[:missing]] += 1
    columns = {"actual": truth, "predicted": answers}
    labels = np.array(names, dtype=object)
    return pd.DataFrame({key: np.repeat(labels[at], parts) for key, at in columns.items()})


def slugs(names: Sequence[str]) -> list[str]:
    """Return a name for each label of which metric keys can be made: a to z, 0 to 9 and _.

    Labels that would share a name are told apart by a number, in the order given, so that equal
    labels always give equal names.
    """
    found: list[str] = []
    for name in names:
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        slug = re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or "class"
        number, taken = 2, slug
        while taken in found:
            taken, number = f"{slug}_{number}", number + 1
        found.append(taken)
    return found
