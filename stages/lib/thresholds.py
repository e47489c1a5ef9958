"""Chooses the threshold between two classes on validation, and folds it into the network."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.lib.errors import InputError
from stages.lib.feeding import Feed
from stages.lib.judging import judge
from stages.lib.keras_runtime import keras
from stages.lib.models.input_output import LOGIT

Threshold = Literal["none", "balanced_accuracy", "macro_f1"]


def best_threshold(logits: NDArray[np.floating], classes: NDArray[np.int64], measure: str) -> float:
    """Return the logit above which the second class is best answered.

    logits: (images,), of the second class; classes: (images,) 0 or 1; measure: balanced_accuracy
    (the mean of both recalls; its best threshold is that of Youden's J, Cancer 3, 1950) or macro_f1
    (the mean of both F1). Tried are the middles between neighbouring logits, so that the answer
    keeps the largest distance to both; of equally good ones, the nearest to 0.
    Raises InputError where a class is missing.
    """
    positives, negatives = int((classes == 1).sum()), int((classes == 0).sum())
    if not positives or not negatives:
        raise InputError(
            "train.threshold is chosen on validation, which holds only one of the two classes; "
            "raise split.val, or set train.threshold to none"
        )
    order = np.argsort(logits, kind="stable")
    values = logits[order].astype(np.float64)
    # Cut after each image but the last: what lies before is answered with the first class.
    true_negatives = np.cumsum(classes[order] == 0)[:-1]
    false_negatives = np.arange(1, len(values)) - true_negatives
    true_positives = positives - false_negatives
    false_positives = negatives - true_negatives
    if measure == "balanced_accuracy":
        scores = (true_positives / positives + true_negatives / negatives) / 2
    else:
        wrong = false_positives + false_negatives
        scores = true_positives / (2 * true_positives + wrong) + true_negatives / (
            2 * true_negatives + wrong
        )
    middles = (values[:-1] + values[1:]) / 2
    apart = values[:-1] < values[1:]
    if not apart.any():
        return 0.0
    best = apart & (scores >= scores[apart].max() - 1e-12)
    return float(min(middles[best], key=lambda middle: (abs(middle), middle)))


def tuned_metrics(model: keras.Model, val: Feed, measure: str) -> dict[str, float]:
    """Fold the best threshold into a model of two classes; return it, and what val then says."""
    threshold = fold_threshold(model, val, measure)
    loss, accuracy = judge(model, val)
    return {"threshold": threshold, "val_loss": loss, "val_accuracy": accuracy}


def fold_threshold(model: keras.Model, val: Feed, measure: str) -> float:
    """Move a two-class model's threshold to a probability of 0.5; return the one it had before.

    What it costs: the bias of the last logit changes by a constant, so all probabilities do, and a
    model that was calibrated is no longer. What it gains: whoever takes the likelier class, in
    Keras or elsewhere, takes the chosen one.
    Raises InputError for a model without one logit for two classes.
    """
    if not any(layer.name == LOGIT for layer in model.layers):
        raise InputError(
            f"train.threshold {measure} is for a network with one logit for two classes, which "
            f"{model.name} has not; set it to none"
        )
    last = model.get_layer(LOGIT)
    to_logits = keras.Model(model.input, last.output)
    logits = [to_logits.predict_on_batch(batch.pictures)[:, 0] for batch in val.epoch(0)]
    shift = best_threshold(np.concatenate(logits), val.classes, measure)
    kernel, bias = last.get_weights()
    last.set_weights([kernel, bias - np.float32(shift)])
    return float(1 / (1 + np.exp(-shift)))
