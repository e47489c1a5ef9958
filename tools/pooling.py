"""Puts the out-of-fold predictions of all folds together: each picture is answered once, by a model
that has not seen it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from stages.lib.classification import (
    averages,
    confusion_matrix,
    macro_f1_interval,
    per_class_table,
)
from stages.lib.errors import InputError
from stages.lib.hashing import fingerprint
from stages.lib.intervals import Counts, wilson

REPEATS = 2000  # draws of the bootstrap: its own error is then some hundredths of the interval
SEED = 0


OFFICIAL = (
    "the source has an official test set, the same in every fold, so there is nothing to pool; "
    "cross-validate a source without a folder of test pictures"
)


def require_no_official_test(files: pd.DataFrame) -> None:
    """Raise InputError where the source says which pictures are for testing.

    files: data/files.parquet.
    """
    if (files["official_split"] == "test").any():
        raise InputError(OFFICIAL)


def require_rotating_test(split: pd.DataFrame, fold: int) -> None:
    """Raise InputError where a fold is not its own test set.

    split: data/split.parquet of that fold.
    """
    if set(split.loc[split["fold"] == fold, "split"]) != {"test"}:
        raise InputError(OFFICIAL)


def pool(predictions: Sequence[pd.DataFrame], splits: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return all predictions with the fold that each comes from, sorted by uri.

    predictions, splits: data/predictions.parquet and data/split.parquet of every fold in order.
    Raises InputError unless every picture that was dealt into a fold is answered exactly once, by
    that fold.
    """
    dealt = splits[0].loc[splits[0]["fold"] >= 0, ["uri", "fold"]].set_index("uri")["fold"]
    parts = [rows.assign(fold=number) for number, rows in enumerate(predictions)]
    pooled = pd.concat(parts, ignore_index=True).sort_values("uri", ignore_index=True)
    twice = pooled["uri"].duplicated()
    if twice.any():
        raise InputError(_mixed(f"{pooled.loc[twice, 'uri'].iloc[0]} is answered by two folds"))
    missing = dealt.index.difference(pooled["uri"])
    if len(missing):
        raise InputError(_mixed(f"{missing[0]} is answered by no fold"))
    strange = pooled["fold"] != pooled["uri"].map(dealt)
    if strange.any():
        raise InputError(_mixed(f"{pooled.loc[strange, 'uri'].iloc[0]} is of another fold"))
    return pooled


def _mixed(problem: str) -> str:
    return (
        f"{problem}: the folds are of different runs; remove them with `dvc exp remove` and run "
        "again"
    )


def common_class_names(splits: Sequence[pd.DataFrame]) -> list[str]:
    """Return the labels in the order of the probabilities, which must be the same in every fold."""
    names = [sorted(split.loc[split["split"] == "train", "label"].unique()) for split in splits]
    for number, found in enumerate(names):
        if found != names[0]:
            other = sorted(set(found) ^ set(names[0]))[0]
            raise InputError(
                f"fold {number + 1} trains on other classes than fold 1: {other!r} is too small to "
                "be in train everywhere; add pictures of it, or ask for fewer folds"
            )
    return names[0]


def confusion_of(predictions: pd.DataFrame, names: Sequence[str]) -> Counts:
    """Return how many pictures of each label (row) were answered with each label (column)."""
    position = {name: number for number, name in enumerate(names)}
    truth = predictions["label"].map(position).to_numpy(np.int64)
    answers = predictions["predicted"].map(position).to_numpy(np.int64)
    return confusion_matrix(truth, answers, len(names))


def fold_rows(pooled: pd.DataFrame, names: Sequence[str], confidence: float) -> pd.DataFrame:
    """Return the figures of every fold: fold, n, correct, accuracy, macro_f1, loss."""
    rows = []
    for fold, part in pooled.groupby("fold"):
        per_class = per_class_table(confusion_of(part, names), names, confidence)
        rows.append(
            {
                "fold": int(fold),
                "n": len(part),
                "correct": int(part["correct"].sum()),
                "accuracy": float(part["correct"].mean()),
                "macro_f1": averages(per_class)["macro_f1"],
                "loss": float(part["loss"].mean()),
            }
        )
    return pd.DataFrame(rows)


def pooled_figures(
    pooled: pd.DataFrame, names: Sequence[str], folds: pd.DataFrame, confidence: float
) -> dict[str, Any]:
    """Return the figures of all pictures together, and mean and deviation over the folds.

    The intervals take the pictures as drawn, the models as given; the standard deviation (of a
    sample, n - 1) shows how far a fold's figure lies from another's.
    """
    n, correct = len(pooled), int(pooled["correct"].sum())
    low, high = wilson(correct, n, confidence)
    matrix = confusion_of(pooled, names)
    f1_low, f1_high = macro_f1_interval(matrix, confidence, REPEATS, SEED)
    spread = {
        f"{name}_{kind}": float(getattr(folds[name], kind)())
        for name in ("accuracy", "macro_f1")
        for kind in ("mean", "std")
    }
    return {
        "n": n,
        "correct": correct,
        "accuracy": correct / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": averages(per_class_table(matrix, names, confidence))["macro_f1"],
        "macro_f1_low": f1_low,
        "macro_f1_high": f1_high,
        "loss": float(pooled["loss"].mean()),
        "confidence_level": confidence,
        **spread,
        "fingerprint": fingerprint(pooled["image_id"] + "/" + pooled["label"]),
    }
