"""Ranking: how well a probability tells the pictures of a class from all others, at any threshold.

With two classes the second one by name is what is looked for; with more, each class in turn is held
against the rest.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from stages.lib.classification import Classes, Probabilities

# Where the curves are read: evenly, and densely near 0, where those of a good model do their work.
FALSE_POSITIVE_RATES = np.unique(
    np.concatenate([np.linspace(0, 1, 101), np.geomspace(1e-4, 0.1, 61)]).round(6)
)
RECALLS = np.linspace(0, 1, 201)

Curve = NDArray[np.float64]


def looked_for(truth: Classes, num_classes: int) -> list[int]:
    """Return the classes that have a curve: those with pictures of their own and of others in the
    test set, and of two classes the second alone.
    """
    sizes = np.bincount(truth, minlength=num_classes)
    defined = [at for at in range(num_classes) if 0 < sizes[at] < len(truth)]
    return [at for at in defined if at == 1] if num_classes == 2 else defined


def ranking_table(
    truth: Classes, probabilities: Probabilities, names: Sequence[str]
) -> pd.DataFrame:
    """Return the area under the ROC curve and the average precision of each class looked for."""
    rows = []
    for at in looked_for(truth, len(names)):
        here, scores = truth == at, probabilities[:, at]
        area = float(roc_auc_score(here, scores))
        precision = float(average_precision_score(here, scores))
        rows.append({"label": names[at], "roc_auc": area, "average_precision": precision})
    return pd.DataFrame(rows, columns=["label", "roc_auc", "average_precision"])


def roc_at(here: NDArray[np.bool_], scores: NDArray[np.float32]) -> Curve:
    """Return the largest true positive rate at or below each of FALSE_POSITIVE_RATES."""
    false_rates, true_rates, _ = roc_curve(here, scores, drop_intermediate=False)
    last = np.searchsorted(false_rates, FALSE_POSITIVE_RATES, side="right") - 1
    reached: Curve = true_rates[last]
    return reached


def precision_at(here: NDArray[np.bool_], scores: NDArray[np.float32]) -> Curve:
    """Return the highest precision at or above each of RECALLS (interpolated precision)."""
    # The last point, precision 1 at recall 0, belongs to no threshold.
    precision, recall = (values[:-1] for values in precision_recall_curve(here, scores)[:2])
    # Recall falls along the curve; from its other end the best so far is the best at or above.
    best = np.maximum.accumulate(precision)
    last = np.searchsorted(-recall, -RECALLS, side="right") - 1
    reached: Curve = best[last]
    return reached


def curve_tables(
    truth: Classes, probabilities: Probabilities, num_classes: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the ROC and the precision-recall curve: that of the class looked for, or the mean of
    all beside the lowest, point by point. Tables without rows where no class has a curve.
    """
    found = looked_for(truth, num_classes)
    roc, precision = (
        np.array([curve(truth == at, probabilities[:, at]) for at in found])
        for curve in (roc_at, precision_at)
    )
    return (
        _table("false_positive_rate", FALSE_POSITIVE_RATES, "true_positive_rate", roc),
        _table("recall", RECALLS, "precision", precision),
    )


def _table(x: str, at: Curve, y: str, curves: Curve) -> pd.DataFrame:
    """curves: (classes, points)."""
    if not len(curves):
        return pd.DataFrame(columns=[x, y, "lowest"])
    return pd.DataFrame({x: at, y: curves.mean(axis=0), "lowest": curves.min(axis=0)})
