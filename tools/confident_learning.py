"""Finds labels that are probably wrong, by confident learning (C. G. Northcutt, L. Jiang and I. L.
Chuang, Journal of Artificial Intelligence Research 70, 2021).

A model that has not seen a picture is asked how probable each class is. Where it is more confident
of another class than it usually is of that class's own pictures, the label is in doubt. Only the
comparison with the class's own usual confidence makes it bear classes that are hard or rare.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Classes = NDArray[np.int64]  # (images,): positions in the sorted names
Probabilities = NDArray[np.floating]  # (images, classes), by a model that has not seen the image
NONE = -1  # no class is confident enough


class Doubts(NamedTuple):
    """Pictures whose labels are probably wrong, the most doubtful first.

    rows: which pictures. suggested: the class that each looks like. margin: the probability of the
    label less that of the likeliest other class, -1 to 0.
    """

    rows: NDArray[np.int64]
    suggested: Classes
    margin: NDArray[np.float64]


def confidence_thresholds(labels: Classes, probabilities: Probabilities) -> NDArray[np.float64]:
    """Return for each class the mean probability that its own pictures have of it.

    Infinite for a class without pictures, of which nobody can then be confident.
    """
    number = probabilities.shape[1]
    sizes = np.bincount(labels, minlength=number)
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    sums = np.bincount(labels, weights=own, minlength=number)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), np.inf)


def confident_classes(labels: Classes, probabilities: Probabilities) -> Classes:
    """Return the class that each picture confidently belongs to, the likeliest where there are
    several; NONE where there is none.
    """
    thresholds = confidence_thresholds(labels, probabilities)
    # A tiny tolerance: where all pictures of a class are equal, the mean may be rounded upwards.
    reached = probabilities >= thresholds - 1e-6
    best = np.where(reached, probabilities, -1.0).argmax(axis=1)
    return np.where(reached.any(axis=1), best, NONE).astype(np.int64)


def confident_joint(labels: Classes, probabilities: Probabilities) -> NDArray[np.int64]:
    """Return how many pictures of each label (row) confidently belong to each class (column)."""
    number, confident = probabilities.shape[1], confident_classes(labels, probabilities)
    known = confident != NONE
    cells = np.bincount(labels[known] * number + confident[known], minlength=number**2)
    joint: NDArray[np.int64] = cells.reshape(number, number).astype(np.int64)
    return joint


def noise_estimate(labels: Classes, probabilities: Probabilities) -> float:
    """Return the share of wrong labels that the confident joint speaks for, 0 to 1.

    Each row is scaled to the number of pictures with its label, as in the paper's equation 3; a
    label without any confident picture counts as right.
    """
    joint = confident_joint(labels, probabilities).astype(np.float64)
    sizes = np.bincount(labels, minlength=len(joint))
    rows = joint.sum(axis=1)
    right = np.where(rows > 0, np.diag(joint) / np.maximum(rows, 1), 1.0)
    return float(1 - (right * sizes).sum() / sizes.sum())


def doubtful_labels(labels: Classes, probabilities: Probabilities) -> Doubts:
    """Return the pictures off the diagonal of the confident joint, by normalised margin.

    A label that is the likeliest class all the same is not in doubt.
    """
    confident = confident_classes(labels, probabilities)
    likeliest = probabilities.argmax(axis=1)
    rows = np.flatnonzero((confident != NONE) & (confident != labels) & (likeliest != labels))
    chosen = probabilities[rows].astype(np.float64)
    own = chosen[np.arange(len(rows)), labels[rows]]
    chosen[np.arange(len(rows)), labels[rows]] = -np.inf
    margin = own - chosen.max(axis=1)
    order = np.argsort(margin, kind="stable")
    return Doubts(rows[order], confident[rows[order]], margin[order])
