"""fast_cnn: its size, what its stem and its views do, and that it learns."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from stages.lib.classifier import Classifier
from stages.lib.errors import InputError
from stages.lib.keras_runtime import keras, seed_everything, tf
from stages.lib.models import ADAPTED_TO, adapt, build_model
from stages.lib.models.fast_cnn import fast_cnn
from stages.lib.models.layers import MeanOfViews, PatchWhitening, Views


@pytest.fixture
def pictures() -> np.ndarray:
    """Return smooth noise, in which the pixels of a patch depend on each other."""
    noise = np.random.default_rng(0).normal(size=(64, 32, 32, 3)).cumsum(axis=1).cumsum(axis=2)
    return np.clip(noise * 3 + 128, 0, 255).astype(np.uint8)


def test_the_network_for_small_colour_pictures_has_the_layers_of_the_paper() -> None:
    model = fast_cnn((32, 32, 3), 10)

    stem = 2 * 2 * 3 * 24 + 24
    kernels = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    normalisation = 3 * 2 * (64 + 256 + 256)  # offset, moving mean and variance, twice a block
    assert model.count_params() == stem + kernels + normalisation + 256 * 10 + 10


@pytest.mark.parametrize(
    ("shape", "blocks"), [((32, 32, 3), 3), ((64, 48, 1), 3), ((96, 96, 3), 3), ((16, 16, 3), 2)]
)
@pytest.mark.parametrize("num_classes", [2, 5])
def test_pictures_of_any_shape_become_probabilities(
    shape: tuple[int, int, int], blocks: int, num_classes: int
) -> None:
    model = fast_cnn(shape, num_classes)
    batch = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)

    probabilities = np.asarray(model(batch))

    assert probabilities.shape == (3, num_classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert sum(isinstance(layer, keras.layers.MaxPooling2D) for layer in model.layers) == blocks


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((8, 32, 3), {}, "fast_cnn takes pictures of at least 16x16, got 8x32"),
        ((16, 16, 3), {"widths": [8] * 5}, "5 blocks are too many for pictures of 16x16"),
        ((32, 32, 3), {"widths": []}, "train.options.widths"),
        ((32, 32, 3), {"stem": 7}, "train.options.stem: .* multiple of 2, got 7"),
        ((32, 32, 3), {"test_views": "six"}, "train.options.test_views"),
    ],
)
def test_what_does_not_fit_is_refused(
    shape: tuple[int, int, int], options: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        build_model("fast_cnn", shape, 3, options)


def test_responses_of_the_stem_have_unit_variance_and_do_not_correlate(
    pictures: np.ndarray,
) -> None:
    stem = PatchWhitening(24, 2)
    stem.build((None, 32, 32, 3))
    stem.adapt(pictures)

    responses = np.asarray(stem(pictures)).reshape(-1, 24)

    np.testing.assert_allclose(responses[:, 12:], -responses[:, :12], atol=1e-4)
    spread = np.cov(responses[:, :12], rowvar=False)
    np.testing.assert_allclose(spread - np.diag(np.diag(spread)), 0, atol=0.02)
    assert np.diag(spread).max() < 1.001
    assert np.diag(spread)[:9].min() > 0.95  # the last three hold little but noise


def test_adapting_reads_a_sample_and_gives_the_same_for_the_same_seed() -> None:
    rows = np.random.default_rng(1).integers(0, 256, (ADAPTED_TO + 500, 16, 16, 3), dtype=np.uint8)

    def kernel(seed: int) -> np.ndarray:
        model = fast_cnn((16, 16, 3), 3)
        adapt(model, rows, seed)
        return np.asarray(next(x for x in model.layers if isinstance(x, PatchWhitening)).kernel)

    assert np.array_equal(kernel(1), kernel(1))
    assert not np.array_equal(kernel(1), kernel(2))


def test_a_convolution_begins_by_passing_on_what_it_is_given() -> None:
    found = fast_cnn((32, 32, 3), 10).layers
    convolution = next(layer for layer in found if isinstance(layer, keras.layers.Conv2D))
    given = np.random.default_rng(2).normal(size=(2, 7, 7, 24)).astype(np.float32)

    passed = np.asarray(convolution(given))

    np.testing.assert_allclose(passed[..., :24], given, rtol=1e-5, atol=1e-6)
    assert np.abs(passed[..., 24:]).mean() > 0.01


@pytest.mark.parametrize("kind", ["mirror", "mirror_shift"])
def test_a_picture_is_judged_by_the_mean_of_its_views(kind: str, pictures: np.ndarray) -> None:
    one, several = (
        build_model("fast_cnn", (32, 32, 3), 4, {"test_views": views}) for views in ("one", kind)
    )
    adapt(one, pictures, 0)
    several.set_weights(one.get_weights())
    logits = keras.Model(one.input, one.layers[-2].output)
    kernel, bias = one.layers[-1].get_weights()
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    moved = [pictures, padded[:, :-2, :-2], padded[:, 2:, 2:]][: 1 if kind == "mirror" else 3]
    weights = {1: [1.0], 3: [0.5, 0.25, 0.25]}[len(moved)]
    mean = sum(
        weight * (np.asarray(logits(x)) + np.asarray(logits(x[:, :, ::-1]))) / 2
        for weight, x in zip(weights, moved, strict=True)
    )

    found = np.asarray(several(pictures, training=False))

    expected = np.asarray(tf.nn.softmax(mean @ kernel + bias))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_in_training_a_picture_is_seen_once(pictures: np.ndarray) -> None:
    views, mean = Views("mirror_shift"), MeanOfViews("mirror_shift")
    features = np.ones((64, 5), np.float32)

    assert views(pictures, training=True).shape == pictures.shape
    assert views(pictures, training=False).shape[0] == 6 * len(pictures)
    np.testing.assert_array_equal(mean(features, training=True), features)


def test_a_small_batch_is_learned_by_heart(pictures: np.ndarray) -> None:
    seed_everything(1)
    model = fast_cnn((32, 32, 3), 4, widths=[16, 32])
    adapt(model, pictures, 1)
    classes = np.arange(64) % 4
    model.compile(keras.optimizers.SGD(0.3, 0.85, nesterov=True), "sparse_categorical_crossentropy")

    model.fit(pictures, classes, batch_size=64, epochs=40, verbose=0)

    learned = np.asarray(model(pictures, training=True)).argmax(axis=1)
    assert (learned == classes).mean() > 0.95


def test_the_exported_network_judges_the_same_views(tmp_path: Path, pictures: np.ndarray) -> None:
    model = build_model("fast_cnn", (32, 32, 3), 4, {"test_views": "mirror_shift", "widths": [8]})
    adapt(model, pictures, 0)
    classifier = Classifier(model, list("abcd"))
    signature = keras.InputSpec(shape=(None, 32, 32, 3), dtype="float32", name="image")

    classifier.model.export(
        tmp_path / "model.onnx", format="onnx", input_signature=[signature], verbose=False
    )

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    found = session.run(None, {"image": pictures.astype(np.float32)})[0]
    np.testing.assert_allclose(found, model(pictures), atol=1e-5)
