"""Models: shapes, scaling inside, and layers that equal Keras' own."""

import numpy as np
import pytest

from stages.lib.errors import InputError
from stages.lib.keras_runtime import keras, seed_everything
from stages.lib.models import build_model
from stages.lib.models.compact_cnn import compact_cnn
from stages.lib.models.layers import FusedBatchNormalization


@pytest.mark.parametrize("shape", [(32, 32, 3), (64, 48, 1), (96, 96, 3)])
def test_a_model_turns_pictures_of_any_shape_into_probabilities(
    shape: tuple[int, int, int],
) -> None:
    model = build_model("compact_cnn", shape, 5, {})
    pictures = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)

    probabilities = np.asarray(model(pictures))

    assert probabilities.shape == (3, 5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_equal_seeds_give_equal_weights_and_other_seeds_others() -> None:
    def weights(seed: int) -> list[np.ndarray]:
        seed_everything(seed)
        return [np.asarray(w) for w in compact_cnn((32, 32, 3), 4, width=8).get_weights()]

    first, again, other = weights(1), weights(1), weights(2)

    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("training", [True, False])
def test_the_fused_batch_normalisation_equals_that_of_keras(training: bool) -> None:
    pictures = np.random.default_rng(0).normal(2, 3, (64, 6, 6, 4)).astype(np.float32)
    fused = FusedBatchNormalization(momentum=0.9)
    plain = keras.layers.BatchNormalization(momentum=0.9)
    for _ in range(20):
        fused(pictures, training=True)
        plain(pictures, training=True)

    np.testing.assert_allclose(
        fused(pictures, training=training), plain(pictures, training=training), atol=2e-3
    )
    np.testing.assert_allclose(fused.moving_mean, plain.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(fused.moving_variance, plain.moving_variance, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet", {}, "train.model: unknown model 'resnet'; known: compact_cnn"),
        ("compact_cnn", {"widht": 8}, "unknown option 'widht', did you mean 'width'"),
        ("compact_cnn", {"width": 8.5}, r"train.options.width: .* got 8.5"),
        ("compact_cnn", {"width": "8"}, r"train.options.width: .* got '8'"),
        ("compact_cnn", {"width": 2}, r"train.options.width: .* greater than or equal to 4, got 2"),
    ],
)
def test_a_wrong_model_or_option_is_refused(
    name: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        build_model(name, (16, 16, 3), 3, options)


def test_options_reach_the_model() -> None:
    small, large = (build_model("compact_cnn", (16, 16, 3), 3, {"width": w}) for w in (4, 8))

    assert small.count_params() < large.count_params()
