"""Measures a model on a split: its plain loss and accuracy."""

from typing import Any

from stages.lib.distribution import ALONE, Distribution
from stages.lib.feeding import Feed
from stages.lib.keras_runtime import keras, tf


def judge(
    model: keras.Model, feed: Feed, assess: Any = None, distribution: Distribution = ALONE
) -> tuple[float, float]:
    """Return a model's mean loss and accuracy. assess: of `make_assess`, to compile it once."""
    assess = assess or make_assess(model, distribution)
    total, right, seen = 0.0, 0.0, 0
    for batch in feed.epoch(0):
        loss, correct = assess(*distribution.share(batch)[:2])
        total, right, seen = total + float(loss), right + float(correct), seen + len(batch.classes)
    return total / seen, right / seen


def make_assess(model: keras.Model, distribution: Distribution = ALONE) -> Any:
    """Return a compiled function from pictures and classes to summed loss and correct answers."""

    def assess(pictures: Any, classes: Any) -> tuple[Any, Any]:
        probabilities = model(pictures, training=False)
        if distribution.strategy is None:
            losses = keras.losses.sparse_categorical_crossentropy(classes, probabilities)
        else:  # what fills an empty share has no class and, by its empty target, no loss
            targets = tf.one_hot(classes, probabilities.shape[-1])
            losses = keras.losses.categorical_crossentropy(targets, probabilities)
        return tf.reduce_sum(losses), count_right(probabilities, classes)

    return distribution.compiled(assess)


def count_right(probabilities: Any, classes: Any) -> Any:
    """Return how many pictures have their class as the likeliest one."""
    return tf.reduce_sum(tf.cast(tf.argmax(probabilities, axis=1) == classes, tf.float32))
