"""Fits a model: one step for any strategy, one loop that can be left and taken up at any epoch."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from stages.lib.distribution import ALONE, Distribution
from stages.lib.errors import InputError
from stages.lib.feeding import Feed
from stages.lib.judging import count_right, judge, make_assess
from stages.lib.keras_runtime import keras, tf
from stages.lib.muon import Muon
from stages.lib.params import STRICT
from stages.lib.progress import open_bar
from stages.lib.resuming import Checkpoints, Moment, Weights
from stages.lib.schedules import ScheduleParams, best_epoch, is_exhausted, learning_rate
from stages.lib.tensorboard import Observer, ignore

Rate = Annotated[float, Field(ge=0, lt=1)]


@checked_dataclass(frozen=True, config=STRICT)
class OptimizerParams:
    """The section train.optimizer. momentum: of sgd and muon, which is Nesterov's. weight_decay:
    decoupled from the gradient (AdamW, SGDW).
    """

    kind: Literal["sgd", "muon", "adam", "adamw"]
    momentum: Rate
    weight_decay: Rate


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a model learns.

    peak: the highest learning rate. monitor: of validation, what makes an epoch better. patience:
    epochs without a better one after which training stops. label_smoothing: the share of a target
    spread over all classes. average: per step the share that the running average of the weights
    keeps (0: there is none); it is the average that validation sees and that is kept.
    """

    epochs: int
    peak: float
    schedule: ScheduleParams
    monitor: Literal["val_loss", "val_accuracy"]
    patience: int
    label_smoothing: float
    average: float


def make_optimizer(params: OptimizerParams, peak: float) -> keras.optimizers.Optimizer:
    """Return the optimiser that the params name."""
    decay = params.weight_decay or None
    if params.kind in ("sgd", "muon"):
        momentum, kind = params.momentum, Muon if params.kind == "muon" else keras.optimizers.SGD
        return kind(peak, momentum, nesterov=momentum > 0, weight_decay=decay)
    kind = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[params.kind]
    return kind(peak, weight_decay=decay or 0.0 if params.kind == "adamw" else decay)


class Trainer:
    """A model, its optimiser and the running average of its weights, all in one state."""

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        recipe: Recipe,
        distribution: Distribution = ALONE,
    ) -> None:
        """Create every variable now, so that a saved state can be put in place.

        distribution: in whose scope the model and the optimiser were made.
        """
        self.model, self.optimizer, self.recipe = model, optimizer, recipe
        self.distribution = distribution
        with distribution.scope():
            optimizer.build(model.trainable_variables)
            weights = model.weights if recipe.average else []
            self.averages = [tf.Variable(np.asarray(weight)) for weight in weights]
        distribution.vary(model)
        self._step = distribution.compiled(self._learn)
        self._assess = make_assess(model, distribution)

    @property
    def state(self) -> Weights:
        """Every number that the next step reads: weights, seeds of dropout, moments, averages."""
        return [variable.numpy() for variable in self._variables()]

    @state.setter
    def state(self, values: Weights) -> None:
        for variable, value in zip(self._variables(), values, strict=True):
            variable.assign(value)
        self.distribution.vary(self.model)

    @property
    def weights(self) -> Weights:
        """The weights that validation sees: the averages where there are any."""
        return [variable.numpy() for variable in self.averages or self.model.weights]

    def train(self, feed: Feed, epoch: int, val_losses: list[float]) -> dict[str, float]:
        """Learn from every image once; return the mean loss and accuracy while learning."""
        recipe, seen, total, right = self.recipe, 0.0, 0.0, 0.0
        bar, rate = open_bar(len(feed), f"epoch {epoch + 1}", "batches"), recipe.peak
        for number, batch in enumerate(feed.epoch(epoch)):
            at = epoch + number / len(feed)
            rate = learning_rate(recipe.schedule, recipe.peak, recipe.epochs, at, val_losses)
            size = len(batch.classes)
            values = self.distribution.share(batch)
            loss, correct = self._step(*values, np.float32(rate), np.float32(size))
            seen, total = seen + size, total + float(loss) * size
            right += float(correct)
            bar.update()
            if not math.isfinite(total):
                raise InputError(
                    f"the loss turned {float(loss)} in epoch {epoch + 1}, batch {number + 1}; "
                    f"lower train.learning_rate ({recipe.peak:g}) or lengthen train.schedule.warmup"
                )
        bar.close()
        self.distribution.align(self.model, self.averages)
        return {"loss": total / seen, "accuracy": right / seen, "learning_rate": rate}

    def validate(self, feed: Feed) -> dict[str, float]:
        """Return the plain loss and accuracy, without smoothing, weights or dropout."""
        with self._averaged():
            loss, accuracy = judge(self.model, feed, self._assess, self.distribution)
        return {"val_loss": loss, "val_accuracy": accuracy}

    def _mean(self, losses: Any, size: Any) -> Any:
        """Return a replica's part of the mean loss over the batch, penalties on weights added."""
        if self.distribution.strategy is None:
            return tf.reduce_mean(losses) + sum(self.model.losses)
        return tf.reduce_sum(losses) / size + sum(self.model.losses) / self.distribution.replicas

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.optimizer.variables, *self.averages]

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        if not self.averages:
            yield
            return
        own = [weight.numpy() for weight in self.model.weights]
        self.model.set_weights(self.weights)
        yield
        self.model.set_weights(own)

    def _learn(
        self, pictures: Any, classes: Any, weights: Any, rate: Any, size: Any
    ) -> tuple[Any, Any]:
        """Learn from a share of a batch of that size; return its part of the loss, and how many
        were right.
        """
        self.optimizer.learning_rate.assign(rate)
        with tf.GradientTape() as tape:
            probabilities = self.model(pictures, training=True)
            losses = keras.losses.categorical_crossentropy(
                tf.one_hot(classes, probabilities.shape[-1]),
                probabilities,
                label_smoothing=self.recipe.label_smoothing,
            )
            loss = self._mean(losses * weights, size)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        keep = self.recipe.average
        for average, weight in zip(self.averages, self.model.weights, strict=False):
            average.assign(keep * average + (1 - keep) * tf.convert_to_tensor(weight))
        return loss, count_right(probabilities, classes)


