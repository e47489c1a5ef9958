"""What a trained model sees in pictures: the features before its last layer, and what is alike."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from stages.lib.keras_runtime import keras
from stages.lib.progress import track

Features = NDArray[np.float32]  # (images, features)
Rows = NDArray[np.int64]
Batch = tuple[Rows, Features, NDArray[np.float32]]  # rows, features, probabilities

SMALLEST_LENGTH = 1e-12  # of features that are all 0, which resemble nothing


def last_dense(model: keras.Model) -> keras.layers.Dense:
    """Return the dense layer that tells the classes apart; its input are the features."""
    return next(layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.Dense))


def batches(
    model: keras.Model, pictures: NDArray[np.uint8], rows: Rows, size: int, description: str
) -> Iterator[Batch]:
    """Yield the features and probabilities of some rows of pictures, which may be mapped.

    pictures: (images, height, width, channels), 0 to 255. The two come from one pass through the
    model, batch by batch, so that no more than `size` pictures are in memory.
    """
    both = keras.Model(model.input, [last_dense(model).input, model.output])
    starts = range(0, len(rows), size)
    for at in track(starts, len(starts), description, "batches"):
        here = rows[at : at + size]
        features, probabilities = both.predict_on_batch(np.asarray(pictures[here]))
        yield here, np.asarray(features, np.float32), np.asarray(probabilities, np.float32)


def nearest(
    wanted: Features, candidates: Iterable[tuple[Rows, Features]], count: int
) -> tuple[Rows, NDArray[np.float32]]:
    """Return for each wanted image the nearest candidates, and how near they are.

    Parameters
    ----------
    wanted : (images, features).
    candidates : batches of row numbers and features; none is kept.
    count : how many of the nearest are wanted.

    Returns
    -------
    Row numbers, (images, count), nearest first; -1 where there are fewer. Cosine of the angle
    between the features, the same shape: 1 is the same direction. Of equally near ones the first
    counts.
    """
    wanted = _unit(wanted)
    every = np.arange(len(wanted))
    best = np.full((len(wanted), count), -np.inf, np.float32)
    found = np.full((len(wanted), count), -1, np.int64)
    for rows, features in candidates:
        similarity = wanted @ _unit(features).T
        values, places = [best], [found]
        for _ in range(min(count, len(rows))):
            closest = similarity.argmax(axis=1)
            values.append(similarity[every, closest][:, None])
            places.append(rows[closest][:, None])
            similarity[every, closest] = -np.inf
        value, place = np.concatenate(values, axis=1), np.concatenate(places, axis=1)
        order = np.argsort(-value, axis=1, kind="stable")[:, :count]
        best = np.take_along_axis(value, order, axis=1)
        found = np.take_along_axis(place, order, axis=1)
    return found, best


def _unit(features: Features) -> Features:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit: Features = (features / np.maximum(lengths, SMALLEST_LENGTH)).astype(np.float32)
    return unit
