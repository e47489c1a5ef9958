"""Ranking: curves against scikit-learn, areas under them, and what has no curve."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from stages.lib.ranking import (
    FALSE_POSITIVE_RATES,
    RECALLS,
    curve_tables,
    looked_for,
    precision_at,
    ranking_table,
    roc_at,
)


def test_a_perfect_ranking_has_the_whole_area() -> None:
    here = np.array([True, True, False])
    scores = np.array([0.9, 0.8, 0.1], np.float32)

    assert (roc_at(here, scores) == 1).all()
    assert (precision_at(here, scores) == 1).all()


def test_curves_by_hand() -> None:
    # From the surest on: right, wrong, right, wrong.
    here = np.array([True, False, True, False])
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)

    roc, precision = roc_at(here, scores), precision_at(here, scores)

    assert roc[FALSE_POSITIVE_RATES < 0.5].tolist() == [0.5] * (FALSE_POSITIVE_RATES < 0.5).sum()
    assert (roc[FALSE_POSITIVE_RATES >= 0.5] == 1).all()
    assert (precision[RECALLS <= 0.5] == 1).all()
    assert precision[RECALLS > 0.5].tolist() == pytest.approx([2 / 3] * 100)


def test_precision_at_no_recall_is_that_of_a_threshold_too() -> None:
    here = np.array([False, False, True])

    assert precision_at(here, np.array([0.9, 0.8, 0.1], np.float32))[0] == pytest.approx(1 / 3)


def test_the_area_under_the_points_is_nearly_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    here = rng.random(2000) < 0.3
    scores = (rng.normal(size=2000) + here).astype(np.float32)

    area = np.trapezoid(roc_at(here, scores), FALSE_POSITIVE_RATES)

    assert area == pytest.approx(roc_auc_score(here, scores), abs=0.005)
    mean = precision_at(here, scores).mean()
    assert mean == pytest.approx(average_precision_score(here, scores), abs=0.01)


@pytest.mark.parametrize(
    ("truth", "classes", "found"),
    [([0, 1, 2], 3, [0, 1, 2]), ([0, 1, 1], 2, [1]), ([1, 1], 3, []), ([0, 0], 2, []),
     ([0, 2], 4, [0, 2])],
)  # fmt: skip
def test_a_class_has_a_curve_where_it_and_others_are_in_the_test_set(
    truth: list[int], classes: int, found: list[int]
) -> None:
    assert looked_for(np.array(truth), classes) == found


def test_of_many_classes_the_mean_and_the_lowest_are_kept() -> None:
    probabilities = np.array(
        [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], np.float32
    )
    truth = np.array([0, 0, 1, 2])

    table = ranking_table(truth, probabilities, ["a", "b", "c"])
    roc, precision = curve_tables(truth, probabilities, 3)

    # a: of 2 × 2 pairs one is wrong; b: second of four; c: first.
    assert table["roc_auc"].tolist() == pytest.approx([3 / 4, 2 / 3, 1])
    assert roc["true_positive_rate"][0] == pytest.approx((0.5 + 0 + 1) / 3)
    assert roc["lowest"][0] == 0
    assert (precision["lowest"] <= precision["precision"]).all()


def test_where_nothing_is_to_be_told_apart_the_tables_are_empty() -> None:
    truth, probabilities = np.array([0, 0]), np.full((2, 2), 0.5, np.float32)

    assert ranking_table(truth, probabilities, ["a", "b"]).empty
    for table in curve_tables(truth, probabilities, 2):
        assert isinstance(table, pd.DataFrame) and table.empty
