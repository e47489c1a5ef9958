"""A classifier without training by gradients: filters, pooling, block averages and k-means.

What scikit-learn finds is expressed as a Keras model, so that it is saved, evaluated and exported
like any other.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import linear_sum_assignment, minimize_scalar
from scipy.special import log_softmax
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from threadpoolctl import threadpool_limits

from stages.lib.errors import InputError
from stages.lib.keras_runtime import keras
from stages.lib.models.input_output import Count, image_input
from stages.lib.models.layers import BlockAverage, ClassesOfClusters
from stages.lib.progress import track

layers = keras.layers

Filters = Literal["fixed", "random"]
Pooling = Literal["max", "average"]
Mapping = Literal["majority", "hungarian"]

KERNEL = 5  # side of a filter, pixels
BATCH = 64
STARTS = 10  # k-means runs, of which the tightest counts
TEMPERATURES = 1e4  # the temperature is sought within this factor of the scores' deviation


def fit_filters_kmeans(
    pictures: NDArray[np.uint8],
    classes: NDArray[np.int64],
    num_classes: int,
    seed: int,
    *,
    filters: Filters = "fixed",
    count: Count = 8,
    pooling: Pooling = "max",
    features: Count = 128,
    clusters: Annotated[int, Field(ge=0)] = 0,
    mapping: Mapping = "majority",
) -> keras.Model:
    """Return a fitted model from pictures 0 to 255 to probabilities (batch, num_classes).

    pictures: those of train, (images, height, width, channels), which may be mapped: they are read
    in batches, and 4 bytes a feature are kept of each. filters: `fixed_filters` or random ones, so
    many as count says. features: block averages per picture. clusters: 0 means one per class.
    mapping: see `map_clusters`. The likeliest class is always that of the nearest centroid; how
    sure it is of it, the temperature, is fitted to train.

    Raises InputError where the pictures are too small or too few.
    """
    number = clusters or num_classes
    if len(pictures) < number:
        raise InputError(
            f"k-means needs at least one picture per cluster, got {len(pictures)} pictures for "
            f"{number} clusters; lower train.options.clusters or add pictures"
        )
    extract = feature_model(pictures.shape[1:], filters, count, pooling, features, seed)
    points = np.concatenate(_batches(extract, pictures, "features"))
    with threadpool_limits(1):  # threads add up in the order in which they end
        found = KMeans(number, n_init=STARTS, random_state=seed % 2**32).fit(points)
    classes_of_clusters = map_clusters(found.labels_, classes, number, num_classes, mapping)
    kernel, bias = centroid_weights(found.cluster_centers_)
    temperature = fit_temperature(points @ kernel + bias, classes, classes_of_clusters)
    dense = layers.Dense(number, dtype="float32", name="clusters")
    probabilities = ClassesOfClusters(
        classes_of_clusters.tolist(),
        num_classes,
        temperature,
        dtype="float32",
        name="probabilities",
    )
    outputs = probabilities(dense(extract.output))
    dense.set_weights([kernel, bias])
    model = keras.Model(extract.input, outputs, name="filters_kmeans")
    model.trainable = False
    return model


def feature_model(
    input_shape: tuple[int, int, int],
    filters: Filters,
    count: int,
    pooling: Pooling,
    features: int,
    seed: int,
) -> keras.Model:
    """Return the model from pictures 0 to 255 to features (batch, features).

    Each filter's response above 0 is pooled by 2x2 pixels; the pictures that result, one after the
    other and row by row, are cut into equal blocks, whose averages are the features.
    """
    height, width, channels = input_shape
    inputs = image_input(input_shape, "filters_kmeans", smallest_side=KERNEL + 1)
    values = count * ((height - KERNEL + 1) // 2) * ((width - KERNEL + 1) // 2)
    if values < features:
        raise InputError(
            f"filters_kmeans cannot average {values} values of a picture of {height}x{width} "
            f"(height x width) to {features} features; raise augment.height and augment.width, or "
            "raise the number of filters or lower that of features"
        )
    convolution = layers.Conv2D(
        count, KERNEL, activation="relu", use_bias=False, dtype="float32", name="filters"
    )
    pool = layers.MaxPooling2D if pooling == "max" else layers.AveragePooling2D
    x = layers.Rescaling(1 / 255, dtype="float32")(inputs)
    x = pool(2, dtype="float32")(convolution(x))
    x = layers.Flatten(dtype="float32")(layers.Permute((3, 1, 2), dtype="float32")(x))
    outputs = BlockAverage(features, dtype="float32", name="features")(x)
    bank = (
        np.repeat(fixed_filters(count)[:, :, None] / channels, channels, axis=2)
        if filters == "fixed"
        else random_filters(count, channels, seed)
    )
    convolution.set_weights([bank])
    return keras.Model(inputs, outputs, name="features")


def fixed_filters(count: int) -> NDArray[np.float32]:
    """Return filters (5, 5, count): a blur, a spot, then edges in directions all around.

    They are a Gaussian of deviation 1, its negative Laplacian and its first derivatives, each with
    absolute values that add up to 1. They are meant for the mean of a picture's channels.
    """
    y, x = np.mgrid[-2:3, -2:3].astype(np.float64)
    blur = np.exp(-(x**2 + y**2) / 2)
    spot = (2 - x**2 - y**2) * blur
    angles = 2 * np.pi * np.arange(count - 2) / max(count - 2, 1)
    edges = [(np.cos(angle) * x + np.sin(angle) * y) * blur for angle in angles]
    bank = np.stack([blur, spot - spot.mean(), *edges][:count], axis=-1)
    scaled: NDArray[np.float32] = (bank / np.abs(bank).sum(axis=(0, 1))).astype(np.float32)
    return scaled


def random_filters(count: int, channels: int, seed: int) -> NDArray[np.float32]:
    """Return filters (5, 5, channels, count) of normal values, scaled as the fixed ones are."""
    bank = np.random.default_rng(seed).normal(size=(KERNEL, KERNEL, channels, count))
    scaled: NDArray[np.float32] = (bank / np.abs(bank).sum(axis=(0, 1, 2))).astype(np.float32)
    return scaled


def map_clusters(
    clusters: NDArray[np.int64],
    classes: NDArray[np.int64],
    num_clusters: int,
    num_classes: int,
    mapping: Mapping,
) -> NDArray[np.int64]:
    """Return the class of each cluster, (num_clusters,).

    majority: the class that most of its pictures have, the first one of equals; a class may get no
    cluster. hungarian: one cluster per class, so that most pictures agree; clusters in excess of
    the classes go by majority.
    """
    together = _contingency(clusters, classes, num_clusters, num_classes)
    chosen: NDArray[np.int64] = together.argmax(axis=1)
    if mapping == "hungarian":
        rows, columns = linear_sum_assignment(together, maximize=True)
        chosen[rows] = columns
    return chosen


def centroid_weights(
    centroids: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return kernel and bias of a dense layer that scores clusters by the negative square of the
    distance to their centroids, (clusters, features), but for a summand that all clusters share.

    With m the mean of the centroids c: −|x − c|² + |x − m|² = 2 x·(c − m) − |c|² + |m|².
    """
    exact = centroids.astype(np.float64)
    mean = exact.mean(axis=0)
    kernel = 2 * (exact - mean).T
    bias = (mean**2).sum() - (exact**2).sum(axis=1)
    return kernel.astype(np.float32), bias.astype(np.float32)


