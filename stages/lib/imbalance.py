"""Measures how unequally images are spread over classes."""

import numpy as np
import pandas as pd


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
