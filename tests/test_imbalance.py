"""Imbalance: figures with known answers, and the weights of scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_class_weight

from stages.lib.imbalance import balanced_weights, imbalance


@pytest.mark.parametrize(
    ("counts", "ratio", "evenness"),
    [
        ([5, 5, 5], 1.0, 1.0),
        ([7], 1.0, 1.0),
        ([3, 1], 3.0, 0.811278),  # the entropy of a coin that falls on one side three times in four
        ([1000, 1], 1000.0, 0.011395),
    ],
)
def test_figures_are_those_of_the_formula(counts: list[int], ratio: float, evenness: float) -> None:
    found = imbalance(pd.Series(counts))

    assert found["imbalance_ratio"] == pytest.approx(ratio)
    assert found["class_evenness"] == pytest.approx(evenness, abs=1e-5)


@pytest.mark.parametrize("counts", [[5, 5], [9, 1], [1, 2, 3, 40], [7]])
def test_balanced_weights_are_those_of_scikit_learn(counts: list[int]) -> None:
    classes = np.repeat(np.arange(len(counts)), counts)

    weights = balanced_weights(classes)

    expected = compute_class_weight("balanced", classes=np.arange(len(counts)), y=classes)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
