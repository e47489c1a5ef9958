"""Transfer: each backbone gets the pixels it was trained on; the head alone learns at first."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from stages.lib.errors import InputError
from stages.lib.keras_runtime import keras
from stages.lib.models.layers import OWN_LAYERS
from stages.lib.models.transfer import (
    BACKBONES,
    IMAGENET_MEAN,
    IMAGENET_STANDARD_DEVIATION,
    features,
    free_from,
    preprocess,
    transfer,
)

SHAPE = (32, 40, 3)


def random_pictures(shape: tuple[int, int, int], count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of MobileNet without its top, of random weights."""
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    network = keras.applications.MobileNet(weights=None, include_top=False, input_shape=SHAPE)
    network.save_weights(path)
    return path


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def test_only_the_head_is_trained_and_has_the_printed_number_of_parameters() -> None:
    model = transfer((96, 96, 3), 10, weights="none")

    assert trainable(model) == 165_258


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_gets_what_its_own_preprocessing_gives(backbone: str) -> None:
    pictures = random_pictures((4, 5, 3))
    inputs = keras.Input((4, 5, 3))

    found = keras.Model(inputs, preprocess(inputs, backbone))(pictures)

    own = inspect.getmodule(getattr(keras.applications, backbone)).preprocess_input
    np.testing.assert_allclose(found, own(pictures.astype(np.float32)), atol=1e-5)


def test_the_backbones_are_trained_on_pixels_of_all_four_kinds() -> None:
    def first(backbone: str) -> list[float]:
        inputs = keras.Input((1, 1, 3))
        model = keras.Model(inputs, preprocess(inputs, backbone))
        return np.asarray(model(np.array([[[[255.0, 0.0, 0.0]]]])))[0, 0, 0].tolist()

    assert first("MobileNetV2") == pytest.approx([1, -1, -1])
    assert first("VGG16") == pytest.approx([-103.939, -116.779, 255 - 123.68], rel=1e-5)
    assert first("DenseNet121") == pytest.approx(
        [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225], rel=1e-5
    )
    assert first("EfficientNetB0") == [255, 0, 0]


def test_a_file_gives_efficientnet_the_features_of_its_downloaded_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = keras.applications.EfficientNetB0
    random = build(weights=None, include_top=False, input_shape=SHAPE)
    normalisation = next(x for x in random.layers if isinstance(x, keras.layers.Normalization))
    normalisation.set_weights(
        [
            IMAGENET_MEAN.astype(np.float32),
            IMAGENET_STANDARD_DEVIATION.astype(np.float32),
            *normalisation.get_weights()[2:],
        ]
    )
    file = tmp_path / "efficientnet.weights.h5"
    random.save_weights(file)
    file_utils = inspect.getmodule(build).file_utils  # type: ignore[union-attr]
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: str(file))

    from_file = features(transfer(SHAPE, 3, backbone="EfficientNetB0", weights=str(file)))
    downloaded = build(weights="imagenet", include_top=False, input_shape=SHAPE, pooling="avg")

    pictures = random_pictures(SHAPE)
    np.testing.assert_allclose(from_file(pictures), downloaded(pictures), rtol=1e-3, atol=1e-5)


def test_a_file_is_loaded_whole(weights_file: Path) -> None:
    same = keras.applications.MobileNet(weights=None, include_top=False, input_shape=SHAPE)
    same.load_weights(weights_file)

    model = transfer(SHAPE, 3, backbone="MobileNet", weights=str(weights_file))

    pictures = random_pictures(SHAPE)
    pixels = pictures / np.float32(127.5) - 1
    expected = np.asarray(same(pixels, training=False)).mean(axis=(1, 2))
    np.testing.assert_allclose(features(model)(pictures), expected, rtol=1e-3, atol=1e-5)


def test_a_grey_picture_counts_as_three_equal_channels(weights_file: Path) -> None:
    grey = features(transfer((32, 40, 1), 3, backbone="MobileNet", weights=str(weights_file)))
    colour = features(transfer(SHAPE, 3, backbone="MobileNet", weights=str(weights_file)))
    pictures = random_pictures((32, 40, 1))

    np.testing.assert_array_equal(grey(pictures), colour(np.repeat(pictures, 3, axis=3)))


def test_training_leaves_features_as_they_were_and_moves_the_head(weights_file: Path) -> None:
    model = transfer(SHAPE, 2, backbone="MobileNet", weights=str(weights_file))
    pictures, classes = random_pictures(SHAPE, 4), np.array([0, 1, 0, 1])
    before = np.asarray(features(model)(pictures))
    head_before = model.get_layer("logit").get_weights()[0]

    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.fit(pictures, classes, epochs=2, verbose=0)

    np.testing.assert_array_equal(features(model)(pictures), before)
    assert not np.array_equal(model.get_layer("logit").get_weights()[0], head_before)