def fit(
    trainer: Trainer,
    train: Feed,
    val: Feed,
    checkpoints: Checkpoints,
    observe: Observer = ignore,
) -> pd.DataFrame:
    """Train until validation stops gaining, put the best weights in place, return the history.

    observe: is told of every epoch.

    After every epoch the state is kept; where one of an interrupted run is found, training goes on
    from there and ends as it would have ended without the interruption, to the last bit.
    """
    recipe = trainer.recipe
    moment = checkpoints.load()
    history, best = ([], trainer.weights) if moment is None else (moment.history, moment.best)
    if moment is not None:
        trainer.state = moment.state
        print(f"train: goes on after epoch {len(history)}, where an earlier run was interrupted")
    while len(history) < recipe.epochs and not (
        history and is_exhausted(to_lower(history, recipe), recipe.patience)
    ):
        started, epoch = time.monotonic(), len(history)
        figures = trainer.train(train, epoch, [row["val_loss"] for row in history])
        seconds = time.monotonic() - started
        figures |= trainer.validate(val)
        history.append({"epoch": epoch + 1, **figures})
        if best_epoch(to_lower(history, recipe)) == epoch:
            best = trainer.weights
        checkpoints.save(Moment(history, trainer.state, best))
        speed = len(train.pictures) / seconds
        _tell(history[-1], recipe.epochs, speed)
        observe(history[-1] | {"images_per_second": speed})
    trainer.model.set_weights(best)
    return pd.DataFrame(history)


def to_lower(history: Sequence[Mapping[str, float]], recipe: Recipe) -> list[float]:
    """Return what training is to lower: the loss, or the accuracy with its sign turned."""
    sign = -1 if recipe.monitor == "val_accuracy" else 1
    return [sign * row[recipe.monitor] for row in history]


def _tell(row: dict[str, float], epochs: int, images_per_second: float) -> None:
    print(
        f"train: epoch {row['epoch']:>3} of {epochs}: loss {row['loss']:.4f}, "
        f"accuracy {row['accuracy']:.4f}, val loss {row['val_loss']:.4f}, "
        f"val accuracy {row['val_accuracy']:.4f}, {images_per_second:,.0f} images/s",
        flush=True,
    )
