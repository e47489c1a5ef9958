"""What the page says of the test: counts that are true, choices that no hand made."""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.lib import results
from stages.lib.report_pictures import Tile


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


def test_mistakes_come_by_rank_each_with_its_own_pictures(tmp_path: Path) -> None:
    colours = {"test 1": (200, 0, 0), "test 2": (0, 200, 0), "near 1": (0, 0, 200)}
    for name, colour in colours.items():
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{name}.png")
    mistakes = pd.DataFrame(
        {
            "rank": [2, 1, 3],
            "uri": [str(tmp_path / f"{name}.png") for name in ("test 2", "test 1", "gone")],
            "nearest_uri": ["", str(tmp_path / "near 1.png"), ""],
        }
    )
    painted = np.full((1, 8, 8, 3), 77, np.uint8)

    first, second = results.worst_mistakes(mistakes, painted, 2)

    assert (first["rank"], second["rank"]) == (1, 2)
    assert mean_colour(first["tile"]) == pytest.approx(colours["test 1"], abs=4)
    assert mean_colour(first["nearest"]) == pytest.approx(colours["near 1"], abs=4)
    assert mean_colour(first["looked"]) == pytest.approx((77, 77, 77), abs=4)
    assert mean_colour(second["tile"]) == pytest.approx(colours["test 2"], abs=4)
    assert second["nearest"] is None and second["looked"] is None
    assert results.worst_mistakes(mistakes, painted, 0) == []


def mean_colour(tile: Tile | None) -> tuple[float, ...]:
    assert tile is not None
    data = base64.b64decode(tile.src.removeprefix("data:image/webp;base64,"))
    return tuple(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).mean(axis=(0, 1)))


def test_two_classes_have_one_curve_and_more_have_the_lowest_beside_the_mean() -> None:
    roc = pd.DataFrame({"false_positive_rate": [0, 1.0], "true_positive_rate": [0.5, 1]})
    precision = pd.DataFrame({"recall": [0, 1.0], "precision": [1, 0.25]})

    one = results.ranking_charts(
        roc.assign(lowest=roc["true_positive_rate"]),
        precision.assign(lowest=precision["precision"]),
    )
    many = results.ranking_charts(roc.assign(lowest=0.1), precision.assign(lowest=0.2))

    assert list(one) == list(many) == ["ROC", "Precision and recall"]
    assert [chart.count("<polyline") for chart in (*one.values(), *many.values())] == [1, 1, 2, 2]
    assert "precision 100% at recall 0%" in one["Precision and recall"]
    assert not results.ranking_charts(roc.assign(lowest=0)[:0], precision.assign(lowest=0)[:0])


def test_parameters_are_told_stage_by_stage_and_keep_their_secrets() -> None:
    content = {
        "gate": {"z": 2.0},
        "train": {"epochs": 3, "schedule": {"kind": "cosine"}, "options": {}},
        "download": {"source": "https://me:secret@host/a.zip", "watch": "b@c"},
    }

    found = results.run_params(content, ["download", "train", "report"])

    assert found == [
        ("download", "source: https://host/a.zip\nwatch: b@c"),
        ("train", "epochs: 3\nschedule:\n  kind: cosine\noptions: {}"),
        ("report", "{}"),
    ]


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
