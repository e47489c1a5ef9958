"""Takes the test figure: the only stage that reads the test set, and it reads it once.

Reads:  models/classifier, data/dataset, data/clean.parquet, overrides.csv
Writes: data/predictions.parquet, data/mistakes.csv, data/near_duplicates_across.csv,
        data/grad_cam.npy, metrics/evaluate.json, metrics/confusion.json and, below metrics/plots,
        per_class.csv, confusion.csv, top_k.csv, reliability.csv, roc.csv, precision_recall.csv;
        metrics/evaluate_timing.json (no DVC output)
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.answering import (
    Neighbors,
    look_closer,
    mistakes_table,
    nearest_in,
    nearest_table,
    predictions_table,
    score_test,
)
from stages.lib.calibration import calibration_errors, reliability_table
from stages.lib.classification import (
    Classes,
    Probabilities,
    averages,
    capped_rows,
    confusion_matrix,
    macro_f1_interval,
    per_class_table,
    rank_of_truth,
    slugs,
    top_k_table,
)
from stages.lib.classifier import CLASSIFIER, load_classifier
from stages.lib.dataset import class_numbers, is_leaky, load_split
from stages.lib.errors import run_stage
from stages.lib.files import replacing
from stages.lib.hashing import fingerprint
from stages.lib.intervals import Counts, wilson
from stages.lib.leak_check import TABLE, check_sentence, leak_warning, search_metrics
from stages.lib.metrics import METRICS, write_metrics, write_plot, write_timing
from stages.lib.overrides import read_overrides
from stages.lib.params import STRICT, load_params
from stages.lib.progress import summarise
from stages.lib.ranking import curve_tables, ranking_table
from stages.lib.second_search import PROPOSED, Side, find_across
from stages.lib.table import ACROSS, CLEAN, MISTAKES, PREDICTIONS, read_table, write_table

CONFUSION_ROWS = 5000  # DVC's template counts rows; beyond this it takes its time in a browser
MOST_CLASS_KEYS = 100  # classes with a metric of their own; per_class.csv has all of them


@dataclass(frozen=True, config=STRICT)
class Params:
    """The evaluate section of params.yaml."""

    seed: int
    batch_size: Annotated[int, Field(ge=1)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    resamples: Annotated[int, Field(ge=100)]
    top_k: Annotated[int, Field(ge=2)]
    calibration_bins: Annotated[int, Field(ge=2)]
    compare_with_train: bool
    grad_cam: Annotated[int, Field(ge=0, le=100)]


def plot_tables(
    truth: Classes, probabilities: Probabilities, names: list[str], params: Params
) -> dict[str, pd.DataFrame]:
    """Return by name the tables that metrics/plots holds, and that the metrics are taken from."""
    answers, number = probabilities.argmax(axis=1), len(names)
    matrix, level = confusion_matrix(truth, answers, number), params.confidence
    ranking = ranking_table(truth, probabilities, names)
    roc, precision_recall = curve_tables(truth, probabilities, number)
    confidence = probabilities.max(axis=1)
    per_class = per_class_table(matrix, names, level)
    return {
        "per_class": per_class,
        "ranking": ranking,
        "confusion": capped_rows(matrix, names, CONFUSION_ROWS),
        "top_k": top_k_table(rank_of_truth(truth, probabilities), number, level, params.top_k),
        "reliability": reliability_table(
            confidence, answers == truth, params.calibration_bins, level
        ),
        "roc": roc,
        "precision_recall": precision_recall,
    }


def evaluate_metrics(
    predictions: pd.DataFrame,
    matrix: Counts,
    tables: dict[str, pd.DataFrame],
    names: list[str],
    params: Params,
) -> dict[str, Any]:
    """Return the headline figures; None for what this test set leaves undefined.

    The baseline is an answer that is always the test set's largest class.
    """
    n, correct, per_class = len(predictions), int(predictions["correct"].sum()), tables["per_class"]
    low, high = wilson(correct, n, params.confidence)
    f1_low, f1_high = macro_f1_interval(matrix, params.confidence, params.resamples, params.seed)
    top = tables["top_k"].set_index("k")["accuracy"]
    ranking = tables["ranking"][["roc_auc", "average_precision"]].mean()
    return {
        "accuracy": correct / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "balanced_accuracy": per_class["recall"].mean(),
        "baseline_accuracy": per_class["n"].max() / n,
        "confidence_level": params.confidence,
        "n": n,
        "correct": correct,
        "loss": predictions["loss"].mean(),
        **averages(per_class),
        "macro_f1_low": f1_low,
        "macro_f1_high": f1_high,
        "lowest_recall": per_class["recall"].min(),
        "lowest_f1": per_class["f1"].min(),
        f"top_{params.top_k}_accuracy": top.get(params.top_k),
        **calibration_errors(tables["reliability"]),
        "roc_auc": ranking["roc_auc"],
        "average_precision": ranking["average_precision"],
        **class_metrics(per_class, names),
        "classes_tested": len(per_class),
        "test_fingerprint": fingerprint(predictions["image_id"] + "/" + predictions["label"]),
    }


def class_metrics(per_class: pd.DataFrame, names: list[str]) -> dict[str, float | None]:
    """Return `recall__<slug>` of each class, for gates; nothing of more than MOST_CLASS_KEYS."""
    if len(names) > MOST_CLASS_KEYS:
        return {}
    recall = per_class.set_index("label")["recall"]
    return {
        f"recall__{slug}": recall.get(name) for slug, name in zip(slugs(names), names, strict=True)
    }


def defined_only(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures that have a value, and under `undefined` how many had none."""
    defined = {name: value for name, value in figures.items() if not pd.isna(value)}
    return {**defined, "undefined": len(figures) - len(defined)}


