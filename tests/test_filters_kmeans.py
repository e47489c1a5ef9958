"""Filters and k-means: each step equals a plain loop, the model answers as scikit-learn does."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import log_loss

from stages.lib.errors import InputError
from stages.lib.keras_runtime import keras
from stages.lib.models.filters_kmeans import (
    centroid_weights,
    clustering_metrics,
    feature_model,
    fit_filters_kmeans,
    fit_temperature,
    fixed_filters,
    map_clusters,
    nearest_clusters,
    random_filters,
)
from stages.lib.models.layers import OWN_LAYERS

OPTIONS: dict[str, Any] = {
    "filters": "fixed",
    "count": 6,
    "pooling": "max",
    "features": 32,
    "mapping": "majority",
}


def striped_pictures(images: int, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy pictures 20x24 of three classes: stripes, bright above, bright on the left."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, images)
    y, x = np.mgrid[:20, :24]
    kinds = np.stack([(x // 3 % 2) * 200, (y < 10) * 180, (x < 12) * 150])[classes]
    noisy = kinds[..., None] + rng.normal(30, 25, (images, 20, 24, channels))
    return noisy.clip(0, 255).astype(np.uint8), classes


def by_loops(picture: np.ndarray, bank: np.ndarray, pooling: str, features: int) -> np.ndarray:
    """Return a picture's features, computed pixel by pixel."""
    height, width, _ = picture.shape
    pixels = picture / 255
    maps = []
    for number in range(bank.shape[-1]):
        response = np.array(
            [
                [
                    max(0.0, (pixels[y : y + 5, x : x + 5] * bank[..., number]).sum())
                    for x in range(width - 4)
                ]
                for y in range(height - 4)
            ]
        )
        cells = response[: len(response) // 2 * 2, : response.shape[1] // 2 * 2]
        cells = cells.reshape(cells.shape[0] // 2, 2, cells.shape[1] // 2, 2)
        maps.append((cells.max if pooling == "max" else cells.mean)(axis=(1, 3)).ravel())
    blocks = np.array_split(np.concatenate(maps), features)
    return np.array([block.mean() for block in blocks])


@pytest.mark.parametrize("filters", ["fixed", "random"])
@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("shape", [(14, 17, 3), (15, 12, 1)])
def test_features_equal_those_of_plain_loops(
    filters: str, pooling: str, shape: tuple[int, int, int]
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    model = feature_model(shape, filters, 5, pooling, 16, seed=3)  # type: ignore[arg-type]

    found = np.asarray(model(picture[None]))[0]

    bank = (
        random_filters(5, shape[2], 3)
        if filters == "random"
        else np.repeat(fixed_filters(5)[:, :, None] / shape[2], shape[2], axis=2)
    )
    np.testing.assert_allclose(found, by_loops(picture, bank, pooling, 16), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_fixed_filters_are_as_many_as_asked_for_and_the_first_ones_agree(count: int) -> None:
    bank = fixed_filters(count)

    assert bank.shape == (5, 5, count)
    np.testing.assert_array_equal(bank[..., :2], fixed_filters(2)[..., :count])
    np.testing.assert_allclose(np.abs(bank).sum(axis=(0, 1)), 1, rtol=1e-6)


def test_all_fixed_filters_but_the_blur_are_blind_to_a_plain_picture() -> None:
    sums = fixed_filters(8).sum(axis=(0, 1))

    np.testing.assert_allclose(sums, [1] + [0] * 7, atol=1e-6)


def test_random_filters_depend_on_the_seed_alone() -> None:
    assert np.array_equal(random_filters(4, 3, 1), random_filters(4, 3, 1))
    assert not np.array_equal(random_filters(4, 3, 1), random_filters(4, 3, 2))


@pytest.mark.parametrize("clusters", [0, 2, 7])
@pytest.mark.parametrize("mapping", ["majority", "hungarian"])
@pytest.mark.parametrize("filters", ["fixed", "random"])
def test_the_model_predicts_what_scikit_learn_and_the_mapping_do(
    clusters: int, mapping: str, filters: str
) -> None:
    pictures, classes = striped_pictures(90)
    options = OPTIONS | {"clusters": clusters, "mapping": mapping, "filters": filters}
    number = clusters or 3

    model = fit_filters_kmeans(pictures[:60], classes[:60], 3, seed=5, **options)

    extract = feature_model(pictures.shape[1:], filters, 6, "max", 32, 5)  # type: ignore[arg-type]
    points = np.asarray(extract(pictures))
    found = KMeans(number, n_init=10, random_state=5).fit(points[:60])
    together = np.zeros((number, 3), int)
    np.add.at(together, (found.labels_, classes[:60]), 1)
    class_of = together.argmax(axis=1)
    if mapping == "hungarian":
        rows, columns = linear_sum_assignment(-together)
        class_of[rows] = columns
    expected = found.predict(points)
    np.testing.assert_array_equal(nearest_clusters(model, pictures), expected)
    np.testing.assert_array_equal(np.asarray(model(pictures)).argmax(axis=1), class_of[expected])


def test_what_differs_visibly_is_told_apart() -> None:
    pictures, classes = striped_pictures(90)

    model = fit_filters_kmeans(pictures[:60], classes[:60], 3, seed=5, **OPTIONS)

    found = np.asarray(model(pictures[60:])).argmax(axis=1)
    np.testing.assert_array_equal(found, classes[60:])


def test_equal_seeds_give_equal_bytes() -> None:
    pictures, classes = striped_pictures(60)

    def weights() -> list[np.ndarray]:
        model = fit_filters_kmeans(
            pictures, classes, 3, seed=5, **OPTIONS | {"filters": "random", "clusters": 8}
        )
        return model.get_weights()

    assert all(np.array_equal(a, b) for a, b in zip(weights(), weights(), strict=True))


def test_mapped_pictures_are_read_as_those_in_memory(tmp_path: Path) -> None:
    pictures, classes = striped_pictures(70)
    np.save(tmp_path / "train.npy", pictures)
    mapped = np.load(tmp_path / "train.npy", mmap_mode="r")

    model = fit_filters_kmeans(mapped, classes, 3, seed=5, **OPTIONS)

    same = fit_filters_kmeans(pictures, classes, 3, seed=5, **OPTIONS)
    np.testing.assert_array_equal(model(pictures), same(pictures))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_fitted_model_loads_back_and_exports_to_equal_probabilities(
    channels: int, tmp_path: Path
) -> None:
    pictures, classes = striped_pictures(60, channels)
    model = fit_filters_kmeans(pictures, classes, 3, seed=5, **OPTIONS | {"clusters": 5})
    expected = np.asarray(model(pictures))

    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.models.model_from_json(model.to_json(), custom_objects=OWN_LAYERS)
    loaded.load_weights(tmp_path / "model.weights.h5")
    signature = keras.InputSpec(shape=model.input_shape, dtype="float32", name="image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        loaded.export(
            tmp_path / "model.onnx", format="onnx", input_signature=[signature], verbose=False
        )

    np.testing.assert_array_equal(loaded(pictures), expected)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    [exported] = session.run(None, {session.get_inputs()[0].name: pictures.astype(np.float32)})
    np.testing.assert_allclose(exported, expected, atol=1e-4)


def test_nothing_in_the_fitted_model_is_left_to_train() -> None:
    pictures, classes = striped_pictures(30)

    model = fit_filters_kmeans(pictures, classes, 3, seed=5, **OPTIONS)

    assert model.trainable_weights == []
    assert model.count_params() == 5 * 5 * 3 * 6 + 32 * 3 + 3


def test_majority_may_leave_a_class_without_a_cluster_where_hungarian_gives_each_one() -> None:
    # Of class 0: 5 in cluster 0, 4 in cluster 1; of class 1: 1 and 3.
    clusters = np.array([0] * 6 + [1] * 7)
    classes = np.array([0] * 5 + [1] + [0] * 4 + [1] * 3)

    assert map_clusters(clusters, classes, 2, 2, "majority").tolist() == [0, 0]
    assert map_clusters(clusters, classes, 2, 2, "hungarian").tolist() == [0, 1]


def test_clusters_in_excess_of_the_classes_go_by_majority() -> None:
    clusters = np.array([0, 0, 0, 1, 1, 2])
    classes = np.array([0, 0, 0, 1, 1, 1])

    assert map_clusters(clusters, classes, 3, 2, "hungarian").tolist() == [0, 1, 1]


def test_scores_differ_as_the_squares_of_the_distances_do() -> None:
    rng = np.random.default_rng(0)
    centroids, points = rng.normal(4, 1, (5, 16)), rng.normal(4, 1, (20, 16))

    kernel, bias = centroid_weights(centroids.astype(np.float32))

    scores = points @ kernel + bias
    squares = ((points[:, None] - centroids[None]) ** 2).sum(axis=2)
    expected = squares[:, :1] - squares
    np.testing.assert_allclose(scores - scores[:, :1], expected, rtol=1e-4, atol=1e-4)


def test_the_temperature_has_the_least_cross_entropy_of_all_tried() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 300)
    scores = (rng.normal(0, 5, (300, 3)) + 6 * np.eye(3)[classes]).astype(np.float32)

    def cross_entropy(temperature: float) -> float:
        odds = np.exp(scores.astype(np.float64) / temperature)
        return float(log_loss(classes, odds / odds.sum(axis=1, keepdims=True)))

    found = fit_temperature(scores, classes, np.arange(3))

    tried = [cross_entropy(temperature) for temperature in np.geomspace(0.1, 1000, 200)]
    assert cross_entropy(found) <= min(tried) + 1e-6


def test_a_temperature_is_found_where_nothing_can_be_learned_from() -> None:
    scores = np.zeros((4, 2), np.float32)

    assert fit_temperature(scores, np.array([0, 1, 0, 1]), np.array([0, 1])) == 1
    assert fit_temperature(scores, np.array([0, 1, 0, 1]), np.array([1, 1])) == 1


def test_clusters_that_are_the_classes_under_other_numbers_are_perfect() -> None:
    classes = np.array([0, 0, 1, 1, 2, 2])

    found = clustering_metrics((classes + 1) % 3, classes)

    assert found == pytest.approx(
        {"purity": 1, "adjusted_rand_index": 1, "normalised_mutual_information": 1}
    )


def test_one_cluster_for_all_is_as_pure_as_the_largest_class_and_no_better_than_chance() -> None:
    found = clustering_metrics(np.zeros(4, np.int64), np.array([0, 0, 0, 1]))

    assert found == pytest.approx(
        {"purity": 0.75, "adjusted_rand_index": 0, "normalised_mutual_information": 0}
    )


def test_too_few_pictures_are_refused() -> None:
    pictures, classes = striped_pictures(4)

    with pytest.raises(InputError, match="got 4 pictures for 9 clusters"):
        fit_filters_kmeans(pictures, classes, 3, seed=5, **OPTIONS | {"clusters": 9})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((8, 8, 3), "24 values of a picture of 8x8 .*to 32 features; raise augment.height"),
        ((5, 30, 3), "at least 6x6, got 5x30"),
    ],
)
def test_too_small_pictures_are_refused(shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        feature_model(shape, "fixed", 6, "max", 32, seed=5)
