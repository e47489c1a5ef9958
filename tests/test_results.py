"""What the page says of the test: counts that are true, choices that no hand made."""

import pandas as pd
import pytest

from stages.lib import results


def test_the_confusion_matrix_counts_predictions_by_actual_row_and_predicted_column() -> None:
    predictions = pd.DataFrame(
        {"label": list("aab"), "predicted": list("aba"), "correct": [True, False, False]}
    )

    found = results.confusion(predictions, ["a", "b", "c"])

    assert found["rows"] == [
        {"actual": "a", "n": 2, "cells": [("a", 1), ("b", 1), ("c", 0)]},
        {"actual": "b", "n": 1, "cells": [("a", 1), ("b", 0), ("c", 0)]},
        {"actual": "c", "n": 0, "cells": [("a", 0), ("b", 0), ("c", 0)]},
    ]
    assert found["top"] == {("a", "b"): 1, ("b", "a"): 1}


def test_a_large_confusion_matrix_keeps_the_classes_with_the_most_mistakes() -> None:
    names = [f"class {number:03}" for number in range(200)]
    predictions = pd.DataFrame({"label": names, "predicted": names, "correct": True})
    predictions.loc[150, ["predicted", "correct"]] = ["class 151", False]

    found = results.confusion(predictions, names)

    assert len(found["names"]) == len(found["rows"]) == results.MATRIX_CLASSES
    assert {"class 150", "class 151"} < set(found["names"])


def test_mistakes_are_the_wrong_predictions_with_the_highest_loss() -> None:
    predictions = pd.DataFrame(
        {"uri": list("abcd"), "loss": [0.1, 3.0, 5.0, 9.0], "correct": [False, False, False, True]}
    )

    assert list(results.worst_mistakes(predictions, 2)["uri"]) == ["c", "b"]
    assert results.worst_mistakes(predictions, 0).empty


def test_pictures_are_drawn_by_the_fingerprint_alone() -> None:
    predictions = pd.DataFrame({"uri": [f"{number}" for number in range(100)]})

    first = list(results.drawn(predictions, "a")["uri"])

    assert first == list(results.drawn(predictions, "a")["uri"])
    assert first != list(results.drawn(predictions, "b")["uri"])
    assert len(set(first)) == results.DRAWN


@pytest.mark.parametrize("side", ["test", "val"])
def test_a_fold_is_on_the_side_that_its_part_is_on(side: str) -> None:
    split = pd.DataFrame({"split": ["train", side, "test", "train"], "fold": [0, 1, -1, 2]})

    assert results.fold_side(split, 1) == side
    assert results.fold_side(split, None) == ""
