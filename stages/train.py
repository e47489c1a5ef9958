"""Fits the chosen model on train, watches val, and keeps the weights of the best epoch.

Reads:  data/dataset
Writes: models/classifier, metrics/train.json, metrics/plots/history.csv; metrics/train_timing.json
        and .csv (no DVC outputs)
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.classifier import CLASSIFIER, Classifier, in_float32, save_classifier
from stages.lib.dataset import class_names, class_numbers, is_leaky, load_split
from stages.lib.distribution import Strategy, open_distribution
from stages.lib.errors import InputError, run_stage
from stages.lib.feeding import Feed, TrainTransforms
from stages.lib.fine_tuning import FineTuning, fit_transfer
from stages.lib.hashing import fingerprint
from stages.lib.imbalance import balanced_weights
from stages.lib.judging import judge
from stages.lib.keras_runtime import describe_environment, keras, seed_everything
from stages.lib.metrics import METRICS, write_metrics, write_plot, write_timing
from stages.lib.models import FITTED, adapt, build_model, check_options
from stages.lib.models.filters_kmeans import clustering_metrics, nearest_clusters
from stages.lib.params import STRICT, CacheParams, load_params
from stages.lib.precision import Precision, choose_precision, use_precision
from stages.lib.progress import summarise
from stages.lib.resuming import Checkpoints, run_key
from stages.lib.schedules import ScheduleParams, best_epoch
from stages.lib.tensorboard import Observer, event_writer, ignore
from stages.lib.thresholds import Threshold, tuned_metrics
from stages.lib.training import (
    OptimizerParams,
    Recipe,
    Trainer,
    fit,
    make_optimizer,
    to_lower,
)

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=STRICT)
class Params:
    """The train section of params.yaml."""

    seed: int
    model: str
    options: dict[str, Any]
    watch: str
    class_weights: Literal["none", "balanced"]
    transforms: TrainTransforms
    epochs: Count
    batch_size: Count
    learning_rate: Annotated[float, Field(gt=0)]
    fine_tuning: tuple[FineTuning, ...]
    schedule: ScheduleParams
    optimizer: OptimizerParams
    label_smoothing: Share
    average: Share
    monitor: Literal["val_loss", "val_accuracy"]
    early_stopping_patience: Count
    precision: Precision
    strategy: Strategy
    threshold: Threshold
    tensorboard: bool
    deterministic: bool

    @property
    def recipe(self) -> Recipe:
        """What the loop needs of all this."""
        return Recipe(
            epochs=self.epochs,
            peak=self.learning_rate,
            schedule=self.schedule,
            monitor=self.monitor,
            patience=self.early_stopping_patience,
            label_smoothing=self.label_smoothing,
            average=self.average,
        )


def require_sense(params: Params, num_classes: int) -> None:
    """Raise InputError for params that contradict each other or the data."""
    if params.fine_tuning and params.model != "transfer":
        raise InputError(
            f"train.fine_tuning is for train.model transfer alone, got {params.model!r}; set it to "
            "[]"
        )
    if params.threshold != "none" and num_classes != 2:
        raise InputError(
            f"train.threshold {params.threshold} is for two classes, the data have {num_classes}; "
            "set it to none"
        )
    if params.strategy != "none" and params.model in FITTED:
        raise InputError(
            f"train.strategy {params.strategy} spreads training by gradients, and train.model "
            f"{params.model} is fitted at once; set it to none"
        )
    for path in weights_files(params):
        if Path(params.watch) != path:
            print(f"train: warning: train.watch is not {path}, so DVC will not see it change")


def weights_files(params: Params) -> list[Path]:
    """Return the file of pretrained weights where the options name one, as a list."""
    path = Path(str(params.options.get("weights", "")))
    return [path] if path.is_file() else []


def feeds(
    train: tuple[NDArray[np.uint8], NDArray[np.int64]],
    val: tuple[NDArray[np.uint8], NDArray[np.int64]],
    params: Params,
) -> tuple[Feed, Feed]:
    """Return what is learned from and what is judged by; each a pair of pictures and classes."""
    weights = balanced_weights(train[1]) if params.class_weights == "balanced" else None
    learned = Feed(
        *train,
        params.batch_size,
        params.seed,
        shuffle=True,
        transforms=params.transforms,
        class_weights=weights,
    )
    return learned, Feed(*val, params.batch_size)


def train_model(
    train: Feed,
    val: Feed,
    num_classes: int,
    params: Params,
    checkpoints: Checkpoints,
    observe: Observer = ignore,
) -> tuple[keras.Model, pd.DataFrame]:
    """Return the model with its best weights, and a row of figures for every epoch.

    checkpoints: of the distribution that training is spread by. observe: is told of every epoch.
    """
    precision = choose_precision(params.precision)
    print(f"train: {params.model} on {len(train.pictures):,} images, computing in {precision}")
    use_precision(precision)
    seed_everything(params.seed, params.deterministic)
    if params.model in FITTED:
        return fit_at_once(train, val, num_classes, params)
    shape, distribution = train.pictures.shape[1:], checkpoints.distribution
    optimizer, recipe = partial(make_optimizer, params.optimizer), params.recipe
    with distribution.guarded(), distribution.scope():
        model = build_model(params.model, shape, num_classes, params.options)
        adapt(model, train.pictures, params.seed)
        if params.model == "transfer":
            steps = params.fine_tuning
            history = fit_transfer(
                model, train, val, recipe, steps, optimizer, checkpoints, observe
            )
        else:
            trainer = Trainer(model, optimizer(recipe.peak), recipe, distribution)
            history = fit(trainer, train, val, checkpoints, observe)
    return in_float32(distribution.released(model)), history


def fit_at_once(
    train: Feed, val: Feed, num_classes: int, params: Params
) -> tuple[keras.Model, pd.DataFrame]:
    """Return a model that is fitted without epochs, and one row of figures."""
    check_options(params.model, params.options)
    fitted = FITTED[params.model]
    model = fitted(train.pictures, train.classes, num_classes, params.seed, **params.options)
    loss, accuracy = judge(model, train)
    val_loss, val_accuracy = judge(model, val)
    row = {"epoch": 1, "loss": loss, "accuracy": accuracy, "learning_rate": 0.0}
    return model, pd.DataFrame([row | {"val_loss": val_loss, "val_accuracy": val_accuracy}])


def key_of(index: pd.DataFrame, params: Params) -> str:
    """Return a name for this run: equal only for the same data, params, code and software."""
    files = [
        Path(module.__file__)
        for name, module in sys.modules.items()
        if name.startswith("stages.") and module.__file__
    ]
    files += weights_files(params)
    rows = index["label"] + "/" + index["crc32"].astype("str")
    return run_key([asdict(params), fingerprint(rows), describe_environment()], files)


def train_metrics(model: keras.Model, history: pd.DataFrame, recipe: Recipe) -> dict[str, Any]:
    """Return the figures of the best epoch, and how the run came to its end."""
    best = history.iloc[best_epoch(to_lower(history.to_dict("records"), recipe))]
    return {
        "epochs": len(history),
        "best_epoch": int(best["epoch"]),
        "stopped_early": int(len(history) < recipe.epochs),
        "train_accuracy": best["accuracy"],
        "val_accuracy": best["val_accuracy"],
        "val_loss": best["val_loss"],
        "parameters": model.count_params(),
    }


def write_results(
    classifier: Classifier,
    history: pd.DataFrame,
    val: Feed,
    params: Params,
    seconds: float,
    leaky: bool,
) -> None:
    """Write the classifier, its figures and the history, and say how it went."""
    model = classifier.model
    metrics = train_metrics(model, history, params.recipe)
    if params.threshold != "none":
        metrics |= tuned_metrics(model, val, params.threshold)
    if params.model in FITTED:
        metrics |= clustering_metrics(nearest_clusters(model, val.pictures), val.classes)
    save_classifier(classifier, CLASSIFIER)
    write_metrics("train", metrics, leaky)
    write_plot("history", history)
    summarise(
        "train",
        f"{params.model} with {metrics['parameters']:,} parameters, best epoch "
        f"{metrics['best_epoch']} of {metrics['epochs']}: val accuracy "
        f"{metrics['val_accuracy']:.4f}; {seconds:,.0f} s",
        leaky,
    )


def write_speeds(speeds: list[tuple[int, float]]) -> None:
    """Write metrics/train_timing.csv: images per second of each epoch that this run has learned."""
    frame = pd.DataFrame(speeds, columns=["epoch", "images_per_second"])
    path = METRICS / "train_timing.csv"
    frame.to_csv(path, index=False, lineterminator="\n", float_format="%.1f")


def main() -> None:
    """Train on the arrays that augment made; of several workers the chief alone writes."""
    params = load_params(Params, "train")
    cache = Path(load_params(CacheParams, "cache").folder)
    pictures, index = load_split("train")
    val_pictures, val_index = load_split("val")
    names = class_names(index)
    require_sense(params, len(names))
    train, val = feeds(
        (pictures, class_numbers(index, names)),
        (val_pictures, class_numbers(val_index, names)),
        params,
    )
    key = key_of(pd.concat([index, val_index]), params)
    distribution = open_distribution(params.strategy, key)
    checkpoints = Checkpoints(cache / "training", key, distribution)
    watched = params.tensorboard and distribution.is_chief
    observe = event_writer(cache / "tensorboard" / key) if watched else ignore
    speeds: list[tuple[int, float]] = []

    def note(row: Mapping[str, float]) -> None:
        speeds.append((int(row["epoch"]), row["images_per_second"]))
        observe(row)

    started = time.monotonic()
    model, history = train_model(train, val, len(names), params, checkpoints, note)
    seconds = time.monotonic() - started
    if distribution.is_chief:
        write_results(Classifier(model, names), history, val, params, seconds, is_leaky(index))
        write_timing("train", seconds, len(history) * len(pictures))
        write_speeds(speeds)
    checkpoints.remove()
    distribution.finish()


if __name__ == "__main__":
    run_stage("train", main)
