"""What a model sees: one pass gives features and probabilities, and the nearest is the nearest."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.lib.features import batches, last_dense, nearest
from stages.lib.grad_cam import heat_maps, last_map, paint, paint_answers
from stages.lib.keras_runtime import keras, seed_everything
from stages.lib.models import build_model
from stages.lib.models.filters_kmeans import fit_filters_kmeans
from stages.lib.models.input_output import head

layers = keras.layers


def pictures_of(count: int, side: int = 32, channels: int = 3) -> NDArray[np.uint8]:
    rng = np.random.default_rng(8)
    return rng.integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def model_of(name: str, num_classes: int, channels: int = 3, **options: Any) -> keras.Model:
    seed_everything(3)
    return build_model(name, (32, 32, channels), num_classes, options)


@pytest.mark.parametrize("num_classes", [2, 5])
def test_one_pass_gives_the_features_and_probabilities_of_the_rows_asked_for(
    num_classes: int,
) -> None:
    model, pictures = model_of("cifar_cnn_1", num_classes), pictures_of(7)
    rows = np.array([6, 0, 3])

    found = list(batches(model, pictures, rows, 2, "test"))

    assert [here.tolist() for here, _, _ in found] == [[6, 0], [3]]
    probabilities = np.concatenate([given for _, _, given in found])
    np.testing.assert_allclose(probabilities, model.predict_on_batch(pictures[rows]), atol=1e-6)
    features = np.concatenate([given for _, given, _ in found])
    assert features.shape == (3, 256)
    logits = features @ last_dense(model).kernel.numpy() + last_dense(model).bias.numpy()
    if num_classes == 2:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, softmax, atol=1e-5)


def test_the_nearest_is_that_of_the_whole_matrix_however_it_is_cut() -> None:
    rng = np.random.default_rng(1)
    wanted = rng.normal(size=(20, 8)).astype(np.float32)
    others = rng.normal(size=(60, 8)).astype(np.float32)
    rows = np.arange(100, 160)

    found = [
        nearest(
            wanted,
            ((rows[at : at + size], others[at : at + size]) for at in range(0, 60, size)),
            3,
        )
        for size in (60, 7, 1)
    ]

    lengths = np.linalg.norm(wanted, axis=1)[:, None] * np.linalg.norm(others, axis=1)
    cosines = wanted @ others.T / lengths
    for chosen, similarity in found:
        order = np.argsort(-cosines, axis=1)[:, :3]
        assert chosen.tolist() == rows[order].tolist()
        expected = np.take_along_axis(cosines, order, axis=1)
        np.testing.assert_allclose(similarity, expected, atol=1e-6)


def test_features_of_nothing_are_like_nothing_and_the_first_of_equals_counts() -> None:
    rows, similarity = nearest(
        np.array([[0, 0], [1, 0]], np.float32),
        [(np.array([4]), np.array([[2, 0]], np.float32)),
         (np.array([5]), np.array([[1, 0]], np.float32))],
        1,
    )  # fmt: skip

    assert rows.tolist() == [[4], [4]]
    assert similarity.tolist() == [[0], [1]]


def test_where_there_are_fewer_than_wanted_the_rest_is_marked() -> None:
    one = (np.array([7]), np.ones((1, 2), np.float32))

    rows, _ = nearest(np.ones((2, 2), np.float32), [one], 3)

    assert rows.tolist() == [[7, -1, -1], [7, -1, -1]]


def test_without_mistakes_nothing_is_sought() -> None:
    rows, similarity = nearest(
        np.zeros((0, 2), np.float32), [(np.array([0]), np.ones((1, 2), np.float32))], 1
    )

    assert len(rows) == len(similarity) == 0


# --- Where the model looked ---------------------------------------------------------------------


def spot_model(num_classes: int) -> keras.Model:
    """Return a model whose second class is the mean of the red channel and whose first is its
    opposite.
    """
    inputs = layers.Input((16, 16, 3), name="image")
    x = layers.Conv2D(1, 1, use_bias=False)(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, head(x, num_classes))
    weights = [np.array([1, 0, 0.0]).reshape(1, 1, 3, 1)]
    kernel = [[1.0]] if num_classes == 2 else [[-1.0, 1.0, 0.0]]
    model.set_weights([*weights, np.array(kernel), np.zeros(len(kernel[0]))])
    return model


@pytest.mark.parametrize("num_classes", [2, 3])
def test_heat_lies_where_the_answer_came_from(num_classes: int) -> None:
    pictures = np.zeros((2, 16, 16, 3), np.uint8)
    pictures[:, 2:6, 10:14, 0] = 200

    heat = heat_maps(spot_model(num_classes), pictures, np.array([1, 0]))

    spot = np.zeros((16, 16), bool)
    spot[2:6, 10:14] = True
    assert (heat[0][spot] == 1).all() and (heat[0][~spot] == 0).all()
    assert (heat[1] == 0).all()  # the red spot speaks against the first class


@pytest.mark.parametrize(
    ("name", "channels", "options", "places"),
    [
        ("compact_cnn", 3, {}, (8, 8, 128)),
        ("compact_cnn", 1, {}, (8, 8, 128)),
        ("cifar_cnn_2", 3, {}, (4, 4, 256)),
        ("transfer", 3, {"weights": "none"}, (1, 1, 1280)),
    ],
)
def test_models_have_a_last_map_as_fine_as_can_be(
    name: str, channels: int, options: dict[str, Any], places: tuple[int, ...]
) -> None:
    model, pictures = model_of(name, 5, channels, **options), pictures_of(18, channels=channels)

    last = last_map(model)
    painted = paint_answers(model, pictures, np.arange(18) % 5)

    assert last is not None and last.shape[1:] == places
    assert painted.shape == (18, 32, 32, 3) and painted.dtype == np.uint8


def test_of_several_views_the_picture_as_it_is_is_painted() -> None:
    pictures = np.zeros((2, 32, 32, 3), np.uint8)
    pictures[:, 4:10, 20:28] = 255
    model = model_of("fast_cnn", 3, test_views="mirror")

    heat = heat_maps(model, pictures, np.array([0, 1]))

    assert heat.shape == (2, 32, 32)
    plain = model_of("fast_cnn", 3, test_views="one")
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(heat, heat_maps(plain, pictures, np.array([0, 1])), atol=0.02)


def test_a_model_without_places_paints_nothing() -> None:
    pictures = pictures_of(40)
    fitted = fit_filters_kmeans(pictures, np.arange(40) % 2, 2, seed=1)

    painted = paint_answers(fitted, pictures, np.zeros(40, np.int64))

    assert last_map(fitted) is None
    assert painted.shape == (0, 32, 32, 3)


def test_paint_leaves_cold_places_grey_and_reddens_hot_ones() -> None:
    picture = np.full((1, 2, 2, 1), 100, np.uint8)
    heat = np.array([[[0, 0], [0, 1]]], np.float32)

    painted = paint(picture, heat)

    assert painted[0, 0, 0].tolist() == [100, 100, 100]
    red, green, blue = painted[0, 1, 1].tolist()
    assert red > green > blue