def test_the_backbone_is_free_from_a_layer_on_but_for_batch_normalisation() -> None:
    model = transfer(SHAPE, 3, weights="none")
    network = next(layer for layer in model.layers if isinstance(layer, keras.Model))

    free_from(model, 100)

    free = [number for number, layer in enumerate(network.layers) if layer.trainable_weights]
    expected = [
        number
        for number, layer in enumerate(network.layers)
        if number >= 100
        and layer.weights
        and not isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert free == expected != []


def test_freeing_later_layers_freezes_earlier_ones_again() -> None:
    model = transfer(SHAPE, 3, weights="none")

    free_from(model, 90)
    more = trainable(model)
    free_from(model, 120)

    assert trainable(model) < more


def test_moving_statistics_stay_while_layers_are_fine_tuned(weights_file: Path) -> None:
    model = transfer(SHAPE, 2, backbone="MobileNet", weights=str(weights_file))
    free_from(model, 60)
    statistics = [w for w in model.weights if "moving" in w.name]
    before = [np.asarray(w) for w in statistics]

    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.fit(random_pictures(SHAPE, 4), np.array([0, 1, 0, 1]), verbose=0)

    assert len(statistics) == 2 * 27
    for weight, value in zip(statistics, before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize("layer_number", [-1, 154])
def test_a_layer_that_the_backbone_lacks_cannot_be_freed(layer_number: int) -> None:
    model = transfer(SHAPE, 3, weights="none")

    with pytest.raises(InputError, match=rf"layers 0 to 153, got {layer_number}"):
        free_from(model, layer_number)


@pytest.mark.parametrize(("shape", "num_classes"), [(SHAPE, 3), ((32, 40, 1), 2)])
def test_a_transfer_model_loads_back_to_equal_probabilities(
    shape: tuple[int, int, int], num_classes: int, weights_file: Path, tmp_path: Path
) -> None:
    model = transfer(shape, num_classes, backbone="MobileNet", weights=str(weights_file))
    model.save_weights(tmp_path / "model.weights.h5")

    loaded = keras.models.model_from_json(model.to_json(), custom_objects=OWN_LAYERS)
    loaded.load_weights(tmp_path / "model.weights.h5")

    pictures = random_pictures(shape)
    assert np.asarray(model(pictures)).shape == (2, num_classes)
    np.testing.assert_array_equal(loaded(pictures), model(pictures))
    assert trainable(loaded) == trainable(model)


def test_an_unknown_backbone_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="'mobilenetv2' .*did you mean 'MobileNetV2'"):
        transfer(SHAPE, 3, backbone="mobilenetv2", weights="none")


def test_too_small_pictures_are_refused_with_the_smallest_size() -> None:
    with pytest.raises(InputError, match="InceptionV3 .*74x90 .*at least 75x75.*augment.height"):
        transfer((74, 90, 3), 3, backbone="InceptionV3", weights="none")


def test_a_missing_weights_file_is_named() -> None:
    with pytest.raises(InputError, match="nowhere.h5 is missing"):
        transfer(SHAPE, 3, weights="nowhere.h5")


def test_weights_of_another_backbone_are_refused(weights_file: Path) -> None:
    with pytest.raises(InputError, match="mobilenet.weights.h5 .*weights of MobileNetV2 without"):
        transfer(SHAPE, 3, backbone="MobileNetV2", weights=str(weights_file))


@pytest.mark.parametrize("name", ["text.h5", "text.weights.h5", "text.txt"])
def test_a_file_that_holds_no_weights_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("no weights")

    with pytest.raises(InputError, match=f"{name} does not hold the weights of MobileNetV2"):
        transfer(SHAPE, 3, weights=str(tmp_path / name))


def test_a_file_that_lacks_values_is_refused(tmp_path: Path) -> None:
    network = keras.applications.MobileNet(weights=None, include_top=False, input_shape=SHAPE)
    weights = network.get_weights()
    network.set_weights([np.full_like(weights[0], np.nan), *weights[1:]])
    network.save_weights(tmp_path / "gap.weights.h5")

    with pytest.raises(InputError, match="no values for 1 weights, as conv1"):
        transfer(SHAPE, 3, backbone="MobileNet", weights=str(tmp_path / "gap.weights.h5"))


def test_weights_that_cannot_be_fetched_can_be_given_as_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(*_: object, **__: object) -> str:
        raise Exception("URL fetch failure on https://example.org: None")

    module = inspect.getmodule(keras.applications.MobileNetV2)
    monkeypatch.setattr(module.file_utils, "get_file", offline)  # type: ignore[union-attr]

    with pytest.raises(InputError, match="MobileNetV2 cannot be fetched .*name the file"):
        transfer((96, 96, 3), 3)
