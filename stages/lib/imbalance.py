"""Measures how unequally images are spread over classes, and weighs against it."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def imbalance(counts: pd.Series) -> dict[str, float]:
    """Return metrics of the images per class, each at least 1.

    imbalance_ratio: largest class / smallest, 1 where all are equal. class_evenness: Shannon's
    entropy of the class shares over its maximum (Pielou's evenness, J. Theor. Biol. 13, 1966), 1
    where all are equal, near 0 where one class has nearly all.
    """
    shares = counts.to_numpy(np.float64) / counts.sum()
    spread = -float(shares @ np.log(shares))
    return {
        "imbalance_ratio": float(counts.max() / counts.min()),
        "class_evenness": spread / np.log(len(counts)) if len(counts) > 1 else 1.0,
    }


def balanced_weights(classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return how much an image of each class counts in the loss, so that all classes count alike.

    It is images / (classes * images of the class), as in scikit-learn; over all images the mean is
    1.
    """
    counts = np.bincount(classes)
    weights: NDArray[np.float32] = (len(classes) / (len(counts) * counts)).astype(np.float32)
    return weights