def hash_weights(folder: Path) -> str:
    """Return 16 hex digits that identify a saved model: its architecture and its weights."""
    hashes = []
    for name in ("config.json", "model.weights.h5"):
        with (folder / name).open("rb") as stream:
            hashes.append(f"{name} {hashlib.file_digest(stream, 'sha256').hexdigest()}")
    return fingerprint(hashes)


def write_confusion(matrix: Counts, names: list[str]) -> None:
    """Write metrics/confusion.json: every count, a row for each true class, a column for each
    answer.
    """
    rows = ",\n  ".join(json.dumps(row) for row in matrix.tolist())
    labels = json.dumps(names, ensure_ascii=False)
    text = f'{{\n "labels": {labels},\n "matrix": [\n  {rows}\n ]\n}}\n'
    (METRICS / "confusion.json").write_text(text, encoding="utf-8")


def search_leaks(test: Side, others: list[Neighbors]) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the near-duplicates of test images in train and val, and their counts."""
    clean = read_table(Path("data/clean.parquet"), CLEAN.only("uri", "comparable"))
    not_comparable = frozenset(clean.loc[~clean["comparable"], "uri"])
    sides = [Side(other.images, other.index) for other in others]
    nearest = [other.rows for other in others]
    pairs = find_across(test, sides, nearest, not_comparable, read_overrides())
    return pairs, search_metrics(pairs, int(test.index["uri"].isin(not_comparable).sum()))


def write_array(path: Path, array: NDArray[np.uint8]) -> None:
    """Write a .npy file."""
    with replacing(path) as unfinished, unfinished.open("wb") as stream:
        np.save(stream, array)


def sentence(figures: dict[str, Any], images_per_second: float) -> str:
    """Return the line that the stage ends with."""
    return (
        f"test accuracy {figures['accuracy']:.2%} ({figures['correct']:,} of {figures['n']:,}; "
        f"{figures['confidence_level']:.0%} interval {figures['accuracy_low']:.2%} to "
        f"{figures['accuracy_high']:.2%}), macro F1 {figures['macro_f1']:.4f}, calibration error "
        f"{figures['expected_calibration_error']:.4f}; {images_per_second:,.0f} images/s"
    )


def main() -> None:
    """Score the best weights on the test set."""
    params, classifier = load_params(Params, "evaluate"), load_classifier()
    pictures, index = load_split("test")
    names, leaky, started = classifier.class_names, is_leaky(index), time.monotonic()
    truth = class_numbers(index, names)
    probabilities, features = score_test(classifier, pictures, params.batch_size)
    seconds = time.monotonic() - started
    predictions = predictions_table(index, probabilities, names)
    matrix = confusion_matrix(truth, probabilities.argmax(axis=1), len(names))
    tables = plot_tables(truth, probabilities, names, params)
    figures = evaluate_metrics(predictions, matrix, tables, names, params)
    figures["weights_hash"] = hash_weights(CLASSIFIER)
    neighbours, across = None, pd.DataFrame(columns=list(ACROSS.columns))
    if params.compare_with_train:
        train, val = (
            nearest_in(split, classifier, features, params.batch_size, PROPOSED)
            for split in ("train", "val")
        )
        neighbours = nearest_table(train, ~predictions["correct"].to_numpy(bool))
        gap = train.accuracy - figures["accuracy"]
        figures |= {"train_accuracy": train.accuracy, "train_test_gap": gap}
        across, counts = search_leaks(Side(pictures, index), [train, val])
        figures |= counts
    mistakes = mistakes_table(predictions, neighbours)
    painted = look_closer(classifier, pictures, index, mistakes.head(params.grad_cam))
    write_table(Path("data/predictions.parquet"), predictions, PREDICTIONS)
    write_table(Path("data/mistakes.csv"), mistakes, MISTAKES)
    write_table(Path(TABLE), across, ACROSS)
    write_array(Path("data/grad_cam.npy"), painted)
    write_metrics("evaluate", defined_only(figures), leaky)
    write_confusion(matrix, names)
    write_timing("evaluate", seconds, len(index))
    for name, table in tables.items():
        write_plot(name, table)
    if figures["accuracy_low"] <= figures["baseline_accuracy"]:
        print(
            "evaluate: warning: not proven to be better than always giving the same answer, which "
            f"is right for {figures['baseline_accuracy']:.2%} of the test set"
        )
    if len(across):
        print(f"evaluate: warning: {leak_warning(figures, across, leaky)}")
    else:
        print(f"evaluate: {check_sentence(figures)}")
    summarise("evaluate", sentence(figures, len(index) / seconds), leaky)


if __name__ == "__main__":
    run_stage("evaluate", main)
