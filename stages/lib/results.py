"""Chooses what the page says and shows of the test: headline, confusions, mistakes, a sample."""

from typing import Any

import pandas as pd

from stages.lib.charts import accuracy_scale
from stages.lib.seeds import rng_for

FEW_PER_CLASS = 30  # test pictures; below this a class's own figure says little
WIDE_INTERVAL = 0.1  # an interval wider than this leaves the headline vague
MATRIX_CLASSES = 40  # beyond this the confusion matrix shows those with the most mistakes
TOP_CONFUSIONS = 5
DRAWN = 12  # test pictures drawn at random


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
    sizes = predictions["label"].value_counts().sort_index()
    few = per_class[per_class["n"] < FEW_PER_CLASS].sort_values(["n", "label"])
    baseline = int(sizes.max())
    return {
        "baseline_label": sizes.idxmax(),
        "baseline": baseline,
        "scale": accuracy_scale(
            evaluate["accuracy_low"],
            evaluate["accuracy"],
            evaluate["accuracy_high"],
            baseline / evaluate["n"],
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


def worst_mistakes(predictions: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Return the wrong predictions with the highest loss, the worst first."""
    wrong = predictions[~predictions["correct"]]
    return wrong.sort_values(["loss", "uri"], ascending=[False, True]).head(limit)


def drawn(predictions: pd.DataFrame, fingerprint: str) -> pd.DataFrame:
    """Return a few predictions drawn at random, seeded by the test set's fingerprint."""
    size = min(DRAWN, len(predictions))
    picked = rng_for(0, "report", fingerprint).choice(len(predictions), size, replace=False)
    return predictions.iloc[sorted(picked)]
