"""Chooses what the page says and shows of the test: headline, confusions, mistakes, a sample."""

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from ruamel.yaml import YAML

from stages.lib.charts import accuracy_scale, percent, reliability_diagram, share_curves
from stages.lib.report_pictures import file_tile, make_tile
from stages.lib.seeds import rng_for

FEW_PER_CLASS = 30  # test pictures; below this a class's own figure says little
WIDE_INTERVAL = 0.1  # an interval wider than this leaves the headline vague
MATRIX_CLASSES = 40  # beyond this the confusion matrix shows those with the most mistakes
TOP_CONFUSIONS = 5
DRAWN = 12  # test pictures drawn at random
CREDENTIALS = re.compile(r"(\w+://)[^/\s@]+@")  # user:password@ of an address


def fold_side(split: pd.DataFrame, fold: int | None) -> str:
    """Return the side that the part of this number is on: test, or val where test is official.

    split: data/split.parquet. fold: None without folds, where the side is "".
    """
    return "" if fold is None else str(split.loc[split["fold"] == fold, "split"].iloc[0])


def headline(
    evaluate: dict[str, Any], per_class: pd.DataFrame, predictions: pd.DataFrame
) -> dict[str, Any]:
    """Return what stands beside the test figure: baseline, and classes with few test pictures.

    The baseline is what an answer that is always the test set's largest class would get right.
    """
    baseline = evaluate["baseline_accuracy"]
    few = per_class[per_class["n"] < FEW_PER_CLASS].sort_values(["n", "label"])
    return {
        "baseline_label": predictions["label"].value_counts().sort_index().idxmax(),
        "better": evaluate["accuracy_low"] > baseline,
        "scale": accuracy_scale(
            evaluate["accuracy_low"],
            evaluate["accuracy"],
            evaluate["accuracy_high"],
            baseline,
        ),
        "wide": evaluate["accuracy_high"] - evaluate["accuracy_low"] > WIDE_INTERVAL,
        "few": few[["label", "n"]].to_dict("records"),
    }


def confusion(predictions: pd.DataFrame, names: list[str]) -> dict[str, Any]:
    """Return the confusion matrix row by row, and the commonest mistakes.

    Of more than MATRIX_CLASSES names only those with the most mistakes have a row and a column.
    """
    wrong = predictions[~predictions["correct"]]
    pairs = wrong.groupby(["label", "predicted"]).size().sort_values(ascending=False, kind="stable")
    if len(names) > MATRIX_CLASSES:
        involved = pd.concat([wrong["label"], wrong["predicted"]]).value_counts()
        names = sorted(names, key=lambda name: (-involved.get(name, 0), name))
        names = sorted(names[:MATRIX_CLASSES])
    totals = predictions["label"].value_counts()
    counts = pd.crosstab(predictions["label"], predictions["predicted"])
    counts = counts.reindex(index=names, columns=names, fill_value=0)
    rows = [
        {
            "actual": actual,
            "n": int(totals.get(actual, 0)),
            "cells": [(name, int(counts.at[actual, name])) for name in names],
        }
        for actual in names
    ]
    return {"names": names, "rows": rows, "top": pairs.head(TOP_CONFUSIONS).to_dict()}


def worst_mistakes(
    mistakes: pd.DataFrame, painted: NDArray[np.uint8], limit: int
) -> list[dict[str, Any]]:
    """Return the first of the mistakes, each with its picture, the training picture nearest to it,
    and where the model looked.

    mistakes: data/mistakes.csv. painted: (images, height, width, 3), in the order of the ranks and
    perhaps fewer.
    """
    return [
        {
            **row,
            "tile": file_tile(row["uri"]),
            "nearest": file_tile(row["nearest_uri"]) if row["nearest_uri"] else None,
            "looked": make_tile(painted[row["rank"] - 1]) if row["rank"] <= len(painted) else None,
        }
        for row in mistakes.sort_values("rank").head(limit).to_dict("records")
    ]


def calibration_chart(reliability: pd.DataFrame) -> str:
    """Return the reliability diagram of metrics/plots/reliability.csv."""
    rows = reliability.to_dict("records")
    words = "; ".join(
        f"of {row['n']:,} answers {percent(row['confidence'])} sure, {percent(row['accuracy'])} "
        "were right"
        for row in rows
    )
    return reliability_diagram(f"Calibration: {words}", rows)


def ranking_charts(roc: pd.DataFrame, precision_recall: pd.DataFrame) -> dict[str, str]:
    """Return the ROC and the precision-recall curve; nothing where the test set has none.

    Each table has x, y and the lowest y of all classes at x, which with two classes is y itself.
    """
    charts = {}
    for name, table in (("ROC", roc), ("Precision and recall", precision_recall)):
        if table.empty:
            return {}
        x, y = table.columns[:2]
        curves = {"train": table["lowest"], "val": table[y]}
        if (table["lowest"] == table[y]).all():
            del curves["train"]
        points = {kind: list(zip(table[x], values, strict=True)) for kind, values in curves.items()}
        axes = (x.replace("_", " "), y.replace("_", " "))
        middle = table.iloc[(table[x] - 0.5).abs().argmin()]
        words = f"{name}: {axes[1]} {percent(middle[y])} at {axes[0]} {percent(middle[x])}"
        charts[name] = share_curves(words, axes, points)
    return charts


def run_params(content: dict[str, Any], stages: Sequence[str]) -> list[tuple[str, str]]:
    """Return each stage's section of params.yaml as text, without the user and the password that an
    address may hold.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    sections = []
    for name in stages:
        text = io.StringIO()
        yaml.dump(content.get(name, {}), text)
        sections.append((name, CREDENTIALS.sub(r"\1", text.getvalue()).rstrip()))
    return sections


def drawn(predictions: pd.DataFrame, fingerprint: str) -> pd.DataFrame:
    """Return a few predictions drawn at random, seeded by the test set's fingerprint."""
    size = min(DRAWN, len(predictions))
    picked = rng_for(0, "report", fingerprint).choice(len(predictions), size, replace=False)
    return predictions.iloc[sorted(picked)]
