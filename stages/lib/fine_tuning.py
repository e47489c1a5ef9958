"""Trains a network that was pretrained elsewhere: its new head first, then more of its layers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from stages.lib.distribution import ALONE, Distribution
from stages.lib.feeding import NO_TRANSFORMS, Feed
from stages.lib.keras_runtime import keras
from stages.lib.models.transfer import features, free_from
from stages.lib.params import STRICT
from stages.lib.progress import track
from stages.lib.resuming import Checkpoints
from stages.lib.schedules import best_epoch
from stages.lib.tensorboard import Observer, ignore
from stages.lib.training import Recipe, Trainer, fit, to_lower

BATCH = 64
Optimizers = Callable[[float], keras.optimizers.Optimizer]  # by the highest learning rate


@dataclass(frozen=True, config=STRICT)
class FineTuning:
    """One entry of train.fine_tuning: what is trained after the head, and how.

    free_from: the number of the backbone's first layer that learns; its batch normalisation stays
    as it is.
    """

    free_from: Annotated[int, Field(ge=0)]
    learning_rate: Annotated[float, Field(gt=0)]
    epochs: Annotated[int, Field(ge=1)]


def fit_transfer(
    model: keras.Model,
    train: Feed,
    val: Feed,
    recipe: Recipe,
    steps: Sequence[FineTuning],
    optimizer: Optimizers,
    checkpoints: Checkpoints,
    observe: Observer = ignore,
) -> pd.DataFrame:
    """Train a model of `transfer` in stages; return the history of all, numbered through.

    While the backbone is frozen, what it makes of a picture never changes, so it is computed once
    and the head learns from that; pictures are transformed only in the steps after it. A step is
    kept only if an epoch of it was better in validation than all before it, else its weights are
    undone.
    """
    distribution = checkpoints.distribution
    history = fit_head(model, train, val, recipe, optimizer, checkpoints, observe).assign(stage=0)
    for number, step in enumerate(steps, start=1):
        before = model.get_weights()
        free_from(model, step.free_from)
        print(f"train: fine-tuning from layer {step.free_from} of the backbone on")
        of_step = replace(recipe, epochs=step.epochs, peak=step.learning_rate)
        trainer = Trainer(model, optimizer(step.learning_rate), of_step, distribution)
        rows = fit(
            trainer,
            train,
            val,
            checkpoints.part(f"step{number}"),
            partial(_observe_after, observe, len(history)),
        )
        history = pd.concat([history, rows.assign(stage=number)], ignore_index=True)
        best = best_epoch(to_lower(history.to_dict("records"), recipe))
        if history["stage"].iloc[best] != number:
            model.set_weights(before)
            print("train: no epoch of it was better, so it is undone")
    return history.assign(epoch=np.arange(1, len(history) + 1))


def fit_head(
    model: keras.Model,
    train: Feed,
    val: Feed,
    recipe: Recipe,
    optimizer: Optimizers,
    checkpoints: Checkpoints,
    observe: Observer = ignore,
) -> pd.DataFrame:
    """Train what follows the pooled features, on features computed once; return the history."""
    frozen, folder = features(model), checkpoints.folder
    distribution = checkpoints.distribution
    learned, judged = (
        feed.over(
            feature_array(frozen, feed.pictures, folder / f"{name}.npy", distribution),
            NO_TRANSFORMS,
        )
        for name, feed in (("train", train), ("val", val))
    )
    head = keras.Model(frozen.output, model.output, name="head")
    trainer = Trainer(head, optimizer(recipe.peak), recipe, distribution)
    return fit(trainer, learned, judged, checkpoints.part("head"), observe)


def _observe_after(observe: Observer, done: int, row: Mapping[str, float]) -> None:
    """Tell of an epoch of a step, numbered on from those that were done before it."""
    observe({**row, "epoch": row["epoch"] + done})


def feature_array(
    frozen: keras.Model,
    pictures: NDArray[Any],
    path: Path,
    distribution: Distribution = ALONE,
) -> NDArray[np.float32]:
    """Return the features (images, channels) of all pictures, mapped from a file at `path`.

    A file that is already there is taken as it is: it belongs to a run that was interrupted.
    """
    if not path.exists():
        predict = distribution.predictor(frozen)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"unfinished-{path.name}")
        shape = (len(pictures), frozen.output_shape[-1])
        array = np.lib.format.open_memmap(unfinished, "w+", np.float32, shape)
        starts = range(0, len(pictures), BATCH)
        for start in track(starts, len(starts), "features", "batches"):
            batch = np.asarray(pictures[start : start + BATCH])
            array[start : start + len(batch)] = predict(batch)
        array.flush()
        unfinished.replace(path)
    mapped: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return mapped
