"""Fits the chosen model on train, watches val, and keeps the weights of the best epoch.

Reads:  data/dataset
Writes: models/classifier, metrics/train.json, metrics/plots/history.csv; metrics/train_timing.json
        (no DVC output,
        because a clock never gives equal bytes twice)
"""

import json
import math
import time
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.classifier import CLASSIFIER, Classifier, save_classifier
from stages.lib.dataset import class_names, class_numbers, is_leaky, load_split
from stages.lib.errors import InputError, run_stage
from stages.lib.feeding import ShuffledBatches
from stages.lib.keras_runtime import keras, make_deterministic
from stages.lib.metrics import METRICS, write_metrics, write_plot
from stages.lib.models import MODELS
from stages.lib.params import STRICT, load_params
from stages.lib.progress import open_bar, summarise

Rate = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=STRICT)
class Params:
    """The train section of params.yaml."""

    seed: int
    model: str
    width: Annotated[int, Field(ge=4)]
    dropout: Rate
    weight_decay: Rate
    class_weights: Literal["none", "balanced"]
    epochs: Count
    batch_size: Count
    learning_rate: Annotated[float, Field(gt=0)]
    early_stopping_patience: Count
    plateau_patience: Count
    plateau_factor: Annotated[float, Field(gt=0, lt=1)]
    min_learning_rate: Annotated[float, Field(ge=0)]


class EpochLines(keras.callbacks.Callback):  # type: ignore[misc]
    """Shows a bar within the epoch, one line after it, and stops on a loss that is no number."""

    def __init__(self, epochs: int, images: int) -> None:
        super().__init__()
        self.epochs, self.images, self.rows = epochs, images, list[dict[str, float]]()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the epoch's clock and bar."""
        self.started = time.monotonic()
        self.bar = open_bar(self.params["steps"], f"epoch {epoch + 1}", "batches")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Move the bar."""
        self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep and print the epoch's figures."""
        self.bar.close()
        figures = {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(figures["loss"]):
            raise InputError(
                f"the loss turned {figures['loss']} in epoch {epoch + 1}; lower "
                "train.learning_rate "
                f"({figures['learning_rate']:g})"
            )
        self.rows.append({"epoch": epoch + 1, **figures})
        rate = self.images / (time.monotonic() - self.started)
        print(
            f"train: epoch {epoch + 1:>3} of {self.epochs}: loss {figures['loss']:.4f}, "
            f"accuracy {figures['accuracy']:.4f}, val loss {figures['val_loss']:.4f}, "
            f"val accuracy {figures['val_accuracy']:.4f}, {rate:,.0f} images/s with validation",
            flush=True,
        )


def build_model(shape: tuple[int, int, int], num_classes: int, params: Params) -> keras.Model:
    """Return the chosen model, compiled; raises InputError for a name that is no model."""
    if params.model not in MODELS:
        raise InputError(f"train.model must be one of {', '.join(MODELS)}, got {params.model!r}")
    model = MODELS[params.model](shape, num_classes, params.width, params.dropout)
    model.compile(
        optimizer=keras.optimizers.AdamW(params.learning_rate, weight_decay=params.weight_decay),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def balanced_weights(classes: NDArray[np.int64]) -> dict[int, float]:
    """Return how much an image of each class counts in the loss, so that all classes count alike.

    It is images / (classes * images of the class), as in scikit-learn; over all images the mean is
    1.
    """
    counts = np.bincount(classes)
    return dict(enumerate((len(classes) / (len(counts) * counts)).tolist()))


def fit(
    model: keras.Model, train: ShuffledBatches, val: ShuffledBatches, params: Params
) -> pd.DataFrame:
    """Train until validation stops gaining, restore the best epoch, and return the history.

    Class weights change the training loss alone: validation stays comparable, with and without.
    """
    lines = EpochLines(params.epochs, len(train.pictures))
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="val_loss",
        factor=params.plateau_factor,
        patience=params.plateau_patience,
        min_lr=params.min_learning_rate,
    )
    best = keras.callbacks.EarlyStopping(
        monitor="val_loss", patience=params.early_stopping_patience, restore_best_weights=True
    )
    model.fit(
        train,
        validation_data=val,
        epochs=params.epochs,
        verbose=0,
        callbacks=[plateau, lines, best],
        class_weight=balanced_weights(train.classes)
        if params.class_weights == "balanced"
        else None,
    )
    return pd.DataFrame(lines.rows)


def main() -> None:
    """Train on the arrays that augment made."""
    params = load_params(Params, "train")
    make_deterministic(params.seed)
    pictures, index = load_split("train")
    val_pictures, val_index = load_split("val")
    names = class_names(index)
    model = build_model(pictures.shape[1:], len(names), params)
    train, val = (
        ShuffledBatches(x, class_numbers(rows, names), params.batch_size, params.seed)
        for x, rows in ((pictures, index), (val_pictures, val_index))
    )
    started = time.monotonic()
    history = fit(model, train, val, params)
    seconds = time.monotonic() - started
    save_classifier(Classifier(model, names), CLASSIFIER)
    best = history.loc[history["val_loss"].idxmin()]
    metrics = {
        "epochs": len(history),
        "best_epoch": int(best["epoch"]),
        "train_accuracy": best["accuracy"],
        "val_accuracy": best["val_accuracy"],
        "val_loss": best["val_loss"],
        "parameters": model.count_params(),
    }
    write_metrics("train", metrics, is_leaky(index))
    write_plot("history", history)
    timing = {
        "seconds": round(seconds, 1),
        "images_per_second": round(len(history) * len(pictures) / seconds, 1),
    }
    (METRICS / "train_timing.json").write_text(json.dumps(timing, indent=2, sort_keys=True) + "\n")
    summarise(
        "train",
        f"{params.model} with {metrics['parameters']:,} parameters, best epoch "
        f"{metrics['best_epoch']} of "
        f"{metrics['epochs']}: val accuracy {best['val_accuracy']:.4f}; {seconds:,.0f} s",
        is_leaky(index),
    )


if __name__ == "__main__":
    run_stage("train", main)
