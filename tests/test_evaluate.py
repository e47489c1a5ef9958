"""evaluate: figures against scikit-learn and against cases computed by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score, recall_score

from stages.evaluate import evaluate_metrics, per_class_table, predictions_table

NAMES = ["ant", "bee", "cat"]


def index_of(labels: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "uri": [f"data/raw/{label}/{at}.png" for at, label in enumerate(labels)],
            "image_id": [f"{at:064x}" for at in range(len(labels))],
            "label": labels,
        }
    )


@pytest.fixture()
def predictions() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    labels = list(rng.choice(NAMES, 200, p=[0.6, 0.3, 0.1]))
    scores = rng.dirichlet([1, 1, 1], 200)
    scores[np.arange(200), [NAMES.index(label) for label in labels]] += 0.5
    probabilities = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    return predictions_table(index_of(labels), probabilities, NAMES)


def test_figures_are_those_of_scikit_learn(predictions: pd.DataFrame) -> None:
    truth, found = predictions["label"], predictions["predicted"]
    per_class = per_class_table(predictions, NAMES, 0.95)

    figures = evaluate_metrics(predictions, per_class, 0.95)

    assert figures["accuracy"] == accuracy_score(truth, found)
    assert figures["macro_f1"] == pytest.approx(f1_score(truth, found, average="macro"))
    assert figures["macro_recall"] == pytest.approx(recall_score(truth, found, average="macro"))
    assert figures["macro_precision"] == pytest.approx(
        precision_score(truth, found, average="macro")
    )
    expected = log_loss(truth, np.stack(predictions["probabilities"]), labels=NAMES)
    assert figures["loss"] == pytest.approx(expected, rel=1e-5)


def test_each_row_says_what_was_predicted_of_its_own_picture() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]], np.float32)

    table = predictions_table(index_of(["ant", "cat"]), probabilities, NAMES)

    assert table["predicted"].tolist() == ["ant", "ant"]
    assert table["correct"].tolist() == [True, False]
    np.testing.assert_allclose(table["confidence"], [0.7, 0.5])
    np.testing.assert_allclose(table["loss"], -np.log([0.7, 0.2]), rtol=1e-6)


def test_a_class_without_test_images_has_no_row_and_spoils_no_average() -> None:
    probabilities = np.eye(3, dtype=np.float32)[[0, 1, 0]]
    predictions = predictions_table(index_of(["ant", "bee", "ant"]), probabilities, NAMES)

    per_class = per_class_table(predictions, NAMES, 0.95)
    figures = evaluate_metrics(predictions, per_class, 0.95)

    assert per_class["label"].tolist() == ["ant", "bee"]
    assert per_class["n"].tolist() == [2, 1]
    assert (figures["macro_f1"], figures["classes_tested"]) == (1.0, 2)


def test_the_fingerprint_names_the_test_set_whatever_the_model_says() -> None:
    index = index_of(["ant", "bee", "cat"])
    right = predictions_table(index, np.eye(3, dtype=np.float32), NAMES)
    wrong = predictions_table(index[::-1], np.eye(3, dtype=np.float32), NAMES)
    other = predictions_table(index.assign(label="ant"), np.eye(3, dtype=np.float32), NAMES)

    prints = [
        evaluate_metrics(table, per_class_table(table, NAMES, 0.95), 0.95)["test_fingerprint"]
        for table in (right, wrong, other)
    ]

    assert prints[0] == prints[1] != prints[2]
