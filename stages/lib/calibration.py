"""Calibration: whether answers given with 90 % confidence are right in 90 % of the cases."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.lib.intervals import wilson


def reliability_table(
    confidence: NDArray[np.float32], correct: NDArray[np.bool_], bins: int, level: float
) -> pd.DataFrame:
    """Return how often answers were right by how sure they were, one row per bin with answers.

    confidence: (images,), the probability of the answer. The bins are equally wide and hold their
    upper edge. level: of the intervals. Columns: low and high (edges), n, confidence (the mean),
    correct, accuracy and its interval.
    """
    # In 64 bits: an edge such as 0.7 has no exact form, and must not move with the precision.
    place = np.clip(np.ceil(confidence.astype(np.float64) * bins - 1e-6), 1, bins).astype(int) - 1
    rows = pd.DataFrame({"bin": place, "confidence": confidence.astype(float), "correct": correct})
    table = rows.groupby("bin").agg(
        n=("correct", "size"), confidence=("confidence", "mean"), correct=("correct", "sum")
    )
    table = table.reset_index()
    bounds = [
        wilson(int(k), int(n), level) for k, n in zip(table["correct"], table["n"], strict=True)
    ]
    return pd.DataFrame(
        {
            "low": table["bin"] / bins,
            "high": (table["bin"] + 1) / bins,
            "n": table["n"],
            "confidence": table["confidence"],
            "correct": table["correct"],
            "accuracy": table["correct"] / table["n"],
            "accuracy_low": [low for low, _ in bounds],
            "accuracy_high": [high for _, high in bounds],
        }
    )


def calibration_errors(table: pd.DataFrame) -> dict[str, float]:
    """Return the expected calibration error, the mean distance of confidence and accuracy over all
    answers (C. Guo et al., ICML 2017), and the mean confidence.
    """
    weights = table["n"] / table["n"].sum()
    distance = (table["confidence"] - table["accuracy"]).abs()
    return {
        "expected_calibration_error": float((distance * weights).sum()),
        "mean_confidence": float((table["confidence"] * weights).sum()),
    }