def fit_temperature(
    scores: NDArray[np.float32],
    classes: NDArray[np.int64],
    classes_of_clusters: NDArray[np.int64],
) -> float:
    """Return by what to divide the scores of clusters, (images, clusters), so that the softmax over
    the best score of each class has the least cross-entropy (Guo et al., 2017).

    Pictures of a class without a cluster do not count; no temperature gives them a probability.
    """
    present = np.unique(classes_of_clusters)
    counted = np.isin(classes, present)
    best = [scores[:, classes_of_clusters == number].max(axis=1) for number in present]
    of_classes = np.stack(best, axis=1).astype(np.float64)[counted]
    spread = float(of_classes.std()) if counted.any() else 0.0
    if spread == 0 or len(present) == 1:
        return 1.0
    truth = np.searchsorted(present, classes[counted])
    rows = np.arange(len(truth))

    def cross_entropy(exponent: float) -> float:
        logarithms = log_softmax(of_classes / (spread * np.exp(exponent)), axis=1)
        return -float(logarithms[rows, truth].mean())

    limit = np.log(TEMPERATURES)
    found = minimize_scalar(cross_entropy, bounds=(-limit, limit), method="bounded")
    return spread * float(np.exp(found.x))


def nearest_clusters(model: keras.Model, pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the number of each picture's nearest centroid, (images,), by a fitted model."""
    scores = keras.Model(model.input, model.get_layer("clusters").output)
    parts = _batches(scores, pictures, "clusters")
    return np.concatenate([part.argmax(axis=1) for part in parts]).astype(np.int64)


def clustering_metrics(clusters: NDArray[np.int64], classes: NDArray[np.int64]) -> dict[str, float]:
    """Return how well clusters and classes agree, whatever the clusters are mapped to.

    purity: the share of pictures that have the most frequent class of their cluster. The adjusted
    Rand index is 0 for a division by chance; it and the normalised mutual information are 1 where
    clusters and classes are the same.
    """
    together = _contingency(clusters, classes, int(clusters.max()) + 1, int(classes.max()) + 1)
    return {
        "purity": float(together.max(axis=1).sum() / together.sum()),
        "adjusted_rand_index": float(adjusted_rand_score(classes, clusters)),
        "normalised_mutual_information": float(normalized_mutual_info_score(classes, clusters)),
    }


def _contingency(
    clusters: NDArray[np.int64], classes: NDArray[np.int64], num_clusters: int, num_classes: int
) -> NDArray[np.int64]:
    """Return how many pictures there are of each cluster and class, (num_clusters, num_classes)."""
    cells = np.bincount(clusters * num_classes + classes, minlength=num_clusters * num_classes)
    return cells.reshape(num_clusters, num_classes)


def _batches(
    model: keras.Model, pictures: NDArray[np.uint8], description: str
) -> list[NDArray[np.float32]]:
    starts = range(0, len(pictures), BATCH)
    return [
        np.asarray(model.predict_on_batch(np.asarray(pictures[at : at + BATCH])))
        for at in track(starts, len(starts), description, "batches")
    ]
