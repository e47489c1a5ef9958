"""Takes the test figure: the only stage that reads the test set, and it reads it once.

Reads:  models/classifier, data/dataset
Writes: data/predictions.parquet, metrics/evaluate.json, metrics/plots/per_class.csv,
        metrics/plots/confusion.csv
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from sklearn.metrics import precision_recall_fscore_support

from stages.lib.classifier import load_classifier, predict
from stages.lib.dataset import class_numbers, is_leaky, load_split
from stages.lib.errors import run_stage
from stages.lib.hashing import fingerprint
from stages.lib.intervals import wilson
from stages.lib.metrics import write_metrics, write_plot
from stages.lib.params import STRICT, load_params
from stages.lib.progress import summarise
from stages.lib.table import PREDICTIONS, write_table

SMALLEST_PROBABILITY = 1e-7  # as Keras clips before the logarithm


@dataclass(frozen=True, config=STRICT)
class Params:
    """The evaluate section of params.yaml."""

    batch_size: Annotated[int, Field(ge=1)]
    confidence: Annotated[float, Field(gt=0, lt=1)]


def predictions_table(
    index: pd.DataFrame, probabilities: NDArray[np.float32], names: list[str]
) -> pd.DataFrame:
    """Return one row per test image; loss is −log p(label).

    probabilities: (images, classes), rows as in `index`, columns as in `names`.
    """
    truth = class_numbers(index, names)
    best = probabilities.argmax(axis=1)
    rows = np.arange(len(index))
    of_truth = np.clip(probabilities[rows, truth], SMALLEST_PROBABILITY, 1)
    return index[["uri", "image_id", "label"]].assign(
        predicted=np.array(names)[best],
        confidence=probabilities[rows, best],
        loss=-np.log(of_truth),
        correct=best == truth,
        probabilities=list(probabilities),
    )


def per_class_table(predictions: pd.DataFrame, names: list[str], confidence: float) -> pd.DataFrame:
    """Return the figures of every class that the test set has, recall with its interval."""
    present = [name for name in names if (predictions["label"] == name).any()]
    precision, recall, f1, counts = precision_recall_fscore_support(
        predictions["label"], predictions["predicted"], labels=present, zero_division=0.0
    )
    correct = predictions.groupby("label")["correct"].sum().reindex(present)
    intervals = [wilson(int(k), int(n), confidence) for k, n in zip(correct, counts, strict=True)]
    return pd.DataFrame(
        {
            "label": present,
            "n": counts,
            "correct": correct.to_numpy(),
            "precision": precision,
            "recall": recall,
            "recall_low": [low for low, _ in intervals],
            "recall_high": [high for _, high in intervals],
            "f1": f1,
        }
    )


def evaluate_metrics(
    predictions: pd.DataFrame, per_class: pd.DataFrame, confidence: float
) -> dict[str, Any]:
    """Return the headline figures; macro averages weigh every class alike."""
    n, correct = len(predictions), int(predictions["correct"].sum())
    low, high = wilson(correct, n, confidence)
    return {
        "accuracy": correct / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "confidence_level": confidence,
        "n": n,
        "correct": correct,
        "loss": predictions["loss"].mean(),
        "macro_precision": per_class["precision"].mean(),
        "macro_recall": per_class["recall"].mean(),
        "macro_f1": per_class["f1"].mean(),
        "classes_tested": len(per_class),
        "test_fingerprint": fingerprint(predictions["image_id"] + "/" + predictions["label"]),
    }


def main() -> None:
    """Score the best weights on the test set."""
    params = load_params(Params, "evaluate")
    classifier = load_classifier()
    pictures, index = load_split("test")
    probabilities = predict(classifier, pictures, params.batch_size, "evaluate")
    predictions = predictions_table(index, probabilities, classifier.class_names)
    per_class = per_class_table(predictions, classifier.class_names, params.confidence)
    figures = evaluate_metrics(predictions, per_class, params.confidence)
    write_table(Path("data/predictions.parquet"), predictions, PREDICTIONS)
    write_metrics("evaluate", figures, is_leaky(index))
    write_plot("per_class", per_class)
    write_plot(
        "confusion", predictions[["label", "predicted"]].set_axis(["actual", "predicted"], axis=1)
    )
    summarise(
        "evaluate",
        f"test accuracy {figures['accuracy']:.2%} ({figures['correct']:,} of {figures['n']:,}; "
        f"{params.confidence:.0%} interval {figures['accuracy_low']:.2%} to "
        f"{figures['accuracy_high']:.2%}), "
        f"macro F1 {figures['macro_f1']:.4f}",
        is_leaky(index),
    )


if __name__ == "__main__":
    run_stage("evaluate", main)
