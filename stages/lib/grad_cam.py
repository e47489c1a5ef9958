"""Where a model looked: Grad-CAM (R. R. Selvaraju et al., ICCV 2017), painted over the picture."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.lib.features import last_dense
from stages.lib.keras_runtime import keras, tf

layers = keras.layers

AT_ONCE = 16  # pictures whose gradients are in memory together
OPACITY = 0.65  # of the paint where the heat is greatest
COOL, HOT = np.array([230.0, 60.0, 20.0]), np.array([255.0, 235.0, 90.0])  # RGB


def last_map(model: keras.Model) -> keras.KerasTensor | None:
    """Return the last tensor that still has places, (batch, height, width, channels); None where
    a model has none, or moves its channels about.

    It is what enters the layer that gives the places up (global pooling, flattening). Where that
    comes out of max pooling, what went in there shows the places twice as finely.
    """
    if any(isinstance(layer, layers.Permute) for layer in model.layers):
        return None
    for layer in model.layers:
        given = layer.input
        if hasattr(given, "shape") and len(given.shape) == 4 and len(layer.output.shape) == 2:
            source = _source(model, given)
            return source.input if isinstance(source, layers.MaxPooling2D) else given
    return None


def _source(model: keras.Model, tensor: keras.KerasTensor) -> keras.Layer | None:
    """Return the layer of the model that this tensor comes out of; None for one inside a layer."""
    return next((layer for layer in model.layers if layer.output is tensor), None)


def heat_maps(
    model: keras.Model, pictures: NDArray[np.uint8], answers: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return how much each place spoke for the answer, (images, height, width), 0 to 1 at the most
    telling one.

    pictures: (images, height, width, channels); answers: the class that was named, (images,). The
    model must have a `last_map`.
    """
    places, dense = last_map(model), last_dense(model)
    both = keras.Model(model.input, [places, dense.input])
    with tf.GradientTape() as tape:
        maps, features = both(tf.cast(pictures, tf.float32), training=False)
        scores = _of_answer(tf.matmul(features, dense.kernel) + dense.bias, answers)
    gradients = tape.gradient(scores, maps)
    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1, keepdims=True))
    # A model that judges several views of a picture (layers.Views) has those as they are first.
    heat = tf.image.resize(heat[: len(pictures)], pictures.shape[1:3])[..., 0].numpy()
    highest = heat.max(axis=(1, 2), keepdims=True)
    shares: NDArray[np.float32] = heat / np.where(highest > 0, highest, 1)
    return shares


def _of_answer(logits: Any, answers: NDArray[np.int64]) -> Any:
    """Return the logit of each picture's answer; of two classes there is one, for the second."""
    if logits.shape[-1] == 1:
        return logits[:, 0] * np.where(answers == 1, 1.0, -1.0).astype(np.float32)
    return tf.gather(logits, answers, axis=1, batch_dims=1)


def paint(pictures: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the pictures in grey with the heat painted over them, (images, height, width, 3).

    pictures: (images, height, width, 1 or 3); heat: (images, height, width), 0 to 1.
    """
    grey = pictures.mean(axis=-1, keepdims=True)
    share = heat[..., None]
    colour = COOL + share * (HOT - COOL)
    cover = OPACITY * share
    painted: NDArray[np.uint8] = ((1 - cover) * grey + cover * colour).round().astype(np.uint8)
    return painted


def paint_answers(
    model: keras.Model, pictures: NDArray[np.uint8], answers: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Return pictures painted with what spoke for their answers, (images, height, width, 3); none
    where the model has no places that could be shown.
    """
    painted = [np.zeros((0, *pictures.shape[1:3], 3), np.uint8)]
    if last_map(model) is not None:
        for at in range(0, len(pictures), AT_ONCE):
            batch = slice(at, at + AT_ONCE)
            heat = heat_maps(model, pictures[batch], answers[batch])
            painted.append(paint(pictures[batch], heat))
    return np.concatenate(painted)
