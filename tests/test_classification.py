"""Figures of answers: against hand-computed cases and against what they promise."""

import time

import numpy as np
import pytest

from stages.lib.classification import (
    capped_rows,
    confusion_matrix,
    macro_f1_interval,
    per_class_table,
    rank_of_truth,
    slugs,
    top_k_table,
)


def test_a_row_of_the_matrix_is_the_truth_and_a_column_the_answer() -> None:
    matrix = confusion_matrix(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 0]), 3)

    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [2, 0, 0]]


def test_figures_of_a_class_by_hand() -> None:
    matrix = np.array([[8, 2, 0], [4, 6, 0], [0, 0, 0]])

    table = per_class_table(matrix, ["a", "b", "c"], 0.95)

    assert table["label"].tolist() == ["a", "b"]
    assert table["precision"].tolist() == pytest.approx([8 / 12, 6 / 8])
    assert table["recall"].tolist() == pytest.approx([0.8, 0.6])
    assert table["f1"].tolist() == pytest.approx([16 / 22, 12 / 18])
    assert table["recall_low"][0] == pytest.approx(0.4902, abs=2e-4)


def test_a_class_that_is_never_named_has_precision_and_f1_of_nothing() -> None:
    table = per_class_table(np.array([[0, 3], [0, 5]]), ["a", "b"], 0.95)

    assert table.loc[0, ["precision", "recall", "f1"]].tolist() == [0, 0, 0]


def test_the_rank_of_the_truth_counts_the_likelier_classes_and_the_first_of_equals() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]], np.float32)

    assert rank_of_truth(np.array([0, 2, 1]), probabilities).tolist() == [0, 2, 1]
    assert rank_of_truth(np.array([0, 1, 0]), probabilities).tolist() == [0, 1, 0]


@pytest.mark.parametrize(("most", "classes", "last"), [(5, 10, 5), (5, 3, 2), (5, 2, 1), (5, 1, 1)])
def test_top_k_ends_where_it_would_say_nothing(most: int, classes: int, last: int) -> None:
    table = top_k_table(np.array([0, 1, 0, 0]), classes, 0.95, most)

    assert table["k"].tolist() == list(range(1, last + 1))
    assert table["accuracy"].tolist() == [0.75, 1, 1, 1, 1][:last]


def test_the_interval_of_macro_f1_is_that_of_resampling_rows_one_by_one() -> None:
    rng = np.random.default_rng(3)
    truth = rng.choice(3, 120, p=[0.6, 0.3, 0.1])
    answers = np.where(rng.random(120) < 0.8, truth, rng.integers(0, 3, 120))

    found = macro_f1_interval(confusion_matrix(truth, answers, 3), 0.9, 4000, seed=1)

    values = []
    for _ in range(1500):
        rows = rng.integers(0, 120, 120)
        table = per_class_table(confusion_matrix(truth[rows], answers[rows], 3), "abc", 0.9)
        values.append(table["f1"].mean())
    assert found == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])), abs=0.01)


def test_the_bootstrap_of_a_thousand_classes_takes_seconds() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 1000, 10_000)
    answers = np.where(rng.random(10_000) < 0.5, truth, rng.integers(0, 1000, 10_000))
    matrix = confusion_matrix(truth, answers, 1000)

    started = time.process_time()
    low, high = macro_f1_interval(matrix, 0.95, 1000, seed=1)

    assert time.process_time() - started < 20
    assert 0.4 < low < high < 0.6


def test_capped_rows_keep_the_proportions_of_the_matrix() -> None:
    matrix = np.array([[600, 100], [1, 299]])

    rows = capped_rows(matrix, ["a", "b"], most=100)

    assert len(rows) == 100
    counts = rows.value_counts().to_dict()
    assert counts == {("a", "a"): 60, ("b", "b"): 30, ("a", "b"): 10}
    whole = capped_rows(matrix, ["a", "b"], most=1000).value_counts().to_dict()
    assert whole == {("a", "a"): 600, ("a", "b"): 100, ("b", "a"): 1, ("b", "b"): 299}


@pytest.mark.parametrize("most", [7, 100, 997, 4999])
def test_capped_rows_are_as_many_as_asked_for(most: int) -> None:
    matrix = np.random.default_rng(most).integers(0, 50, (20, 20))

    assert len(capped_rows(matrix, [str(at) for at in range(20)], most)) == most


def test_slugs_are_plain_and_never_shared() -> None:
    labels = ["Café au lait", "cafe-au-lait", "cafe_au_lait_2", "猫", "犬", "", "A" * 3]

    found = slugs(labels)

    assert found == [
        "cafe_au_lait", "cafe_au_lait_2", "cafe_au_lait_2_2", "class", "class_2", "class_3", "aaa",
    ]  # fmt: skip
    assert len(set(found)) == len(labels)
